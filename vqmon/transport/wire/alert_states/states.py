"""The stored form of what alert rules remember: flat JSON documents, each under a key that is one string.

Databases and changelog topics hold documents of this form since the first version, so its fields never change: `kind`
decides what the numbers in `memory`, `beside` and `recent` mean. In the core each kind of state has named fields.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from vqmon.core.alerts.annotations import DeployMarker, MarkerKey
from vqmon.core.alerts.conditions.base import SpanCondition
from vqmon.core.alerts.conditions.collapse import CollapseState
from vqmon.core.alerts.conditions.floor import FloorBaseline, FloorState
from vqmon.core.alerts.conditions.group import GroupState
from vqmon.core.alerts.conditions.missing import MissingState
from vqmon.core.alerts.conditions.regression import ChartState, RegressionState
from vqmon.core.alerts.rules import CONDITIONS
from vqmon.core.alerts.state import (
    AdBreak,
    AlertKey,
    AlertProgress,
    GroupKey,
    GroupMembers,
    GroupSeries,
    GroupValues,
    GroupValuesKey,
    LadderKey,
    LadderRendition,
    MutedAlert,
    MutedAlertKey,
    PairSeries,
    ReleasedScores,
    RenditionSeries,
    RenditionTimeline,
    RepeatBlock,
    RepeatBlockKey,
    ScoredSegment,
    SpanState,
    State,
    StateKey,
    TimelineKey,
)
from vqmon.core.types import Alert, Fingerprint
from vqmon.transport.wire.alert_states.charts import (
    Numbers,
    pack_chart,
    pack_companions,
    rows_of,
    unpack_chart,
    unpack_companions,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAlertState:
    """State of one alert rule on one series."""

    rule: str
    series: str
    kind: str
    began: float | None = None
    clock: float | None = None
    count: int = 0
    calm: float | None = None
    seen_until: float = 0.0
    alert: Alert | None = None
    basis: str = ""
    memory: Numbers = ()
    names: tuple[str, ...] = ()
    beside: Numbers = ()
    recent: Numbers = ()
    dropped: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTimeline:
    """State of one rendition's timeline."""

    rendition: str
    until: float
    sequence: int
    scored_until: float
    scored_seen: float
    late: int = 0
    pictures_at: Numbers = ()
    picture: Fingerprint = ""
    stream_id: str = ""
    has_ended: bool = False
    seen: float = 0.0
    recent: str = ""
    # begin and end of each ad break in turn
    breaks: Numbers = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSegment:
    """A scored segment that waits for other renditions."""

    event_id: str
    stream_id: str
    rendition: str
    starts: float
    ends: float
    scores: Mapping[str, float]
    worst: Mapping[str, Numbers]
    signals: Mapping[str, float]
    labels: Mapping[str, str]
    rung: float
    passage: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredScores:
    """The scores of a released segment."""

    starts: float
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredLadderRendition:
    """State of one rendition in the ladder of its stream."""

    stream_id: str
    rendition: str
    since: float
    until: float
    rung: float
    waiting: tuple[StoredSegment, ...] = ()
    passed: tuple[StoredScores, ...] = ()
    has_ended: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredGroupMembers:
    """The members of one group: keys of their states, sorted, and stream/rendition of each."""

    rule: str
    group: str
    scorer: str
    series: tuple[str, ...] = ()
    places: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredGroupValues:
    """Values of series of one group in a bucket of time."""

    rule: str
    group: str
    scorer: str
    starts: float
    number: int
    # stream/rendition, and its deviation in points
    deviations: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMutedAlert:
    """An open alert of a series that a group mutes."""

    muted: Alert
    since: float | None = None


StoredState = (
    StoredAlertState
    | StoredTimeline
    | DeployMarker
    | StoredLadderRendition
    | StoredGroupMembers
    | StoredGroupValues
    | StoredMutedAlert
    | RepeatBlock
)


