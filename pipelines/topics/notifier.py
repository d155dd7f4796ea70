"""Tells of the alerts of a fleet: reads the alerts topic into an outbox of its own and works that off."""

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

from opentelemetry.exporter.prometheus import PrometheusMetricReader

from pipelines.fleet.worker import connection_of
from pipelines.service.lifecycle import every, stopping
from pipelines.service.notifications import Delivery, delivering
from pipelines.service.retention import KEEP_SECONDS, keep
from pipelines.service.wiring import utc_now
from vqmon.core.types import Alert, LaneCursor
from vqmon.errors import BrokerError, SettingsError, WireError
from vqmon.flow import wait_or_stop
from vqmon.settings.load import Settings
from vqmon.telemetry.health import HealthServer, ProgressTracker, sd_notify
from vqmon.telemetry.logs import log_event
from vqmon.telemetry.metrics import Meters
from vqmon.transport.history.history import History, open_history
from vqmon.transport.kafka import TopicNames
from vqmon.transport.kafka.reader import TopicConsumer, open_topic_consumer
from vqmon.transport.kafka.records import Record
from vqmon.transport.wire import cloudevents

log = logging.getLogger("vqmon.notify")

POLL_SECONDS = 0.5
RETRY_SECONDS = 5.0
DRAIN_SECONDS = 10.0


async def run(settings: Settings, *, for_seconds: float | None = None) -> None:
    """Tell of alerts until SIGTERM, SIGINT or `for_seconds`.

    Where it stands in the topic is kept in the transaction of the alerts, so each is taken in once. Several of these
    may run, each with a file of its own: Alertmanager takes what both say as one.
    """
    if not (settings.notify.alertmanagers or settings.notify.webhooks):
        raise SettingsError("notify: nobody to tell; set notify.alertmanagers or [notify.webhooks.NAME]")
    if settings.source.kind != "kafka":
        raise SettingsError('notify: for source.kind = "kafka" only; on one host `vqmon run` tells of alerts itself')
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    stop, progress, meters = asyncio.Event(), ProgressTracker(time.monotonic), Meters(PrometheusMetricReader())
    async with AsyncExitStack() as stack:
        stack.callback(meters.close)
        thread = stack.enter_context(ThreadPoolExecutor(1, "history"))
        history = stack.enter_context(open_history(settings.notify.path, mode="write"))
        health = settings.daemon
        if health.health_port:
            stack.enter_context(HealthServer(health.health_host, health.health_port, progress=progress))
        begin = asyncio.Event()
        delivery = await stack.enter_async_context(
            delivering(settings, history, thread=thread, meters=meters, after=begin)
        )
        assert delivery is not None
        reader = _Reader(settings, history, delivery, thread=thread, meters=meters, begin=begin)
        limit = stack.enter_context(stopping(stop, for_seconds, DRAIN_SECONDS))
        kept = settings.history
        stack.enter_context(every(KEEP_SECONDS, lambda: thread.submit(keep, history, kept, now=utc_now())))
        stack.enter_context(every(5.0, lambda: sd_notify("WATCHDOG=1")))
        sd_notify("READY=1")
        progress.is_ready = True
        async with limit:
            await reader.read_until(stop)
        log.info(**log_event("notify.stopped"))


class _Reader:
    """Takes alerts in; delivery begins when the end of the topic is reached, and it is known what still holds."""

    def __init__(
        self,
        settings: Settings,
        history: History,
        delivery: Delivery,
        *,
        thread: ThreadPoolExecutor,
        meters: Meters,
        begin: asyncio.Event,
    ) -> None:
        self._connection = connection_of(settings.kafka)
        self._topic = TopicNames.from_prefix(settings.kafka.prefix, settings.kafka.group).alerts
        self._history = history
        self._delivery = delivery
        self._thread = thread
        self._meters = meters
        self._begin = begin
        self._max_age = timedelta(seconds=settings.notify.max_age_seconds)
        self._tip = history.queries.tip()

    async def read_until(self, stop: asyncio.Event) -> None:
        """Read until the stop; brokers that are away are waited for."""
        while not stop.is_set():
            try:
                async with open_topic_consumer(self._connection, self._topic, offsets=self._offsets()) as follower:
                    log.info(**log_event("notify.reading", topic=self._topic))
                    while not stop.is_set():
                        await self._read(follower)
            except BrokerError as error:
                self._meters.set("vqmon.kafka.connected", 0)
                log.warning(**log_event("kafka.unreachable", error=error, again_seconds=RETRY_SECONDS))
                # What is known to be open goes on being said.
                self._begin.set()
                await wait_or_stop(stop, RETRY_SECONDS)

    def _offsets(self) -> dict[int, int]:
        cursors = self._history.queries.cursors(self._topic)
        return {int(lane.rsplit("/", 1)[-1]): cursor.sequence for lane, cursor in cursors.items()}

    async def _read(self, follower: TopicConsumer) -> None:
        records = await follower.poll(seconds=POLL_SECONDS)
        self._meters.set("vqmon.kafka.connected", 1)
        if records:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._keep, records)
            self._delivery.deliverer.wake()
        elif not self._begin.is_set() and await follower.lag_records() == 0:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._forget_old)
            log.info(**log_event("notify.caught_up", topic=self._topic))
            self._begin.set()

    def _forget_old(self) -> None:
        """What began and ended long ago, before anybody could be told of it."""
        before = utc_now() - self._max_age
        found = self._history.outbox.queued_alerts(after=self._tip)
        old = [it for it in found if it.alert.state == "resolved" and not it.notified_states and it.changed_at < before]
        self._history.outbox.record_deliveries({notice.alert.id: None for notice in old})

    def _keep(self, records: Sequence[Record]) -> None:
        for record in records:
            self._history.publish(
                [],
                alerts=[] if (alert := self._alert_in(record)) is None else [alert],
                cursors=[self._cursor_after(record)],
                queued_at=min(record.at, utc_now()),
            )

    def _alert_in(self, record: Record) -> Alert | None:
        try:
            return cloudevents.parse_alert(record.value or b"")
        except WireError as error:
            told = log_event("notify.unreadable", partition=record.partition, offset=record.offset, error=error)
            log.error(**told)
            return None

    def _cursor_after(self, record: Record) -> LaneCursor:
        lane = f"{self._topic}/{record.partition}"
        return LaneCursor(lane=lane, sequence=record.offset + 1, segment_key="", ends_at=datetime.now(UTC))
