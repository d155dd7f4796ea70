"""Reading of a reference: what is held of it, and the part that a segment needs that lies at its expected time.

Most codecs have pictures from which no other is predicted, about half of all. Away from the partners of the sampled
frames every second picture tells the time as well as all do, so that such pictures need not be decoded there. Where the
alignment by this part does not confirm the expected time, the whole reference is read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from vqmon.media.reference.alignment import ThumbnailTrack
from vqmon.media.reference.registration import Borders

if TYPE_CHECKING:
    from vqmon.media.reference.canvas import SideFrame


HELD_BYTES = 320_000_000
"""Of the decoded frames of each side that are held, about."""


class PartialReadingError(Exception):
    """The container does not tell what the decoder gives: the whole reference must be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceWindow:
    """Which frames of a reference are wanted; times are seconds after its first frame."""

    # of the expected partners, in order
    partner_seconds: Sequence[float]
    # how many frames before and after each are needed
    before: int
    after: int
    # between which the segment is looked for
    first_seconds: float
    last_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferencePart:
    """A part of the frames of a reference."""

    # of all frames, read or not, in presentation order
    times_seconds: list[float]
    # (index among all frames, frame); raises PartialReadingError
    frames: Iterator[tuple[int, SideFrame]]


PartReader = Callable[[ReferenceWindow], ReferencePart | None]
"""Reads a part of the reference; None where all of it has to be read."""


def choose_frames(times: Sequence[float], is_droppable: Sequence[bool], window: ReferenceWindow) -> list[int]:
    """The indices of the frames to be decoded: near the partners all, elsewhere at least every second one.

    `times` rise, in seconds; `is_droppable` tells from which frames no other is predicted.
    """
    moments = np.asarray(times)
    is_within = (moments >= window.first_seconds) & (moments <= window.last_seconds)
    is_chosen = is_within & ~np.asarray(is_droppable, dtype=bool)
    for index in np.searchsorted(moments, np.asarray(window.partner_seconds) - 1e-3).tolist():
        is_chosen[max(0, index - window.before - 1) : index + window.after + 2] = True
    for index in np.flatnonzero(is_within & ~is_chosen).tolist():
        is_chosen[index] = index > 0 and not is_chosen[index - 1]
    return [int(index) for index in np.flatnonzero(is_chosen)]


@dataclass(slots=True)
class ReferenceSide:
    """What the first decoding of the reference leaves."""

    times_seconds: list[float] = field(default_factory=list)
    track: ThumbnailTrack = field(default_factory=lambda: ThumbnailTrack([], []))
    borders: Borders | None = None
    # index among all frames -> frame, near the times of the samples
    held: dict[int, SideFrame] = field(default_factory=dict)
    first: SideFrame | None = None


class FrameHolder:
    """Holds the frames of the reference around the expected times of the samples while they are few enough.

    `before` and `after` are how many frames around an expected partner are needed.
    """

    def __init__(self, side: ReferenceSide, times: Sequence[float], *, before: int, after: int) -> None:
        self._side = side
        self._waiting = deque(times)
        self._recent: deque[tuple[int, SideFrame]] = deque(maxlen=before + 2)
        self._after, self._following = after, 0
        self._is_full = False

    def add(self, index: int, frame: SideFrame) -> None:
        """Take the next frame of the reference."""
        if self._is_full:
            return
        self._recent.append((index, frame))
        if self._following:
            self._side.held[index] = frame
            self._following -= 1
        if self._waiting and frame.time_seconds >= self._waiting[0] - 1e-3:
            self._waiting.popleft()
            self._side.held.update(self._recent)
            self._following = self._after + 1
        if len(self._side.held) * frame_bytes(frame) > HELD_BYTES:
            self._side.held.clear()
            self._is_full = True


def frame_bytes(frame: SideFrame) -> int:
    """About how much memory a decoded frame takes."""
    return sum(plane.buffer_size for plane in frame.frame.planes)