def state_key(key: StateKey) -> str:
    """The key under which a state is stored; the first character tells the kinds of keys apart."""
    match key:
        case AlertKey():
            return f"{key.rule}|{key.series}"
        case TimelineKey():
            return f"|{key.rendition_key}"
        case LadderKey():
            return f"<{key.stream_id}/{key.rendition}"
        case GroupKey():
            return f"&{key.rule}|{key.series}"
        case GroupValuesKey():
            return f"+{key.rule}|{key.series}|{key.starts_at!r}|{key.number}"
        case MutedAlertKey():
            return f"~{key.rule}|{key.series}"
        case MarkerKey():
            return f"!{key.id}"
        case RepeatBlockKey():
            return f"={key.rule}|{key.series}|{key.number}"


def pack_state(state: State) -> StoredState:
    """The document of a state."""
    match state:
        case ChartState():
            return _pack_chart_state(state)
        case SpanState():
            return _pack_span_state(state)
        case RenditionTimeline():
            return _pack_timeline(state)
        case LadderRendition():
            return _pack_ladder_rendition(state)
        case GroupMembers():
            return _pack_group_members(state)
        case GroupValues():
            return StoredGroupValues(
                rule=state.rule,
                group=state.series.group,
                scorer=state.series.scorer,
                starts=state.starts_at,
                number=state.number,
                deviations=state.deviations,
            )
        case MutedAlert():
            return StoredMutedAlert(muted=state.alert, since=state.since)
        case DeployMarker() | RepeatBlock():
            return state
    raise TypeError(f"no stored form of {type(state).__name__}")


def unpack_state(stored: StoredState) -> State:
    """The state in a document; raises ValueError when its numbers do not belong to its kind."""
    match stored:
        case StoredAlertState():
            unpack = _unpack_chart_state if stored.kind in _CHART_STATES else _unpack_span_state
            return unpack(stored)
        case StoredTimeline():
            return _unpack_timeline(stored)
        case StoredLadderRendition():
            return _unpack_ladder_rendition(stored)
        case StoredGroupMembers():
            return _unpack_group_members(stored)
        case StoredGroupValues():
            return GroupValues(
                rule=stored.rule,
                series=GroupSeries(group=stored.group, scorer=stored.scorer),
                starts_at=stored.starts,
                number=stored.number,
                deviations=stored.deviations,
            )
        case StoredMutedAlert():
            return MutedAlert(alert=stored.muted, since=stored.since)
        case DeployMarker() | RepeatBlock():
            return stored


# states of span conditions


def _pack_span_state(state: SpanState) -> StoredAlertState:
    progress = state.progress
    learned: dict[str, Any] = {}
    if isinstance(state, FloorState):
        baseline = state.baseline
        learned = {"basis": state.scorer, "memory": (baseline.count, baseline.mean) if baseline else ()}
    elif isinstance(state, CollapseState):
        learned = {"basis": state.scorer, "memory": state.baseline_values, "beside": state.low_values}
    elif isinstance(state, MissingState):
        learned = {"memory": tuple(0.0 if moment is None else moment for moment in state.missing_since)}
    return StoredAlertState(
        rule=state.rule,
        series=str(state.series),
        kind=state.kind,
        began=progress.began_at,
        clock=progress.counted_from,
        count=progress.bad_spans,
        calm=progress.recovering_since,
        seen_until=progress.seen_until,
        alert=state.alert,
        **learned,
    )


def _unpack_span_state(stored: StoredAlertState) -> SpanState:
    condition = CONDITIONS.get(stored.kind)
    if condition is None or not issubclass(condition, SpanCondition):
        raise ValueError(f"kind: unknown kind of alert condition {stored.kind!r}")
    learned = _LEARNED_FIELDS[stored.kind](stored) if stored.kind in _LEARNED_FIELDS else {}
    rendition_key, _, subject = stored.series.rpartition("/")
    state: SpanState = condition.state_type(
        rule=stored.rule,
        series=RenditionSeries(rendition_key=rendition_key, subject=subject),
        alert=stored.alert,
        progress=AlertProgress(
            began_at=stored.began,
            counted_from=stored.clock,
            bad_spans=stored.count,
            recovering_since=stored.calm,
            seen_until=stored.seen_until,
        ),
        **learned,
    )
    return state


