"""The delivery queue of one receiver: which notifications are due, how they were answered, and when to retry."""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from vqmon.core.alerts.reactions.notifications import DeliveryAction, NotifiedState, QueuedAlert, next_actions
from vqmon.errors import DeliveryError
from vqmon.retry import Backoff
from vqmon.telemetry.logs import log_event
from vqmon.telemetry.metrics import Meters
from vqmon.transport.notify.receiver import Notification, Receiver

log = logging.getLogger("vqmon.notify")

_POLL_SECONDS = 5.0
"""How often muted alerts are considered again."""

_FIRST_BACKOFF_SECONDS = 1.0
_BACKOFF_JITTER = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Time and randomness, passed in."""

    # the wall clock, and a clock that never goes back
    now: Callable[[], datetime]
    monotonic_seconds: Callable[[], float]
    # uniform in 0..1
    random_fraction: Callable[[], float]


class DeliveryQueue:
    """The queued alerts as one receiver sees them. State is by alert id."""

    def __init__(
        self, receiver: Receiver, *, clock: Clock, meters: Meters, resend_seconds: float, keep_seconds: float
    ) -> None:
        self.receiver = receiver
        self.changed = asyncio.Event()
        self.is_ending = False
        self._clock = clock
        self._meters = meters
        self._resend_seconds = resend_seconds
        self._keep_seconds = keep_seconds
        self._backoff = Backoff(
            first_seconds=min(_FIRST_BACKOFF_SECONDS, receiver.max_backoff_seconds),
            last_seconds=receiver.max_backoff_seconds,
            jitter=_BACKOFF_JITTER,
        )
        # Prometheus sees the first one as an increase only if there was a zero before it
        meters.count("vqmon.notify.given_up", 0, target=receiver.name)
        self._actions: dict[str, DeliveryAction] = {}
        # the current action, and since when
        self._action_since: dict[str, tuple[DeliveryAction, datetime]] = {}
        # the state of the last attempt, and when it may be sent next, in seconds of the clock
        self._attempts: dict[str, tuple[Literal["open", "resolved"], float]] = {}
        # refusals in a row
        self._refusals: dict[str, int] = {}
        # the action that was given up
        self._given_up: dict[str, DeliveryAction] = {}
        self._failures = 0
        self._paused_until = 0.0
        self._is_gone = False

    def is_finished(self, alert_id: str) -> bool:
        """Whether the receiver needs no more notifications of an alert."""
        return self._actions.get(alert_id) == "done"

    def seconds_until_due(self) -> float:
        """How long until a notification may be due, at most POLL_SECONDS."""
        seconds = self._clock.monotonic_seconds()
        due_at = [
            self._due_at(alert_id, action)
            for alert_id, action in self._actions.items()
            if action in ("open", "resolved")
        ]
        return min(max(min(due_at, default=seconds + _POLL_SECONDS), self._paused_until) - seconds, _POLL_SECONDS)

    async def deliver_due(
        self, queued_alerts: Sequence[QueuedAlert], *, muted_ids: Collection[str]
    ) -> Mapping[str, NotifiedState]:
        """Deliver the notifications that are due; returns the states that the receiver took, by alert id."""
        now, seconds = self._clock.now(), self._clock.monotonic_seconds()
        self._update_actions(queued_alerts, muted_ids, now)
        self._give_up_old(queued_alerts, now)
        notifications = self._due_notifications(queued_alerts, seconds)
        answers = await self._notify(notifications, now) if notifications and seconds >= self._paused_until else {}
        delivered: dict[str, NotifiedState] = {}
        for notification in notifications:
            alert_id = notification.alert_id
            if alert_id in answers and self._record_answer(notification, answers[alert_id]):
                delivered[alert_id] = notification.state
        self._set_gauges(queued_alerts, delivered, now)
        return delivered

    def _update_actions(self, queued_alerts: Sequence[QueuedAlert], muted_ids: Collection[str], now: datetime) -> None:
        waiting_ids = {alert_id for alert_id, action in self._actions.items() if action == "wait"}
        self._actions = next_actions(
            queued_alerts, self.receiver.name, kind=self.receiver.kind, held_alert_ids=muted_ids, now=now
        )
        self._drop_removed_alerts()
        for queued in queued_alerts:
            alert_id = queued.alert.id
            since = self._action_since.get(alert_id)
            if since is None or since[0] != self._actions[alert_id]:
                began_at = now if alert_id in waiting_ids else queued.changed_at
                self._action_since[alert_id] = self._actions[alert_id], began_at

    def _drop_removed_alerts(self) -> None:
        """Drop the state of alerts that are no longer in the outbox."""
        for state in (self._attempts, self._refusals, self._action_since, self._given_up):
            for alert_id in [alert_id for alert_id in state if alert_id not in self._actions]:
                del state[alert_id]

    def _due_notifications(self, queued_alerts: Sequence[QueuedAlert], seconds: float) -> list[Notification]:
        notifications = []
        for queued in sorted(queued_alerts, key=lambda queued: queued.number):
            action = self._actions[queued.alert.id]
            if (action == "open" or action == "resolved") and self._due_at(queued.alert.id, action) <= seconds:
                notifications.append(Notification(queued=queued, state=action))
        return notifications

    def _due_at(self, alert_id: str, action: DeliveryAction) -> float:
        state, due_at = self._attempts.get(alert_id, ("", 0.0))
        # A new state is due at once, unless the receiver has refused this alert before.
        return due_at if state == action or alert_id in self._refusals else 0.0

    async def _notify(self, notifications: Sequence[Notification], now: datetime) -> Mapping[str, DeliveryError | None]:
        try:
            answers = await self.receiver.notify(notifications, now=now)
        except DeliveryError as error:
            self._record_failure(error)
            return {}
        if self._failures:
            log.info(**log_event("notify.mended", target=self.receiver.name, tries=self._failures))
        self._failures = 0
        return answers

    def _record_failure(self, error: DeliveryError) -> None:
        """The receiver takes nothing: back off, and log the first failure in a row."""
        self._meters.count("vqmon.notify.failed", target=self.receiver.name, reason=error.reason)
        if error.reason == "gone":
            self._is_gone = True
            log.error(**log_event("notify.gone", target=self.receiver.name, error=error, remedy="restart to try again"))
            return
        self._failures += 1
        delay_seconds = self._backoff.delay_seconds(self._failures, draw=self._clock.random_fraction())
        # what the receiver asks for makes a delay longer, never shorter
        delay_seconds = max(delay_seconds, error.retry_after_seconds or 0.0)
        self._paused_until = self._clock.monotonic_seconds() + delay_seconds
        if self._failures == 1:
            log.warning(**log_event("notify.failed", target=self.receiver.name, error=error))

    def _record_answer(self, notification: Notification, error: DeliveryError | None) -> bool:
        """Schedule the next attempt; returns whether the receiver took the notification."""
        alert_id, seconds = notification.alert_id, self._clock.monotonic_seconds()
        if error is None:
            self._refusals.pop(alert_id, None)
            self._attempts[alert_id] = (notification.state, seconds + self._resend_seconds)
            self._meters.count("vqmon.notify.sent", target=self.receiver.name, state=notification.state)
            return True
        refusals = self._refusals[alert_id] = self._refusals.get(alert_id, 0) + 1
        delay_seconds = self._backoff.delay_seconds(refusals, draw=self._clock.random_fraction())
        self._attempts[alert_id] = (notification.state, seconds + delay_seconds)
        self._meters.count("vqmon.notify.failed", target=self.receiver.name, reason=error.reason)
        if refusals == 1:
            log.error(**log_event("notify.refused", target=self.receiver.name, alert=alert_id, error=error))
        return False

    def _give_up_old(self, queued_alerts: Sequence[QueuedAlert], now: datetime) -> None:
        """Give up notifications that failed for longer than `keep_seconds`; never an open alert of a state receiver."""
        for queued in queued_alerts:
            alert_id = queued.alert.id
            if self._actions[alert_id] not in ("open", "resolved"):
                continue
            is_old = (now - self._action_since[alert_id][1]).total_seconds() > self._keep_seconds
            if self._is_gone or self._given_up.get(alert_id) == self._actions[alert_id]:
                self._actions[alert_id] = "done"
            elif is_old and not (self.receiver.kind == "state" and queued.alert.state == "open"):
                self._given_up[alert_id], self._actions[alert_id] = self._actions[alert_id], "done"
                self._meters.count("vqmon.notify.given_up", target=self.receiver.name)
                log.error(**log_event("notify.given_up", target=self.receiver.name, alert=alert_id))

    def _set_gauges(
        self, queued_alerts: Sequence[QueuedAlert], delivered: Mapping[str, NotifiedState], now: datetime
    ) -> None:
        """Set the gauges of notifications that were never delivered; resends do not count."""
        name = self.receiver.name
        waiting_since = [
            self._action_since[queued.alert.id][1]
            for queued in queued_alerts
            if (action := self._actions[queued.alert.id]) in ("open", "resolved")
            and delivered.get(queued.alert.id, queued.notified_states.get(name, "")) != action
        ]
        oldest_seconds = (now - min(waiting_since)).total_seconds() if waiting_since else 0.0
        self._meters.set("vqmon.notify.waiting", len(waiting_since), target=name)
        self._meters.set("vqmon.notify.oldest", oldest_seconds, target=name)
        self._meters.set("vqmon.notify.gone", int(self._is_gone), target=name)
