"""The topics that one worker subscribes to: segment messages, and what is gathered for group rules."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version

from pipelines.fleet.group_rules import MAX_WAITING, GatheredRecord, GroupPartitionJudge, parse_gathered_record
from pipelines.fleet.judging.judge import PartitionJudge
from pipelines.fleet.judging.records import ControlRecord, Observe, ObservedRecord, ProducerIdentity, observe_record
from pipelines.fleet.judging.states import readable_states
from pipelines.fleet.membership import ConsumerGroup, GroupMember, run_member
from pipelines.fleet.partitions.context import PartitionContext, RecordJudge
from pipelines.service.brokers import topic_names
from pipelines.service.lifecycle import OnPublish
from vqmon.core.alerts.conditions.group import Group
from vqmon.core.alerts.rules import AlertRule
from vqmon.core.alerts.state import StateRetention
from vqmon.core.types import Alert
from vqmon.errors import SettingsError
from vqmon.settings.sections import KafkaSettings
from vqmon.telemetry.logs import log_event
from vqmon.telemetry.metrics import Meters, MetricName
from vqmon.transport.kafka import Changelog, ClientConfig, GroupConsumer, TransactionalProducer
from vqmon.transport.kafka.reader import LagReader, open_lag_reader
from vqmon.transport.kafka.records import ProducerRecord, Record
from vqmon.transport.wire import cloudevents

log = logging.getLogger("vqmon.fleet")

_EVENTS: Sequence[MetricName] = ("vqmon.kafka.rebalance", "vqmon.kafka.rejected", "vqmon.kafka.broken")


def producer_identity(kafka: KafkaSettings, *, max_rejected_bytes: int) -> ProducerIdentity:
    """Return how the workers of this deployment identify themselves in what they write."""
    return ProducerIdentity(
        names=topic_names(kafka),
        source=f"vqmon:{kafka.prefix}/{kafka.group}",
        group=kafka.group,
        version=version("vqmon"),
        max_message_bytes=kafka.max_message_bytes,
        max_rejected_bytes=max_rejected_bytes,
    )


class Subscriptions:
    """Opens the partition contexts and consumer groups of the topics that one worker subscribes to."""

    def __init__(
        self,
        kafka: KafkaSettings,
        connection: ClientConfig,
        identity: ProducerIdentity,
        *,
        rules: Sequence[AlertRule],
        retention: StateRetention | None = None,
        overload: Callable[[int], str | None] = lambda partition: "",
        meters: Meters,
        on_publish: OnPublish,
        process_id: str,
    ) -> None:
        """`process_id` names this process among all that ever worked for the group."""
        self._kafka, self._connection, self._identity = kafka, connection, identity
        self._retention = retention
        self._overload = overload
        self._process_id = process_id
        self._rules, self._meters, self._on_publish = rules, meters, on_publish
        # Prometheus sees the first event as an increase only if there was a zero before it
        for name in _EVENTS:
            meters.count(name, 0)
        for reason in ("fenced", "lost"):
            meters.count("vqmon.kafka.membership_lost", 0, reason=reason)

    def contexts(self, observe: Observe) -> Mapping[str, PartitionContext]:
        """Subscribed topic -> what the workers of its partitions share."""
        names = self._identity.names
        contexts = {names.segments: self._segments_context(observe)}
        has_groups = any(isinstance(rule.condition, Group) for rule in self._rules)
        return contexts | {names.gathered: self._gathered_context()} if has_groups else contexts

    async def run_member(
        self, topic: str, context: PartitionContext, *, stop: asyncio.Event, on_join: Callable[[str, GroupMember], None]
    ) -> None:
        """Be a member of the topic's consumer group until the stop."""
        kafka = self._kafka

        def open_group(member: GroupMember) -> ConsumerGroup:
            return GroupConsumer(
                self._connection,
                topic=topic,
                group=self._group_of(topic),
                session_seconds=kafka.session_seconds,
                rebalance_seconds=kafka.rebalance_seconds,
                assigned=member.assigned,
                revoked=member.revoked,
            )

        on_join_topic = partial(on_join, topic)
        await run_member(context, open_group, stop=stop, revoke_seconds=kafka.revoke_seconds, on_join=on_join_topic)

    def open_lag_reader(self, topic: str) -> AbstractAsyncContextManager[LagReader]:
        """Connect to read how far the topic's consumer group has come."""
        return open_lag_reader(self._connection, topic, group=self._group_of(topic))

    def _segments_context(self, observe: Observe) -> PartitionContext:
        """Observe each segment and judge each partition by itself."""
        kafka, identity = self._kafka, self._identity

        async def observe_segment(record: Record) -> ObservedRecord | ControlRecord:
            return await observe_record(record, observe, identity, now=lambda: datetime.now(UTC))

        def open_judge(partition: int, stored: Mapping[str, bytes]) -> RecordJudge:
            stored = stored if kafka.when_unreadable == "stop" else readable_states(stored, partition=partition)
            return PartitionJudge(
                partition,
                identity,
                rules=self._rules,
                stored=stored,
                rejected_limit=kafka.rejected_limit,
                retention=self._retention,
                overload=self._overload,
            )

        names = identity.names
        return self._context(
            observe_segment,
            open_judge,
            topic=names.segments,
            companions=(names.quality, names.control, names.alerts, names.state, names.rejected),
            state_topic=names.state,
            max_waiting=kafka.max_waiting,
            overtake_seconds=kafka.overtake_seconds,
            process_id=self._process_id,
        )

    def _gathered_context(self) -> PartitionContext:
        """Judge the groups that are in each partition."""
        identity, rules = self._identity, self._rules

        async def parse_record(record: Record) -> GatheredRecord:
            try:
                return await parse_gathered_record(record)
            except SettingsError as error:
                if self._kafka.when_unreadable == "stop":
                    raise
                log.error(
                    **log_event("gathered.dropped", partition=record.partition, offset=record.offset, error=error)
                )
                return GatheredRecord(record=record, values=())

        def open_judge(partition: int, stored: Mapping[str, bytes]) -> RecordJudge:
            stored = stored if self._kafka.when_unreadable == "stop" else readable_states(stored, partition=partition)
            return GroupPartitionJudge(partition, identity, rules=rules, stored=stored)

        names = identity.names
        return self._context(
            parse_record,
            open_judge,
            topic=names.gathered,
            companions=(names.gathered_state, names.alerts),
            state_topic=names.gathered_state,
            max_waiting=MAX_WAITING,
            overtake_seconds=None,
            process_id=None,
        )

    def _context(
        self,
        observe: Callable[[Record], Awaitable[object]],
        open_judge: Callable[[int, Mapping[str, bytes]], RecordJudge],
        *,
        topic: str,
        companions: Sequence[str],
        state_topic: str,
        max_waiting: int,
        overtake_seconds: float | None,
        process_id: str | None,
    ) -> PartitionContext:
        kafka, connection = self._kafka, self._connection
        # reads that were interrupted, such as by a rebalance, go on where they stopped
        changelogs: dict[int, Changelog] = {}

        async def read_state(partition: int, report: Callable[[float], None]) -> Mapping[str, bytes]:
            changelog = changelogs.pop(partition, None) or Changelog(connection, state_topic, partition)
            try:
                return await changelog.read(report=report)
            except BaseException:
                changelogs[partition] = changelog
                raise

        return PartitionContext(
            topic=topic,
            companions=companions,
            encode_alert=self._encode_alert,
            observe=observe,
            open_judge=open_judge,
            open_writer=partial(self._open_writer, topic),
            state_topic=state_topic,
            read_state=read_state,
            # OriginBackoff bounds the observations at work; here each partition may start all that it holds.
            running=asyncio.Semaphore(max_waiting * 1000),
            meters=self._meters,
            on_publish=self._on_publish,
            max_waiting=max_waiting,
            gather_seconds=kafka.commit_seconds,
            when_lost=kafka.when_lost,
            when_too_large=kafka.when_too_large,
            overtake_seconds=overtake_seconds,
            process_id=process_id,
        )

    def _open_writer(self, topic: str, partition: int) -> TransactionalProducer:
        return TransactionalProducer(
            self._connection,
            transactional_id=f"{self._kafka.group}.{topic}.{partition}",
            group=self._group_of(topic),
            topic=topic,
            partition=partition,
        )

    def _encode_alert(self, partition: int, alert: Alert) -> ProducerRecord:
        value = cloudevents.encode_alert(alert, source=self._identity.source)
        topic = self._identity.names.alerts
        return ProducerRecord(topic=topic, partition=partition, key=alert.series.encode(), value=value)

    def _group_of(self, topic: str) -> str:
        return f"{self._kafka.group}.gathered" if topic == self._identity.names.gathered else self._kafka.group
