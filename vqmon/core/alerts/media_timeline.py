"""Places outcomes on the media timeline of their rendition; detects late segments, repeated frames and ad breaks."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple, TypeVar
from zlib import crc32

import numpy as np

from vqmon.core.alerts.state import AdBreak, RenditionTimeline
from vqmon.core.types import AD_BREAK_LABEL, Fingerprint, Outcome, QualityEvent, Segment, SegmentFailure

NOT_SEGMENTS = ("stale", "playlist")
"""Reasons of failures that stand for no segment: they report that time passes without one."""

DUPLICATE = "duplicate"
"""Reason of a failure that stands for a segment which was announced again."""

NOT_JUDGED = (DUPLICATE, "overloaded")
"""Reasons of failures that say nothing about the stream: they change nothing."""

_RECENT_SEGMENTS = 32
_MARK_CHARACTERS = 4

FORGET_SECONDS = 60.0
"""After a gap of this length the frame before it, and a run of good or bad spans, are forgotten."""

ROUNDING_SECONDS = 1e-3
"""Consecutive segments meet with the rounding errors of their time bases."""

_LATE_LIMIT = 5
"""So many consecutive segments from the past, also by their sequence, mean that the timeline was reset."""

_WORST_FRAMES = 4

_SAME_MEAN_LEVELS = 0.5
SAME_MAX_LEVELS = 3
"""Two fingerprints show the same picture when their cells differ by no more than this, on average and at most."""

_FEW_CELLS = 16

_MAX_BREAKS = 16
_BREAK_TOLERANCE_SECONDS = 0.5
"""A segment that begins so shortly before a break, or before its end, counts as behind that moment."""

_MAX_BREAK_SECONDS = 3600.0
"""A break without an end is over after this time, so that a lost message does not mute a stream for ever."""

_SIMILAR_MEAN_LEVELS = 2.0
_SIMILAR_MAX_LEVELS = 14
"""Up to here they may be the same picture with a key picture between them, or of slow movement."""


_Outcome = TypeVar("_Outcome", bound=Outcome)


class TimedOutcome(NamedTuple):
    """One outcome on the timeline of its rendition; moments are seconds since the epoch. A tuple: made fastest."""

    outcome: Outcome
    # the timeline before this outcome
    before: RenditionTimeline
    starts_at: float
    ends_at: float
    # start of each sampled frame, and the end of the last
    frame_times: tuple[float, ...] = ()
    # whether the first frame repeats the frame before it; None when there is none to compare with, and for a still
    # picture, which does not move
    repeats_last_frame: Literal["yes", "maybe", "no"] | None = None


def place_outcome(
    timeline: RenditionTimeline | None, outcome: Outcome
) -> tuple[RenditionTimeline, TimedOutcome | None]:
    """The timeline after an outcome, and the outcome placed on it; None for a late or repeated segment.

    A failure that stands for no segment (stale, playlist) does not advance the timeline: segments may continue where
    they stopped.
    """
    segment = outcome.segment
    starts_at = segment.starts_at.timestamp()
    ends_at = starts_at + segment.duration_seconds
    observed_at = outcome.observed_at.timestamp()
    timeline = _resumed(timeline, segment, starts_at=starts_at, observed_at=observed_at)
    if isinstance(outcome, SegmentFailure) and outcome.reason in NOT_SEGMENTS:
        timed = TimedOutcome(outcome=outcome, before=timeline, starts_at=starts_at, ends_at=ends_at)
        return replace(timeline, observed_at=observed_at), timed
    until = timeline.ends_at
    if ends_at <= until - ROUNDING_SECONDS or starts_at < ends_at <= until + ROUNDING_SECONDS:
        # A segment that is next in sequence but earlier in time is not late: the timeline was set back.
        if segment.sequence <= timeline.sequence and timeline.late_count + 1 < _LATE_LIMIT:
            return replace(timeline, late_count=timeline.late_count + 1, observed_at=observed_at), None
        timeline = _new_timeline(segment, starts_at, observed_at)
    if not isinstance(outcome, QualityEvent):
        timed = TimedOutcome(outcome=outcome, before=timeline, starts_at=starts_at, ends_at=ends_at)
        after = replace(timeline, ends_at=ends_at, sequence=segment.sequence, late_count=0, observed_at=observed_at)
        return after, timed
    times = tuple(starts_at + seconds for seconds in outcome.times_seconds)
    timed = TimedOutcome(
        outcome=outcome,
        before=timeline,
        starts_at=starts_at,
        ends_at=ends_at,
        frame_times=(*times, max(ends_at, times[-1])),
        repeats_last_frame=_repeats_last_frame(timeline, outcome, times[0]),
    )
    after = RenditionTimeline(
        rendition_key=timeline.rendition_key,
        stream_id=timeline.stream_id,
        ends_at=ends_at,
        sequence=segment.sequence,
        scored_until=ends_at,
        scored_observed_at=observed_at,
        frame_times=(*timeline.frame_times, *times)[-2:],
        fingerprint=outcome.edges[1],
        observed_at=observed_at,
        recent=_with_mark(timeline.recent, segment),
    )
    return after, timed


def was_scored(timeline: RenditionTimeline, segment: Segment) -> bool:
    """Whether this very segment is among the last 32 scored ones: same sequence, start, address and prompt.

    A mark has 16 bits; another segment with the same sequence is taken for the same once in 65,536 times.
    """
    return timeline.recent[(place := _mark_place(segment)) : place + _MARK_CHARACTERS] == _mark(segment)


def _with_mark(recent: str, segment: Segment) -> str:
    recent, place = recent or "-" * _RECENT_SEGMENTS * _MARK_CHARACTERS, _mark_place(segment)
    return recent[:place] + _mark(segment) + recent[place + _MARK_CHARACTERS :]


def _mark_place(segment: Segment) -> int:
    return segment.sequence % _RECENT_SEGMENTS * _MARK_CHARACTERS


def _mark(segment: Segment) -> str:
    # Without the query, which may hold a token that changes.
    address = segment.url.partition("?")[0]
    text = f"{segment.sequence} {segment.starts_at.timestamp()!r} {address} {segment.byte_range} {segment.prompt}"
    return f"{crc32(text.encode(errors='replace')) & 0xFFFF:0{_MARK_CHARACTERS}x}"


def _new_timeline(segment: Segment, starts_at: float, observed_at: float) -> RenditionTimeline:
    return RenditionTimeline(
        rendition_key=segment.rendition.key,
        stream_id=segment.rendition.stream_id,
        ends_at=starts_at,
        sequence=segment.sequence,
        scored_until=starts_at,
        scored_observed_at=observed_at,
        observed_at=observed_at,
    )


def _resumed(
    timeline: RenditionTimeline | None, segment: Segment, *, starts_at: float, observed_at: float
) -> RenditionTimeline:
    """The timeline when another outcome comes, perhaps the first, perhaps after the rendition has ended."""
    if timeline is None:
        return _new_timeline(segment, starts_at, observed_at)
    if timeline.stream_id != segment.rendition.stream_id:
        # Older versions stored no stream; what was read for it may be wrong.
        timeline = replace(timeline, stream_id=segment.rendition.stream_id)
    if timeline.has_ended:
        # While no segment was expected there was no silence.
        timeline = replace(timeline, scored_until=starts_at, scored_observed_at=observed_at, has_ended=False)
    return timeline


def _repeats_last_frame(
    timeline: RenditionTimeline, event: QualityEvent, at: float
) -> Literal["yes", "maybe", "no"] | None:
    if event.media.is_still or not timeline.fingerprint or not 0 <= at - timeline.frame_times[-1] <= FORGET_SECONDS:
        return None
    largest, mean = _difference(timeline.fingerprint, event.edges[0])
    if largest <= SAME_MAX_LEVELS and mean <= _SAME_MEAN_LEVELS:
        return "yes"
    return "maybe" if largest <= _SIMILAR_MAX_LEVELS and mean <= _SIMILAR_MEAN_LEVELS else "no"


def is_same_picture(first: Fingerprint, second: Fingerprint) -> bool:
    """Whether two fingerprints are of the same picture, encoded twice; see SAME_MEAN_LEVELS."""
    largest, mean = _difference(first, second)
    return largest <= SAME_MAX_LEVELS and mean <= _SAME_MEAN_LEVELS


def _difference(first: Fingerprint, second: Fingerprint) -> tuple[float, float]:
    """The largest and the mean difference of two fingerprints' cells in levels; infinite when their sizes differ."""
    if first == second:
        return 0.0, 0.0
    if len(first) != len(second):
        return math.inf, math.inf
    # A few cells from the middle tell most pictures apart; then nothing else of the difference matters.
    middle = len(first) // 4 * 2
    few = [bytes.fromhex(text[middle : middle + 2 * _FEW_CELLS]) for text in (first, second)]
    if max(map(abs, map(int.__sub__, *few)), default=0) > _SIMILAR_MAX_LEVELS:
        return math.inf, math.inf
    cells = [np.frombuffer(bytes.fromhex(text), np.uint8) for text in (first, second)]
    distances = np.maximum(*cells) - np.minimum(*cells)
    largest = float(distances.max())
    # Most pictures differ by far; then the mean decides nothing.
    return largest, float(distances.sum()) / distances.size if largest <= _SIMILAR_MAX_LEVELS else math.inf