def _floor_state_fields(stored: StoredAlertState) -> dict[str, Any]:
    if not stored.memory:
        return {"scorer": stored.basis}
    count, mean = stored.memory
    return {"scorer": stored.basis, "baseline": FloorBaseline(count=count, mean=mean)}


def _collapse_state_fields(stored: StoredAlertState) -> dict[str, Any]:
    return {"scorer": stored.basis, "baseline_values": stored.memory, "low_values": stored.beside}


_LEARNED_FIELDS: Mapping[str, Callable[[StoredAlertState], dict[str, Any]]] = {
    FloorState.kind: _floor_state_fields,
    CollapseState.kind: _collapse_state_fields,
    MissingState.kind: lambda stored: {"missing_since": tuple(moment or None for moment in stored.memory)},
}
"""Kind -> the fields in which its state holds what it has learned; other kinds learn nothing."""


# states of control charts

_CHART_STATES: Mapping[str, type[ChartState]] = {RegressionState.kind: RegressionState, GroupState.kind: GroupState}


def _pack_chart_state(state: ChartState) -> StoredAlertState:
    companions = state.companions
    return StoredAlertState(
        rule=state.rule,
        series=str(state.series),
        kind=state.kind,
        clock=state.uninhibited_since,
        seen_until=state.seen_until,
        alert=state.alert,
        basis=state.basis,
        memory=pack_chart(state.chart) if state.chart else (),
        names=companions.names if companions else (),
        beside=pack_companions(companions) if companions else (),
        dropped=state.unpaired_count if isinstance(state, RegressionState) else 0,
    )


def _unpack_chart_state(stored: StoredAlertState) -> ChartState:
    own = {"unpaired_count": stored.dropped} if stored.kind == RegressionState.kind else {}
    return _CHART_STATES[stored.kind](
        rule=stored.rule,
        series=_chart_series(stored),
        alert=stored.alert,
        basis=stored.basis,
        chart=unpack_chart(stored.memory) if stored.memory else None,
        companions=unpack_companions(stored.names, stored.beside),
        seen_until=stored.seen_until,
        uninhibited_since=stored.clock,
        **own,
    )


def _chart_series(stored: StoredAlertState) -> RenditionSeries | PairSeries | GroupSeries:
    """The series in its published form stream/rendition/scorer, with ~against for a pair, or group/group/scorer.

    The basis tells whether it is a pair: names of streams may hold a "~" too. A pair that has had no partner yet has
    no basis.
    """
    if stored.kind == GroupState.kind:
        group, _, scorer = stored.series.rpartition("/group/")
        return GroupSeries(group="" if group == "all" else group, scorer=scorer)
    pair = re.fullmatch(r"(.+)/([^/~]+)~(.*)", stored.series, re.DOTALL)
    if pair is not None and (not stored.basis or re.match(r"\S+ against ", stored.basis)):
        return PairSeries(rendition_key=pair[1], scorer=pair[2], against=pair[3])
    rendition_key, _, scorer = stored.series.rpartition("/")
    return RenditionSeries(rendition_key=rendition_key, subject=scorer)


# timelines, ladders, groups


def _pack_timeline(timeline: RenditionTimeline) -> StoredTimeline:
    return StoredTimeline(
        rendition=timeline.rendition_key,
        until=timeline.ends_at,
        sequence=timeline.sequence,
        scored_until=timeline.scored_until,
        scored_seen=timeline.scored_observed_at,
        late=timeline.late_count,
        pictures_at=timeline.frame_times,
        picture=timeline.fingerprint,
        stream_id=timeline.stream_id,
        has_ended=timeline.has_ended,
        seen=0.0 if timeline.observed_at == timeline.scored_observed_at else timeline.observed_at,
        recent=timeline.recent,
        breaks=tuple(chain.from_iterable(timeline.ad_breaks)),
    )


