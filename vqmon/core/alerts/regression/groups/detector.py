"""Group rules: the quantile of many series' deviations from their baselines, followed as a series of its own.

A group sees of its series only `MemberValue`s, which may come from many Judges: each judges its own streams, one
`GroupDetector` per group follows the group and decides which alerts of its series the group mutes.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from vqmon.core.alerts.conditions.base import scorer_matches
from vqmon.core.alerts.conditions.group import Group, GroupState
from vqmon.core.alerts.conditions.regression import Regression
from vqmon.core.alerts.regression.control_chart import EMPTY_CHART
from vqmon.core.alerts.regression.groups.inhibition import GroupInhibitor
from vqmon.core.alerts.regression.series_alert import SeriesValue, close_without_values, follow_series
from vqmon.core.alerts.rules import AlertRule
from vqmon.core.alerts.state import (
    AlertKey,
    GroupSeries,
    GroupValues,
    ScoredSegment,
    State,
    StateKey,
    StateStore,
)
from vqmon.core.types import Alert

_MAX_BUCKETS = 8
"""After a gap at most so many buckets of time are evaluated, the latest ones."""

_GONE_BUCKETS = 360
"""After so many buckets with too few series the open alert of a group resolves, and the group is set aside."""

_ALL_STREAMS = "*"
"""`stream_id` of an alert about all streams."""


class MemberValue(NamedTuple):
    """What the groups of a series need of one of its segments."""

    # the regression rule that follows the series
    rule: str
    # stream/rendition
    rendition_key: str
    # name without version
    scorer: str
    # group rule -> group: all groups whose alerts mute those of the series
    groups: Mapping[str, str]
    # start of the segment in seconds; None when there is none
    at: float | None = None
    # from the baseline, in points; None when there is only an alert
    deviation: float | None = None
    # one that opens or resolves with the segment; not yet published
    alert: Alert | None = None

    @classmethod
    def of_alert(cls, alert: Alert, *, scorer: str, at: float | None = None) -> "MemberValue":
        """An alert of a series; the scorer's name without version."""
        return cls(alert.rule, f"{alert.stream_id}/{alert.rendition}", scorer, {}, at, alert=alert)


class GroupMembership:
    """Finds the groups of a series, and the shard that judges them."""

    def __init__(self, rules: Collection[AlertRule]) -> None:
        by_name = {rule.name: rule for rule in rules}
        self._rules = [
            (rule.name, rule.condition, by_name[rule.condition.of], member)
            for rule in rules
            if isinstance(rule.condition, Group)
            if rule.condition.of in by_name and isinstance(member := by_name[rule.condition.of].condition, Regression)
        ]
        # stream and rendition -> scorer -> the rules whose globs match; filled at the first value
        self._matching: dict[tuple[str, str], dict[str, list[tuple[str, Group, AlertRule]]]] = {}
        self._member_rules = frozenset(condition.of for _, condition, _, _ in self._rules)
        label_sets = [set(condition.by) for _, condition, _, _ in self._rules]
        self._shared_labels = sorted(set.intersection(*label_sets)) if label_sets else []

    def forget(self, stream_id: str, rendition: str) -> None:
        """Drop what is remembered of a rendition."""
        self._matching.pop((stream_id, rendition), None)

    def has_deviations(self, rule: str) -> bool:
        """Whether a group follows the series of this regression rule."""
        return rule in self._member_rules

    def groups_of(
        self, stream_id: str, rendition: str, labels: Mapping[str, str], *, scorer: str
    ) -> Mapping[str, str]:  # fmt: skip
        """Group rule -> the group that the series of a scorer (name@version) in a rendition belongs to."""
        by_scorer = self._matching.setdefault((stream_id, rendition), {})
        matching = by_scorer.get(scorer)
        if matching is None:
            matching = by_scorer[scorer] = [
                (name, condition, member_rule)
                for name, condition, member_rule, member in self._rules
                if member_rule.match.matches_names(stream_id, rendition) and scorer_matches(scorer, member.scorer)
            ]
        groups = {}
        for name, condition, member_rule in matching:
            group = condition.group_of(labels) if member_rule.match.matches_labels(labels) else None
            if group is not None:
                groups[name] = group
        return groups

    def shard_of(self, labels: Mapping[str, str], *, scorer: str) -> str:
        """The shard of a series that is in a group: those whose alerts may mute one another are in the same one."""
        return "|".join((scorer, *(labels.get(name, "") for name in self._shared_labels)))


