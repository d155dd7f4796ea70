"""Inhibition: which open alert mutes another.

A scorer mutes a source, a source an encoder, an encoder packaging; and of alerts that one fault of a stream opens, the
first mutes the others, so that a fall of the whole ladder is one notification.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

from vqmon.core.alerts.conditions.chart import CAUSES
from vqmon.core.alerts.conditions.regression import RegressionState
from vqmon.core.alerts.regression.control_chart import EMPTY_CHART, SPANS
from vqmon.core.alerts.regression.series_alert import AlertTransition
from vqmon.core.alerts.state import AlertKey, StateStore
from vqmon.core.types import Alert

UNMUTE_SECONDS = 300.0
"""An alert that is open for so long after the one that inhibited it has resolved is published unmuted."""

_SAME_FAULT = timedelta(minutes=15)
"""Drops of one stream that begin within so long of each other are one fault."""

_LARGER_DROP = 2.0
"""A drop that is so many times as large as that of the first alert is sent for itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _OpenAlert:
    """An open alert of a regression rule."""

    alert: Alert
    # name without version
    scorer: str


def strongest_alert_id(alerts: Iterable[Alert]) -> str:
    """The id of the alert with the strongest cause, of several the one that opened first; "" when there is none."""
    ranked = [(-cause_rank(alert), alert.opened_at, alert.id) for alert in alerts]
    return min(ranked)[2] if ranked else ""


def cause_rank(alert: Alert) -> int:
    """The rank of an alert's cause: an alert inhibits those of a lower rank."""
    return CAUSES.index(alert.cause)


class Inhibitor:
    """The open alerts of regression rules, and which of them inhibit others of the same stream and scorer."""

    def __init__(self, store: StateStore) -> None:
        self._store = store
        # stream -> its open alerts
        self._open: dict[str, dict[AlertKey, _OpenAlert]] = {}
        for state in store.alert_states():
            if isinstance(state, RegressionState) and state.alert:
                self._add(state, state.alert)

    def remove(self, key: AlertKey, alert: Alert) -> None:
        """Forget an alert that has resolved."""
        open_alerts = self._open.get(alert.stream_id, {})
        open_alerts.pop(key, None)
        if not open_alerts:
            self._open.pop(alert.stream_id, None)

    def apply(self, state: RegressionState, transition: AlertTransition | None, *, at: float) -> Iterator[Alert]:
        """Save a state; the alert to publish if one opens, resolves, or is no longer inhibited by the same alert."""
        if transition is not None and transition.kind == "resolved":
            self.remove(state.key, transition.alert)
            yield transition.alert
        elif transition is not None:
            alert = replace(transition.alert, muted_by=self._inhibiting_alert_id(transition.alert, state.series.scorer))
            state = replace(state, alert=alert)
            self._add(state, alert)
            yield alert
        elif state.alert is not None and state.alert.muted_by:
            before = state.alert
            state = self._unmuted(state, before, at)
            if state.alert is not None and state.alert != before:
                yield state.alert
        self._store.save(state)

    def _inhibiting_alert_id(self, target: Alert, scorer: str) -> str:
        return strongest_alert_id(
            other
            for other in self._told(target.stream_id, scorer)
            if cause_rank(other) > cause_rank(target) or _is_same_fault(other, target)
        )

    def _told(self, stream_id: str, scorer: str) -> Iterator[Alert]:
        """The open alerts of a stream and scorer that nothing mutes."""
        for other in self._open.get(stream_id, {}).values():
            if other.scorer == scorer and not other.alert.muted_by:
                yield other.alert

    def _unmuted(self, state: RegressionState, alert: Alert, at: float) -> RegressionState:
        """The state with its alert unmuted, or muted by another one, if what inhibited it resolved long enough ago."""
        if any(other.alert.id == alert.muted_by for other in self._open.get(alert.stream_id, {}).values()):
            return replace(state, uninhibited_since=None) if state.uninhibited_since is not None else state
        if state.uninhibited_since is None:
            return replace(state, uninhibited_since=at)
        if abs(at - state.uninhibited_since) < _unmute_seconds(state):
            return state
        # Of several that one alert muted, the first that is sent mutes the others.
        same_fault = (
            other for other in self._told(alert.stream_id, state.series.scorer) if _is_same_fault(other, alert)
        )
        alert = replace(alert, muted_by=strongest_alert_id(same_fault))
        self._add(state, alert)
        return replace(state, alert=alert, uninhibited_since=None)

    def _add(self, state: RegressionState, alert: Alert) -> None:
        open_alert = _OpenAlert(alert=alert, scorer=state.series.scorer)
        self._open.setdefault(alert.stream_id, {})[state.key] = open_alert


def _is_same_fault(first: Alert, later: Alert) -> bool:
    """Whether an alert of a stream tells no more than one that is open: of another rendition, or by another rule."""
    return (
        first.cause == later.cause
        and (first.severity == "page" or later.severity == "ticket")
        and abs(later.began_at - first.began_at) <= _SAME_FAULT
        and _drop_points(later) < _LARGER_DROP * _drop_points(first)
    )


def _drop_points(alert: Alert) -> float:
    return alert.change.before - alert.change.after if alert.change else 0.0


def _unmute_seconds(state: RegressionState) -> float:
    """The time that the average of an open alert has to recover before the alert is sent: its length, at the least."""
    chart = state.chart or EMPTY_CHART
    return max(SPANS[int(chart.recovery.average_index)] * chart.blocks.segment_seconds, UNMUTE_SECONDS)
