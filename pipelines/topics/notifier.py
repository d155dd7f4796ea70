"""The notifier of a fleet: reads the alerts topic into an outbox of its own and delivers from there."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import partial

from pipelines.service.brokers import RETRY_SECONDS, connection_of, quiet_client_log, topic_names
from pipelines.service.delivery.notifications import AlertNotifier, open_notifier
from pipelines.service.history_thread import HistoryThread, open_history_thread
from pipelines.service.lifecycle import open_service
from pipelines.service.retention import regular_pruning
from pipelines.service.wiring import utc_now
from vqmon.core.types import Alert, LaneCursor
from vqmon.errors import BrokerError, SettingsError, WireError
from vqmon.flow import wait_or_stop
from vqmon.settings.load import Settings
from vqmon.telemetry.logs import log_event
from vqmon.telemetry.metrics import Meters
from vqmon.transport.kafka.reader import TopicConsumer, open_topic_consumer
from vqmon.transport.kafka.records import Record
from vqmon.transport.wire import cloudevents

log = logging.getLogger("vqmon.notify")

_POLL_SECONDS = 0.5
_DRAIN_SECONDS = 10.0


async def run(settings: Settings, *, for_seconds: float | None = None) -> None:
    """Deliver the alerts of a fleet until SIGTERM, SIGINT or `for_seconds`.

    The offsets of the topic are written in the transaction of its alerts, so each alert is read once. Several notifiers
    may run, each with a file of its own: Alertmanager deduplicates what they send.
    """
    if not (settings.notify.alertmanagers or settings.notify.webhooks):
        raise SettingsError("notify: there is no receiver; set notify.alertmanagers or [notify.webhooks.NAME]")
    if settings.source.kind != "kafka":
        raise SettingsError('notify: for source.kind = "kafka" only; on one host `vqmon run` delivers alerts itself')
    quiet_client_log()
    async with AsyncExitStack() as stack:
        service = stack.enter_context(open_service(settings.daemon))
        thread = stack.enter_context(open_history_thread(settings.notify.path, mode="write"))
        start = asyncio.Event()
        notifier = await stack.enter_async_context(open_notifier(settings, thread, meters=service.meters, start=start))
        assert notifier is not None
        reader = _AlertsTopicReader(settings, thread, notifier, meters=service.meters, start=start)
        stack.enter_context(regular_pruning(thread, settings.history))
        stack.enter_context(service.watchdog_pings())
        async with service.serving(for_seconds=for_seconds, drain_seconds=_DRAIN_SECONDS):
            service.progress.is_ready = True
            await reader.read_until(service.stop)
        log.info(**log_event("notify.stopped"))


class _AlertsTopicReader:
    """Reads alerts into the outbox; sets `start` at the end of the topic, when it is known which alerts are open."""

    def __init__(
        self,
        settings: Settings,
        thread: HistoryThread,
        notifier: AlertNotifier,
        *,
        meters: Meters,
        start: asyncio.Event,
    ) -> None:
        self._connection = connection_of(settings.kafka)
        self._topic = topic_names(settings.kafka).alerts
        self._thread = thread
        self._history = thread.history
        self._notifier = notifier
        self._meters = meters
        self._start = start
        self._max_age = timedelta(seconds=settings.notify.max_age_seconds)
        self._newest_at_start = thread.history.queries.tip()

    async def read_until(self, stop: asyncio.Event) -> None:
        """Read until the stop; while the brokers are away, wait for them."""
        while not stop.is_set():
            try:
                async with open_topic_consumer(
                    self._connection, self._topic, offsets=self._stored_offsets()
                ) as consumer:
                    log.info(**log_event("notify.reading", topic=self._topic))
                    while not stop.is_set():
                        await self._read(consumer)
            except BrokerError as error:
                self._meters.set("vqmon.kafka.connected", 0)
                log.warning(**log_event("kafka.unreachable", error=error, again_seconds=RETRY_SECONDS))
                # The alerts that are open so far must be sent again in time, or Alertmanager resolves them.
                self._start.set()
                await wait_or_stop(stop, RETRY_SECONDS)

    def _stored_offsets(self) -> dict[int, int]:
        cursors = self._history.queries.cursors(self._topic)
        return {int(key.rsplit("/", 1)[-1]): cursor.sequence for key, cursor in cursors.items()}

    async def _read(self, consumer: TopicConsumer) -> None:
        records = await consumer.poll(seconds=_POLL_SECONDS)
        self._meters.set("vqmon.kafka.connected", 1)
        if records:
            await self._thread.run(partial(self._store, records))
            self._notifier.dispatcher.wake()
        elif not self._start.is_set() and await consumer.lag_records() == 0:
            await self._thread.run(self._drop_old_alerts)
            log.info(**log_event("notify.caught_up", topic=self._topic))
            self._start.set()

    def _drop_old_alerts(self) -> None:
        """Remove alerts from the outbox that resolved long ago, before anybody could be notified of them."""
        resolved_before = utc_now() - self._max_age
        old_ids = [
            queued.alert.id
            for queued in self._history.outbox.queued_alerts(after=self._newest_at_start)
            if queued.alert.state == "resolved" and not queued.notified_states and queued.changed_at < resolved_before
        ]
        self._history.outbox.record_deliveries(dict.fromkeys(old_ids))

    def _store(self, records: Sequence[Record]) -> None:
        for record in records:
            alert = self._parse(record)
            self._history.publish(
                [],
                alerts=[] if alert is None else [alert],
                cursors=[self._cursor_after(record)],
                queued_at=min(record.at, utc_now()),
            )

    def _parse(self, record: Record) -> Alert | None:
        try:
            return cloudevents.parse_alert(record.value or b"")
        except WireError as error:
            log.error(**log_event("notify.unreadable", partition=record.partition, offset=record.offset, error=error))
            return None

    def _cursor_after(self, record: Record) -> LaneCursor:
        key = f"{self._topic}/{record.partition}"
        return LaneCursor(lane=key, sequence=record.offset + 1, segment_key="", ends_at=datetime.now(UTC))
