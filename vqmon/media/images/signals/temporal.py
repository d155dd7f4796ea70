"""Signals of consecutive frames at native rate: shimmer, judder, repeated frames and jumps.

They are measured on frames that are decoded anyway and on short bursts where too few of those are neighbours (see
`media.decode.bitstream.bursts`), at most once from one sampled frame to the next.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vqmon.media.images.signals.cadence import Cadence, measure_cadence
from vqmon.media.images.signals.freeze import correlation, grid_means
from vqmon.media.images.signals.shimmer import SHIMMER_FRAMES, measure_shimmer

TEMPORAL_SIGNALS = ("shimmer", "judder", "repeated_frames", "jumps")
"""The signals that a `TemporalMeter` measures."""

_GRID = (18, 32)
_SAME_SCENE_CORRELATION = 0.6
_SAME_SCENE_LEVELS = 10.0
_REPEAT_LEVELS = 0.3
_MIN_FRAMES = 5

_Coarse = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Frame:
    coarse: _Coarse
    grid: _Coarse
    # the frame's luma at native size, 8 bits
    read_luma: Callable[[], NDArray[np.uint8]]


class TemporalMeter:
    """Collects the frames between sampled ones, in presentation order; `pop` gives what they show."""

    def __init__(self) -> None:
        # the last two frames, also of another scene
        self._recent: list[_Frame] = []
        # distinct frames of this scene; the last one that was added
        self._frames: list[_Frame] = []
        self._last: _Frame | None = None
        # of this scene and without a gap, repeats included
        self._frame_count = 0
        self._differences: list[float] = []
        self._index: int | None = None
        self._shimmer: float | None = None
        # whether the sampled frame before has a value of shimmer: every second one is enough
        self._was_measured = False
        self._cadences: list[Cadence] = []

    def add_frame(self, coarse: _Coarse, *, index: int | None, read_luma: Callable[[], NDArray[np.uint8]]) -> None:
        """Note a decoded frame; `coarse` is its subsampled luma in levels.

        `index` counts the frames of the segment in presentation order; None when every frame is passed. `read_luma`
        gives its (height, width) luma on an 8-bit scale, and is called only for frames whose shimmer is measured.
        """
        frame = _Frame(coarse, grid_means(coarse, _GRID), read_luma)
        if index is not None and self._index is not None and index != self._index + 1:
            self.mark_gap()
        elif self._recent and not self._is_same_scene(frame):
            self._end_stretch()
        self._recent = [*self._recent[-1:], frame]
        difference = None if self._last is None else float(np.abs(coarse - self._last.coarse).mean())
        self._index, self._last, self._frame_count = index, frame, self._frame_count + 1
        if difference is not None:
            self._differences.append(difference)
        if difference is None or difference > _REPEAT_LEVELS:
            # a repeated frame is no step of a shimmer
            self._frames = [*self._frames[1 - SHIMMER_FRAMES :], frame]
        if self._frame_count >= SHIMMER_FRAMES:
            self._measure_shimmer()

    def mark_gap(self) -> None:
        """The next frame does not follow the last one."""
        self._end_stretch()
        self._recent = []

    def _end_stretch(self) -> None:
        if self._frame_count >= _MIN_FRAMES:
            self._measure_shimmer()
        if (cadence := measure_cadence(self._differences)) is not None:
            self._cadences.append(cadence)
        self._frames, self._differences, self._last, self._frame_count = [], [], None, 0

    def pop(self) -> dict[str, float | None]:
        """The signals since the last call, None for those that could not be measured."""
        if self._frame_count >= _MIN_FRAMES:
            self._measure_shimmer()
        cadence = measure_cadence(self._differences)
        stretches = self._cadences if cadence is None else [*self._cadences, cadence]
        shimmer, self._shimmer, self._cadences, self._differences = self._shimmer, None, [], []
        self._was_measured = shimmer is not None
        values = {name: [getattr(stretch, name) for stretch in stretches] for name in TEMPORAL_SIGNALS[1:]}
        return {"shimmer": shimmer, **{name: max(numbers, default=None) for name, numbers in values.items()}}

    def _measure_shimmer(self) -> None:
        if self._shimmer is None and not self._was_measured:
            self._shimmer = measure_shimmer([frame.read_luma() for frame in self._frames])

    def _is_same_scene(self, frame: _Frame) -> bool:
        """Whether a frame is like the last one, or like the one before that, as when it flickers.

        A frame that differs little as a whole is no new scene, however little it correlates: a dark one that shimmers.
        """
        if self._recent[-1].coarse.shape != frame.coarse.shape:
            return False
        return any(
            float(np.abs(other.grid - frame.grid).mean()) < _SAME_SCENE_LEVELS
            or correlation(other.grid, frame.grid) >= _SAME_SCENE_CORRELATION
            for other in self._recent
        )