def _unpack_timeline(stored: StoredTimeline) -> RenditionTimeline:
    return RenditionTimeline(
        rendition_key=stored.rendition,
        # Older versions stored no stream_id.
        stream_id=stored.stream_id or stored.rendition.partition("/")[0],
        ends_at=stored.until,
        sequence=stored.sequence,
        scored_until=stored.scored_until,
        scored_observed_at=stored.scored_seen,
        late_count=stored.late,
        frame_times=stored.pictures_at,
        fingerprint=stored.picture,
        has_ended=stored.has_ended,
        observed_at=stored.seen or stored.scored_seen,
        recent=stored.recent,
        ad_breaks=tuple(AdBreak(*row) for row in rows_of(stored.breaks, 2)),
    )


def _pack_ladder_rendition(rendition: LadderRendition) -> StoredLadderRendition:
    return StoredLadderRendition(
        stream_id=rendition.stream_id,
        rendition=rendition.rendition,
        since=rendition.first_at,
        until=rendition.ends_at,
        rung=rendition.ladder_position,
        waiting=tuple(map(_pack_segment, rendition.waiting)),
        passed=tuple(StoredScores(starts=one.starts_at, scores=one.scores) for one in rendition.released),
        has_ended=rendition.has_ended,
    )


def _unpack_ladder_rendition(stored: StoredLadderRendition) -> LadderRendition:
    return LadderRendition(
        stream_id=stored.stream_id,
        rendition=stored.rendition,
        first_at=stored.since,
        ends_at=stored.until,
        ladder_position=stored.rung,
        waiting=tuple(map(_unpack_segment, stored.waiting)),
        released=tuple(ReleasedScores(starts_at=one.starts, scores=one.scores) for one in stored.passed),
        has_ended=stored.has_ended,
    )


def _pack_segment(segment: ScoredSegment) -> StoredSegment:
    return StoredSegment(
        event_id=segment.event_id,
        stream_id=segment.stream_id,
        rendition=segment.rendition,
        starts=segment.starts_at,
        ends=segment.ends_at,
        scores=segment.scores,
        worst=segment.worst_times_seconds,
        signals=segment.signals,
        labels=segment.labels,
        rung=segment.ladder_position,
        passage=segment.passage,
    )


def _unpack_segment(stored: StoredSegment) -> ScoredSegment:
    return ScoredSegment(
        event_id=stored.event_id,
        stream_id=stored.stream_id,
        rendition=stored.rendition,
        starts_at=stored.starts,
        ends_at=stored.ends,
        scores=stored.scores,
        worst_times_seconds=stored.worst,
        signals=stored.signals,
        labels=stored.labels,
        ladder_position=stored.rung,
        passage=stored.passage,
    )


def _pack_group_members(group: GroupMembers) -> StoredGroupMembers:
    members = sorted(
        (state_key(member), member.series.rendition_key)
        for member in group.members
        if not isinstance(member.series, GroupSeries)
    )
    return StoredGroupMembers(
        rule=group.rule,
        group=group.group_series.group,
        scorer=group.group_series.scorer,
        series=tuple(key for key, _ in members),
        places=tuple(rendition_key for _, rendition_key in members),
    )


def _unpack_group_members(stored: StoredGroupMembers) -> GroupMembers:
    return GroupMembers(
        rule=stored.rule,
        group_series=GroupSeries(group=stored.group, scorer=stored.scorer),
        members=frozenset(map(_member_key, stored.series, stored.places)),
    )


def _member_key(text: str, rendition_key: str) -> AlertKey:
    rule, _, series = text.partition("|")
    scorer, separator, against = series.removeprefix(f"{rendition_key}/").partition("~")
    if separator:
        return AlertKey(rule=rule, series=PairSeries(rendition_key=rendition_key, scorer=scorer, against=against))
    return AlertKey(rule=rule, series=RenditionSeries(rendition_key=rendition_key, subject=scorer))
