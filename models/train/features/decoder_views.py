"""Makes the decoder's views of a picture file, so that training and calibration see what will be served."""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.data.photos import mosaic
from models.export.assembly.assembly import PixelInput
from models.export.assembly.composite import view_of_input
from models.export.pair import TILES_VIEW
from vqmon.core.frames import fragment_origins, grid_corners, window_corners
from vqmon.core.types import View

Pixels = NDArray[np.uint8]


def make_view(view: View, picture: Pixels, *, seed: int) -> Pixels:
    """The view (height, width, 3) of a picture (height, width, 3) of any size; `seed` places fragments.

    Views of several crops of one picture are (crops, height, width, 3). Resizing is bicubic as in the decoder, but by
    Pillow: pixels differ by a few levels. Raises ValueError for another kind of view.
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
    if view.kind == "centre":
        scaled = _enlarge(picture, (view.height, view.width), short_side=view.short_side)
        top, left = (scaled.shape[0] - view.height) // 2, (scaled.shape[1] - view.width) // 2
        return scaled[top : top + view.height, left : left + view.width]
    if view.kind in ("windows", "grid"):
        size = (view.height, view.width)
        scaled = _enlarge(picture, size, short_side=view.short_side)
        corners = (
            window_corners(*scaled.shape[:2], size=size, count=view.windows)
            if view.kind == "windows"
            else grid_corners(*scaled.shape[:2], size=size, columns=view.columns, rows=view.rows)
        )
        return np.stack([scaled[top : top + view.height, left : left + view.width] for top, left in corners])
    raise ValueError(f"views of kind {view.kind} cannot be made of a picture here")


def make_row(pixels: PixelInput, frames: Pixels, *, seed: int) -> Pixels:
    """The row of an input that frames (n, height, width, 3) make, with a leading axis of 1, as the graph takes it.

    Of an input of one frame, or of crops of one frame, the middle frame is taken; of more frames than a clip has, every
    second, third ...; a clip repeats its frames when there are too few. Raises ValueError for an input that cannot be
    made here.
    """
    view = view_of_input(pixels)
    if pixels.frames == 1:
        made = make_view(view, frames[len(frames) // 2], seed=seed)
        crops = made if pixels.order == "NKCHW" else made[None]
        planes = crops.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(planes[None] if pixels.order == "NKCHW" else planes)
    numbers = np.arange(pixels.frames) * max(1, len(frames) // pixels.frames) % len(frames)
    clip = np.stack([make_view(view, frames[number], seed=seed) for number in numbers])
    return np.ascontiguousarray(clip.transpose((3, 0, 1, 2) if pixels.order == "NCTHW" else (0, 3, 1, 2))[None])


def _enlarge(picture: Pixels, least: tuple[int, int], *, short_side: int) -> Pixels:
    """A picture at a short side (0 = its own), enlarged where it would be smaller than `least` (height, width)."""
    height, width = picture.shape[:2]
    scale = short_side / min(height, width) if short_side else 1.0
    scale = max(scale, least[0] / height, least[1] / width)
    return _resize(picture, *(math.floor(side * scale + 0.5) for side in (width, height)))


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
