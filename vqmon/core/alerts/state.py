"""What rules remember between outcomes, and how spans of bad and good time become alerts that open and close.

Times are seconds since the epoch on the segments' own timeline, exact to a microsecond.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from vqmon.core.alerts.annotations import Marker
from vqmon.core.alerts.regression.ladder import Rung
from vqmon.core.alerts.rules import NOT_SEGMENTS, Group, Timing
from vqmon.core.types import Alert, Fingerprint, Outcome, QualityEvent, Segment, SegmentFailure


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """The series of one group of one scorer."""

    rule: str
    # e.g. encoder=pool-a; empty = all
    group: str
    # name without version
    scorer: str
    # keys of their states, sorted
    series: tuple[str, ...] = ()
    # stream/rendition of each
    places: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return f"&{self.rule}|{self.name}"

    @property
    def name(self) -> str:
        """The group as a series."""
        return f"{self.group or 'all'}/group/{self.scorer}"

    def only(self, pairs: list[tuple[str, str]]) -> "Members":
        """The same group with these series, given as state key and place."""
        pairs = sorted(pairs)
        return replace(self, series=tuple(key for key, _ in pairs), places=tuple(place for _, place in pairs))


def group_of(condition: Group, labels: Mapping[str, str]) -> str | None:
    """The group that labels put a series into; None when one of them is missing."""
    if any(name not in labels for name in condition.by):
        return None
    return ",".join(f"{name}={labels[name]}" for name in condition.by)


Verdict = Literal["bad", "between", "good"]

FORGET_SECONDS = 60.0
"""A condition that was not seen for so long does not go on: its clock starts anew."""

ROUNDING_SECONDS = 1e-3
"""Segments meet with rounding errors of their time bases."""

LATE_LIMIT = 5
"""So many segments in a row from the past, also by their sequence, mean that the stream began anew."""

SAME_MEAN_LEVELS = 0.5
SAME_MAX_LEVELS = 3
"""Two fingerprints show the same picture when their cells differ by no more than this, on average and at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """What all rules share about one rendition: how far its time has come, and its last picture."""

    rendition: str
    until: float
    sequence: int
    # end of the last scored segment; of none yet: start of the first outcome
    scored_until: float
    # when the last scored segment was observed; of none yet: the first outcome
    scored_seen: float
    # how many segments in a row came from the past
    late: int = 0
    # when the last two pictures were, the later one last
    pictures_at: tuple[float, ...] = ()
    picture: Fingerprint = ""
    # empty in what was stored before it was told
    stream_id: str = ""
    # nothing has come since its end
    has_ended: bool = False

    @property
    def key(self) -> str:
        return f"|{self.rendition}"

    @property
    def stream(self) -> str:
        return self.stream_id or self.rendition.partition("/")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertState:
    """What one rule remembers of one series."""

    rule: str
    series: str
    kind: str
    # first bad moment of the run that may become, or is, an alert
    began: float | None = None
    # from when its duration counts: earlier by what may have been missed, later by holes
    clock: float | None = None
    # how many spans of the run were bad
    count: int = 0
    # while an alert is open: since when all is good
    calm: float | None = None
    # end of the last span that counted
    seen_until: float = 0.0
    alert: Alert | None = None
    # what `memory` was learned from, e.g. lite@1
    basis: str = ""
    memory: tuple[float, ...] = ()
    # signals and scores that are followed beside it, and what is remembered of them; see regression.change_point.
    # Of a collapse the low values that may become one
    names: tuple[str, ...] = ()
    beside: tuple[float, ...] = ()
    # for groups: start, sum and number of recent deviations from the usual, three numbers per stretch of time
    recent: tuple[float, ...] = ()
    # values that had no partner to be compared with
    dropped: int = 0

    @property
    def key(self) -> str:
        return f"{self.rule}|{self.series}"

    @property
    def is_idle(self) -> bool:
        """Nothing to remember: the same as a series never seen."""
        return self.clock is None and self.alert is None and not self.memory and not self.dropped


State = AlertState | Track | Marker | Rung | Members


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """What a condition says about a stretch of time."""

    at: float
    until: float
    verdict: Verdict
    value: float
    # what the value was held against
    limit: float
    # of a run that starts here: its first moment and where its clock starts
    began: float
    clock: float
    # until when it counts for the duration
    counts_until: float
    # what the value usually is, where the condition knows it
    usual: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """An alert begins or ends at a moment, at this span."""

    kind: Literal["open", "resolved"]
    moment: float
    # since when the condition holds, or ceased to hold
    began: float
    span: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One outcome on the rendition's timeline."""

    outcome: Outcome
    before: Track
    starts: float
    ends: float
    # start of each frame looked at, and the end of the last
    marks: tuple[float, ...] = ()
    # whether the first frame is the picture before it; None when there is none to compare
    first_is_same: bool | None = None


