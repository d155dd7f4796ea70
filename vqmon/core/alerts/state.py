"""What alert rules remember between outcomes, and the keys under which it is stored.

Moments are seconds since the epoch on the segments' own timeline, exact to a microsecond.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple, Self, TypeVar

from vqmon.core.alerts.annotations import DeployMarker, MarkerKey
from vqmon.core.types import Alert, Fingerprint

# Series and their keys are tuples, because they are made and looked up for every rule and outcome: tuples hash fastest.


class RenditionSeries(NamedTuple):
    """One scorer, signal or kind of condition followed in one rendition."""

    # stream/rendition
    rendition_key: str
    # scorer without its version, signal, or kind of condition
    subject: str

    def __str__(self) -> str:
        """The name under which alerts are published."""
        return f"{self.rendition_key}/{self.subject}"

    @property
    def scorer(self) -> str:
        """The scorer that a series of scores is about."""
        return self.subject


class PairSeries(NamedTuple):
    """Differences between one rendition's scores and those of the rendition that it is compared with."""

    # stream/rendition
    rendition_key: str
    # name without version
    scorer: str
    # as in the rule: "ladder", "label:NAME", or the name or glob of a rendition
    against: str

    def __str__(self) -> str:
        """The name under which alerts are published."""
        return f"{self.rendition_key}/{self.scorer}~{self.against}"


class GroupSeries(NamedTuple):
    """A quantile over the series of one scorer whose labels put them into one group."""

    # e.g. encoder=pool-a; empty = the series of all streams
    group: str
    # name without version
    scorer: str

    def __str__(self) -> str:
        """The name under which alerts are published."""
        return f"{self.group or 'all'}/group/{self.scorer}"


Series = RenditionSeries | PairSeries | GroupSeries


class AlertKey(NamedTuple):
    """Key of an alert's state: no rule has two open alerts on one series."""

    rule: str
    series: Series


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineKey:
    """Key of a rendition's timeline."""

    # stream/rendition
    rendition_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderKey:
    """Key of a rendition in the ladder of its stream."""

    stream_id: str
    rendition: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupKey:
    """Key of the members of a group."""

    rule: str
    series: GroupSeries


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupValuesKey:
    """Key of values of a group."""

    rule: str
    series: GroupSeries
    # start of the bucket of time in seconds
    starts_at: float
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MutedAlertKey:
    """Key of an alert of a series that a group mutes."""

    rule: str
    # as published
    series: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatBlockKey:
    """Key of a block of the content that a series has scored."""

    rule: str
    series: PairSeries
    number: int


