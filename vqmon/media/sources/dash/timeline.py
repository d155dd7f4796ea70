"""Which pieces of media a DASH period holds, and when: SegmentTimeline and @duration, expanded within bounds."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vqmon.errors import SegmentError
from vqmon.media.sources.listing import MAX_LISTED

MAX_UNBOUNDED = 1000
"""So many of the newest segments are listed when a live MPD does not say how far back they are kept."""

# Clocks differ: a segment that is only just complete is asked for a little later.
_EDGE_SECONDS = 0.5
_ROUNDING_SECONDS = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """One S element: `count` segments of `length` units from `time` on; -1 = until what follows."""

    time: int | None
    length: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """What a period's time is bounded by, in seconds since its start."""

    # None = open end
    ends: float | None
    # complete segments end before this; None = all of them are there
    available: float | None = None
    # how long segments are kept; None = not said
    window: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One segment's number and its media time in units of the timescale."""

    number: int
    time: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """How time runs in one representation: a timeline, or a constant length, in units of `timescale` per second."""

    timescale: int
    # media time at the period's start
    offset: int
    start_number: int
    end_number: int | None
    length: int | None
    timeline: Sequence[Repeat] | None

    def pieces(self, clock: Clock) -> list[Piece]:
        """The pieces that are there now, oldest first; raises SegmentError("playlist")."""
        pieces = []
        every = self._timeline(clock) if self.timeline is not None else self._regular(clock)
        for count, piece in enumerate(every):
            # Those outside of the period are counted, too: somebody could list nothing else, without end.
            if count > MAX_LISTED:
                raise SegmentError("playlist", "more segments than any real MPD has")
            if self.end_number is not None and piece.number > self.end_number:
                break
            if self._is_within(piece, clock):
                pieces.append(piece)
        return pieces

    def seconds(self, units: int) -> float:
        """Media time as seconds since the period's start."""
        return (units - self.offset) / self.timescale

    def _is_within(self, piece: Piece, clock: Clock) -> bool:
        begins, ends = self.seconds(piece.time), self.seconds(piece.time + piece.length)
        return ends > 0 and (clock.ends is None or begins < clock.ends - _ROUNDING_SECONDS)

    def _timeline(self, clock: Clock) -> Iterator[Piece]:
        time, number = 0, self.start_number
        repeats = self.timeline or ()
        for index, repeat in enumerate(repeats):
            time = repeat.time if repeat.time is not None else time
            following = repeats[index + 1].time if index + 1 < len(repeats) else None
            count = repeat.count if repeat.count >= 0 else self._open_count(time, repeat.length, following, clock)
            for _ in range(count):
                yield Piece(number=number, time=time, length=repeat.length)
                time += repeat.length
                number += 1

    def _open_count(self, time: int, length: int, following: int | None, clock: Clock) -> int:
        """How often an S with r=-1 repeats: until the next S, the period's end, or the present."""
        if following is not None:
            return max(0, math.ceil((following - time) / length))
        if clock.ends is not None and clock.available is None:
            return max(0, math.ceil((clock.ends * self.timescale + self.offset - time) / length))
        if clock.available is None:
            raise SegmentError("playlist", "a timeline without an end in a period without an end")
        until = min(clock.available - _EDGE_SECONDS, clock.ends if clock.ends is not None else math.inf)
        return max(0, math.floor((until * self.timescale + self.offset - time) / length))

    def _regular(self, clock: Clock) -> Iterator[Piece]:
        if self.length is None:
            raise SegmentError("playlist", "segments without a duration and without a timeline")
        seconds = self.length / self.timescale
        total = math.ceil(clock.ends / seconds - _ROUNDING_SECONDS) if clock.ends is not None else None
        first = 0
        if clock.available is not None:
            complete = max(0, math.floor((clock.available - _EDGE_SECONDS) / seconds))
            kept = math.floor((clock.available - clock.window) / seconds) if clock.window is not None else 0
            first = max(kept, 0 if clock.window is not None else complete - MAX_UNBOUNDED, 0)
            total = complete if total is None else min(total, complete)
        if total is None:
            raise SegmentError("playlist", "segments of constant length in a period without an end")
        if total - first > MAX_LISTED:
            raise SegmentError("playlist", "more segments than any real MPD has")
        for index in range(first, total):
            yield Piece(number=self.start_number + index, time=self.offset + index * self.length, length=self.length)
