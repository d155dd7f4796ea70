"""What the fleet relies on, held against the real broker and against the in-memory one."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count

import pytest
from aiokafka import AIOKafkaProducer
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from pipelines.fleet.membership import ConsumerGroup
from pipelines.fleet.monitoring import LagReader
from pipelines.topics.outcome_reader import AssignedPartitions
from tests.acceptance.kafka.broker import Cluster
from tests.acceptance.kafka.fleet import make_topics, message_of, read_all, segments_of
from vqmon.errors import FencedError, RecordTooLargeError
from vqmon.transport.kafka import (
    AssignedConsumer,
    BatchWriter,
    Changelog,
    ClientConfig,
    GroupConsumer,
    IdempotentProducer,
    ProducerRecord,
    TopicNames,
    TransactionalProducer,
    TransactionBatch,
)
from vqmon.transport.kafka.in_memory import (
    MemoryAssignedConsumer,
    MemoryBroker,
    MemoryGroupConsumer,
    MemoryLagReader,
    MemoryTransactionalProducer,
)
from vqmon.transport.kafka.reader import open_lag_reader
from vqmon.transport.kafka.records import CommittedOffset

PARTITIONS = 2
NUMBERS = count()

pytestmark = [pytest.mark.kafka, pytest.mark.usefixtures("nothing_left_behind")]


class Revocable:
    """Remembers what the group told us."""

    def __init__(self) -> None:
        self.owned: set[int] = set()

    def assigned(self, partitions: Collection[int]) -> None:
        self.owned = set(partitions)

    async def revoked(self, partitions: Collection[int]) -> None:
        self.owned = set()


@dataclass
class Side:
    """One of the two Kafkas, with topics of its own."""

    names: TopicNames
    group: str
    connection: ClientConfig | None = None
    memory: MemoryBroker = field(default_factory=lambda: MemoryBroker(PARTITIONS))

    def writer(self, partition: int) -> BatchWriter:
        facts = {"transactional_id": f"{self.group}.{partition}", "group": self.group, "topic": self.names.segments}
        if self.connection:
            return TransactionalProducer(self.connection, partition=partition, **facts)
        return MemoryTransactionalProducer(self.memory, partition=partition, **facts)

    def member(self, revocations: Revocable) -> ConsumerGroup:
        facts = {"topic": self.names.segments, "group": self.group}
        if self.connection:
            return GroupConsumer(
                self.connection,
                session_seconds=6,
                rebalance_seconds=12,
                assigned=revocations.assigned,
                revoked=revocations.revoked,
                **facts,
            )
        return MemoryGroupConsumer(self.memory, assigned=revocations.assigned, revoked=revocations.revoked, **facts)

    def reader_of(self, topic: str) -> AssignedPartitions:
        if self.connection:
            return AssignedConsumer(self.connection, topic=topic)
        return MemoryAssignedConsumer(self.memory, topic=topic)

    @asynccontextmanager
    async def uncommitted(self, record: ProducerRecord) -> AsyncIterator[None]:
        """A record of a transaction that is open until the end of the block."""
        if self.connection is None:
            place = record.topic, record.partition or 0
            self.memory.stable_offsets[place] = self.memory.append(*place, record.key, record.value)
            yield
            del self.memory.stable_offsets[place]
            self.memory.markers[place] = 1
            return
        options = self.connection.client_options()
        producer = AIOKafkaProducer(**options, transactional_id=f"{self.group}.uncommitted")
        async with producer, producer.transaction():
            await producer.send_and_wait(record.topic, record.value, record.key, record.partition)
            yield

    async def put(self, numbers: Sequence[int]) -> None:
        messages = [message_of(segments_of("news", 1, first=number)[0]) for number in numbers]
        if self.connection:
            async with IdempotentProducer(self.connection) as publisher:
                await publisher.publish(self.names.segments, messages)
        else:
            for key, value, headers in messages:
                self.memory.append(self.names.segments, 0, key, value, headers)

    async def values(self, topic: str) -> list[bytes | None]:
        if self.connection:
            return [record.value for record in await read_all(",".join(self.connection.bootstrap), topic)]
        return [record.value for record in self.memory.records(topic)]

    @asynccontextmanager
    async def lag_reader(self) -> AsyncIterator[LagReader]:
        if self.connection is None:
            yield MemoryLagReader(self.memory, topic=self.names.segments, group=self.group)
        else:
            async with open_lag_reader(self.connection, self.names.segments, group=self.group) as reader:
                yield reader

    async def state(self, partition: int) -> dict[str, bytes]:
        if self.connection:
            return await Changelog(self.connection, self.names.state, partition).read()
        return self.memory.read_state(self.names.state, partition)

    def quality(self, value: bytes, partition: int = 0) -> ProducerRecord:
        return ProducerRecord(topic=self.names.quality, partition=partition, key=b"k", value=value)

    def remembered(self, key: str, value: bytes | None) -> ProducerRecord:
        return ProducerRecord(topic=self.names.state, partition=1, key=key.encode(), value=value)


@pytest.fixture(params=["real", "memory"])
async def side(request: pytest.FixtureRequest) -> AsyncIterator[Side]:
    """The real broker with fresh topics, or an in-memory one."""
    group = f"promises{next(NUMBERS)}"
    names = TopicNames.from_prefix(group, group)
    if request.param == "memory":
        yield Side(names, group)
        return
    cluster: Cluster = request.getfixturevalue("cluster")
    await make_topics(cluster.bootstrap, names, partitions=PARTITIONS, copies=1)
    yield Side(names, group, ClientConfig(bootstrap=tuple(cluster.bootstrap.split(","))))


async def until(holds: Callable[[], bool], *, seconds: float = 30.0) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - told by callbacks of the client
            await asyncio.sleep(0.02)


async def test_a_batch_and_its_offset_become_visible_together(side: Side) -> None:
    """After a write its records are there and the committed offset is the one that came with them."""
    writer, revocations = side.writer(0), Revocable()
    member = side.member(revocations)
    await member.start()
    await until(lambda: revocations.owned == {0, 1})
    assert await member.committed(0) is None
    await writer.open()
    null = ProducerRecord(topic=side.names.quality, partition=0, key=None, value=None, headers=(("h", None),))
    await writer.write(TransactionBatch(records=[side.quality(b"a"), side.quality(b"b"), null], next_offset=7))
    # A broker may write the commit markers after it has answered: until then readers of committed records see nothing.
    while not (values := await side.values(side.names.quality)):  # noqa: ASYNC110 - nothing tells when
        await asyncio.sleep(0.02)
    assert values == [b"a", b"b", None]
    assert await member.committed(0) == CommittedOffset(offset=7)
    await writer.write(TransactionBatch(records=[side.quality(b"c")], next_offset=7, metadata="one more of the same"))
    # The offset, too, is seen only once its marker is written.
    async with asyncio.timeout(30):
        expected = CommittedOffset(offset=7, metadata="one more of the same")
        while await member.committed(0) != expected:  # noqa: ASYNC110 - nothing tells when
            await asyncio.sleep(0.02)
    await writer.close()
    await member.stop()


async def test_high_watermarks_count_what_readers_of_committed_records_do_not_see_yet(side: Side) -> None:
    """A reader that has come to the high watermark has seen every record that was written until then."""
    consumer, topic = side.reader_of(side.names.quality), side.names.quality
    await consumer.start()
    consumer.assign([0])
    consumer.resume(0, offset=0)
    assert await consumer.high_watermarks(topic, [0, 1]) == {0: 0, 1: 0}
    async with side.uncommitted(side.quality(b"a")):
        assert await consumer.high_watermarks(topic, [0, 1]) == {0: 1, 1: 0}
        assert await consumer.poll([0], seconds=0.3, max_records=10) == {}
        assert await consumer.next_fetch_offset(0) == (await consumer.partition_offsets(0)).end == 0
    values: list[bytes | None] = []
    async with asyncio.timeout(30):
        while await consumer.next_fetch_offset(0) < (await consumer.high_watermarks(topic, [0]))[0] or not values:
            polled = await consumer.poll([0], seconds=0.1, max_records=10)
            values += [record.value for record in polled.get(0, ())]
    assert values == [b"a"]
    consumer.assign([1])
    consumer.resume(1, offset=0)
    assert await consumer.poll([1], seconds=0.1, max_records=10) == {}
    await consumer.stop()


async def test_opening_fences_who_had_the_id_before(side: Side) -> None:
    """The first holder's next write raises FencedError and leaves nothing behind."""
    first, second = side.writer(0), side.writer(0)
    await first.open()
    await first.write(TransactionBatch(records=[side.quality(b"first")], next_offset=1))
    await second.open()
    with pytest.raises(FencedError):
        await first.write(TransactionBatch(records=[side.quality(b"zombie")], next_offset=2))
    await first.kill()
    await second.write(TransactionBatch(records=[side.quality(b"second")], next_offset=2))
    await second.close()
    assert await side.values(side.names.quality) == [b"first", b"second"]


