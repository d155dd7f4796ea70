"""What a picture shows, as numbers from 0 to 1: black, freeze, blockiness, blur, noise, banding, over-sharpness ...

All are measured on the coded picture at its native size, 8 bits, luma unless said otherwise. What describes the whole
picture (black, solid, borders, freeze, flicker) looks at every fourth pixel of every fourth row; what describes fine
detail looks at up to nine full-resolution patches of 240 x 240 pixels spread evenly (see `texture`). Levels below are
those of limited-range luma, 16 black to 235 white; full-range pictures are scaled to that first.

black           share of pixels under 10 % of white, as FFmpeg's `blackdetect`; 1: all of it is black
solid           share of pixels within 4 levels of the median in Y, in U and in V, the smallest of the three; 1: one
                single colour
freeze          mean difference to the sampled frame before: 1 under 0.255 levels (-60 dB, as FFmpeg's `freezedetect`),
                falling to 0 at twice that; and no cell of a 32 x 18 grid may differ by 2 levels, falling to 0 at 4, so
                that a small moving thing is seen; 0 for a segment's first frame
flicker         the smaller of two opposite changes of the mean luma over three successive frames whose pictures
                correlate >= 0.9, 32 levels counting as 1; the largest since the sampled frame before. Seen are the
                frames decoded on the way to the sampled one; when fewer than three came by, the last three sampled
borders         share of the picture outside the rows and columns whose mean is black and that hold no bright pixel; 0
                when all of it is black
decode_errors   share of damaged or lost pictures among those decoded since the sampled frame before
blockiness, blur, noise, banding, over_sharpness: see `texture`
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vqmon.media.images.texture import TEXTURES, patches

if TYPE_CHECKING:
    from vqmon.media.images.resampling import Planes

EDGE_ROWS, EDGE_COLUMNS = 18, 32

_STEP = 4
_BLACK_LEVEL = 16 + 0.10 * 219
_BRIGHT_LEVEL = 64
_SOLID_LEVELS = 4
_FREEZE_MEAN = 0.255
_FREEZE_CELL = 2.0
_FLICKER_LEVELS = 32
_SAME_SCENE = 0.9

Luma = NDArray[np.float32]


class SignalMeter:
    """Measures the named signals of frames given in the order of their times; remembers the ones before."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = tuple(names)
        self._before: Luma | None = None
        self._sampled: list[Luma] = []
        self._passing: list[Luma] = []
        self._worst_flicker: float | None = None

    def measure(self, planes: Planes, *, damaged_share: float) -> dict[str, float]:
        """One value per name. `damaged_share` is the share of damaged coded pictures since the frame before."""
        if not self._names:
            return {}
        coarse = _coarse(planes)
        whole: dict[str, Callable[[], float]] = {
            "black": lambda: float((coarse <= _BLACK_LEVEL).mean()),
            "solid": lambda: _solid(planes),
            "freeze": lambda: 0.0 if self._before is None else freeze(self._before, coarse),
            "flicker": lambda: self._flicker(coarse),
            "borders": lambda: _borders(coarse),
            "decode_errors": lambda: damaged_share,
        }
        values = {name: measure() for name, measure in whole.items() if name in self._names}
        fine = [name for name in self._names if name in TEXTURES]
        if fine:
            cut = patches(planes.y, is_full=planes.is_full)
            values.update({name: TEXTURES[name](cut) for name in fine})
        self._before = coarse
        return {name: round(min(max(values[name], 0.0), 1.0), 6) for name in self._names}

    def glance(self, luma: NDArray[np.float32]) -> None:
        """Take note of a frame that is decoded on the way; `luma` may be thinned out, in levels of 8 bits."""
        self._passing = [*self._passing[-2:], cells(luma)]
        if len(self._passing) == 3:
            self._worst_flicker = max(self._worst_flicker or 0.0, flicker(*self._passing))

    def jump(self) -> None:
        """The next frame to glance at does not follow the last one."""
        self._passing = []

    def _flicker(self, coarse: Luma) -> float:
        self._sampled = [*self._sampled[-2:], cells(coarse)]
        worst, self._worst_flicker = self._worst_flicker, None
        if worst is not None:
            return worst
        return flicker(*self._sampled) if len(self._sampled) == 3 else 0.0


