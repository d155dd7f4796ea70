"""Whether a sampled picture repeats the one before it, also when key pictures make its quality pulse.

A frozen picture that is encoded again changes at every key picture: its coding errors are new ones, at low bitrates by
several levels. It is distinguished from slow movement in three ways:

* between key pictures it does not change. Of each group of pictures that is decoded on the way from one sample to the
  next, all pictures must be the same as the first;
* its change has no direction. A displaced picture differs by its gradient times the displacement: the share of the
  difference that one displacement explains (least squares; Lucas, Kanade, "An iterative image registration technique
  with an application to stereo vision", IJCAI 1981), of the picture and of any ninth of a 16 x 9 grid, is small;
* its change is spread. A cell of a 32 x 18 grid that differs far more than the picture does is a moving object. Where
  no pictures between the samples were decoded, this limit is closer.

Two samples of the same group of pictures are compared without any of these allowances. Samples that are the same do not
make a freeze when what is decoded between them moves: a movement may repeat itself within a second.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_Luma = NDArray[np.float32]

_SAME_MEAN = 0.255
_SAME_CELL = 2.0
_STILL_MEAN = 0.8
_STILL_CELL = 4.0
_PULSE_MEAN = 8.0
# a cell's largest difference at a key picture: so many levels, and so many times the picture's; but no more than
_OBSERVED_CELL = (8.0, 8.0, 30.0)
_UNOBSERVED_CELL = (5.0, 6.0, 16.0)
_MIN_OBSERVED_STEPS = 2
_WHOLE_SHIFT = 0.04
_WINDOW_SHIFT = 0.3
_SHIFT_ROWS = 180


def correlation(first: _Luma, second: _Luma) -> float:
    """The correlation of two pictures of the same shape, -1..1; 1 when neither has contrast."""
    a, b = first - first.mean(), second - second.mean()
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / scale if scale > 1e-3 else 1.0


def grid_means(picture: NDArray[np.float32], shape: tuple[int, int]) -> _Luma:
    """The mean of each cell of a grid of `shape` (rows, columns) over a picture; cells of small pictures overlap."""
    height, width = picture.shape
    rows = np.minimum(np.arange(shape[0]) * height // shape[0], height - 1)
    columns = np.minimum(np.arange(shape[1]) * width // shape[1], width - 1)
    sums = np.add.reduceat(np.add.reduceat(picture, rows, axis=0), columns, axis=1)
    counts = np.outer(np.diff([*rows, height]).clip(1), np.diff([*columns, width]).clip(1))
    return (sums / counts).astype(np.float32)


@dataclass(slots=True)
class _Group:
    """Decoded pictures between two key pictures, of which the first is kept."""

    key_timestamp: int | None
    first: _Luma | None
    # the least likeness of a picture with the first
    stillness: float
    count: int


@dataclass(frozen=True, slots=True)
class _Sample:
    # luma of the whole picture, subsampled, on the scale of limited range
    coarse: _Luma
    luma: NDArray[np.uint8]
    timestamp: int | None


class FreezeMeter:
    """Compares each sampled picture with the one before it; `add_intermediate` gets those decoded between them."""

    def __init__(self) -> None:
        self._previous: _Sample | None = None
        self._groups: list[_Group] = []
        self._has_gap = False

    def add_intermediate(self, luma: _Luma, *, is_key: bool, timestamp: int | None) -> None:
        """Note a decoded picture, sampled or not, in presentation order; `luma` may be subsampled."""
        if is_key or self._has_gap or not self._groups:
            self._groups.append(_Group(timestamp if is_key else None, luma, 1.0, 1))
        else:
            group = self._groups[-1]
            if group.first is None:
                group.first = luma
            elif group.stillness > 0:
                stillness = _likeness(group.first, luma, mean=_STILL_MEAN, cell=_STILL_CELL)
                group.stillness = min(group.stillness, stillness)
            group.count += 1
        self._has_gap = False

    def mark_gap(self) -> None:
        """The next intermediate picture does not follow the last one."""
        self._has_gap = True

    def measure(self, coarse: _Luma, luma: NDArray[np.uint8], *, timestamp: int | None) -> float:
        """1 when a sampled picture is the same as the one before it, 0 when it is another or the first."""
        previous, sample = self._previous, _Sample(coarse, luma.copy(), timestamp)
        groups = self._pop_groups(timestamp)
        self._previous = sample
        if previous is None or previous.luma.shape != luma.shape:
            return 0.0
        likeness = _likeness(previous.coarse, coarse, mean=_SAME_MEAN, cell=_SAME_CELL)
        stillness = min((group.stillness for group in groups), default=1.0)
        if likeness == 1.0 or not _has_key_between(groups, previous.timestamp, timestamp):
            return min(likeness, stillness)
        is_observed = sum(max(group.count - 1, 0) for group in groups) >= _MIN_OBSERVED_STEPS
        return max(likeness, min(stillness, _pulse_likeness(previous, sample, is_observed=is_observed)))

    def _pop_groups(self, timestamp: int | None) -> list[_Group]:
        """The groups since the sample before; the decoder may already be ahead of the sample."""
        groups, ahead = self._groups, list[_Group]()
        if timestamp is not None:
            ahead = [group for group in groups if group.key_timestamp is not None and group.key_timestamp > timestamp]
        self._groups = ahead or [_Group(group.key_timestamp, None, 1.0, 0) for group in groups[-1:]]
        return groups


def _has_key_between(groups: list[_Group], after: int | None, until: int | None) -> bool:
    if after is None or until is None:
        return False
    return any(group.key_timestamp is not None and after < group.key_timestamp <= until for group in groups)


def _likeness(first: _Luma, second: _Luma, *, mean: float, cell: float) -> float:
    """1 under a mean difference and a largest difference of a cell, falling to 0 at twice either of them."""
    if first.shape != second.shape:
        return 0.0
    difference = np.abs(second - first)
    mean_difference, max_cell = float(difference.mean()), float(grid_means(difference, (18, 32)).max())
    return float(np.clip(2 - mean_difference / mean, 0, 1) * np.clip(2 - max_cell / cell, 0, 1))


def _pulse_likeness(previous: _Sample, sample: _Sample, *, is_observed: bool) -> float:
    """1 when the difference of two samples is that of two encodings of one picture, 0 when something moved."""
    difference = float(np.abs(sample.coarse - previous.coarse).mean())
    offset, factor, most = _OBSERVED_CELL if is_observed else _UNOBSERVED_CELL
    cell = min(offset + factor * difference, most)
    likeness = _likeness(previous.coarse, sample.coarse, mean=_PULSE_MEAN, cell=cell)
    if likeness == 0.0:
        return 0.0
    whole, window = _shares_explained_by_shift(previous.luma, sample.luma)
    return float(likeness * np.clip(2 - whole / _WHOLE_SHIFT, 0, 1) * np.clip(3 - 2 * window / _WINDOW_SHIFT, 0, 1))


def _shares_explained_by_shift(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> tuple[float, float]:
    """The share of the squared difference that a displacement explains: of the whole picture, of the best window."""
    height, width = first.shape
    if min(height, width) < 32:
        return 0.0, 0.0
    rows = np.arange(2, height - 2, max(1, height // _SHIFT_ROWS))
    sums, differences = [], []
    for offset in range(-2, 3):
        a, b = first[rows + offset].astype(np.float32), second[rows + offset].astype(np.float32)
        sums.append(a + b)
        differences.append(b - a)
    # 3 x 3 box means; gradients are those of the mean of both pictures, per pixel
    middle = _box_columns(sums[1] + sums[2] + sums[3]) * np.float32(1 / 18)
    change = _box_columns(differences[1] + differences[2] + differences[3])[:, 2:-2] * np.float32(1 / 9)
    across = (middle[:, 4:] - middle[:, :-4]) * np.float32(1 / 4)
    down = _box_columns(sums[3] + sums[4] - sums[0] - sums[1])[:, 2:-2] * np.float32(1 / 36)
    pairs = ((across, across), (across, down), (down, down), (across, change), (down, change), (change, change))
    cells = np.stack([grid_means(a * b, (9, 16)) for a, b in pairs])
    windows = np.mean([cells[:, top : top + 7, left : left + 14] for top in range(3) for left in range(3)], axis=0)
    return float(_explained(cells.mean(axis=(1, 2)))), float(_explained(windows).max())


def _box_columns(rows: _Luma) -> _Luma:
    """The sum of each pixel and its two neighbours in the row."""
    return rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]


def _explained(products: _Luma) -> _Luma:
    """The explained share from the means of xx, xy, yy, xd, yd, dd; regularised, so that flat areas explain nothing."""
    xx, xy, yy, xd, yd, dd = products
    ridge = 0.05 * (xx + yy) + 0.5
    determinant = (xx + ridge) * (yy + ridge) - xy * xy
    x = ((yy + ridge) * xd - xy * yd) / determinant
    y = ((xx + ridge) * yd - xy * xd) / determinant
    explained: _Luma = np.maximum(x * xd + y * yd, 0) / np.maximum(dd, 1e-6)
    return explained
