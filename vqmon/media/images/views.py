"""Rendering of the views of one decoded frame; intermediate pictures that several views need are rendered once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from vqmon.core.frames import TileGrid, canvas_size, fragment_origins, grid_corners, window_corners
from vqmon.core.types import Pixels, View
from vqmon.media.images.active_area import find_active_area
from vqmon.media.images.colour import Colour
from vqmon.media.images.pillow_resize import pad_and_resize_to_square
from vqmon.media.images.resampling import FrameResampler, Orientation, TileLayout, display_size

if TYPE_CHECKING:
    import av


class ViewRenderer:
    """Renders views of one frame. `seed` is that of the segment: fragments of sample k are drawn with seed + k."""

    def __init__(
        self,
        resampler: FrameResampler,
        frame: av.VideoFrame,
        *,
        colour: Colour,
        orientation: Orientation,
        sample_aspect_ratio: float,
        seed: int,
    ) -> None:
        self._resampler, self._frame, self._colour, self._orientation = resampler, frame, colour, orientation
        self._sample_aspect_ratio, self._seed = sample_aspect_ratio, seed
        self._size = display_size(
            frame.width, frame.height, orientation=orientation, sample_aspect_ratio=sample_aspect_ratio
        )
        self._scaled_frames: dict[tuple[int, int], Pixels] = {}
        self._rendered: dict[View, Pixels] = {}

    def render(self, view: View, sample: int) -> Pixels:
        """(height, width, 3); for windows, grids and halves (pictures, height, width, 3)."""
        if view.kind == "fragments":
            return _fragments(self._native(view), view, seed=(self._seed + sample) % 2**32)
        if view not in self._rendered:
            self._rendered[view] = self._render(view)
        return self._rendered[view]

    def _render(self, view: View) -> Pixels:
        if view.kind == "display":
            return self._display_tiles(view)
        if view.kind == "windows":
            return _windows(self._native(view), view)
        if view.kind == "grid":
            is_scaled = view.short_side > 0
            return _grid(self._scaled(view.short_side / min(self._size)) if is_scaled else self._native(view), view)
        if view.kind == "halves":
            return _halves(self._scaled(1.0), view)
        if view.kind == "centre":
            return _centre_crop(self._scaled(view.short_side / min(self._size)), view)
        return self._resampler.render_view(
            self._frame,
            view,
            colour=self._colour,
            orientation=self._orientation,
            sample_aspect_ratio=self._sample_aspect_ratio,
        )

    def _display_tiles(self, view: View) -> Pixels:
        area = find_active_area(self._frame, is_full_range=self._colour.range == "pc")
        size = display_size(
            area.width, area.height, orientation=self._orientation, sample_aspect_ratio=self._sample_aspect_ratio
        )
        tile = (view.width, view.height // view.tile_count)
        canvas = canvas_size(*size, lines=view.short_side) if view.short_side else size
        layouts = [_grid_layout(canvas, tile, grid) for grid in view.grids]
        whole = tile if size[0] >= size[1] else tile[::-1]
        layouts.append(TileLayout(canvas=whole, tile=whole, corners=((0, 0),)))
        tiles = [
            self._resampler.to_tiles(
                self._frame, layout, colour=self._colour, orientation=self._orientation, area=area
            )
            for layout in layouts
        ]  # fmt: skip
        if whole != tile:
            tiles[-1] = tiles[-1].swapaxes(1, 2)
        return np.concatenate(tiles).reshape(view.height, view.width, 3)

    def _native(self, view: View) -> Pixels:
        """The frame at its display size, enlarged only if the view would not fit into it."""
        return self._scaled(max(1.0, view.width / self._size[0], view.height / self._size[1]))

    def _scaled(self, scale: float) -> Pixels:
        width, height = (max(1, math.floor(side * scale + 0.5)) for side in self._size)
        if (width, height) not in self._scaled_frames:
            self._scaled_frames[width, height] = self._resampler.to_rgb(
                self._frame, (width, height), colour=self._colour, orientation=self._orientation
            )
        return self._scaled_frames[width, height]


def _grid_layout(canvas: tuple[int, int], tile: tuple[int, int], grid: TileGrid) -> TileLayout:
    """The tiles of a grid on the reduced canvas, which is enlarged if a tile would not fit into it."""
    width, height = (side / grid.reduction for side in canvas)
    scale = max(1.0, tile[0] / width, tile[1] / height)
    reduced = (math.floor(width * scale + 0.5), math.floor(height * scale + 0.5))
    lefts = [_centred_start(column, grid.columns, reduced[0], tile[0]) for column in range(grid.columns)]
    tops = [_centred_start(row, grid.rows, reduced[1], tile[1]) for row in range(grid.rows)]
    return TileLayout(canvas=reduced, tile=tile, corners=tuple((left, top) for top in tops for left in lefts))


def _centred_start(index: int, count: int, length: int, tile: int) -> int:
    """Where a tile begins that is centred in its cell, within the canvas, at a multiple of the 4 px of its chroma."""
    start = math.floor((index + 0.5) * length / count - tile / 2 + 0.5)
    return min(max(start, 0), length - tile) // 4 * 4


def _centre_crop(picture: Pixels, view: View) -> Pixels:
    top, left = (picture.shape[0] - view.height) // 2, (picture.shape[1] - view.width) // 2
    return picture[top : top + view.height, left : left + view.width]


def _fragments(picture: Pixels, view: View, *, seed: int) -> Pixels:
    height, width = view.height // view.rows, view.width // view.columns
    starts = fragment_origins(*picture.shape[:2], rows=view.rows, columns=view.columns, side=(height, width), seed=seed)
    mosaic = np.empty((view.height, view.width, 3), np.uint8)
    for row, column in np.ndindex(view.rows, view.columns):
        top, left = starts[row, column]
        fragment = picture[top : top + height, left : left + width]
        mosaic[row * height : (row + 1) * height, column * width : (column + 1) * width] = fragment
    return mosaic


def _windows(picture: Pixels, view: View) -> Pixels:
    starts = window_corners(*picture.shape[:2], size=(view.height, view.width), count=view.windows)
    return _crops(picture, view, starts)


def _grid(picture: Pixels, view: View) -> Pixels:
    size = (view.height, view.width)
    return _crops(picture, view, grid_corners(*picture.shape[:2], size=size, columns=view.columns, rows=view.rows))


def _crops(picture: Pixels, view: View, corners: list[tuple[int, int]]) -> Pixels:
    return np.stack([picture[top : top + view.height, left : left + view.width] for top, left in corners])


def _halves(picture: Pixels, view: View) -> Pixels:
    middle = picture.shape[0] // 2
    # a frame of one row is its own upper half
    halves = (picture[: max(1, middle)], picture[middle:])
    return np.stack([pad_and_resize_to_square(half, side=view.width, pad_rgb=view.pad_rgb) for half in halves])