def fingerprint(planes: Planes) -> str:
    """The 32 x 18 luma means of a picture; see `core.types.Fingerprint`."""
    means = np.clip(np.rint(cells(_coarse(planes))), 0, 255).astype(np.uint8)
    return means.tobytes().hex()


def freeze(before: Luma, now: Luma) -> float:
    """1 when two pictures are the same but for coding noise."""
    if before.shape != now.shape:
        return 0.0
    difference = np.abs(now - before)
    mean, worst = float(difference.mean()), float(cells(difference).max())
    return float(np.clip(2 - mean / _FREEZE_MEAN, 0, 1) * np.clip(2 - worst / _FREEZE_CELL, 0, 1))


def flicker(first: Luma, second: Luma, third: Luma) -> float:
    """Brightness that goes one way and back while the picture stays: all three as 32 x 18 means."""
    up, down = float(second.mean() - first.mean()), float(third.mean() - second.mean())
    if up * down >= 0 or min(_correlation(first, second), _correlation(second, third)) < _SAME_SCENE:
        return 0.0
    return min(1.0, min(abs(up), abs(down)) / _FLICKER_LEVELS)


def cells(picture: Luma) -> Luma:
    """The mean of each cell of a grid of 32 x 18."""
    height, width = picture.shape
    rows = np.minimum(np.arange(EDGE_ROWS) * height // EDGE_ROWS, height - 1)
    columns = np.minimum(np.arange(EDGE_COLUMNS) * width // EDGE_COLUMNS, width - 1)
    sums = np.add.reduceat(np.add.reduceat(picture, rows, axis=0), columns, axis=1)
    counts = np.outer(np.diff([*rows, height]).clip(1), np.diff([*columns, width]).clip(1))
    return (sums / counts).astype(np.float32)


def _coarse(planes: Planes) -> Luma:
    step = _coarse_step(planes)
    picture = planes.y[::step, ::step].astype(np.float32)
    return _limited(picture) if planes.is_full else picture


def _coarse_step(planes: Planes) -> int:
    return _STEP if min(planes.y.shape) >= EDGE_COLUMNS * _STEP else 1


def _levels(*, is_full: bool) -> Luma:
    codes = np.arange(256, dtype=np.float32)
    return _limited(codes) if is_full else codes


def _limited(codes: Luma) -> Luma:
    return codes * np.float32(219 / 255) + 16


def _solid(planes: Planes) -> float:
    step = _coarse_step(planes)
    shares = [_near_median(planes.y[::step, ::step], levels=_levels(is_full=planes.is_full))]
    shares += [_near_median(chroma[::2, ::2], levels=_levels(is_full=False)) for chroma in (planes.u, planes.v)]
    return min(shares)


def _near_median(values: NDArray[np.uint8], *, levels: Luma) -> float:
    """Share of the values within 4 levels of their median, by counting each of the 256 codes."""
    counts = np.bincount(values.ravel(), minlength=256)
    up_to = np.cumsum(counts)
    low, high = np.searchsorted(up_to, ((values.size - 1) // 2, values.size // 2), side="right")
    median = (levels[low] + levels[high]) / 2
    return int(counts[np.abs(levels - median) <= _SOLID_LEVELS].sum()) / values.size


def _borders(coarse: Luma) -> float:
    top, bottom = _dark_ends(coarse)
    left, right = _dark_ends(coarse.T)
    height, width = coarse.shape
    inner_height, inner_width = height - top - bottom, width - left - right
    if inner_height <= 0 or inner_width <= 0:
        return 0.0
    return float(1 - inner_height * inner_width / (height * width))


def _dark_ends(picture: Luma) -> tuple[int, int]:
    """How many rows are dark at the beginning and at the end."""
    lit = np.flatnonzero((picture.mean(axis=1) > _BLACK_LEVEL - 8) | (picture.max(axis=1) > _BRIGHT_LEVEL))
    if not len(lit):
        return len(picture), 0
    return int(lit[0]), len(picture) - 1 - int(lit[-1])


def _correlation(one: Luma, other: Luma) -> float:
    a, b = one - one.mean(), other - other.mean()
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    # two flat pictures are the same picture
    return float((a * b).sum()) / scale if scale > 1e-3 else 1.0