StateKey = (
    AlertKey | TimelineKey | LadderKey | GroupKey | GroupValuesKey | MutedAlertKey | MarkerKey | RepeatBlockKey
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertState:
    """What one rule remembers of one series; every kind of condition has a subclass beside its class."""

    kind: ClassVar[str] = ""

    rule: str
    series: Series
    # the open alert
    alert: Alert | None = None

    @property
    def key(self) -> AlertKey:
        return AlertKey(self.rule, self.series)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertProgress:
    """How far a run of bad spans has come towards an alert, or a run of good spans towards its end."""

    # first bad moment of the run
    began_at: float | None = None
    # from when the run's duration counts: earlier by what may have been missed, later by gaps
    counted_from: float | None = None
    bad_spans: int = 0
    # while an alert is open: since when all spans are good
    recovering_since: float | None = None
    # end of the last span that counted
    seen_until: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanState(AlertState):
    """State of a condition that calls stretches of time good or bad."""

    progress: AlertProgress = AlertProgress()

    @property
    def has_learned(self) -> bool:
        """Whether something was learned from earlier outcomes that the next ones need."""
        return False

    @property
    def is_idle(self) -> bool:
        """Whether the state is worth no more than that of a series never seen."""
        return self.progress.counted_from is None and self.alert is None and not self.has_learned

    def with_alert(self, alert: Alert) -> Self:
        """The state after an alert has opened."""
        return replace(self, alert=alert, progress=AlertProgress(seen_until=self.progress.seen_until))

    def without_alert(self) -> Self:
        """The state after its alert has resolved; what was learned stays."""
        return replace(self, alert=None, progress=AlertProgress())


class AdBreak(NamedTuple):
    """An ad break that splice messages in the media have announced; a tuple, as it is stored so."""

    begins_at: float
    ends_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RenditionTimeline:
    """How far the segments of one rendition have come, and its last frame; all rules share it."""

    # stream/rendition
    rendition_key: str
    stream_id: str
    ends_at: float
    sequence: int
    # end of the last scored segment; before the first one: start of the first outcome
    scored_until: float
    # when the last scored segment was observed; before the first one: when the first outcome was
    scored_observed_at: float
    # consecutive segments from the past
    late_count: int = 0
    # start of the last two frames, the later one last
    frame_times: tuple[float, ...] = ()
    # the last frame
    fingerprint: Fingerprint = ""
    # no segment has come since the end of the rendition was announced
    has_ended: bool = False
    # when the last outcome was observed
    observed_at: float = 0.0
    # a mark of each of the last scored segments, at a place that follows from its sequence; see media_timeline
    recent: str = ""
    # those that are not over
    ad_breaks: tuple[AdBreak, ...] = ()

    @property
    def key(self) -> TimelineKey:
        return TimelineKey(rendition_key=self.rendition_key)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredSegment:
    """What regression rules need of a scored segment."""

    event_id: str
    stream_id: str
    rendition: str
    starts_at: float
    ends_at: float
    # name@version -> 0..100
    scores: Mapping[str, float]
    # name@version -> presentation times of its worst frames in seconds, worst first
    worst_times_seconds: Mapping[str, tuple[float, ...]]
    # signal -> mean
    signals: Mapping[str, float]
    labels: Mapping[str, str]
    # bitrate in kbit/s, or the height in rows when that is unknown
    ladder_position: float
    # hashes of its pictures, empty where no rule reads them; see core.alerts.regression.pairs.picture_hash
    passage: tuple[int, ...] = ()

    @property
    def rendition_key(self) -> str:
        return f"{self.stream_id}/{self.rendition}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasedScores:
    """The scores of a segment that was released, for partners that begin a little later."""

    starts_at: float
    # name@version -> 0..100
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderRendition:
    """One rendition in the ladder of a stream: how far it has come, and its segments that wait for others."""

    stream_id: str
    rendition: str
    # start of its first segment since it is part of the ladder
    first_at: float
    ends_at: float
    # bitrate in kbit/s, or the height in rows when that is unknown
    ladder_position: float
    waiting: tuple[ScoredSegment, ...] = ()
    released: tuple[ReleasedScores, ...] = ()
    # no segment has come since the end of the rendition was announced
    has_ended: bool = False

    @property
    def key(self) -> LadderKey:
        return LadderKey(stream_id=self.stream_id, rendition=self.rendition)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupMembers:
    """The series of a group whose alert is open, as far as they had values when it opened."""

    rule: str
    group_series: GroupSeries
    members: frozenset[AlertKey] = frozenset()

    @property
    def key(self) -> GroupKey:
        return GroupKey(rule=self.rule, series=self.group_series)

    @property
    def rendition_keys(self) -> frozenset[str]:
        """stream/rendition of the members."""
        return frozenset(
            member.series.rendition_key for member in self.members if not isinstance(member.series, GroupSeries)
        )


GroupDeviations = tuple[tuple[str, float], ...]
"""Pairs of stream/rendition, and its deviation from its baseline in points."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupValues:
    """Deviations of series of a group within one bucket of time that is not complete; a bucket may have several."""

    rule: str
    series: GroupSeries
    # start of the bucket in seconds
    starts_at: float
    # within the bucket, from 0
    number: int
    deviations: GroupDeviations = ()

    @property
    def key(self) -> GroupValuesKey:
        return GroupValuesKey(rule=self.rule, series=self.series, starts_at=self.starts_at, number=self.number)


@dataclass(frozen=True, slots=True, kw_only=True)
class MutedAlert:
    """An open alert of a series that the alert of a group mutes."""

    alert: Alert
    # when the alert of the group was first seen resolved, in seconds
    since: float | None = None

    @property
    def key(self) -> MutedAlertKey:
        return MutedAlertKey(rule=self.alert.rule, series=self.alert.series)


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatBlock:
    """Some of the content that a series has scored, with its scores; see core.alerts.regression.pairs.repeats."""

    rule: str
    series: PairSeries
    # from 0
    number: int
    # that of the scores
    basis: str
    # packed, in base64
    entries: str

    @property
    def key(self) -> RepeatBlockKey:
        return RepeatBlockKey(rule=self.rule, series=self.series, number=self.number)


State = (
    AlertState
    | RenditionTimeline
    | DeployMarker
    | LadderRendition
    | GroupMembers
    | GroupValues
    | MutedAlert
    | RepeatBlock
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StateRetention:
    """How long the states of a rendition are kept after its last outcome, in time of observation."""

    # after its end was announced
    ended_seconds: float
    # without an end
    silent_seconds: float

    def __post_init__(self) -> None:
        if not 0 < self.ended_seconds <= self.silent_seconds:
            raise ValueError("states of ended renditions are kept for more than 0 s, and not longer than silent ones")


class RenditionActivity:
    """Which renditions have ended or been silent for longer than a retention allows.

    Its clock is the newest moment of observation among the outcomes, so that a replay forgets what was forgotten live.
    """

    def __init__(self, retention: StateRetention, timelines: Iterable["RenditionTimeline"]) -> None:
        self._retention = retention
        self._now = 0.0
        # stream/rendition -> when it was last heard of; the oldest first
        self._active: dict[str, float] = {}
        self._ended: dict[str, float] = {}
        for timeline in sorted(timelines, key=lambda timeline: timeline.observed_at):
            self.note(timeline)

    def note(self, timeline: "RenditionTimeline") -> None:
        """Note a rendition's outcome or end."""
        key, at = timeline.rendition_key, timeline.observed_at
        self._now = max(self._now, at)
        self._active.pop(key, None)
        self._ended.pop(key, None)
        (self._ended if timeline.has_ended else self._active)[key] = at

    def drop(self, rendition_key: str) -> None:
        """Follow stream/rendition no longer."""
        self._active.pop(rendition_key, None)
        self._ended.pop(rendition_key, None)

    def pop_expired(self) -> Iterator[str]:
        """Remove and yield the renditions to forget, as stream/rendition."""
        for renditions, limit in (
            (self._ended, self._retention.ended_seconds),
            (self._active, self._retention.silent_seconds),
        ):
            while renditions and self._now - next(iter(renditions.values())) > limit:
                key = next(iter(renditions))
                del renditions[key]
                yield key


class StateStore:
    """States by key, and which of them have changed."""

    def __init__(self, states: Mapping[StateKey, State] | None = None) -> None:
        self.states: dict[StateKey, State] = dict(states or {})
        self._changes: dict[StateKey, State | None] = {}
        # stream/rendition -> the keys of its states, and stream -> its renditions with a timeline, as stream/rendition
        self._keys_by_rendition: dict[str, dict[StateKey, None]] = {}
        self._renditions_by_stream: dict[str, dict[str, None]] = {}
        for key, state in self.states.items():
            self._index(key, state)

    def alert_states(self) -> list[AlertState]:
        """The states of alerts, in the order in which their series were first seen."""
        return [state for state in self.states.values() if isinstance(state, AlertState)]

    def alert_states_of(self, rendition_key: str) -> list[AlertState]:
        """The states of alerts about stream/rendition, in the order in which their series were first seen."""
        states = (self.states[key] for key in self._keys_by_rendition.get(rendition_key, ()))
        return [state for state in states if isinstance(state, AlertState)]

    def timelines(self) -> list[RenditionTimeline]:
        """The timelines of all renditions, in the order in which they were first seen."""
        return [state for state in self.states.values() if isinstance(state, RenditionTimeline)]

    def timelines_of(self, stream_id: str) -> list[RenditionTimeline]:
        """The timelines of a stream, in the order in which its renditions were first seen."""
        timelines = (self.timeline(key) for key in self._renditions_by_stream.get(stream_id, ()))
        return [timeline for timeline in timelines if timeline is not None]

    def timeline(self, rendition_key: str) -> RenditionTimeline | None:
        """The timeline of stream/rendition; None before its first outcome."""
        state = self.states.get(TimelineKey(rendition_key=rendition_key))
        return state if isinstance(state, RenditionTimeline) else None

    def save(self, state: State) -> None:
        """Store a state in place of the one with the same key."""
        key = state.key
        if key not in self.states:
            self._index(key, state)
        self.states[key] = state
        self._changes[key] = state

    def delete(self, key: StateKey) -> None:
        """Remove a state; does nothing when there is none with this key."""
        state = self.states.pop(key, None)
        if state is not None:
            self._changes[key] = None
            self._remove_from_index(key, state)

    def delete_rendition(self, rendition_key: str) -> None:
        """Remove all states of stream/rendition."""
        for key in list(self._keys_by_rendition.get(rendition_key, ())):
            self.delete(key)

    def drain_changes(self) -> Mapping[StateKey, State | None]:
        """The states changed since the last call; None = deleted."""
        changes, self._changes = self._changes, {}
        return changes

    def _index(self, key: StateKey, state: State) -> None:
        rendition_key = _rendition_key(key)
        if rendition_key is not None:
            self._keys_by_rendition.setdefault(rendition_key, {})[key] = None
        if isinstance(state, RenditionTimeline):
            self._renditions_by_stream.setdefault(state.stream_id, {})[state.rendition_key] = None

    def _remove_from_index(self, key: StateKey, state: State) -> None:
        rendition_key = _rendition_key(key)
        if rendition_key is not None:
            _discard(self._keys_by_rendition, rendition_key, key)
        if isinstance(state, RenditionTimeline):
            _discard(self._renditions_by_stream, state.stream_id, state.rendition_key)


_Name = TypeVar("_Name")


def _discard(index: dict[str, dict[_Name, None]], name: str, value: _Name) -> None:
    values = index.get(name)
    if values is not None:
        values.pop(value, None)
        if not values:
            del index[name]


def _rendition_key(key: StateKey) -> str | None:
    """stream/rendition that a state is about; None for states of groups and for markers."""
    if isinstance(key, AlertKey | RepeatBlockKey):
        return None if isinstance(key.series, GroupSeries) else key.series.rendition_key
    if isinstance(key, TimelineKey):
        return key.rendition_key
    return f"{key.stream_id}/{key.rendition}" if isinstance(key, LadderKey) else None
