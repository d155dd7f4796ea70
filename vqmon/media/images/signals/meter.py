"""Signals of pictures, numbers from 0 to 1: black, freeze, blockiness, blur, noise, banding, over-sharpness and others.

All are measured on the coded picture at its native size, 8 bits, on luma unless noted. Signals of the whole picture
(black, solid, borders, freeze, flicker) use every fourth pixel of every fourth row; signals of fine detail use up to
nine full-resolution patches of 240 x 240 pixels spread evenly (see `texture`). Levels below are those of limited-range
luma, 16 black to 235 white; full-range pictures are scaled to that first.

black           share of pixels under 10 % of white, as FFmpeg's `blackdetect`; 1: the whole picture is black
solid           share of the cells of a 32 x 18 grid whose mean is within 3 levels of the median cell's, in Y, in U and
                in V; the smallest of the three, squared, 0.9 counting as 1. So noise and a line of text do not count
freeze          mean difference to the previous sampled frame: 1 under 0.255 levels (-60 dB, as FFmpeg's
                `freezedetect`), falling to 0 at twice that; multiplied by 1 when no cell of a 32 x 18 grid differs by
                2 levels, falling to 0 at 4, so that a small moving object is noticed; 0 for a segment's first frame.
                Where a key picture lies between both frames, see `freeze`
flicker         the smaller of two opposite changes of the mean luma, up and down or down and up, within 12 consecutive
                frames whose pictures correlate >= 0.9, 32 levels counting as 1; the largest since the previous sampled
                frame. Measured on all frames that are decoded since then; when they are fewer than three, it is the
                value before, once, or that of the last three sampled frames, if larger. A segment's first frame has the
                value of the second
borders         share of the picture in the outer rows and columns whose mean is black and that hold no bright pixel; 0
                when the whole picture is black
shimmer, judder, repeated_frames, jumps: of frames at native rate, see `temporal`, `shimmer` and `cadence`
dropped_frames  share of the frames that are missing since the previous sampled frame: a step between the timestamps of
                two coded frames that is k times the segment's median step, k rounded, counts as k - 1 missing frames.
                All packets count, decoded or not (`media.decode.bitstream.packets`)
decode_errors   share of damaged or lost pictures among those decoded since the previous sampled frame
blockiness, blur, noise, banding, over_sharpness: see `texture`
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vqmon.media.images.frames import count_dark_ends
from vqmon.media.images.signals.freeze import FreezeMeter, correlation, grid_means
from vqmon.media.images.signals.temporal import TEMPORAL_SIGNALS, TemporalMeter
from vqmon.media.images.signals.texture import TEXTURE_SIGNALS, cut_patches

if TYPE_CHECKING:
    from vqmon.media.images.resampling import YuvPlanes

EDGE_ROWS, EDGE_COLUMNS = 18, 32

_STEP = 4
_BLACK_LEVEL = 16 + 0.10 * 219
_BRIGHT_LEVEL = 64
_SOLID_LEVELS = 3
_SOLID_SQUARE = 0.9
_SOLID_SAMPLES = 10
_FLICKER_LEVELS = 32
_FLICKER_FRAMES = 12
_SAME_SCENE_CORRELATION = 0.9

_Luma = NDArray[np.float32]


class SignalMeter:
    """Measures the named signals of frames that arrive in presentation order."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = tuple(names)
        self._freeze = FreezeMeter()
        self._sampled_means: list[_Luma] = []
        self._intermediate_means: list[_Luma] = []
        self._max_flicker: float | None = None
        # the value of the frame before, to be used once more
        self._held_flicker = 0.0
        self._temporal = TemporalMeter() if set(TEMPORAL_SIGNALS) & set(self._names) else None

    def measure(
        self, planes: YuvPlanes, *, damaged_share: float, timestamp: int | None = None
    ) -> dict[str, float | None]:
        """One value in 0..1 per name for a sampled frame; `damaged_share` counts since the previous one.

        None for a signal of consecutive frames where too few were decoded. `timestamp` is on the clock of the
        intermediate frames; without one, key pictures are not recognised.
        """
        if not self._names:
            return {}
        coarse = _coarse_luma(planes)
        picture_signals: dict[str, Callable[[], float]] = {
            "black": lambda: float((coarse <= _BLACK_LEVEL).mean()),
            "solid": lambda: _measure_solid(planes),
            "freeze": lambda: self._freeze.measure(coarse, planes.y, timestamp=timestamp),
            "flicker": lambda: self._pop_flicker(coarse),
            "borders": lambda: _measure_borders(coarse),
            # the packets tell; see `FrameCollector.add_dropped_frames`
            "dropped_frames": lambda: 0.0,
            "decode_errors": lambda: damaged_share,
        }
        values: dict[str, float | None] = {
            name: measure() for name, measure in picture_signals.items() if name in self._names
        }
        texture_names = [name for name in self._names if name in TEXTURE_SIGNALS]
        if texture_names:
            patches = cut_patches(planes.y, is_full=planes.is_full)
            values.update({name: TEXTURE_SIGNALS[name](patches) for name in texture_names})
        if self._temporal is not None:
            values.update(self._temporal.pop())
        return {name: _rounded(values[name]) for name in self._names}

    def add_intermediate(
        self, luma: NDArray[np.float32], *, is_key: bool = False, timestamp: int | None = None
    ) -> None:
        """Note a decoded frame, sampled or not; `luma` may be subsampled, on an 8-bit scale."""
        self._freeze.add_intermediate(luma, is_key=is_key, timestamp=timestamp)
        self._intermediate_means = [*self._intermediate_means[1 - _FLICKER_FRAMES :], _grid_means(luma)]
        if len(self._intermediate_means) >= 3:
            self._max_flicker = max(self._max_flicker or 0.0, _measure_flicker(self._intermediate_means))

    def add_native(
        self, luma: NDArray[np.float32], *, index: int | None, read_luma: Callable[[], NDArray[np.uint8]]
    ) -> None:
        """Note a decoded frame for the signals of consecutive frames; see `TemporalMeter.add_frame`."""
        if self._temporal is not None:
            self._temporal.add_frame(luma, index=index, read_luma=read_luma)

    def finish(self) -> dict[str, float | None]:
        """The signals of consecutive frames after the last sampled frame, None for those that were not measured."""
        if self._temporal is None:
            return {}
        return {name: _rounded(value) for name, value in self._temporal.pop().items() if name in self._names}

    def mark_gap(self) -> None:
        """The next intermediate frame does not follow the last one."""
        # the signals of consecutive frames go by the indices: a burst may cross a key picture
        self._intermediate_means = []
        self._freeze.mark_gap()

    def _pop_flicker(self, coarse: _Luma) -> float:
        self._sampled_means = [*self._sampled_means[-2:], _grid_means(coarse)]
        intermediate_flicker, self._max_flicker = self._max_flicker, None
        if intermediate_flicker is not None:
            self._held_flicker = intermediate_flicker
            return intermediate_flicker
        held_flicker, self._held_flicker = self._held_flicker, 0.0
        sampled_flicker = _measure_flicker(self._sampled_means) if len(self._sampled_means) == 3 else 0.0
        return max(held_flicker, sampled_flicker)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(min(max(value, 0.0), 1.0), 6)