def look_at(track: Track | None, outcome: Outcome) -> tuple[Track, Look | None]:
    """Place an outcome on its rendition's timeline; no Look for what comes late or twice.

    What stands for no segment (stale, playlist) has a moment but moves nothing: segments may go on where they stopped.
    """
    segment = outcome.segment
    starts = segment.starts_at.timestamp()
    ends = starts + segment.duration_seconds
    seen = outcome.observed_at.timestamp()
    fresh = _fresh_track(segment, starts, seen)
    track = _again(track, fresh) if track else fresh
    if isinstance(outcome, SegmentFailure) and outcome.reason in NOT_SEGMENTS:
        return track, Look(outcome=outcome, before=track, starts=starts, ends=ends)
    if ends <= track.until - ROUNDING_SECONDS or starts < ends <= track.until + ROUNDING_SECONDS:
        # A segment that is next in sequence but earlier in time is not late: the timeline was set back.
        if segment.sequence <= track.sequence and track.late + 1 < LATE_LIMIT:
            return replace(track, late=track.late + 1), None
        track = fresh
    if not isinstance(outcome, QualityEvent):
        look = Look(outcome=outcome, before=track, starts=starts, ends=ends)
        return replace(track, until=ends, sequence=segment.sequence, late=0), look
    times = tuple(starts + seconds for seconds in outcome.times_seconds)
    look = Look(
        outcome=outcome,
        before=track,
        starts=starts,
        ends=ends,
        marks=(*times, max(ends, times[-1])),
        first_is_same=_first_is_same(track, outcome, times[0]),
    )
    after = Track(
        rendition=track.rendition,
        until=ends,
        sequence=segment.sequence,
        scored_until=ends,
        scored_seen=seen,
        pictures_at=(*track.pictures_at, *times)[-2:],
        picture=outcome.edges[1],
        stream_id=track.stream_id,
    )
    return after, look


def _fresh_track(segment: Segment, starts: float, seen: float) -> Track:
    return Track(
        rendition=segment.rendition.key,
        until=starts,
        sequence=segment.sequence,
        scored_until=starts,
        scored_seen=seen,
        stream_id=segment.rendition.stream_id,
    )


def _again(track: Track, fresh: Track) -> Track:
    """What is known of a rendition when something of it comes, perhaps after its end."""
    if not track.stream_id:
        track = replace(track, stream_id=fresh.stream_id)
    if track.has_ended:
        # While nothing was expected there was no silence.
        track = replace(track, scored_until=fresh.scored_until, scored_seen=fresh.scored_seen, has_ended=False)
    return track


def same_picture(one: Fingerprint, other: Fingerprint) -> bool:
    """Whether two fingerprints show the same picture, coded twice; see SAME_MEAN_LEVELS."""
    if one == other:
        return True
    if len(one) != len(other):
        return False
    cells = [np.frombuffer(bytes.fromhex(text), np.uint8).astype(np.int16) for text in (one, other)]
    difference = np.abs(cells[0] - cells[1])
    return bool(difference.mean() <= SAME_MEAN_LEVELS and difference.max() <= SAME_MAX_LEVELS)


def _first_is_same(track: Track, event: QualityEvent, at: float) -> bool | None:
    if not track.picture or not 0 <= at - track.pictures_at[-1] <= FORGET_SECONDS:
        return None
    return same_picture(track.picture, event.edges[0])


def advance(state: AlertState, span: Span, timing: Timing) -> tuple[AlertState, Turn | None]:
    """One span more: the new state, and whether an alert begins or ends with it (the caller makes the alert).

    In between neither counts towards an alert nor undoes what has counted; an open alert starts its recovery anew.
    """
    if state.alert is None:
        return _towards_open(state, span, timing)
    if span.verdict != "good":
        return (replace(state, calm=None) if state.calm is not None else state), None
    hole = span.at - state.seen_until
    calm = state.calm
    if calm is None or abs(hole) > FORGET_SECONDS or calm > span.at:
        calm = span.at
    elif hole > ROUNDING_SECONDS:
        calm += hole
    lasting = span.until - calm >= timing.recover_seconds - ROUNDING_SECONDS
    # The distance, as a timeline that was set back must not hold an alert open.
    open_seconds = abs(span.until - state.alert.opened_at.timestamp())
    if lasting and open_seconds >= timing.min_open_seconds - ROUNDING_SECONDS:
        return state, Turn(kind="resolved", moment=span.until, began=calm, span=span)
    return replace(state, calm=calm, seen_until=span.until), None


def closed(state: AlertState) -> AlertState:
    """The state without its alert; what was learned stays."""
    return AlertState(rule=state.rule, series=state.series, kind=state.kind, basis=state.basis, memory=state.memory)


def _towards_open(state: AlertState, span: Span, timing: Timing) -> tuple[AlertState, Turn | None]:
    if span.verdict == "between" or (span.verdict == "good" and state.clock is None):
        return state, None
    if span.verdict == "good":
        return replace(state, began=None, clock=None, count=0), None
    hole = span.at - state.seen_until
    began, clock, count = state.began, state.clock, state.count
    if began is None or clock is None or abs(hole) > FORGET_SECONDS or clock > span.at:
        began, clock, count = span.began, span.clock, 0
    elif hole > ROUNDING_SECONDS:
        clock += hole
    state = replace(state, began=began, clock=clock, count=count + 1, seen_until=span.until)
    lasting = span.counts_until - clock >= timing.for_seconds - ROUNDING_SECONDS
    if lasting and state.count >= timing.confirm:
        return state, Turn(kind="open", moment=span.until, began=began, span=span)
    return state, None


class Memory:
    """States by key; a change is told once."""

    def __init__(self, states: Mapping[str, State] | None) -> None:
        self.states: dict[str, State] = dict(states or {})
        self._changed: dict[str, State | None] = {}

    def remember(self, state: State) -> None:
        self.states[state.key] = state
        self._changed[state.key] = state

    def forget(self, key: str) -> None:
        """Nothing happens when it is not known."""
        if self.states.pop(key, None) is not None:
            self._changed[key] = None

    def take_changed(self) -> Mapping[str, State | None]:
        """What is remembered differently since the last call; None = forget it."""
        changed, self._changed = self._changed, {}
        return changed
