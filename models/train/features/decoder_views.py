"""The decoder's views, made of a picture that is not in a video: what is trained on is what will be served."""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.data.photos import mosaic
from models.export.pair import VIEW as TILES
from vqmon.core.frames import fragment_origins
from vqmon.core.types import View

Pixels = NDArray[np.uint8]


def view_of_picture(view: View, picture: Pixels, *, seed: int) -> Pixels:
    """(height, width, 3) as a view asks, of a picture (height, width, 3) of any size; `seed` places fragments.

    Scaling is bicubic as in the decoder, by another library: pixels differ by a few levels. Raises ValueError for
    views that no scorer trained here looks at.
    """
    if view == TILES:
        return mosaic(Image.fromarray(picture))
    if view.kind == "stretch":
        return _scaled(picture, view.width, view.height)
    if view.kind == "fragments":
        height, width = picture.shape[:2]
        scale = max(1.0, view.width / width, view.height / height)
        larger = _scaled(picture, *(math.floor(side * scale + 0.5) for side in (width, height)))
        return _fragments(larger, view, seed=seed)
    raise ValueError(f"a view {view.kind} of a picture is not made here")


def _scaled(picture: Pixels, width: int, height: int) -> Pixels:
    if picture.shape[:2] == (height, width):
        return picture
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))


def _fragments(picture: Pixels, view: View, *, seed: int) -> Pixels:
    side = (view.height // view.rows, view.width // view.columns)
    places = fragment_origins(*picture.shape[:2], rows=view.rows, columns=view.columns, side=side, seed=seed)
    rows = [
        np.concatenate([picture[y : y + side[0], x : x + side[1]] for y, x in row], axis=1) for row in places.tolist()
    ]
    return np.concatenate(rows)