def compute_fingerprint(planes: YuvPlanes) -> str:
    """The 32 x 18 luma means of a picture as hexadecimal digits; see `core.types.Fingerprint`."""
    means = np.clip(np.rint(_grid_means(_coarse_luma(planes))), 0, 255).astype(np.uint8)
    return means.tobytes().hex()


def _measure_flicker(frames: Sequence[_Luma]) -> float:
    """The largest flicker that ends with the last of some consecutive frames, each given as its `_grid_means`."""
    levels = np.array([frame.mean() for frame in frames])
    best, extremes = 0.0, (0, 0)
    for sign in (1, -1):
        heights = sign * levels
        for middle in range(1, len(frames) - 1):
            first = int(np.argmin(heights[:middle]))
            change = float(min(heights[middle] - heights[first], heights[middle] - heights[-1]))
            if change > best:
                best, extremes = change, (first, middle)
    first, middle = extremes
    if best == 0 or min(correlation(frames[first], frames[middle]), correlation(frames[middle], frames[-1])) < (
        _SAME_SCENE_CORRELATION
    ):
        return 0.0
    return min(1.0, best / _FLICKER_LEVELS)


def _grid_means(picture: _Luma) -> _Luma:
    """The mean of each cell of a 32 x 18 grid, as (18, 32)."""
    return grid_means(picture, (EDGE_ROWS, EDGE_COLUMNS))


def _coarse_luma(planes: YuvPlanes) -> _Luma:
    step = _coarse_step(planes)
    picture = planes.y[::step, ::step].astype(np.float32)
    return _to_limited_range(picture) if planes.is_full else picture


def _coarse_step(planes: YuvPlanes) -> int:
    return _STEP if min(planes.y.shape) >= EDGE_COLUMNS * _STEP else 1


def _to_limited_range(codes: _Luma) -> _Luma:
    return codes * np.float32(219 / 255) + 16


def _measure_solid(planes: YuvPlanes) -> float:
    share = min(_share_near_median(plane) for plane in (planes.y, planes.u, planes.v))
    return min(1.0, share * share / _SOLID_SQUARE)


def _share_near_median(plane: NDArray[np.uint8]) -> float:
    """Share of the cells of a grid whose mean is near the median of the cells."""
    step = max(1, min(plane.shape[0] // EDGE_ROWS, plane.shape[1] // EDGE_COLUMNS) // _SOLID_SAMPLES)
    means = _grid_means(plane[::step, ::step].astype(np.float32))
    return float((np.abs(means - np.median(means)) <= _SOLID_LEVELS).mean())


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
    return count_dark_ends((picture.mean(axis=1) > _BLACK_LEVEL - 8) | (picture.max(axis=1) > _BRIGHT_LEVEL))
