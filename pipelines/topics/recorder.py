"""The history of a fleet: outcomes and alerts from their topics into a database, each once."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Literal, TypeVar

from opentelemetry.exporter.prometheus import PrometheusMetricReader

from pipelines.fleet.worker import CLOSING_SECONDS, RETRY_SECONDS, connection_of
from pipelines.service.lifecycle import every, stopping
from pipelines.service.retention import KEEP_SECONDS, keep
from pipelines.service.wiring import utc_now
from pipelines.topics.topic_reader import OpenGroup, Reader
from vqmon.errors import BrokerError, FencedError, SettingsError, StoreUnreachableError
from vqmon.flow import Backoff, Retries, together, wait_or_stop
from vqmon.settings.load import Settings
from vqmon.settings.sections import KafkaSettings
from vqmon.telemetry.health import HealthServer, ProgressTracker, sd_notify
from vqmon.telemetry.logs import log_event
from vqmon.telemetry.metrics import Meters
from vqmon.transport.history.history import History, open_history
from vqmon.transport.history.ingest import ParsedRecords, RecordKind, parse_record_batches
from vqmon.transport.kafka import ClientConfig, GroupConsumer, TopicNames, check_topics, topic_specs
from vqmon.transport.kafka.records import OnAssigned, OnRevoked

log = logging.getLogger("vqmon.record")

POLL_SECONDS = 0.1
MOST_RECORDS = 2000
"""Of one topic in one transaction."""

BACKOFF = Backoff(first_seconds=1.0, last_seconds=5.0)
LOOK_SECONDS = 1.0

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What a recorder works with."""

    history: History
    # the only thread that writes
    thread: ThreadPoolExecutor
    # topic -> what its records say
    topics: Mapping[str, RecordKind]
    meters: Meters
    progress: ProgressTracker
    # at least so long from one transaction to the next
    gather_seconds: float
    revoke_seconds: float
    # what to do when records were deleted before they were read
    when_lost: Literal["stop", "go_on"]


class Recorder:
    """One membership: reads the topics and writes what came, with how far it has come, in one transaction.

    Where each partition goes on stands in the history, so Kafka's own offsets do not matter: what is in the history and
    what was read cannot differ. Whoever else writes the same partition meanwhile is noticed by that offset.
    """

    def __init__(self, desk: Desk, open_group: OpenGroup, *, stop: asyncio.Event) -> None:
        self._desk = desk
        self._stop = stop
        self._writing = asyncio.Lock()
        self._looked_at = 0.0
        self._readers = [
            Reader(
                topic,
                kind,
                open_group=open_group,
                offsets=self._offsets,
                writing=self._writing,
                revoke_seconds=desk.revoke_seconds,
                when_lost=desk.when_lost,
            )
            for topic, kind in desk.topics.items()
        ]

    async def run(self) -> None:
        """Work until the stop; raises BrokerError when this membership is spent."""
        try:
            await together(reader.start() for reader in self._readers)
            while not self._stop.is_set():
                began = time.monotonic()
                await self._once()
                left = self._desk.gather_seconds - (time.monotonic() - began)
                if left > 0:
                    await wait_or_stop(self._stop, left)
        finally:
            self._desk.progress.is_ready = False
            for reader in self._readers:
                await reader.stop()

    async def _once(self) -> None:
        try:
            for reader in self._readers:
                await reader.bring_up()
        except StoreUnreachableError as error:
            await self._wait_for_history(error)
            return
        read = [await reader.poll(seconds=POLL_SECONDS, max_records=MOST_RECORDS) for reader in self._readers]
        self._desk.progress.is_ready = all(reader.is_settled for reader in self._readers)
        taken = parse_record_batches(batch for batches in read for batch in batches)
        if taken.offset_commits:
            await self._write(taken)
        await self._look()

    async def _write(self, taken: ParsedRecords) -> None:
        began = time.perf_counter()
        try:
            async with self._writing:
                await self._in_thread(lambda: self._desk.history.ingest(taken))
        except FencedError as error:
            self._desk.meters.count("vqmon.record.again", reason="fenced")
            log.warning(**log_event("record.fenced", error=error))
            self._begin_again()
            return
        except StoreUnreachableError as error:
            # Whether it is there, the offsets in the history tell.
            self._begin_again()
            await self._wait_for_history(error)
            return
        for reader in self._readers:
            reader.written(taken.offset_commits)
        meters = self._desk.meters
        meters.record("vqmon.publish.duration", time.perf_counter() - began)
        meters.count("vqmon.record.count", len(taken.outcomes), kind="outcome")
        meters.count("vqmon.record.count", len(taken.ends), kind="end")
        meters.count("vqmon.record.count", len(taken.markers), kind="marker")
        meters.count("vqmon.record.count", len(taken.alerts), kind="alert")
        meters.count("vqmon.record.count", len(taken.unreadable), kind="unreadable")
        for place, why in taken.unreadable:
            log.warning(**log_event("record.unreadable", place=place, why=why))

    def _begin_again(self) -> None:
        self._desk.progress.is_ready = False
        for reader in self._readers:
            reader.begin_again()

    async def _wait_for_history(self, error: StoreUnreachableError) -> None:
        """The records stay where they are, and so do we in the group."""
        self._desk.progress.is_ready = False
        self._desk.meters.count("vqmon.record.again", reason="unreachable")
        log.warning(**log_event("history.unreachable", error=error, again_seconds=RETRY_SECONDS))
        await wait_or_stop(self._stop, RETRY_SECONDS)

    async def _look(self) -> None:
        if time.monotonic() - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = time.monotonic()
        for reader in self._readers:
            for partition, lag in (await reader.lags()).items():
                self._desk.meters.set("vqmon.record.lag", lag, topic=reader.topic, partition=str(partition))

    async def _offsets(self, topic: str) -> Mapping[int, int]:
        return await self._in_thread(lambda: self._desk.history.queries.next_offsets(topic))

    async def _in_thread(self, call: Callable[[], Answer]) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._desk.thread, call)


