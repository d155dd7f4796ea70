"""Dispatches queued alerts to all receivers: each is notified at least once of every alert, at its own pace."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from vqmon.core.alerts.reactions.notifications import NotifiedState, QueuedAlert
from vqmon.flow import run_concurrently
from vqmon.telemetry.metrics import Meters
from vqmon.transport.notify.delivery_queue import Clock, DeliveryQueue
from vqmon.transport.notify.receiver import Receiver

_READ_SECONDS = 60.0
"""How often the outbox is read without a `wake`."""

MuteAlerts = Callable[[Collection[QueuedAlert]], Collection[str]]
"""Returns the ids of the alerts that are muted now, by maintenance windows or because they come from a backfill."""


class AsyncOutbox(Protocol):
    """The outbox of a history, as `history.deliveries.outbox.Outbox` without blocking."""

    async def queued_alerts(self, *, after: int) -> Sequence[QueuedAlert]:
        """Queued alerts that changed after this number; those that are not in the history yet have the number 0."""

    async def record_deliveries(self, deliveries: Mapping[str, Mapping[str, NotifiedState] | None]) -> None: ...


def _merge(earlier: QueuedAlert | None, queued: QueuedAlert) -> QueuedAlert | None:
    """What is queued after a change; our own record of deliveries is newer than the one that was read."""
    if queued.number:
        return replace(queued, notified_states=earlier.notified_states) if earlier else queued
    if earlier:
        return replace(earlier, alert=queued.alert, changed_at=queued.changed_at)
    # no receiver got an alert that is not queued, so none needs its resolution
    return queued if queued.alert.state == "open" else None


class Dispatcher:
    """Reads the outbox and runs one delivery queue per receiver: a receiver that hangs delays no other."""

    def __init__(
        self,
        outbox: AsyncOutbox,
        receivers: Sequence[Receiver],
        *,
        clock: Clock,
        muted: MuteAlerts,
        meters: Meters,
        resend_seconds: float = 60.0,
        keep_seconds: float = 259_200.0,
    ) -> None:
        self._outbox = outbox
        self._clock = clock
        self._muted = muted
        self._queued: dict[str, QueuedAlert] = {}
        self._last_number = 0
        self._is_stopped = False
        self._outbox_changed = asyncio.Event()
        self._queues = [
            DeliveryQueue(
                receiver, clock=clock, meters=meters, resend_seconds=resend_seconds, keep_seconds=keep_seconds
            )
            for receiver in receivers
        ]

    def wake(self) -> None:
        """Read the outbox now, as it has changed."""
        self._outbox_changed.set()

    def stop(self) -> None:
        """Read the outbox and deliver what is due once more, then end."""
        self._is_stopped = True
        self._outbox_changed.set()

    async def run(self) -> None:
        """Dispatch until `stop`; what was not delivered by then is delivered after the next start."""
        await run_concurrently([self._read_outbox(), *(self._run_queue(queue) for queue in self._queues)])

    async def _read_outbox(self) -> None:
        while True:
            is_last_read = self._is_stopped
            self._outbox_changed.clear()
            for queued in await self._outbox.queued_alerts(after=self._last_number):
                if (merged := _merge(self._queued.get(queued.alert.id), queued)) is not None:
                    self._queued[queued.alert.id] = merged
                self._last_number = max(self._last_number, queued.number)
            for queue in self._queues:
                queue.changed.set()
                queue.is_ending = is_last_read
            if is_last_read:
                return
            try:
                async with asyncio.timeout(_READ_SECONDS):
                    await self._outbox_changed.wait()
            except TimeoutError:
                pass

    async def _run_queue(self, queue: DeliveryQueue) -> None:
        while True:
            try:
                async with asyncio.timeout(queue.seconds_until_due()):
                    await queue.changed.wait()
            except TimeoutError:
                pass
            queue.changed.clear()
            is_last_round = queue.is_ending
            delivered = await self._deliver_due(queue)
            if delivered:
                # A receiver that gets each change once may have the next one due already.
                queue.changed.set()
            elif is_last_round:
                return

    async def _deliver_due(self, queue: DeliveryQueue) -> Mapping[str, NotifiedState]:
        """Deliver what is due to one receiver, and record it in the outbox."""
        queued_alerts = list(self._queued.values())
        delivered = await queue.deliver_due(queued_alerts, muted_ids=self._muted(queued_alerts))
        records: dict[str, Mapping[str, NotifiedState] | None] = {}
        name = queue.receiver.name
        for alert_id, state in delivered.items():
            queued = self._queued[alert_id]
            if queued.notified_states.get(name, "") != state:
                queued = self._queued[alert_id] = replace(
                    queued, notified_states={**queued.notified_states, name: state}
                )
                records[alert_id] = queued.notified_states
        for alert_id in self._finished_ids():
            records[alert_id] = None
            del self._queued[alert_id]
        if records:
            await self._outbox.record_deliveries(records)
        return delivered

    def _finished_ids(self) -> list[str]:
        """Ids of resolved alerts of which no receiver needs a notification any more."""
        return [
            alert_id
            for alert_id, queued in self._queued.items()
            if queued.alert.state == "resolved" and all(queue.is_finished(alert_id) for queue in self._queues)
        ]
