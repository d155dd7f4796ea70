"""All views of one decoded frame, and what several of them need made once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from vqmon.core.frames import corners, origins
from vqmon.core.types import Pixels, View
from vqmon.media.images.colour import Colour
from vqmon.media.images.pillow_resize import to_square
from vqmon.media.images.resampling import Darkroom, Turn, display_size

if TYPE_CHECKING:
    import av


class Prints:
    """Makes pictures of one frame. `seed` is the segment's: row k of fragments is drawn from seed + k."""

    def __init__(
        self, darkroom: Darkroom, frame: av.VideoFrame, *, colour: Colour, turn: Turn, sar: float, seed: int
    ) -> None:
        self._darkroom, self._frame, self._colour, self._turn = darkroom, frame, colour, turn
        self._sar, self._seed = sar, seed
        self._size = display_size(frame.width, frame.height, turn=turn, sar=sar)
        self._whole: dict[tuple[int, int], Pixels] = {}
        self._made: dict[View, Pixels] = {}

    def view(self, view: View, row: int) -> Pixels:
        """One picture; of windows and halves (pictures, height, width, 3)."""
        if view.kind == "fragments":
            return _fragments(self._native(view), view, seed=(self._seed + row) % 2**32)
        if view not in self._made:
            self._made[view] = self._make(view)
        return self._made[view]

    def _make(self, view: View) -> Pixels:
        if view.kind == "windows":
            return _windows(self._native(view), view)
        if view.kind == "halves":
            return _halves(self._scaled(1.0), view)
        if view.kind == "centre":
            return _centre(self._scaled(view.short_side / min(self._size)), view)
        return self._darkroom.view(self._frame, view, colour=self._colour, turn=self._turn, sar=self._sar)

    def _native(self, view: View) -> Pixels:
        """The frame at its own size; larger only if the view would not fit."""
        return self._scaled(max(1.0, view.width / self._size[0], view.height / self._size[1]))

    def _scaled(self, scale: float) -> Pixels:
        width, height = (max(1, math.floor(side * scale + 0.5)) for side in self._size)
        if (width, height) not in self._whole:
            rgb = self._darkroom.rgb(self._frame, width, height, colour=self._colour, turn=self._turn)
            self._whole[width, height] = rgb
        return self._whole[width, height]


def _centre(picture: Pixels, view: View) -> Pixels:
    top, left = (picture.shape[0] - view.height) // 2, (picture.shape[1] - view.width) // 2
    return picture[top : top + view.height, left : left + view.width]


def _fragments(picture: Pixels, view: View, *, seed: int) -> Pixels:
    height, width = view.height // view.rows, view.width // view.columns
    places = origins(*picture.shape[:2], rows=view.rows, columns=view.columns, side=(height, width), seed=seed)
    together = np.empty((view.height, view.width, 3), np.uint8)
    for row, column in np.ndindex(view.rows, view.columns):
        top, left = places[row, column]
        piece = picture[top : top + height, left : left + width]
        together[row * height : (row + 1) * height, column * width : (column + 1) * width] = piece
    return together


def _windows(picture: Pixels, view: View) -> Pixels:
    places = corners(*picture.shape[:2], size=(view.height, view.width), count=view.windows)
    return np.stack([picture[top : top + view.height, left : left + view.width] for top, left in places])


def _halves(picture: Pixels, view: View) -> Pixels:
    middle = picture.shape[0] // 2
    # a frame of one line is its own upper half
    halves = (picture[: max(1, middle)], picture[middle:])
    return np.stack([to_square(half, side=view.width, pad_rgb=view.pad_rgb) for half in halves])