async def test_state_is_the_newest_value_of_each_key(side: Side) -> None:
    """Later values win, forgotten keys are gone, an empty partition gives nothing."""
    writer = side.writer(1)
    await writer.open()
    for number in range(3):
        records = [side.remembered(f"key-{index}", f"{number}".encode()) for index in range(5)]
        await writer.write(TransactionBatch(records=records, next_offset=number + 1))
    await writer.write(TransactionBatch(records=[side.remembered("key-0", None)], next_offset=4))
    await writer.close()
    assert await side.state(1) == {f"key-{index}": b"2" for index in range(1, 5)}
    assert await side.state(0) == {}


async def test_a_member_gets_its_records_in_order_from_where_it_is_sent(side: Side) -> None:
    """Everything comes from the offset given to `resume` on, in order; the key decides the partition."""
    await side.put(range(10))
    revocations = Revocable()
    member = side.member(revocations)
    await member.start()
    await until(lambda: revocations.owned == {0, 1})
    positions = [await member.partition_offsets(number) for number in range(2)]
    full = next(number for number, position in enumerate(positions) if position.end)
    assert positions[full].beginning == 0
    member.resume(full, offset=0)
    records = []
    async with asyncio.timeout(30):
        while len(records) < 10:
            records += (await member.poll([full], seconds=0.2, max_records=4)).get(full, [])
    offsets = [record.offset for record in records]
    assert offsets == sorted(set(offsets))
    assert all(record.key == b"news" for record in records)
    member.resume(full, offset=offsets[5])
    later_records = []
    async with asyncio.timeout(30):
        while not later_records:
            later_records += (await member.poll([full], seconds=0.2, max_records=4)).get(full, [])
    assert later_records[0].offset == offsets[5]
    await member.stop()


