"""Fine detail per cell of a picture, and evidence of its loss against other frames of the scene.

Fine detail is the mean difference of neighbouring pixels over that of pixels eight apart, so that it does not depend on
contrast, minus the eighth that a smooth ramp has too; over the 3 x 3 cells around each cell, as things move. What is
lost within a segment is found by `detail_steps` in the frames that are decoded on the way, and by the frames of the
segments before what it lacks from its first frame on: a cell is compared with what it has in half of those of its
scene. Where nothing is decoded between the sampled frames, they are compared with each other too. Of the difference,
45 % are left out: movement costs as much. Frames belong to one scene when their means over the cells correlate by 0.35.

What it cannot see: damage that lasts for the whole scene, or that leaves fine detail (blocks, noise). What it takes for
damage, where frames are compared that are a second or more apart: a camera that loses its focus, or moves fast.
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
"""Of the rows and columns, one of so many is read."""
_FAST_STEPS, _FAST_LINES = (4, 16), 60
"""The least and the most of such steps where frames are many, and how many rows are then read at least."""
_LINES = 1080
"""Pictures with more lines are measured at distances that are as much larger: what a viewer of this many lines sees."""

_MIN_CONTRAST = 0.75
"""Levels; a cell with less has no detail that could be lost."""
_MIN_USUAL_DETAIL = 0.01
_SAME_SCENE_CORRELATION = 0.35
_IGNORED_DROP = 0.45

_Grid = NDArray[np.float32]


def sum_around(grid: _Grid) -> _Grid:
    """The sum over the 3 x 3 cells around each cell, as far as they are in the picture."""
    columns = grid.copy()
    columns[:, 1:] += grid[:, :-1]
    columns[:, :-1] += grid[:, 1:]
    total = columns.copy()
    total[1:] += columns[:-1]
    total[:-1] += columns[1:]
    return total


_CELLS_AROUND = sum_around(np.ones((GRID_ROWS, GRID_COLUMNS), np.float32))


def measure_detail(luma: NDArray[np.uint8], *, step: int = _STEP) -> DetailGrid:
    """The grid of an upright picture (height, width) of 8-bit luma; every `step`-th row and column is read."""
    lag = max(1, round(min(luma.shape) / _LINES))
    rows, columns = luma[::step], np.ascontiguousarray(luma[:, ::step].T)
    fine, coarse = (
        (
            _mean_differences(rows, (GRID_ROWS, GRID_COLUMNS), distance)
            + _mean_differences(columns, (GRID_COLUMNS, GRID_ROWS), distance).T
        )
        * np.float32(0.5)
        for distance in (lag, _COARSE_LAG * lag)
    )
    means = grid_means(luma[::step, ::step].astype(np.float32), (GRID_ROWS, GRID_COLUMNS))
    return DetailGrid(fine=fine, coarse=coarse, luma=means)


def measure_detail_fast(luma: NDArray[np.uint8]) -> DetailGrid:
    """As `measure_detail`, from fewer rows and columns of large pictures: for frames that are compared in pairs."""
    return measure_detail(luma, step=int(np.clip(min(luma.shape) // _FAST_LINES, *_FAST_STEPS)))


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


def detail_losses(frames: Sequence[DetailGrid], *, earlier: Sequence[DetailGrid] = ()) -> list[Losses]:
    """What the frames of a segment have lost since it began, or lack from its first on against `earlier` ones.

    Where too few frames were decoded to tell when detail was lost, what each lacks against all others.
    """
    details = [relative_detail(frame) for frame in (*earlier, *frames)]
    offsets = [frame.luma - frame.luma.mean() for frame in (*earlier, *frames)]
    losses: list[Losses] = []
    lacking = np.ones((GRID_ROWS, GRID_COLUMNS), np.float32)
    for index, frame in enumerate(frames, start=len(earlier)):
        usual = [
            details[other]
            for other in range(len(details) if frame.lost is None else len(earlier))
            if other != index and is_same_scene(offsets[index], offsets[other])
        ]
        loss = _loss(frame, details[index], usual) if usual else np.zeros_like(lacking)
        lacking = np.minimum(lacking, loss)
        losses.append(loss if frame.lost is None else np.maximum(lacking, frame.lost))
    return losses


def _loss(frame: DetailGrid, detail: _Grid, others: Sequence[_Grid]) -> Losses:
    usual = np.median(np.stack(others), axis=0)
    has_detail = (usual > _MIN_USUAL_DETAIL) & (frame.coarse >= _MIN_CONTRAST)
    drop = 1 - detail / np.maximum(usual, _MIN_USUAL_DETAIL)
    losses: Losses = (np.clip((drop - _IGNORED_DROP) / (1 - _IGNORED_DROP), 0, 1) * has_detail).astype(np.float32)
    return losses


def relative_detail(frame: DetailGrid) -> _Grid:
    """Fine over coarse differences around each cell, from 0 for smooth ramps to 0.875 for noise."""
    coarse = np.maximum(sum_around(frame.coarse), _MIN_CONTRAST * _CELLS_AROUND)
    detail: _Grid = np.maximum(sum_around(frame.fine) / coarse - np.float32(1 / _COARSE_LAG), 0)
    return detail


def is_same_scene(first: _Grid, second: _Grid) -> bool:
    """Whether two frames show one scene, from their lumas minus the means."""
    scale = float(np.sqrt((first * first).sum() * (second * second).sum()))
    return float((first * second).sum()) >= _SAME_SCENE_CORRELATION * scale
