"""Decides what to send to each receiver about the alerts that are queued in the outbox."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from vqmon.core.alerts.annotations import Mask
from vqmon.core.types import Alert

NotifiedState = Literal["", "open", "resolved"]
"""The state of an alert that a receiver was sent last; empty = none yet."""

DeliveryAction = Literal["open", "resolved", "wait", "done"]
"""What to do next for a receiver: send that the alert is open or resolved, send nothing now, or nothing ever again."""

ReceiverKind = Literal["state", "changes"]
"""What a receiver expects: the current state repeatedly, like Alertmanager, or each change once, like a webhook."""

RESOLVED_REPEAT = timedelta(minutes=5)
"""How long a receiver of states keeps being sent that an alert is resolved."""


OWN_STREAM = "vqmon"
"""The stream id of alerts about vqmon itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedAlert:
    """One alert in the outbox. Its own times are wall clock; those of `alert` are media time."""

    alert: Alert
    # the alert as it was first queued; receivers identify it by this, so it never changes
    opened: Alert
    queued_at: datetime
    changed_at: datetime
    # receiver name -> the state it was last sent
    notified_states: Mapping[str, NotifiedState] = field(default_factory=dict)
    # write number of its last change in the history
    number: int = 0

    @property
    def rule_and_series(self) -> tuple[str, str]:
        """Its rule and series; at most one alert of a rule and series is open at a time."""
        return self.opened.rule, self.opened.series

    @property
    def age_when_queued(self) -> timedelta:
        """How far the alert's own time was behind when it was queued; large in a backfill."""
        return self.queued_at - self.alert.opened_at


def next_action(
    notice: QueuedAlert, receiver: str, *, kind: ReceiverKind, is_held: bool, now: datetime
) -> DeliveryAction:
    """What to send next about one alert to the receiver of this name and kind.

    An alert that is held by a maintenance window (`is_held`) or muted by another alert is not announced. Once it has
    been announced, it is sent until it is resolved; otherwise the receiver would believe that it is over. A receiver of
    changes gets the opening first, even if the alert has resolved by then.
    """
    notified = notice.notified_states.get(receiver, "")
    is_resolved = notice.alert.state == "resolved"
    if notified == "" and (is_held or notice.alert.muted_by):
        return "done" if is_resolved else "wait"
    if kind == "state":
        if not is_resolved:
            return "open"
        return "done" if notified == "resolved" and now >= notice.changed_at + RESOLVED_REPEAT else "resolved"
    if notified == "":
        return "open"
    if notified == "open":
        return "resolved" if is_resolved else "wait"
    return "done"


def next_actions(
    notices: Iterable[QueuedAlert], receiver: str, *, kind: ReceiverKind, held_alert_ids: Collection[str], now: datetime
) -> dict[str, DeliveryAction]:
    """What to send next to a receiver, by alert id; `held_alert_ids` are those in a maintenance window.

    A receiver of states identifies an alert by its labels, which two alerts of one rule and series share. So only the
    later one is sent; otherwise the repeated end of the earlier one would end it too. One that is open wins over one
    that was opened later without knowing of it, and is over.
    """
    actions: dict[str, DeliveryAction] = {}
    latest: dict[tuple[str, str], str] = {}
    for notice in sorted(notices, key=lambda notice: (notice.queued_at, notice.opened.opened_at)):
        alert_id = notice.alert.id
        actions[alert_id] = next_action(notice, receiver, kind=kind, is_held=alert_id in held_alert_ids, now=now)
        if kind == "state" and actions[alert_id] in ("open", "resolved"):
            earlier = latest.get(notice.rule_and_series)
            if earlier is not None and (actions[earlier], actions[alert_id]) == ("open", "resolved"):
                actions[alert_id] = "done"
                continue
            if earlier is not None:
                actions[earlier] = "done"
            latest[notice.rule_and_series] = alert_id
    return actions


def maintenance_window_of(alert: Alert, windows: Iterable[Mask], now: datetime) -> Mask | None:
    """The first maintenance window that holds the alert back now."""
    at = now.timestamp()
    matching = (window for window in windows if window.matches(alert.stream_id, alert.rendition))
    return next((window for window in matching if window.covered_seconds(at, at + 1e-3) > 0), None)