async def test_two_members_share_the_partitions_and_one_takes_over(side: Side) -> None:
    """The second member takes one partition; when it leaves the first has both again."""
    revocations = [Revocable(), Revocable()]
    members = [side.member(revocation) for revocation in revocations]
    await members[0].start()
    await until(lambda: revocations[0].owned == {0, 1})
    await members[1].start()
    await until(lambda: len(revocations[0].owned) == 1 and len(revocations[1].owned) == 1)
    assert revocations[0].owned | revocations[1].owned == {0, 1}
    await members[1].stop()
    await until(lambda: revocations[0].owned == {0, 1})
    await members[0].stop()


async def test_the_lag_of_a_group_is_measured_from_outside(side: Side) -> None:
    """End offsets and committed offsets of all partitions, without a member; the timestamp is that of the record."""
    await side.put(range(4))
    async with side.lag_reader() as reader:
        end_offsets = await reader.end_offsets([0, 1])
        full = max(end_offsets, key=lambda partition: end_offsets[partition])
        assert await reader.next_offsets([0, 1]) == {0: 0, 1: 0}
        writer = side.writer(full)
        await writer.open()
        await writer.write(TransactionBatch(records=[], next_offset=2))
        await writer.close()
        # A broker may write the commit marker of the offset after it has answered.
        async with asyncio.timeout(30):
            while await reader.next_offsets([0, 1]) != {0: 0, 1: 0, full: 2}:  # noqa: ASYNC110 - nothing tells when
                await asyncio.sleep(0.02)
        timestamps = await reader.timestamps_ms({full: 2, 1 - full: 0})
        assert set(timestamps) == {full}
        if side.connection:
            assert abs(timestamps[full] / 1000 - time.time()) < 60
            assert _exported_lags(side) == {full: end_offsets[full] - 2}
            assert end_offsets[full] == 4


def _exported_lags(side: Side) -> dict[int, int]:
    """The lag of each partition as kafka_exporter and KEDA compute it, from the answers of another client library."""
    assert side.connection is not None
    admin = AdminClient({"bootstrap.servers": ",".join(side.connection.bootstrap)})
    request = ConsumerGroupTopicPartitions(side.group)
    committed = admin.list_consumer_group_offsets([request])[side.group].result().topic_partitions
    ends = admin.list_offsets({TopicPartition(each.topic, each.partition): OffsetSpec.latest() for each in committed})
    return {
        each.partition: ends[TopicPartition(each.topic, each.partition)].result().offset - each.offset
        for each in committed
    }


async def test_one_refused_record_spoils_the_whole_batch(cluster: Cluster) -> None:
    """A record that the broker refuses must not vanish in a commit: nothing of its batch becomes visible."""
    names = TopicNames.from_prefix("refused", "refused")
    await make_topics(cluster.bootstrap, names, partitions=PARTITIONS, copies=1)
    side = Side(names, "refused", ClientConfig(bootstrap=tuple(cluster.bootstrap.split(","))))
    writer = side.writer(0)
    await writer.open()
    with pytest.raises(RecordTooLargeError, match=r"larger than topic refused\.quality\.v1 \(partition 0\)"):
        await writer.write(
            TransactionBatch(records=[side.quality(b"small"), side.quality(bytes(range(256)) * 40_000)], next_offset=1)
        )
    await writer.kill()
    await writer.open()
    await writer.write(TransactionBatch(records=[side.quality(b"after")], next_offset=1))
    await writer.close()
    assert await side.values(names.quality) == [b"after"]
