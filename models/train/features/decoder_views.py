"""Makes the decoder's views of a picture file, so that training sees what will be served."""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.data.photos import mosaic
from models.export.pair import TILES_VIEW
from vqmon.core.frames import fragment_origins
from vqmon.core.types import View

Pixels = NDArray[np.uint8]


def make_view(view: View, picture: Pixels, *, seed: int) -> Pixels:
    """The view (height, width, 3) of a picture (height, width, 3) of any size; `seed` places fragments.

    Resizing is bicubic as in the decoder, but by Pillow: pixels differ by a few levels. Raises ValueError for a kind of
    view that no trainable scorer uses.
    """
    if view == TILES_VIEW:
        return mosaic(Image.fromarray(picture))
    if view.kind == "stretch":
        return _resize(picture, view.width, view.height)
    if view.kind == "fragments":
        height, width = picture.shape[:2]
        scale = max(1.0, view.width / width, view.height / height)
        enlarged = _resize(picture, *(math.floor(side * scale + 0.5) for side in (width, height)))
        return _cut_fragments(enlarged, view, seed=seed)
    raise ValueError(f"views of kind {view.kind} cannot be made of a picture here")


def _resize(picture: Pixels, width: int, height: int) -> Pixels:
    if picture.shape[:2] == (height, width):
        return picture
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))


def _cut_fragments(picture: Pixels, view: View, *, seed: int) -> Pixels:
    side = (view.height // view.rows, view.width // view.columns)
    corners = fragment_origins(*picture.shape[:2], rows=view.rows, columns=view.columns, side=side, seed=seed)
    rows = [
        np.concatenate([picture[y : y + side[0], x : x + side[1]] for y, x in row], axis=1) for row in corners.tolist()
    ]
    return np.concatenate(rows)
