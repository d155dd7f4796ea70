"""A fleet on an in-memory Kafka: broker, members, and what a reader sees."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime

from pipelines.fleet.group_rules import GroupPartitionJudge, parse_gathered_record
from pipelines.fleet.judging.judge import PartitionJudge
from pipelines.fleet.judging.records import ControlRecord, Observe, ObservedRecord, ProducerIdentity, observe_record
from pipelines.fleet.membership import GroupMember
from pipelines.fleet.partitions.context import PartitionContext, RecordJudge
from tests.acceptance.kafka.observers import observe_at_once
from vqmon.core.alerts.annotations import StreamEnd
from vqmon.core.alerts.conditions.chart import ChartCondition
from vqmon.core.alerts.conditions.group import Group
from vqmon.core.alerts.rules import AlertRule
from vqmon.core.types import Alert, Outcome, Rendition, Segment
from vqmon.telemetry.metrics import Meters
from vqmon.transport.kafka import ProducerRecord, Record, TopicNames
from vqmon.transport.kafka.in_memory import MemoryBroker, MemoryGroupConsumer, MemoryTransactionalProducer
from vqmon.transport.wire import cloudevents
from vqmon.transport.wire.control_messages import (
    ControlMessage,
    control_message_headers,
    encode_control_message,
    parse_control_message,
)
from vqmon.transport.wire.segment_messages import STRUCTURED_CONTENT_TYPE, encode_segment

NAMES = TopicNames.from_prefix("vqmon", "g")
GATHERED = "g.gathered"
IDENTITY = ProducerIdentity(
    names=NAMES, source="test", group="g", version="0", max_message_bytes=10_000, max_rejected_bytes=60_000
)


class MemoryFleet:
    """Members of one group over one memory broker."""

    def __init__(self, *, partitions: int = 2, rules: Sequence[AlertRule] = ()) -> None:
        self.broker = MemoryBroker(partitions)
        self.rules = rules
        self.restored: list[int] = []
        self.inputs: list[Segment] = []

    def put(self, partition: int, segment: Segment, *headers: tuple[str, bytes]) -> int:
        """Put one segment message on the topic."""
        key, value = encode_segment(segment, source="test")
        self.inputs.append(segment)
        return self.put_raw(partition, key, value, ("content-type", STRUCTURED_CONTENT_TYPE), *headers)

    def put_raw(self, partition: int, key: bytes | None, value: bytes | None, *headers: tuple[str, bytes]) -> int:
        """Put any record on the topic."""
        return self.broker.append(NAMES.segments, partition, key, value, headers)

    def note(self, partition: int, note: ControlMessage) -> int:
        """Put an end or a marker on the topic."""
        key = note.stream_id.encode() if isinstance(note, StreamEnd) else None
        return self.put_raw(partition, key, encode_control_message(note, source="test"), *control_message_headers(note))

    def context(self, observe_segment: Observe = observe_at_once, **changes: object) -> PartitionContext:
        """What the lanes of a member share."""

        async def read_state(partition: int, report: Callable[[float], None]) -> Mapping[str, bytes]:
            self.restored.append(partition)
            return self.broker.read_state(NAMES.state, partition)

        async def observe(record: Record) -> ObservedRecord | ControlRecord:
            return await observe_record(record, observe_segment, IDENTITY, now=lambda: datetime(2026, 1, 2, tzinfo=UTC))

        def open_judge(partition: int, stored: Mapping[str, bytes]) -> RecordJudge:
            return PartitionJudge(partition, IDENTITY, rules=self.rules, stored=stored, rejected_limit=0.9)

        def encode_alert(partition: int, alert: Alert) -> ProducerRecord:
            value = cloudevents.encode_alert(alert, source="test")
            return ProducerRecord(topic=NAMES.alerts, partition=partition, key=alert.series.encode(), value=value)

        facts: dict[str, object] = {
            "observe": observe,
            "open_judge": open_judge,
            "open_writer": self.open_writer,
            "topic": NAMES.segments,
            "companions": (NAMES.quality, NAMES.control, NAMES.alerts, NAMES.state, NAMES.rejected),
            "encode_alert": encode_alert,
            "state_topic": NAMES.state,
            "read_state": read_state,
            "running": asyncio.Semaphore(100),
            "meters": Meters(),
            "on_publish": lambda outcomes, alerts: None,
            "max_waiting": 8,
            "gather_seconds": 0.0,
            "when_lost": "stop",
            "overtake_seconds": 2.0,
        }
        return PartitionContext(**{**facts, **changes})  # type: ignore[arg-type]

    def gathered_context(self) -> PartitionContext:
        """What the partitions of the gathered topic have."""

        async def read_state(partition: int, report: Callable[[float], None]) -> Mapping[str, bytes]:
            return self.broker.read_state(NAMES.gathered_state, partition)

        def open_judge(partition: int, stored: Mapping[str, bytes]) -> RecordJudge:
            return GroupPartitionJudge(partition, IDENTITY, rules=self.rules, stored=stored)

        def open_writer(partition: int) -> MemoryTransactionalProducer:
            name = f"g.gathered.{partition}"
            return MemoryTransactionalProducer(
                self.broker, transactional_id=name, group=GATHERED, topic=NAMES.gathered, partition=partition
            )

        return self.context(
            topic=NAMES.gathered,
            companions=(NAMES.gathered_state, NAMES.alerts),
            state_topic=NAMES.gathered_state,
            overtake_seconds=None,
            observe=parse_gathered_record,
            open_judge=open_judge,
            read_state=read_state,
            open_writer=open_writer,
        )

    def open_gathered(self, member: GroupMember) -> MemoryGroupConsumer:
        """The group of the gathered outcomes as a member sees it."""
        return MemoryGroupConsumer(
            self.broker, topic=NAMES.gathered, group=GATHERED, assigned=member.assigned, revoked=member.revoked
        )

    async def judge_gathered(self) -> None:
        """One member judges all that is gathered, then leaves."""
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            member = GroupMember(self.gathered_context(), self.open_gathered, stop=stop, revoke_seconds=2.0)
            group.create_task(member.run())
            try:
                await until(lambda: self.is_gathered)
            finally:
                stop.set()

    def open_writer(self, partition: int) -> MemoryTransactionalProducer:
        """The writer of one partition."""
        return MemoryTransactionalProducer(
            self.broker, transactional_id=f"g.{partition}", group="g", topic=NAMES.segments, partition=partition
        )

    def open_group(self, member: GroupMember) -> MemoryGroupConsumer:
        """The group as a member sees it."""
        return MemoryGroupConsumer(
            self.broker, topic=NAMES.segments, group="g", assigned=member.assigned, revoked=member.revoked
        )

    def member(self, context: PartitionContext, stop: asyncio.Event) -> GroupMember:
        """A member that has not joined yet."""
        return GroupMember(context, self.open_group, stop=stop, revoke_seconds=2.0)

    @property
    def outcomes(self) -> list[Outcome]:
        """Every published outcome, partition by partition."""
        return [cloudevents.parse_outcome(record.value or b"") for record in self.broker.records(NAMES.quality)]

    @property
    def control_messages(self) -> list[ControlMessage]:
        """Every note that was passed on, partition by partition."""
        return [parse_control_message(record.value or b"") for record in self.broker.records(NAMES.control)]

    @property
    def alerts(self) -> list[Alert]:
        """Every published alert, partition by partition."""
        return [cloudevents.parse_alert(record.value or b"") for record in self.broker.records(NAMES.alerts)]

    def alerts_of(
        self, partition: int, *, of: Collection[AlertRule] = (), but: Collection[AlertRule] = ()
    ) -> list[Alert]:
        """The published alerts of one partition: those of some rules, or of all but some."""
        alerts = [cloudevents.parse_alert(record.value or b"") for record in self.broker.logs[NAMES.alerts, partition]]
        wanted, unwanted = {rule.name for rule in of}, {rule.name for rule in but}
        return [alert for alert in alerts if (alert.rule in wanted or not of) and alert.rule not in unwanted]

    @property
    def is_gathered(self) -> bool:
        """Whether all that was gathered has been judged."""
        ends = {number: self.broker.end_offset(NAMES.gathered, number) for number in range(self.broker.partitions)}
        return all(self.broker.offsets.get((GATHERED, NAMES.gathered, n)) == end for n, end in ends.items() if end)

    async def until(self, count: int, *, seconds: float = 20.0) -> None:
        """Wait until so many outcomes and notes are there."""
        topics = (NAMES.quality, NAMES.control)
        await until(lambda: sum(len(self.broker.records(topic)) for topic in topics) >= count, seconds=seconds)

    async def drain(self, context: PartitionContext, count: int) -> None:
        """One member works until so many outcomes and notes are there, then leaves."""
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.member(context, stop).run())
            try:
                await self.until(count)
            finally:
                stop.set()


def judged_with_groups(rules: Sequence[AlertRule]) -> list[AlertRule]:
    """The rules whose alerts groups may mute, and the groups; none when there are no groups."""
    has_groups = any(isinstance(rule.condition, Group) for rule in rules)
    return [rule for rule in rules if has_groups and isinstance(rule.condition, ChartCondition)]


async def until(holds: Callable[[], bool], *, seconds: float = 20.0) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - the memory broker has no events
            await asyncio.sleep(0.005)


def segment(sequence: int, *, stream_id: str = "news", url: str = "") -> Segment:
    """One made-up segment."""
    return Segment(
        rendition=Rendition(stream_id=stream_id, name="720p"),
        sequence=sequence,
        url=url or f"file:///media/{stream_id}/{sequence}.mp4",
        starts_at=datetime.fromtimestamp(1_767_225_600 + 4 * sequence, UTC),
        duration_seconds=4.0,
    )