def worst_frame_times(event: QualityEvent, badness: Sequence[float]) -> tuple[float, ...]:
    """Presentation times in seconds of the worst frames, worst first; `badness` has a value per frame.

    The middle frame when the values do not belong to single frames.
    """
    times = event.times_seconds
    if len(badness) != len(times):
        return (times[len(times) // 2],)
    ranked = sorted(range(len(times)), key=lambda index: (-badness[index], index))
    return tuple(times[index] for index in ranked[:_WORST_FRAMES])


def breaks_after(timeline: RenditionTimeline | None, outcome: Outcome) -> tuple[AdBreak, ...]:
    """The breaks of a rendition that are not over at the start of a segment, with those that its media announce."""
    breaks = timeline.ad_breaks if timeline else ()
    if isinstance(outcome, QualityEvent) and outcome.media.splices:
        breaks = _with_cues(breaks, outcome)
    if not breaks or (isinstance(outcome, SegmentFailure) and outcome.reason in NOT_SEGMENTS):
        # segments may continue where they stopped
        return breaks
    starts_at = outcome.segment.starts_at.timestamp()
    return tuple(each for each in breaks if each.ends_at > starts_at)[-_MAX_BREAKS:]


def label_ad_break(timeline: RenditionTimeline | None, outcome: _Outcome) -> _Outcome:
    """The outcome, with the label `ad_break` if its segment begins within a break and has no such label."""
    breaks = breaks_after(timeline, outcome)
    segment = outcome.segment
    if not breaks or AD_BREAK_LABEL in segment.all_labels:
        return outcome
    starts_at = segment.starts_at.timestamp() + _BREAK_TOLERANCE_SECONDS
    if not any(each.begins_at <= starts_at < each.ends_at for each in breaks):
        return outcome
    return replace(outcome, segment=replace(segment, labels={**segment.labels, AD_BREAK_LABEL: "yes"}))


def _with_cues(breaks: tuple[AdBreak, ...], event: QualityEvent) -> tuple[AdBreak, ...]:
    starts_at = event.segment.starts_at.timestamp()
    # at one moment what ends comes first: between two ads the break goes on
    for cue in sorted(event.media.splices, key=lambda cue: (cue.at_seconds, cue.begins)):
        at = starts_at + cue.at_seconds
        if cue.begins:
            # messages are repeated before the splice
            breaks = tuple(each for each in breaks if abs(each.begins_at - at) > _BREAK_TOLERANCE_SECONDS)
            ends_at = at + min(cue.seconds or _MAX_BREAK_SECONDS, _MAX_BREAK_SECONDS)
            breaks = (*breaks, AdBreak(begins_at=at, ends_at=ends_at))
        else:
            # not one that begins then or later: that was announced earlier than this end
            breaks = tuple(
                each._replace(ends_at=min(each.ends_at, at)) if each.begins_at < at - _BREAK_TOLERANCE_SECONDS else each
                for each in breaks
            )
    return tuple(each for each in breaks if each.ends_at > each.begins_at)