async def stay_recorder(desk: Desk, open_group: OpenGroup, *, stop: asyncio.Event) -> None:
    """Record until the stop; whatever breaks a membership, the next one goes on from what is in the history."""
    retries = Retries(BACKOFF)
    while not stop.is_set():
        try:
            await Recorder(desk, open_group, stop=stop).run()
            return
        except BrokerError as error:
            seconds = retries.next_delay_seconds()
            log.warning(**log_event("record.lost", error=error, again_seconds=seconds))
            await wait_or_stop(stop, seconds)


async def run(settings: Settings, *, for_seconds: float | None = None) -> None:
    """Record the topics of the settings into the history of the settings until SIGTERM, SIGINT or `for_seconds`."""
    stop, progress, meters = asyncio.Event(), ProgressTracker(time.monotonic), Meters(PrometheusMetricReader())
    kafka, kept = settings.kafka, settings.history
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    connection = connection_of(kafka)
    async with AsyncExitStack() as stack:
        stack.callback(meters.close)
        thread = stack.enter_context(ThreadPoolExecutor(1, "history"))
        history = stack.enter_context(open_history(kept.place, mode="record"))
        health = settings.daemon
        if health.health_port:
            stack.enter_context(HealthServer(health.health_host, health.health_port, progress=progress))
        drain_seconds = max(1.0, settings.daemon.drain_seconds - CLOSING_SECONDS)
        limit = stack.enter_context(stopping(stop, for_seconds, drain_seconds))
        stack.enter_context(every(KEEP_SECONDS, lambda: thread.submit(keep, history, kept, now=utc_now())))
        stack.enter_context(every(5.0, lambda: sd_notify("WATCHDOG=1")))
        sd_notify("READY=1")
        desk = desk_of(kafka, history, thread=thread, meters=meters, progress=progress)
        log.info(**log_event("record.ready", history=kept.place, topics=sorted(desk.topics)))
        try:
            async with limit:
                await _wait_for_topics(connection, kafka, stop)
                await stay_recorder(desk, opening(connection, kafka), stop=stop)
        except TimeoutError:
            log.warning(**log_event("daemon.drain_cut", left=0))
        log.info(**log_event("daemon.stopped"))


def desk_of(
    kafka: KafkaSettings, history: History, *, thread: ThreadPoolExecutor, meters: Meters, progress: ProgressTracker
) -> Desk:
    """What a recorder of this deployment works with."""
    names = TopicNames.from_prefix(kafka.prefix, kafka.group)
    return Desk(
        history=history,
        thread=thread,
        topics={names.quality: "outcome", names.alerts: "alert"},
        meters=meters,
        progress=progress,
        gather_seconds=kafka.commit_seconds,
        revoke_seconds=kafka.revoke_seconds,
        when_lost=kafka.when_lost,
    )


def opening(connection: ClientConfig, kafka: KafkaSettings) -> OpenGroup:
    """How to join: a group per topic, apart from that of the workers."""

    def open_group(topic: str, assigned: OnAssigned, revoked: OnRevoked) -> GroupConsumer:
        return GroupConsumer(
            connection,
            topic=topic,
            group=f"{kafka.group}.record.{topic}",
            session_seconds=kafka.session_seconds,
            rebalance_seconds=kafka.rebalance_seconds,
            assigned=assigned,
            revoked=revoked,
        )

    return open_group


async def _wait_for_topics(connection: ClientConfig, kafka: KafkaSettings, stop: asyncio.Event) -> None:
    """Wait for the brokers, then refuse to begin without the topics."""
    names = TopicNames.from_prefix(kafka.prefix, kafka.group)
    plans = topic_specs(
        names, partitions=kafka.partitions, replication_factor=kafka.copies, max_message_bytes=kafka.max_message_bytes
    )
    wanted = [plan for plan in plans if plan.name in (names.quality, names.alerts)]
    while not stop.is_set():
        try:
            wrong = await check_topics(connection, wanted)
        except BrokerError as error:
            log.warning(**log_event("kafka.unreachable", error=error, again_seconds=RETRY_SECONDS))
            await wait_or_stop(stop, RETRY_SECONDS)
            continue
        if wrong:
            raise SettingsError("\n".join(f"kafka: {problem}" for problem in wrong))
        return
