"""Group rules: the quantile of many series' deviations from their baselines, followed as a series of its own."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from vqmon.core.alerts.conditions.group import Group, GroupState
from vqmon.core.alerts.conditions.regression import BucketDeviation, RegressionState
from vqmon.core.alerts.regression.control_chart import EMPTY_CHART, current_baseline
from vqmon.core.alerts.regression.inhibition import Inhibitor
from vqmon.core.alerts.regression.series_alert import SeriesValue, close_without_values, follow_series
from vqmon.core.alerts.rules import AlertRule
from vqmon.core.alerts.state import AlertKey, GroupKey, GroupMembers, GroupSeries, ScoredSegment, StateStore
from vqmon.core.types import Alert

_MAX_BUCKETS = 8
"""A series keeps its deviations of so many buckets of time."""

_GONE_BUCKETS = 360
"""A series without a value for so many buckets leaves its groups."""

_ALL_STREAMS = "*"
"""`stream_id` of an alert about all streams."""


class GroupDetector:
    """Evaluates group rules over the series that regression rules follow."""

    def __init__(self, rules: Sequence[AlertRule], store: StateStore, inhibitor: Inhibitor) -> None:
        self._rules = [(rule, rule.condition) for rule in rules if isinstance(rule.condition, Group)]
        self._store = store
        self._inhibitor = inhibitor
        self._members: dict[GroupKey, GroupMembers] = {
            state.key: state for state in store.states.values() if isinstance(state, GroupMembers)
        }

    def add_value(
        self, state: RegressionState, segment: ScoredSegment, *, scorer: str, value: float
    ) -> RegressionState:  # fmt: skip
        """Make a series a member of its groups; the state with the value's deviation from the baseline added."""
        for rule, condition in self._rules:
            if condition.of != state.rule:
                continue
            group = condition.group_of(segment.labels)
            baseline = current_baseline(state.chart or EMPTY_CHART)
            if group is None or baseline is None:
                continue
            self._add_member(rule, GroupSeries(group=group, scorer=scorer.split("@")[0]), state.key)
            buckets = _add_deviation(
                state.bucket_deviations,
                value - baseline.level,
                at=segment.starts_at,
                bucket_seconds=condition.bucket_seconds,
            )
            state = replace(state, bucket_deviations=buckets)
        return state

    def advance_to(self, at: float) -> Iterator[Alert]:
        """The alerts of the buckets that are complete now that one series has come to a moment (seconds)."""
        for rule, condition in self._rules:
            for members in [members for members in self._members.values() if members.rule == rule.name]:
                state = self._state(rule, members)
                buckets = list(_due_buckets(condition, state.seen_until, at=at))
                for starts_at in buckets:
                    yield from self._follow(rule, condition, members, starts_at)
                if buckets:
                    self._remove_silent(members, buckets[-1] - _GONE_BUCKETS * condition.bucket_seconds)

    def _follow(
        self, rule: AlertRule, condition: Group, members: GroupMembers, starts_at: float
    ) -> Iterator[Alert]:  # fmt: skip
        ends_at = starts_at + condition.bucket_seconds
        state = replace(self._state(rule, members), seen_until=ends_at)
        deviations = [
            bucket.mean
            for member in self._member_states(members)
            for bucket in member.bucket_deviations
            if bucket.starts_at == starts_at
        ]
        if len(deviations) < condition.min_series:
            yield from self._follow_without_values(condition, state, starts_at)
            return
        series = members.group_series
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
            value=float(np.quantile(deviations, condition.quantile)),
            basis=f"{series.scorer} of {series.group or 'all series'}",
            scorer=series.scorer,
            segment=segment,
            impact_minutes=len(deviations) * condition.bucket_seconds / 60,
            cause=condition.alert_cause,
        )
        state, transition = follow_series(rule, state, value)
        yield from self._inhibitor.apply(state, transition, at=starts_at)

    def _follow_without_values(self, condition: Group, state: GroupState, starts_at: float) -> Iterator[Alert]:
        """Close the open alert when too few series have had a value for long."""
        transition = None
        last_end_at = (state.chart or EMPTY_CHART).last_end_at
        if state.alert is not None and starts_at - last_end_at >= _GONE_BUCKETS * condition.bucket_seconds:
            state, transition = close_without_values(state, state.alert, at=starts_at + condition.bucket_seconds)
        yield from self._inhibitor.apply(state, transition, at=starts_at)

    def _add_member(self, rule: AlertRule, series: GroupSeries, member: AlertKey) -> None:
        new = GroupMembers(rule=rule.name, group_series=series)
        members = self._members.get(new.key, new)
        if member not in members.members:
            self._save(replace(members, members=members.members | {member}))

    def _remove_silent(self, members: GroupMembers, oldest: float) -> None:
        """Remove the members whose last deviation lies before `oldest`."""
        active = frozenset(
            state.key
            for state in self._member_states(members)
            if state.bucket_deviations and state.bucket_deviations[-1].starts_at >= oldest
        )
        if len(active) < len(members.members):
            self._save(replace(members, members=active))

    def _save(self, members: GroupMembers) -> None:
        self._members[members.key] = members
        self._store.save(members)

    def _member_states(self, members: GroupMembers) -> list[RegressionState]:
        states = (self._store.states.get(key) for key in members.members)
        return [state for state in states if isinstance(state, RegressionState)]

    def _state(self, rule: AlertRule, members: GroupMembers) -> GroupState:
        state = self._store.states.get(AlertKey(rule=rule.name, series=members.group_series))
        if isinstance(state, GroupState):
            return state
        return GroupState(rule=rule.name, series=members.group_series)


def _add_deviation(
    buckets: Sequence[BucketDeviation], deviation: float, *, at: float, bucket_seconds: float
) -> tuple[BucketDeviation, ...]:
    """A series' last buckets with one more deviation (points) at a moment (seconds)."""
    starts_at = math.floor(at / bucket_seconds) * bucket_seconds
    if buckets and buckets[-1].starts_at == starts_at:
        last = buckets[-1]
        return (*buckets[:-1], BucketDeviation(starts_at, last.total + deviation, last.value_count + 1.0))
    return (*buckets, BucketDeviation(starts_at, deviation, 1.0))[-_MAX_BUCKETS:]


def _due_buckets(condition: Group, closed_until: float, *, at: float) -> Iterator[float]:
    """Starts of the buckets after `closed_until` that are complete, `wait_seconds` included, at a moment (seconds)."""
    width = condition.bucket_seconds
    last = math.floor((at - condition.wait_seconds) / width) - 1
    first = max(round(closed_until / width), last - _MAX_BUCKETS + 1) if closed_until else last
    for number in range(first, last + 1):
        yield number * width
