"""Expansion of a DASH SegmentTimeline or constant segment duration into numbered segments, within bounds."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vqmon.errors import SegmentError
from vqmon.media.sources.media_playlist import MAX_ENTRIES

MAX_NEWEST_SEGMENTS = 1000
"""The most segments of a rendition that a live MPD lists at one time, the newest ones: a few lines can describe any
number of segments."""

# Clocks differ: a segment that has just been completed is listed a little later.
_LIVE_EDGE_MARGIN_SECONDS = 0.5
_ROUNDING_SECONDS = 1e-6
_NO_END = "neither the MPD (mediaPresentationDuration) nor the Period (duration) has a usable duration"
MAX_EARLY_SECONDS = 1.0
"""A request for a whole segment that is open for longer is taken for one that stalls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEntry:
    """One S element: `count` segments of `length` units from `time` on; count -1: until the next element.

    A length of 0 stands for segments that do not exist and have their numbers.
    """

    time: int | None
    length: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodBounds:
    """The end of a period and the availability of its segments, in seconds since the period's start."""

    # None = open end
    end_seconds: float | None
    # segments that end by this time are complete; None: all segments are
    available_seconds: float | None = None
    # time-shift buffer depth; None: not given
    window_seconds: float | None = None

    # how long before their end segments may be requested (availabilityTimeOffset); 0: at their end
    offset_seconds: float = 0.0
    # the most of `offset_seconds` that is made use of
    max_early_seconds: float = MAX_EARLY_SECONDS

    @property
    def edge_seconds(self) -> float | None:
        """Segments that end by this time are listed; None: all are.

        With low latency a segment is requested a little before its end, and the server sends the rest as it is made.
        """
        if self.available_seconds is None:
            return None
        if self.offset_seconds > 0:
            return self.available_seconds + min(self.offset_seconds, self.max_early_seconds)
        return self.available_seconds - _LIVE_EDGE_MARGIN_SECONDS

    @property
    def oldest_seconds(self) -> float | None:
        """Segments that end by this time have left the time-shift buffer; None: all are in it."""
        if self.available_seconds is None or self.window_seconds is None:
            return None
        return self.available_seconds - self.window_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedSegment:
    """The number of a segment, and its media time and duration in units of the timescale."""

    number: int
    time: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentTiming:
    """The segment times of a representation: a timeline or a constant length, in units of `timescale` per second."""

    timescale: int
    # media time at the period's start (presentationTimeOffset)
    offset: int
    start_number: int
    end_number: int | None
    length: int | None
    timeline: Sequence[TimelineEntry] | None

    def expand(self, bounds: PeriodBounds) -> list[TimedSegment]:
        """The available segments of the period, oldest first; raises SegmentError("playlist")."""
        segments = []
        candidates = self._expand_timeline(bounds) if self.timeline is not None else self._expand_constant(bounds)
        for count, segment in enumerate(candidates):
            # Segments outside of the period count as well: a hostile MPD could list nothing else without end.
            if count > MAX_ENTRIES:
                raise SegmentError("playlist", "the MPD lists too many segments")
            if self.end_number is not None and segment.number > self.end_number:
                break
            if self._is_within(segment, bounds):
                segments.append(segment)
        return segments if bounds.available_seconds is None else segments[-MAX_NEWEST_SEGMENTS:]

    def to_seconds(self, units: int) -> float:
        """Convert a media time to seconds since the period's start."""
        return (units - self.offset) / self.timescale

    def _is_within(self, segment: TimedSegment, bounds: PeriodBounds) -> bool:
        starts, ends = self.to_seconds(segment.time), self.to_seconds(segment.time + segment.length)
        if bounds.oldest_seconds is not None and ends <= bounds.oldest_seconds:
            return False
        return ends > 0 and (bounds.end_seconds is None or starts < bounds.end_seconds - _ROUNDING_SECONDS)

    def _expand_timeline(self, bounds: PeriodBounds) -> Iterator[TimedSegment]:
        time, number = 0, self.start_number
        entries = self.timeline or ()
        for index, entry in enumerate(entries):
            time = entry.time if entry.time is not None else time
            following = entries[index + 1].time if index + 1 < len(entries) else None
            count = entry.count
            if count < 0:
                count = self._count_until_next(time, entry.length, following, bounds) if entry.length else 1
            if entry.length > 0:
                first = self._count_too_old(time, entry.length, count, bounds)
                for index in range(first, self._count_begun(time, entry.length, count, bounds)):
                    yield TimedSegment(number=number + index, time=time + index * entry.length, length=entry.length)
            time += count * entry.length
            number += count

    def _count_begun(self, time: int, length: int, count: int, bounds: PeriodBounds) -> int:
        """How many of the segments of an S element begin before the end of the period."""
        if bounds.end_seconds is None:
            return count
        end = bounds.end_seconds * self.timescale + self.offset
        return min(count, max(0, math.ceil((end - time) / length)))

    def _count_too_old(self, time: int, length: int, count: int, bounds: PeriodBounds) -> int:
        """How many of the segments of an S element a live presentation lists no more."""
        if bounds.available_seconds is None:
            return 0
        too_old = count - MAX_NEWEST_SEGMENTS
        if bounds.oldest_seconds is not None:
            oldest = bounds.oldest_seconds * self.timescale + self.offset
            too_old = max(too_old, math.floor((oldest - time) / length))
        return min(max(too_old, 0), count)

    def _count_until_next(self, time: int, length: int, following: int | None, bounds: PeriodBounds) -> int:
        """The number of segments of an S element with r=-1: until the next S, the period's end, or the present."""
        if following is not None:
            return max(0, math.ceil((following - time) / length))
        if bounds.end_seconds is not None and bounds.available_seconds is None:
            return max(0, math.ceil((bounds.end_seconds * self.timescale + self.offset - time) / length))
        if bounds.edge_seconds is None:
            raise SegmentError("playlist", f"the timeline repeats without an end: {_NO_END}")
        end_seconds = min(
            bounds.edge_seconds,
            bounds.end_seconds if bounds.end_seconds is not None else math.inf,
        )
        return max(0, math.floor((end_seconds * self.timescale + self.offset - time) / length))

    def _expand_constant(self, bounds: PeriodBounds) -> Iterator[TimedSegment]:
        if self.length is None:
            raise SegmentError("playlist", "there are neither a segment duration nor a timeline")
        seconds = self.length / self.timescale
        total = math.ceil(bounds.end_seconds / seconds - _ROUNDING_SECONDS) if bounds.end_seconds is not None else None
        first = 0
        if bounds.edge_seconds is not None:
            complete = max(0, math.floor(bounds.edge_seconds / seconds))
            oldest = 0 if bounds.oldest_seconds is None else math.floor(bounds.oldest_seconds / seconds)
            first = max(oldest, complete - MAX_NEWEST_SEGMENTS, 0)
            total = complete if total is None else min(total, complete)
        if total is None and self.end_number is not None:
            total = self.end_number - self.start_number + 1
        if total is None:
            raise SegmentError("playlist", f"it is not known how many segments there are: {_NO_END}")
        if total - first > MAX_ENTRIES:
            raise SegmentError("playlist", "the MPD lists too many segments")
        for index in range(first, total):
            yield TimedSegment(
                number=self.start_number + index, time=self.offset + index * self.length, length=self.length
            )
