"""Inhibition: which open alert mutes another; a scorer mutes a source, a source an encoder, an encoder packaging."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from vqmon.core.alerts.conditions.chart import CAUSES
from vqmon.core.alerts.conditions.group import Group
from vqmon.core.alerts.conditions.regression import ChartState
from vqmon.core.alerts.regression.series_alert import AlertTransition
from vqmon.core.alerts.rules import AlertRule
from vqmon.core.alerts.state import AlertKey, GroupKey, GroupMembers, GroupSeries, StateStore
from vqmon.core.types import Alert

_UNMUTE_SECONDS = 300.0
"""An alert that is open for so long after the one that inhibited it has resolved is published unmuted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _OpenAlert:
    """An open alert of a regression or group rule, with what decides whether it inhibits another."""

    alert: Alert
    # name without version
    scorer: str
    # of a group: stream/rendition of its members; else empty
    member_renditions: frozenset[str] = frozenset()
    # from which moment on it inhibits others; that of a group once every series has come so far
    active_from: float = 0.0

    @property
    def rendition_key(self) -> str:
        return f"{self.alert.stream_id}/{self.alert.rendition}"


def _inhibiting_alert_id(target: _OpenAlert, others: Iterable[_OpenAlert], *, at: float) -> str:
    """The id of the open alert that inhibits the target at a moment, the strongest first; "" when there is none."""
    rank = CAUSES.index(target.alert.cause)
    stronger = [
        (-CAUSES.index(other.alert.cause), other.alert.opened_at, other.alert.id)
        for other in others
        if other.active_from <= at
        and other.scorer == target.scorer
        and not other.alert.muted_by
        and _covers(other, target)
        if CAUSES.index(other.alert.cause) > rank or (other.member_renditions and not target.member_renditions)
    ]
    return min(stronger)[2] if stronger else ""


def _covers(other: _OpenAlert, target: _OpenAlert) -> bool:
    if not other.member_renditions:
        return other.alert.stream_id == target.alert.stream_id and not target.member_renditions
    if target.member_renditions:
        return target.member_renditions <= other.member_renditions
    return target.rendition_key in other.member_renditions


class Inhibitor:
    """The open alerts of regression and group rules, and which of them inhibit new ones."""

    def __init__(self, rules: Iterable[AlertRule], store: StateStore) -> None:
        self._store = store
        # how long every series is given to come as far as its group
        self._wait_seconds = {
            rule.name: rule.condition.wait_seconds for rule in rules if isinstance(rule.condition, Group)
        }
        self._open: dict[AlertKey, _OpenAlert] = {}
        for state in store.alert_states():
            if isinstance(state, ChartState) and state.alert:
                self._open[state.key] = self._open_alert(state, state.alert)

    def remove(self, key: AlertKey) -> None:
        """Forget an alert that was closed elsewhere."""
        self._open.pop(key, None)

    def apply(self, state: ChartState, transition: AlertTransition | None, *, at: float) -> Iterator[Alert]:
        """Save a state; the alert to publish if one opens, resolves, or is no longer inhibited."""
        if transition is not None and transition.kind == "resolved":
            self._open.pop(state.key, None)
            yield transition.alert
        elif transition is not None:
            open_alert = self._open_alert(state, transition.alert)
            muted_by = _inhibiting_alert_id(open_alert, self._open.values(), at=at)
            alert = replace(transition.alert, muted_by=muted_by)
            state = replace(state, alert=alert)
            self._open[state.key] = replace(open_alert, alert=alert)
            yield alert
        elif state.alert is not None and state.alert.muted_by:
            state = self._unmuted(state, state.alert, at)
            if state.alert is not None and not state.alert.muted_by:
                yield state.alert
        self._store.save(state)

    def _unmuted(self, state: ChartState, alert: Alert, at: float) -> ChartState:
        """The state with its alert unmuted if the alert that inhibited it resolved long enough ago."""
        if any(other.alert.id == alert.muted_by for other in self._open.values()):
            return replace(state, uninhibited_since=None) if state.uninhibited_since is not None else state
        if state.uninhibited_since is None:
            return replace(state, uninhibited_since=at)
        if abs(at - state.uninhibited_since) < _UNMUTE_SECONDS:
            return state
        alert = replace(alert, muted_by="")
        self._open[state.key] = self._open_alert(state, alert)
        return replace(state, alert=alert, uninhibited_since=None)

    def _open_alert(self, state: ChartState, alert: Alert) -> _OpenAlert:
        members = self._member_renditions(state)
        active_from = alert.opened_at.timestamp() + self._wait_seconds.get(state.rule, 0.0) if members else 0.0
        return _OpenAlert(
            alert=alert, scorer=state.series.scorer, member_renditions=members, active_from=active_from
        )  # fmt: skip

    def _member_renditions(self, state: ChartState) -> frozenset[str]:
        if not isinstance(state.series, GroupSeries):
            return frozenset()
        members = self._store.states.get(GroupKey(rule=state.rule, series=state.series))
        return members.rendition_keys if isinstance(members, GroupMembers) else frozenset()
