"""The open alerts of groups, and which alerts of series and of other groups they mute."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from vqmon.core.alerts.conditions.group import Group, GroupState
from vqmon.core.alerts.conditions.regression import Regression
from vqmon.core.alerts.regression.inhibition import UNMUTE_SECONDS, cause_rank, strongest_alert_id
from vqmon.core.alerts.regression.series_alert import AlertTransition
from vqmon.core.alerts.rules import AlertRule
from vqmon.core.alerts.state import (
    AlertKey,
    GroupKey,
    GroupMembers,
    GroupSeries,
    MutedAlert,
    MutedAlertKey,
    StateStore,
)
from vqmon.core.types import Alert


@dataclass(frozen=True, slots=True, kw_only=True)
class _OpenGroupAlert:
    """An open alert of a group."""

    alert: Alert
    rule: str
    series: GroupSeries
    # stream/rendition of the series that have had values since it opened
    rendition_keys: frozenset[str]
    # it mutes others once every series has been given the time to come so far; seconds
    active_from: float


class GroupInhibitor:
    """Mutes the alerts of series, and of smaller groups with a weaker cause, while the alert of a group is open."""

    def __init__(self, rules: Collection[AlertRule], store: StateStore) -> None:
        self._store = store
        self._conditions = {rule.name: rule.condition for rule in rules if isinstance(rule.condition, Group)}
        self._members = {rule.name: rule.condition for rule in rules if isinstance(rule.condition, Regression)}
        self._open: dict[AlertKey, _OpenGroupAlert] = {}
        self._muted = {state.key: state for state in store.states.values() if isinstance(state, MutedAlert)}
        for state in store.alert_states():
            if isinstance(state, GroupState) and state.alert and state.rule in self._conditions:
                members = store.states.get(_members_key(state))
                keys = members.rendition_keys if isinstance(members, GroupMembers) else frozenset()
                self._open[state.key] = self._open_alert(state, state.alert, keys)

    def remove(self, key: AlertKey) -> None:
        """Forget the alert of a group that was closed elsewhere."""
        self._open.pop(key, None)

    def apply(
        self,
        state: GroupState,
        transition: AlertTransition | None,
        *,
        at: float,
        rendition_keys: Collection[str] = (),
    ) -> Iterator[Alert]:
        """Save the state of a group; the alert to publish if one opens, resolves, or is no longer muted.

        `rendition_keys` are the stream/rendition of the series that have values at this moment.
        """
        if transition is not None and transition.kind == "resolved":
            self._open.pop(state.key, None)
            self._store.delete(_members_key(state))
            yield transition.alert
        elif transition is not None:
            opened = self._open_alert(state, transition.alert, frozenset(rendition_keys))
            alert = replace(transition.alert, muted_by=self._inhibiting_group_id(opened, at=at))
            state = replace(state, alert=alert)
            self._open[state.key] = replace(opened, alert=alert)
            self._save_members(opened)
            yield alert
        elif state.alert is not None:
            opened = self._open[state.key]
            self._open[state.key] = replace(opened, rendition_keys=opened.rendition_keys.union(rendition_keys))
            if state.alert.muted_by:
                state = self._unmuted_group(state, state.alert, at=at)
                if state.alert is not None and not state.alert.muted_by:
                    yield state.alert
        self._store.save(state)

    def follow_series_alert(
        self, alert: Alert, *, scorer: str, groups: Mapping[str, str], at: float | None
    ) -> Alert:  # fmt: skip
        """An alert of a series as it is published: muted if it opens while a group of the series has an alert."""
        key = MutedAlertKey(rule=alert.rule, series=alert.series)
        muted = self._muted.pop(key, None)
        if muted is not None:
            self._store.delete(key)
        if alert.state == "resolved":
            return replace(alert, muted_by=muted.alert.muted_by) if muted is not None else alert
        if alert.muted_by or at is None:
            return alert
        muted_by = strongest_alert_id(
            other.alert
            for other in self._open.values()
            if other.active_from <= at
            and other.series.scorer == scorer
            and not other.alert.muted_by
            and groups.get(other.rule) == other.series.group
        )
        if muted_by:
            alert = replace(alert, muted_by=muted_by)
            self._muted[key] = muted = MutedAlert(alert=alert)
            self._store.save(muted)
        return alert

    def unmute_series_alerts(self, *, at: float) -> Iterator[Alert]:
        """The alerts to publish because the groups that muted them have been well for long enough."""
        for key, before in list(self._muted.items()):
            muted = self._unmuted(before, at=at)
            if not muted.alert.muted_by:
                del self._muted[key]
                self._store.delete(key)
                yield muted.alert
            elif muted is not before:
                self._muted[key] = muted
                self._store.save(muted)

    def _inhibiting_group_id(self, target: _OpenGroupAlert, *, at: float) -> str:
        return strongest_alert_id(
            other.alert
            for other in self._open.values()
            if other.active_from <= at
            and other.series.scorer == target.series.scorer
            and not other.alert.muted_by
            and cause_rank(other.alert) > cause_rank(target.alert)
            and target.rendition_keys <= other.rendition_keys
        )

    def _unmuted_group(self, state: GroupState, alert: Alert, *, at: float) -> GroupState:
        muted = self._unmuted(MutedAlert(alert=alert, since=state.uninhibited_since), at=at)
        self._open[state.key] = replace(self._open[state.key], alert=muted.alert)
        return replace(state, alert=muted.alert, uninhibited_since=muted.since)

    def _unmuted(self, muted: MutedAlert, *, at: float) -> MutedAlert:
        """The alert unmuted if the alert that muted it resolved long enough ago."""
        if any(other.alert.id == muted.alert.muted_by for other in self._open.values()):
            return replace(muted, since=None) if muted.since is not None else muted
        if muted.since is None:
            return replace(muted, since=at)
        if abs(at - muted.since) < UNMUTE_SECONDS:
            return muted
        return MutedAlert(alert=replace(muted.alert, muted_by=""))

    def _open_alert(self, state: GroupState, alert: Alert, rendition_keys: frozenset[str]) -> _OpenGroupAlert:
        assert isinstance(state.series, GroupSeries)
        return _OpenGroupAlert(
            alert=alert,
            rule=state.rule,
            series=state.series,
            rendition_keys=rendition_keys,
            active_from=alert.opened_at.timestamp() + self._conditions[state.rule].wait_seconds,
        )

    def _save_members(self, opened: _OpenGroupAlert) -> None:
        """Store whose alert it is, so that it mutes smaller groups after a restart too."""
        member_rule = self._conditions[opened.rule].of
        member = self._members[member_rule]
        keys = (AlertKey(member_rule, member.series(key, opened.series.scorer)) for key in opened.rendition_keys)
        self._store.save(GroupMembers(rule=opened.rule, group_series=opened.series, members=frozenset(keys)))


def _members_key(state: GroupState) -> GroupKey:
    assert isinstance(state.series, GroupSeries)
    return GroupKey(rule=state.rule, series=state.series)
