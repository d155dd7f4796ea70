"""Parts of a picture that lose their fine detail from one decoded frame to the next, until they gain it back.

Damage of a part begins and ends between two frames that show the same otherwise, however much the content moves in the
seconds around. Movement, focus and cuts change the detail of parts too, but slowly, all over the picture, or here and
there. A loss and a later gain of the same part are one interval of damage, whether there are cuts between them or not.
A clear loss alone lasts until the next cut, and a clear gain alone ends what began at the cut before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vqmon.core.frames import GRID_COLUMNS, GRID_ROWS, DetailGrid
from vqmon.core.scores import Losses
from vqmon.media.images.signals.detail import is_same_scene, relative_detail, sum_around

_NOISE = 0.01
"""Added to the detail of cells: what less changes by is noise."""
_MIN_LOG_RATIO = 0.3
_MIN_COARSE_SHARE = 0.25
"""Of the coarse differences: blur leaves more of them than a text that vanishes."""
_MIN_NEIGHBOURS = 6
"""Of the 3 x 3 cells around a cell, so many change with it: what moves changes cells here and there."""
_STEADY_LOG_RATIO, _MIN_STEADY_SHARE, _MAX_MEDIAN_LOG_RATIO = 0.25, 0.7, 0.2
"""How little the rest of the picture changes: of most of its detail, and of its median cell."""
_MIN_REST_CELLS = 9
_MIN_CELLS, _MIN_CLEAR_CELLS, _MIN_CLEAR_LOG_RATIO = 16, 32, 0.65
"""Of 144 cells: for a loss that a gain follows, and for one alone."""
_MIN_COMMON_SHARE = 0.4
_FLAT_LEVELS = 1.0
_MIN_INTERVAL_SECONDS, _MAX_GAP_SECONDS = 0.035, 0.2
"""Between frames that are compared: of those nearer some are left out; those farther apart show nothing alone."""
_MAX_GAP_SHARE = 2 / 3
_MIN_SECONDS = 0.5
"""A loss that is shorter is movement."""
_MAX_STEPS = 400
"""And cuts of a segment; with more there are no losses."""

_Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class _Step:
    """A loss or gain of detail between two frames."""

    # of the later frame
    time_seconds: float
    cells: _Mask
    lost: Losses
    is_gain: bool
    # whether it shows damage without another step
    is_clear: bool


@dataclass(frozen=True, slots=True)
class _Interval:
    """Damage from the frame at `first` up to the one before `last`, in seconds."""

    first: float
    last: float
    lost: Losses


class DetailSteps:
    """Compares each decoded frame with the one before it."""

    def __init__(self) -> None:
        # with its detail
        self._previous: tuple[float, DetailGrid, Losses] | None = None
        self._steps: list[_Step] = []
        self._cuts: list[float] = []
        # seconds between the first and the last frame, and in gaps
        self._seconds = self._gap_seconds = 0.0
        self._is_in_order = True

    def add_frame(self, time_seconds: float, measure: Callable[[], DetailGrid]) -> None:
        """Note the next frame in presentation order; `measure` gives its grid, should it be needed."""
        if self._previous is not None and time_seconds - self._previous[0] < _MIN_INTERVAL_SECONDS:
            self._is_in_order &= time_seconds >= self._previous[0]
            return
        grid = measure()
        detail = relative_detail(grid) + np.float32(_NOISE)
        previous, self._previous = self._previous, (time_seconds, grid, detail)
        if previous is None or len(self._steps) + len(self._cuts) >= _MAX_STEPS:
            return
        previous_seconds, before, old = previous
        apart = time_seconds - previous_seconds
        has_gap = apart > _MAX_GAP_SECONDS
        self._seconds += apart
        self._gap_seconds += apart if has_gap else 0.0
        if _is_flat(before) != _is_flat(grid) or not is_same_scene(
            before.luma - before.luma.mean(), grid.luma - grid.luma.mean()
        ):
            self._cuts.append(time_seconds)
            return
        change, common = np.log(detail / old), np.minimum(detail, old)
        for is_gain, soft, sharp in ((False, grid, before), (True, before, grid)):
            difference = change if is_gain else -change
            cells = (difference > _MIN_LOG_RATIO) & (soft.coarse > _MIN_COARSE_SHARE * np.maximum(sharp.coarse, 0.1))
            cells = _with_neighbours(cells)
            if np.count_nonzero(cells) < _MIN_CELLS:
                continue
            rest = sum_around(cells.astype(np.float32)) == 0
            is_steady = _is_steady(np.abs(change[rest]), common[rest])
            if is_steady or has_gap:
                is_large = np.count_nonzero(cells) >= _MIN_CLEAR_CELLS
                is_clear = bool(is_large and np.median(difference[cells]) >= _MIN_CLEAR_LOG_RATIO)
                lost: Losses = np.where(cells, 1 - np.exp(-difference.clip(0)), 0).astype(np.float32)
                self._steps.append(_Step(time_seconds, cells, lost, is_gain, is_clear and is_steady and not has_gap))

    def losses(self, times_seconds: Sequence[float]) -> list[Losses] | None:
        """(rows, columns) of 0..1 at the times of frames: what cells lack of their fine detail.

        None where gaps between the frames take more than two thirds of the time, where it goes back, and of too many
        steps and cuts.
        """
        if not self._seconds or self._gap_seconds > _MAX_GAP_SHARE * self._seconds:
            return None
        if not self._is_in_order or len(self._steps) + len(self._cuts) >= _MAX_STEPS:
            return None
        intervals = list(_intervals(self._steps, self._cuts))
        nothing = np.zeros((GRID_ROWS, GRID_COLUMNS), np.float32)
        result = []
        for time in times_seconds:
            within = [each.lost for each in intervals if each.first <= time < each.last]
            result.append(np.max(within, axis=0) if within else nothing)
        return result


def _is_flat(grid: DetailGrid) -> bool:
    """Whether it is of one level, as black between scenes is: it correlates with nothing."""
    return float(np.ptp(grid.luma)) < _FLAT_LEVELS


def _with_neighbours(cells: _Mask) -> _Mask:
    """Those of the cells that have most neighbours among them; beyond the edge of the picture the outermost go on."""
    if np.count_nonzero(cells) < _MIN_CELLS:
        return cells
    counts = sum_around(np.pad(cells, 1, mode="edge").astype(np.float32))[1:-1, 1:-1]
    result: _Mask = cells & (counts >= _MIN_NEIGHBOURS)
    return result


def _is_steady(changes: Losses, detail: Losses) -> bool:
    """Whether cells with these changes (natural logarithms) and this detail stay as they are."""
    if len(changes) < _MIN_REST_CELLS:
        return True
    steady_share = float(detail[changes < _STEADY_LOG_RATIO].sum() / detail.sum())
    return steady_share >= _MIN_STEADY_SHARE and float(np.median(changes)) <= _MAX_MEDIAN_LOG_RATIO


def _intervals(steps: Sequence[_Step], cuts: Sequence[float]) -> Iterator[_Interval]:
    losses: list[_Step] = []
    for step in steps:
        if not step.is_gain:
            losses.append(step)
            continue
        loss = next((each for each in reversed(losses) if _is_same_part(each.cells, step.cells)), None)
        if loss is not None:
            losses.remove(loss)
            if step.time_seconds - loss.time_seconds >= _MIN_SECONDS:
                yield _Interval(loss.time_seconds, step.time_seconds, np.maximum(loss.lost, step.lost))
        elif step.is_clear:
            began = max((cut for cut in cuts if cut < step.time_seconds), default=-np.inf)
            yield _Interval(began, step.time_seconds, step.lost)
    for loss in losses:
        if loss.is_clear:
            ends = min((cut for cut in cuts if cut > loss.time_seconds), default=np.inf)
            yield _Interval(loss.time_seconds, ends, loss.lost)


def _is_same_part(first: _Mask, second: _Mask) -> bool:
    return bool(np.count_nonzero(first & second) >= _MIN_COMMON_SHARE * np.count_nonzero(first | second))
