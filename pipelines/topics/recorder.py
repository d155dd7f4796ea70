"""The recorder of a fleet: reads outcomes and alerts from their topics into a database, each exactly once."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial

from pipelines.service.brokers import (
    RETRY_SECONDS,
    connection_of,
    quiet_client_log,
    topic_names,
    wait_for_topics,
)
from pipelines.service.history_thread import HistoryThread, open_history_thread
from pipelines.service.lifecycle import Service, open_service
from pipelines.service.retention import regular_pruning
from pipelines.topics.outcome_reader import OpenAssigned, OutcomeReader
from pipelines.topics.topic_reader import OpenGroup, TopicReader
from vqmon.errors import BrokerError, FencedError, StoreUnreachableError
from vqmon.flow import run_concurrently, wait_or_stop
from vqmon.retry import Backoff, Retries
from vqmon.settings.load import Settings
from vqmon.settings.sections import KafkaSettings
from vqmon.telemetry.logs import log_event
from vqmon.transport.history.ingest import OffsetCommit, ParsedRecords, RecordKind, parse_record_batches
from vqmon.transport.kafka import AssignedConsumer, ClientConfig, GroupConsumer
from vqmon.transport.kafka.records import OnAssigned, OnRevoked

log = logging.getLogger("vqmon.record")

_POLL_SECONDS = 0.1
_MAX_RECORDS = 2000
"""The most records of one topic in one transaction."""

_BACKOFF = Backoff(first_seconds=1.0, last_seconds=5.0)
_LAG_INTERVAL_SECONDS = 1.0

_MARKERS_INTERVAL_SECONDS = 60.0
"""How often offsets are moved past the transaction markers behind the last records; retention is longer than that."""

_LEAVE_GROUP_SECONDS = 8.0
"""The part of the time for draining that is kept for closing the consumers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderContext:
    """What a recorder works with."""

    thread: HistoryThread
    # what the records of a topic are -> the topic
    topics: Mapping[RecordKind, str]
    open_group: OpenGroup
    open_assigned: OpenAssigned
    service: Service
    # least time from one transaction to the next
    gather_seconds: float
    revoke_seconds: float


class Recorder:
    """One membership of the consumer groups: writes records and the offsets of their partitions in one transaction.

    Partitions resume at the offsets in the history, not at those committed to Kafka: so the history holds exactly what
    was read. Two recorders that write the same partition notice each other by that offset.
    """

    def __init__(self, context: RecorderContext) -> None:
        self._context = context
        self._stop = context.service.stop
        self._meters = context.service.meters
        self._progress = context.service.progress
        self._writing = asyncio.Lock()
        self._lag_measured_at = 0.0
        self._markers_passed_at = 0.0
        self._reported_deletions: set[OffsetCommit] = set()
        topics = context.topics
        self._readers: Sequence[OutcomeReader | TopicReader] = [
            OutcomeReader(
                topics["outcome"],
                topics["control"],
                open_reader=self._open_reader,
                open_group=context.open_group,
                open_assigned=context.open_assigned,
            ),
            self._open_reader(topics["alert"], "alert", context.open_group),
        ]

    def _open_reader(self, topic: str, kind: RecordKind, open_group: OpenGroup) -> TopicReader:
        return TopicReader(
            topic,
            kind,
            open_group=open_group,
            read_offsets=self._read_offsets,
            writing=self._writing,
            revoke_seconds=self._context.revoke_seconds,
        )

    async def run(self) -> None:
        """Record until the stop; raises BrokerError when this membership is lost."""
        try:
            await run_concurrently(reader.start() for reader in self._readers)
            while not self._stop.is_set():
                started_at = time.monotonic()
                await self._record_once()
                await self._measure_lag()
                left_seconds = self._context.gather_seconds - (time.monotonic() - started_at)
                if left_seconds > 0:
                    await wait_or_stop(self._stop, left_seconds)
        finally:
            self._progress.is_ready = False
            for reader in self._readers:
                await reader.stop()

    async def _record_once(self) -> None:
        if await self._resume_assigned():
            await self._record_polled()
            await self._pass_markers()

    async def _resume_assigned(self) -> bool:
        """Read newly assigned partitions from the offsets in the history; False when these must be read again first."""
        try:
            for reader in self._readers:
                await reader.resume_assigned()
        except StoreUnreachableError as error:
            await self._wait_for_history(error)
            return False
        return await self._pass_deletions()

    async def _record_polled(self) -> None:
        polled = [await reader.poll(seconds=_POLL_SECONDS, max_records=_MAX_RECORDS) for reader in self._readers]
        self._progress.is_ready = all(reader.is_settled for reader in self._readers)
        taken = parse_record_batches(batch for batches in polled for batch in batches)
        if taken.offset_commits:
            await self._write(taken)

    async def _pass_deletions(self) -> bool:
        """Step over records that were deleted before they were read; False when the offsets must be read again first.

        They are reported before the step is written, as whether a write succeeded can stay unknown.
        """
        deletions = [deletion for reader in self._readers for deletion in reader.deletions()]
        if not deletions:
            return True
        for deletion in deletions:
            if deletion in self._reported_deletions:
                continue
            self._reported_deletions.add(deletion)
            first_offset = deletion.previous_offset or 0
            self._meters.count("vqmon.record.deleted", deletion.next_offset - first_offset, topic=deletion.topic)
            log.error(
                **log_event(
                    "record.deleted_unread",
                    topic=deletion.topic,
                    partition=deletion.partition,
                    offsets=f"{first_offset} to {deletion.next_offset - 1}",
                    note="records or transaction markers, deleted before they were read; reading goes on after them",
                )
            )
        return await self._write(replace(parse_record_batches(()), offset_commits=deletions))

    async def _write(self, taken: ParsedRecords) -> bool:
        """Write to the history; False when the offsets in it must be read again first."""
        started_at = time.perf_counter()
        try:
            async with self._writing:
                await self._context.thread.run(partial(self._context.thread.history.ingest, taken))
        except FencedError as error:
            self._meters.count("vqmon.record.again", reason="fenced")
            log.warning(**log_event("record.fenced", error=error))
            self._reset_positions()
            return False
        except StoreUnreachableError as error:
            # Whether the transaction was committed is unknown; the offsets in the history will tell.
            self._reset_positions()
            await self._wait_for_history(error)
            return False
        for reader in self._readers:
            reader.advance(taken.offset_commits)
        self._meters.record("vqmon.publish.duration", time.perf_counter() - started_at)
        self._count(taken)
        return True

    def _count(self, taken: ParsedRecords) -> None:
        self._meters.count("vqmon.record.count", len(taken.outcomes), kind="outcome")
        self._meters.count("vqmon.record.count", len(taken.ends), kind="end")
        self._meters.count("vqmon.record.count", len(taken.markers), kind="marker")
        self._meters.count("vqmon.record.count", len(taken.alerts), kind="alert")
        self._meters.count("vqmon.record.count", len(taken.unreadable), kind="unreadable")
        for location, reason in taken.unreadable:
            log.warning(**log_event("record.unreadable", place=location, why=reason))

    def _reset_positions(self) -> None:
        self._progress.is_ready = False
        for reader in self._readers:
            reader.reset_positions()

    async def _wait_for_history(self, error: StoreUnreachableError) -> None:
        """Wait before the next attempt; the records stay on the topic, and we stay in the group."""
        self._progress.is_ready = False
        self._meters.count("vqmon.record.again", reason="unreachable")
        log.warning(**log_event("history.unreachable", error=error, again_seconds=RETRY_SECONDS))
        await wait_or_stop(self._stop, RETRY_SECONDS)

    async def _pass_markers(self) -> None:
        if time.monotonic() - self._markers_passed_at < _MARKERS_INTERVAL_SECONDS:
            return
        self._markers_passed_at = time.monotonic()
        batches = [batch for reader in self._readers for batch in await reader.marker_batches()]
        if batches:
            await self._write(parse_record_batches(batches))

    async def _measure_lag(self) -> None:
        if time.monotonic() - self._lag_measured_at < _LAG_INTERVAL_SECONDS:
            return
        self._lag_measured_at = time.monotonic()
        series: list[tuple[float, Mapping[str, str]]] = []
        for reader in self._readers:
            series += [
                (lag, {"topic": topic, "partition": str(partition)})
                for topic, lags in (await reader.lags_by_topic()).items()
                for partition, lag in lags.items()
            ]
        self._meters.replace("vqmon.record.lag", series)

    async def _read_offsets(self, topic: str) -> Mapping[int, int]:
        return await self._context.thread.run(partial(self._context.thread.history.queries.next_offsets, topic))