@dataclass(slots=True, kw_only=True)
class _Bucket:
    """The deviations of a group's series in one bucket of time."""

    # stream/rendition -> sum of its deviations in points, and their number
    totals: dict[str, tuple[float, int]] = field(default_factory=dict)
    # the deviations that no state holds yet, and how many states hold the others
    unsaved: list[tuple[str, float]] = field(default_factory=list)
    state_count: int = 0

    def add(self, rendition_key: str, deviation: float) -> None:
        total, count = self.totals.get(rendition_key, (0.0, 0))
        self.totals[rendition_key] = (total + deviation, count + 1)


class GroupDetector:
    """Evaluates group rules over the values of series; remembers nothing but what is in `store`, and indexes of it."""

    def __init__(self, rules: Collection[AlertRule], store: StateStore) -> None:
        self._rules = {rule.name: (rule, rule.condition) for rule in rules if isinstance(rule.condition, Group)}
        self._store = store
        self._inhibitor = GroupInhibitor(rules, store)
        # rule -> its groups that have had values lately -> start of a bucket in seconds -> the bucket
        self._groups: dict[str, dict[GroupSeries, dict[float, _Bucket]]] = {name: {} for name in self._rules}
        # rule -> number of its last bucket that was complete
        self._complete: dict[str, int] = {}
        states = list(store.states.values())
        for state in states:
            if isinstance(state, GroupState) and state.rule in self._rules:
                self._restore(state)
        stored_values = [state for state in states if isinstance(state, GroupValues) and state.rule in self._rules]
        for values in sorted(stored_values, key=lambda values: values.number):
            bucket = self._bucket(values.rule, values.series, values.starts_at)
            bucket.state_count = values.number + 1
            for rendition_key, deviation in values.deviations:
                bucket.add(rendition_key, deviation)

    def _restore(self, state: GroupState) -> None:
        assert isinstance(state.series, GroupSeries)
        condition = self._rules[state.rule][1]
        complete = round(state.seen_until / condition.bucket_seconds) - 1
        self._complete[state.rule] = max(complete, self._complete.get(state.rule, -1))
        if not _is_set_aside(condition, state):
            self._groups[state.rule].setdefault(state.series, {})

    def remove(self, key: AlertKey) -> None:
        """Forget the alert of a group that was closed elsewhere."""
        self._inhibitor.remove(key)

    def add(self, values: Sequence[MemberValue]) -> Iterator[Alert]:
        """The alerts to publish with some values of series: those of groups, and those of the series themselves."""
        touched: dict[tuple[str, GroupSeries, float], None] = {}
        for value in values:
            if value.at is not None:
                yield from self._advance_to(value.at)
                if value.deviation is not None:
                    touched |= dict.fromkeys(self._add_deviation(value, value.at, value.deviation))
            if value.alert is not None:
                yield self._inhibitor.follow_series_alert(
                    value.alert, scorer=value.scorer, groups=value.groups, at=value.at
                )
        for rule, series, starts_at in touched:
            self._save_bucket(rule, series, starts_at)

    def _add_deviation(
        self, value: MemberValue, at: float, deviation: float
    ) -> Iterator[tuple[str, GroupSeries, float]]:  # fmt: skip
        """Add a deviation to the buckets of its groups that are not complete; gives these buckets."""
        for name, group in value.groups.items():
            _, condition = self._rules.get(name, (None, None))
            if condition is None or condition.of != value.rule:
                continue
            starts_at = math.floor(at / condition.bucket_seconds) * condition.bucket_seconds
            series = GroupSeries(group, value.scorer)
            if starts_at >= self._state(name, series).seen_until:
                bucket = self._bucket(name, series, starts_at)
                bucket.add(value.rendition_key, deviation)
                bucket.unsaved.append((value.rendition_key, deviation))
                yield name, series, starts_at

    def _save_bucket(self, rule: str, series: GroupSeries, starts_at: float) -> None:
        """Store what is new in a bucket, unless it has been evaluated meanwhile."""
        bucket = self._groups[rule].get(series, {}).get(starts_at)
        if bucket is not None and bucket.unsaved:
            self._store.save(
                GroupValues(
                    rule=rule,
                    series=series,
                    starts_at=starts_at,
                    number=bucket.state_count,
                    deviations=tuple(bucket.unsaved),
                )
            )
            bucket.state_count += 1
            bucket.unsaved.clear()

    def _advance_to(self, at: float) -> Iterator[Alert]:
        """The alerts of the buckets that are complete now that one series has come to a moment (seconds)."""
        for name, (rule, condition) in self._rules.items():
            last = math.floor((at - condition.wait_seconds) / condition.bucket_seconds) - 1
            if last <= self._complete.get(name, -1):
                continue
            self._complete[name] = last
            for series in list(self._groups[name]):
                for starts_at in _due_buckets(condition, self._state(name, series).seen_until, last=last):
                    yield from self._follow(rule, condition, series, starts_at)
                self._remove_old_buckets(name, series)
            yield from self._inhibitor.unmute_series_alerts(at=at)

    def _follow(
        self, rule: AlertRule, condition: Group, series: GroupSeries, starts_at: float
    ) -> Iterator[Alert]:  # fmt: skip
        ends_at = starts_at + condition.bucket_seconds
        state = replace(self._state(rule.name, series), seen_until=ends_at)
        bucket = self._groups[rule.name][series].get(starts_at)
        totals = bucket.totals if bucket else {}
        if len(totals) < condition.min_series:
            yield from self._follow_without_values(condition, state, starts_at)
            return
        segment = ScoredSegment(
            event_id="",
            stream_id=series.group or _ALL_STREAMS,
            rendition="group",
            starts_at=starts_at,
            ends_at=ends_at,
            scores={},
            worst_times_seconds={},
            signals={},
            labels={},
            ladder_position=0.0,
        )
        value = SeriesValue(
            value=float(np.quantile([total / count for total, count in totals.values()], condition.quantile)),
            basis=f"{series.scorer} of {series.group or 'all series'}",
            scorer=series.scorer,
            segment=segment,
            impact_minutes=len(totals) * condition.bucket_seconds / 60,
            cause=condition.alert_cause,
        )
        state, transition = follow_series(rule, state, value)
        yield from self._inhibitor.apply(state, transition, at=starts_at, rendition_keys=totals.keys())

    def _follow_without_values(self, condition: Group, state: GroupState, starts_at: float) -> Iterator[Alert]:
        """Close the open alert when too few series have had a value for long."""
        transition = None
        last_end_at = (state.chart or EMPTY_CHART).last_end_at
        is_gone = starts_at - last_end_at >= _GONE_BUCKETS * condition.bucket_seconds
        if is_gone and state.alert is not None:
            closes_at = starts_at + condition.bucket_seconds
            state, transition = close_without_values(
                state, state.alert, at=closes_at, why="too few series are left"
            )  # fmt: skip
        yield from self._inhibitor.apply(state, transition, at=starts_at)

    def _remove_old_buckets(self, rule: str, series: GroupSeries) -> None:
        """Remove the buckets that were evaluated or passed over, and the group when it has had no value for long."""
        state, buckets = self._state(rule, series), self._groups[rule][series]
        for starts_at in [starts_at for starts_at in buckets if starts_at < state.seen_until]:
            for number in range(buckets.pop(starts_at).state_count):
                values = GroupValues(rule=rule, series=series, starts_at=starts_at, number=number)
                self._store.delete(values.key)
        if not buckets and _is_set_aside(self._rules[rule][1], state):
            del self._groups[rule][series]

    def _bucket(self, rule: str, series: GroupSeries, starts_at: float) -> _Bucket:
        return self._groups[rule].setdefault(series, {}).setdefault(starts_at, _Bucket())

    def _state(self, rule: str, series: GroupSeries) -> GroupState:
        state = self._store.states.get(AlertKey(rule, series))
        return state if isinstance(state, GroupState) else GroupState(rule=rule, series=series)


