"""Fine detail per cell of a picture, and evidence of its loss: cells with less than at other times of the scene.

Fine detail is the mean difference of neighbouring pixels over that of pixels eight apart, so that it does not depend on
contrast, minus the eighth that a smooth ramp has too; over the 3 x 3 cells around each cell, as things move. A cell is
compared with what it has in two thirds of the other frames of its scene. Of the difference, 45 % are left out: movement
costs as much. Frames belong to one scene when their means over the cells correlate by 0.35.

What it cannot see: damage that lasts for the whole scene, or that leaves fine detail (blocks, noise). What it takes for
damage: a camera that loses its focus, or moves fast.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vqmon.core.frames import GRID_COLUMNS, GRID_ROWS, DetailGrid
from vqmon.core.scores import Losses
from vqmon.media.images.signals.freeze import grid_means

_COARSE_LAG = 8
"""Distance of the pixels that are far apart, in distances of those that are neighbours."""

_STEP = 4
_LINES = 1080
"""Pictures with more lines are measured at distances that are as much larger: what a viewer of this many lines sees."""


_MIN_CONTRAST = 0.75
"""Levels; a cell with less has no detail that could be lost."""
_MIN_USUAL_DETAIL = 0.01
_SAME_SCENE_CORRELATION = 0.35
_IGNORED_DROP = 0.45
_USUAL_QUANTILE = 2 / 3

_Grid = NDArray[np.float32]


def measure_detail(luma: NDArray[np.uint8]) -> DetailGrid:
    """The grid of an upright picture (height, width) of 8-bit luma; every fourth row and column is read."""
    lag = max(1, round(min(luma.shape) / _LINES))
    rows, columns = luma[::_STEP], np.ascontiguousarray(luma[:, ::_STEP].T)
    fine, coarse = (
        (
            _mean_differences(rows, (GRID_ROWS, GRID_COLUMNS), distance)
            + _mean_differences(columns, (GRID_COLUMNS, GRID_ROWS), distance).T
        )
        * np.float32(0.5)
        for distance in (lag, _COARSE_LAG * lag)
    )
    means = grid_means(luma[::_STEP, ::_STEP].astype(np.float32), (GRID_ROWS, GRID_COLUMNS))
    return DetailGrid(fine=fine, coarse=coarse, luma=means)


def _mean_differences(lines: NDArray[np.uint8], shape: tuple[int, int], distance: int) -> NDArray[np.float32]:
    """The mean absolute difference of the pixels of a line that are `distance` apart, per cell of a grid of `shape`."""
    if lines.shape[1] <= distance:
        return np.zeros(shape, np.float32)
    first, second = lines[:, :-distance], lines[:, distance:]
    # in 8 bits, which numpy does many at a time
    differences = np.maximum(first, second) - np.minimum(first, second)
    starts = np.minimum(np.arange(shape[0]) * len(lines) // shape[0], len(lines) - 1)
    stops = np.maximum([*starts[1:], len(lines)], starts + 1)
    strips = [
        differences[start:stop].sum(axis=0, dtype=np.uint32) / np.float32(stop - start)
        for start, stop in zip(starts, stops, strict=True)
    ]
    return grid_means(np.stack(strips), shape)


def detail_losses(frames: Sequence[DetailGrid], *, earlier: Sequence[DetailGrid] = ()) -> list[Losses | None]:
    """The loss of each of `frames`, compared with the others and with `earlier` frames of the rendition.

    None for a frame without another frame of its scene.
    """
    details = [_detail(frame) for frame in (*earlier, *frames)]
    offsets = [frame.luma - frame.luma.mean() for frame in (*earlier, *frames)]
    losses: list[Losses | None] = []
    for index, frame in enumerate(frames, start=len(earlier)):
        others = [
            detail
            for other, detail in enumerate(details)
            if other != index and _is_same_scene(offsets[index], offsets[other])
        ]
        losses.append(_loss(frame, details[index], others) if others else None)
    return losses


def _loss(frame: DetailGrid, detail: _Grid, others: Sequence[_Grid]) -> Losses:
    usual = np.quantile(np.stack(others), _USUAL_QUANTILE, axis=0)
    has_detail = (usual > _MIN_USUAL_DETAIL) & (frame.coarse >= _MIN_CONTRAST)
    drop = 1 - detail / np.maximum(usual, _MIN_USUAL_DETAIL)
    losses: Losses = (np.clip((drop - _IGNORED_DROP) / (1 - _IGNORED_DROP), 0, 1) * has_detail).astype(np.float32)
    return losses


def _detail(frame: DetailGrid) -> _Grid:
    """Fine over coarse differences around each cell, from 0 for smooth ramps to 0.875 for noise."""
    coarse = np.maximum(_sum_around(frame.coarse), _MIN_CONTRAST * _sum_around(np.ones_like(frame.coarse)))
    detail: _Grid = np.maximum(_sum_around(frame.fine) / coarse - np.float32(1 / _COARSE_LAG), 0)
    return detail


def _sum_around(grid: _Grid) -> _Grid:
    """The sum over the 3 x 3 cells around each cell, as far as they are in the picture."""
    rows, columns = grid.shape
    padded = np.pad(grid, 1)
    total = np.zeros_like(grid)
    for row, column in np.ndindex(3, 3):
        total += padded[row : row + rows, column : column + columns]
    return total


def _is_same_scene(first: _Grid, second: _Grid) -> bool:
    """Both are lumas minus their means."""
    scale = float(np.sqrt((first * first).sum() * (second * second).sum()))
    return float((first * second).sum()) >= _SAME_SCENE_CORRELATION * scale