async def run_recorder(context: RecorderContext) -> None:
    """Record until the stop; after a lost membership a new one resumes from what is in the history."""
    stop, retries, meters = context.service.stop, Retries(_BACKOFF), context.service.meters
    # Prometheus sees the first event as an increase only if there was a zero before it
    for kind in ("outcome", "end", "marker", "alert", "unreadable"):
        meters.count("vqmon.record.count", 0, kind=kind)
    for reason in ("fenced", "unreachable"):
        meters.count("vqmon.record.again", 0, reason=reason)
    for topic in context.topics.values():
        meters.count("vqmon.record.deleted", 0, topic=topic)
    while not stop.is_set():
        try:
            await Recorder(context).run()
            return
        except BrokerError as error:
            seconds = retries.next_delay_seconds()
            log.warning(**log_event("record.lost", error=error, again_seconds=seconds))
            await wait_or_stop(stop, seconds)


async def run(settings: Settings, *, for_seconds: float | None = None) -> None:
    """Record the topics of the settings into the history of the settings until SIGTERM, SIGINT or `for_seconds`."""
    kafka, history = settings.kafka, settings.history
    quiet_client_log()
    connection = connection_of(kafka)
    async with AsyncExitStack() as stack:
        service = stack.enter_context(open_service(settings.daemon))
        thread = stack.enter_context(open_history_thread(history.location, mode="record"))
        stack.enter_context(regular_pruning(thread, history))
        stack.enter_context(service.watchdog_pings())
        context = _recorder_context(kafka, thread, service, connection)
        drain_seconds = max(1.0, settings.daemon.drain_seconds - _LEAVE_GROUP_SECONDS)
        async with service.serving(for_seconds=for_seconds, drain_seconds=drain_seconds):
            topics = sorted(context.topics.values())
            log.info(**log_event("record.ready", history=history.location, topics=topics))
            await wait_for_topics(connection, kafka, service.stop, only=topics)
            await run_recorder(context)
        log.info(**log_event("daemon.stopped"))


def _recorder_context(
    kafka: KafkaSettings, thread: HistoryThread, service: Service, connection: ClientConfig
) -> RecorderContext:
    """Return what a recorder of this deployment works with."""
    names = topic_names(kafka)
    return RecorderContext(
        thread=thread,
        topics={"outcome": names.quality, "control": names.control, "alert": names.alerts},
        open_group=_group_opener(connection, kafka),
        open_assigned=lambda topic: AssignedConsumer(connection, topic=topic),
        service=service,
        gather_seconds=kafka.commit_seconds,
        revoke_seconds=kafka.revoke_seconds,
    )


def _group_opener(connection: ClientConfig, kafka: KafkaSettings) -> OpenGroup:
    """Return how to join the recorders' consumer group of a topic; the workers have groups of their own."""

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
