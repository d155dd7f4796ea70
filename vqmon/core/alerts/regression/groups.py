"""Series taken together: how far they are off their usual at the same time, followed like a series of its own."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from vqmon.core.alerts.regression.cusum import parts, usual_now
from vqmon.core.alerts.regression.inhibition import Standings
from vqmon.core.alerts.regression.ladder import Entry
from vqmon.core.alerts.regression.series_alert import Reading, follow, given_up
from vqmon.core.alerts.rules import AlertRule, Group
from vqmon.core.alerts.state import AlertState, Members, Memory, group_of
from vqmon.core.types import Alert

KEPT_STRETCHES = 8
"""So many stretches of time a series keeps its deviations for."""

GONE_STRETCHES = 360
"""A series without a value for so many stretches leaves its group."""

EVERY = "*"
"""The stream of an alert about all streams."""


class Groups:
    """Group rules over the series that regression rules follow."""

    def __init__(self, rules: Sequence[AlertRule], memory: Memory, standings: Standings) -> None:
        self._rules = [(rule, rule.condition) for rule in rules if isinstance(rule.condition, Group)]
        self._memory = memory
        self._standings = standings
        self._members = {it.key: it for it in memory.states.values() if isinstance(it, Members)}

    def recorded(self, state: AlertState, entry: Entry, *, scorer: str, value: float) -> AlertState:
        """The series keeps how far it is off its usual, and belongs to its groups."""
        for rule, condition in self._rules:
            if condition.of != state.rule:
                continue
            group = group_of(condition, entry.labels)
            usual = usual_now(state.memory)
            if group is None or usual is None:
                continue
            fresh = Members(rule=rule.name, group=group, scorer=scorer.split("@")[0])
            members = self._members.get(fresh.key, fresh)
            if state.key not in members.series:
                pairs = [*zip(members.series, members.places, strict=True)]
                self._change(members.only([*pairs, (state.key, f"{entry.stream_id}/{entry.rendition}")]))
            away = value - usual.level
            state = replace(state, recent=kept(state.recent, away, at=entry.starts, width=condition.bucket_seconds))
        return state

    def pass_time(self, at: float) -> Iterator[Alert]:
        """The alerts of stretches that are over now that one series has come to `at`."""
        for rule, condition in self._rules:
            for members in [it for it in self._members.values() if it.rule == rule.name]:
                state = self._state(rule, members)
                stretches = list(due(condition, state.seen_until, at=at))
                for start in stretches:
                    yield from self._follow(rule, condition, members, start)
                if stretches:
                    self._leave(members, stretches[-1] - GONE_STRETCHES * condition.bucket_seconds)

    def _follow(self, rule: AlertRule, condition: Group, members: Members, start: float) -> Iterator[Alert]:
        state = replace(self._state(rule, members), seen_until=start + condition.bucket_seconds)
        values = [away for it in self._series_of(members) for away in away_in(it.recent, start)]
        if len(values) < condition.min_series:
            yield from self._without_values(condition, state, start)
            return
        entry = Entry(
            event_id="",
            stream_id=members.group or EVERY,
            rendition="group",
            starts=start,
            ends=start + condition.bucket_seconds,
            scores={},
            worst={},
            signals={},
            labels={},
            rung=0.0,
        )
        reading = Reading(
            value=float(np.quantile(values, condition.quantile)),
            basis=f"{members.scorer} of {members.group or 'all series'}",
            scorer=members.scorer,
            entry=entry,
            impact=len(values) * condition.bucket_seconds / 60,
            cause=condition.explains_as,
        )
        state, turned = follow(rule, state, reading)
        yield from self._standings.settle(state, turned, at=entry.starts)

    def _without_values(self, condition: Group, state: AlertState, start: float) -> Iterator[Alert]:
        """Too few series have a value; when that lasts, nothing holds an open alert any more."""
        turned = None
        last = parts(state.memory)[0].last_until
        if state.alert is not None and start - last >= GONE_STRETCHES * condition.bucket_seconds:
            state, turned = given_up(state, state.alert, at=start + condition.bucket_seconds)
        yield from self._standings.settle(state, turned, at=start)

    def _leave(self, members: Members, oldest: float) -> None:
        """Series that have been silent for long are no members any more."""
        stays = {it.key for it in self._series_of(members) if it.recent and it.recent[-3] >= oldest}
        if len(stays) < len(members.series):
            pairs = zip(members.series, members.places, strict=True)
            self._change(members.only([pair for pair in pairs if pair[0] in stays]))

    def _change(self, members: Members) -> None:
        self._members[members.key] = members
        self._memory.remember(members)

    def _series_of(self, members: Members) -> list[AlertState]:
        found = (self._memory.states.get(key) for key in members.series)
        return [state for state in found if isinstance(state, AlertState)]

    def _state(self, rule: AlertRule, members: Members) -> AlertState:
        state = self._memory.states.get(f"{rule.name}|{members.name}")
        if isinstance(state, AlertState) and state.kind == Group.kind:
            return state
        return AlertState(rule=rule.name, series=members.name, kind=Group.kind)


def kept(recent: Sequence[float], away: float, *, at: float, width: float) -> tuple[float, ...]:
    """A series' recent deviations with one more: start, sum and number per stretch of time."""
    start = math.floor(at / width) * width
    if recent and recent[-3] == start:
        return (*recent[:-2], recent[-2] + away, recent[-1] + 1.0)
    return (*recent, start, away, 1.0)[-3 * KEPT_STRETCHES :]


def away_in(recent: Sequence[float], start: float) -> Iterator[float]:
    """The mean deviation of a series in a stretch, if it has one."""
    for place in range(0, len(recent), 3):
        if recent[place] == start:
            yield recent[place + 1] / recent[place + 2]


def due(condition: Group, closed_until: float, *, at: float) -> Iterator[float]:
    """Starts of the stretches that are over, waiting included, when a series has come to `at`."""
    width = condition.bucket_seconds
    last = math.floor((at - condition.wait_seconds) / width) - 1
    first = max(round(closed_until / width), last - KEPT_STRETCHES + 1) if closed_until else last
    for number in range(first, last + 1):
        yield number * width
