"""Signals of pictures, numbers from 0 to 1: black, freeze, blockiness, blur, noise, banding, over-sharpness and others.

All are measured on the coded picture at its native size, 8 bits, on luma unless noted. Signals of the whole picture
(black, solid, borders, freeze, flicker) use every fourth pixel of every fourth row; signals of fine detail use up to
nine full-resolution patches of 240 x 240 pixels spread evenly (see `texture`). Levels below are those of limited-range
luma, 16 black to 235 white; full-range pictures are scaled to that first.

black           share of pixels under 10 % of white, as FFmpeg's `blackdetect`; 1: the whole picture is black
solid           share of pixels within 4 levels of the median in Y, in U and in V, the smallest of the three; 1: a
                single colour
freeze          mean difference to the previous sampled frame: 1 under 0.255 levels (-60 dB, as FFmpeg's
                `freezedetect`), falling to 0 at twice that; multiplied by 1 when no cell of a 32 x 18 grid differs by
                2 levels, falling to 0 at 4, so that a small moving object is noticed; 0 for a segment's first frame
flicker         the smaller of two opposite changes of the mean luma over three consecutive frames whose pictures
                correlate >= 0.9, 32 levels counting as 1; the largest since the previous sampled frame. Measured on all
                frames that are decoded since then; when they are fewer than three, on the last three sampled frames
borders         share of the picture in the outer rows and columns whose mean is black and that hold no bright pixel; 0
                when the whole picture is black
decode_errors   share of damaged or lost pictures among those decoded since the previous sampled frame
blockiness, blur, noise, banding, over_sharpness: see `texture`
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vqmon.media.images.texture import TEXTURE_SIGNALS, cut_patches

if TYPE_CHECKING:
    from vqmon.media.images.resampling import YuvPlanes

EDGE_ROWS, EDGE_COLUMNS = 18, 32

_STEP = 4
_BLACK_LEVEL = 16 + 0.10 * 219
_BRIGHT_LEVEL = 64
_SOLID_LEVELS = 4
_FREEZE_MEAN = 0.255
_FREEZE_CELL = 2.0
_FLICKER_LEVELS = 32
_SAME_SCENE_CORRELATION = 0.9

_Luma = NDArray[np.float32]


class SignalMeter:
    """Measures the named signals of frames that arrive in presentation order."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = tuple(names)
        self._previous: _Luma | None = None
        self._sampled_means: list[_Luma] = []
        self._intermediate_means: list[_Luma] = []
        self._max_flicker: float | None = None

    def measure(self, planes: YuvPlanes, *, damaged_share: float) -> dict[str, float]:
        """One value in 0..1 per name for a sampled frame; `damaged_share` counts since the previous one."""
        if not self._names:
            return {}
        coarse = _coarse_luma(planes)
        picture_signals: dict[str, Callable[[], float]] = {
            "black": lambda: float((coarse <= _BLACK_LEVEL).mean()),
            "solid": lambda: _measure_solid(planes),
            "freeze": lambda: 0.0 if self._previous is None else _measure_freeze(self._previous, coarse),
            "flicker": lambda: self._pop_flicker(coarse),
            "borders": lambda: _measure_borders(coarse),
            "decode_errors": lambda: damaged_share,
        }
        values = {name: measure() for name, measure in picture_signals.items() if name in self._names}
        texture_names = [name for name in self._names if name in TEXTURE_SIGNALS]
        if texture_names:
            patches = cut_patches(planes.y, is_full=planes.is_full)
            values.update({name: TEXTURE_SIGNALS[name](patches) for name in texture_names})
        self._previous = coarse
        return {name: round(min(max(values[name], 0.0), 1.0), 6) for name in self._names}

    def add_intermediate(self, luma: NDArray[np.float32]) -> None:
        """Measure flicker on a decoded frame, sampled or not; `luma` may be subsampled, on an 8-bit scale."""
        self._intermediate_means = [*self._intermediate_means[-2:], _grid_means(luma)]
        if len(self._intermediate_means) == 3:
            self._max_flicker = max(self._max_flicker or 0.0, _measure_flicker(*self._intermediate_means))

    def mark_gap(self) -> None:
        """The next intermediate frame does not follow the last one."""
        self._intermediate_means = []

    def _pop_flicker(self, coarse: _Luma) -> float:
        self._sampled_means = [*self._sampled_means[-2:], _grid_means(coarse)]
        intermediate_flicker, self._max_flicker = self._max_flicker, None
        if intermediate_flicker is not None:
            return intermediate_flicker
        return _measure_flicker(*self._sampled_means) if len(self._sampled_means) == 3 else 0.0