class GroupJudge:
    """Evaluates group rules on the values that many Judges have gathered; its states are taken out like a Judge's."""

    def __init__(self, rules: Collection[AlertRule], states: Mapping[StateKey, State] | None = None) -> None:
        self._store = StateStore(states)
        self._detector = GroupDetector(rules, self._store)

    def judge(self, values: Sequence[MemberValue]) -> tuple[Alert, ...]:
        """The alerts to publish with these values, which come from one Judge, in its order."""
        return tuple(self._detector.add(values))

    def drain_changes(self) -> Mapping[StateKey, State | None]:
        """The states that have changed since the last call; None = deleted."""
        return self._store.drain_changes()


def _is_set_aside(condition: Group, state: GroupState) -> bool:
    """Whether a group has had too few values for so long that it is not followed until the next one comes."""
    silent_seconds = state.seen_until - (state.chart or EMPTY_CHART).last_end_at
    return state.alert is None and silent_seconds > _GONE_BUCKETS * condition.bucket_seconds


def _due_buckets(condition: Group, closed_until: float, *, last: int) -> Iterator[float]:
    """Starts of the buckets after `closed_until` up to the `last` one that is complete."""
    width = condition.bucket_seconds
    first = max(round(closed_until / width), last - _MAX_BUCKETS + 1) if closed_until else last
    for number in range(first, last + 1):
        yield number * width