def compute_fingerprint(planes: YuvPlanes) -> str:
    """The 32 x 18 luma means of a picture as hexadecimal digits; see `core.types.Fingerprint`."""
    means = np.clip(np.rint(_grid_means(_coarse_luma(planes))), 0, 255).astype(np.uint8)
    return means.tobytes().hex()


def _measure_freeze(previous: _Luma, current: _Luma) -> float:
    """1 when two pictures of the same size differ by coding noise only, 0 when they differ clearly."""
    if previous.shape != current.shape:
        return 0.0
    difference = np.abs(current - previous)
    mean, max_cell = float(difference.mean()), float(_grid_means(difference).max())
    return float(np.clip(2 - mean / _FREEZE_MEAN, 0, 1) * np.clip(2 - max_cell / _FREEZE_CELL, 0, 1))


def _measure_flicker(first: _Luma, second: _Luma, third: _Luma) -> float:
    """The flicker of three consecutive frames, each given as its `_grid_means`."""
    first_change, second_change = float(second.mean() - first.mean()), float(third.mean() - second.mean())
    if (
        first_change * second_change >= 0
        or min(_correlation(first, second), _correlation(second, third)) < _SAME_SCENE_CORRELATION
    ):
        return 0.0
    return min(1.0, min(abs(first_change), abs(second_change)) / _FLICKER_LEVELS)


def _grid_means(picture: _Luma) -> _Luma:
    """The mean of each cell of a 32 x 18 grid, as (18, 32)."""
    height, width = picture.shape
    rows = np.minimum(np.arange(EDGE_ROWS) * height // EDGE_ROWS, height - 1)
    columns = np.minimum(np.arange(EDGE_COLUMNS) * width // EDGE_COLUMNS, width - 1)
    sums = np.add.reduceat(np.add.reduceat(picture, rows, axis=0), columns, axis=1)
    counts = np.outer(np.diff([*rows, height]).clip(1), np.diff([*columns, width]).clip(1))
    return (sums / counts).astype(np.float32)


def _coarse_luma(planes: YuvPlanes) -> _Luma:
    step = _coarse_step(planes)
    picture = planes.y[::step, ::step].astype(np.float32)
    return _to_limited_range(picture) if planes.is_full else picture


def _coarse_step(planes: YuvPlanes) -> int:
    return _STEP if min(planes.y.shape) >= EDGE_COLUMNS * _STEP else 1


def _code_levels(*, is_full: bool) -> _Luma:
    codes = np.arange(256, dtype=np.float32)
    return _to_limited_range(codes) if is_full else codes


def _to_limited_range(codes: _Luma) -> _Luma:
    return codes * np.float32(219 / 255) + 16


def _measure_solid(planes: YuvPlanes) -> float:
    step = _coarse_step(planes)
    shares = [_share_near_median(planes.y[::step, ::step], levels=_code_levels(is_full=planes.is_full))]
    shares += [
        _share_near_median(chroma[::2, ::2], levels=_code_levels(is_full=False)) for chroma in (planes.u, planes.v)
    ]
    return min(shares)


def _share_near_median(values: NDArray[np.uint8], *, levels: _Luma) -> float:
    """Share of the values within 4 levels of their median, from a histogram; `levels` are those of the 256 codes."""
    counts = np.bincount(values.ravel(), minlength=256)
    cumulative = np.cumsum(counts)
    low, high = np.searchsorted(cumulative, ((values.size - 1) // 2, values.size // 2), side="right")
    median = (levels[low] + levels[high]) / 2
    return int(counts[np.abs(levels - median) <= _SOLID_LEVELS].sum()) / values.size


def _measure_borders(coarse: _Luma) -> float:
    top, bottom = _count_dark_edge_rows(coarse)
    left, right = _count_dark_edge_rows(coarse.T)
    height, width = coarse.shape
    inner_height, inner_width = height - top - bottom, width - left - right
    if inner_height <= 0 or inner_width <= 0:
        return 0.0
    return float(1 - inner_height * inner_width / (height * width))


def _count_dark_edge_rows(picture: _Luma) -> tuple[int, int]:
    """The number of dark rows at the top and at the bottom."""
    lit = np.flatnonzero((picture.mean(axis=1) > _BLACK_LEVEL - 8) | (picture.max(axis=1) > _BRIGHT_LEVEL))
    if not len(lit):
        return len(picture), 0
    return int(lit[0]), len(picture) - 1 - int(lit[-1])


def _correlation(first: _Luma, second: _Luma) -> float:
    a, b = first - first.mean(), second - second.mean()
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    # two pictures without contrast count as the same picture
    return float((a * b).sum()) / scale if scale > 1e-3 else 1.0
