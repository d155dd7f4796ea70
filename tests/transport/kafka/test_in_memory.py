"""The in-memory broker keeps Kafka's guarantees that tests rely on."""

import pytest

from vqmon.errors import BrokerError, FencedError
from vqmon.transport.kafka.in_memory import MemoryBroker, MemoryGroupConsumer, MemoryTransactionalProducer
from vqmon.transport.kafka.records import ProducerRecord, TransactionBatch

BATCH = TransactionBatch(records=[ProducerRecord(topic="out", partition=1, key=b"k", value=b"v")], next_offset=3)


class Assignment:
    """The callbacks that a member received."""

    def __init__(self, broker: MemoryBroker, topic: str = "in") -> None:
        self.log: list[tuple[str, list[int]]] = []
        self.member = MemoryGroupConsumer(
            broker, topic=topic, group="g", assigned=self._assigned, revoked=self._revoked
        )

    def _assigned(self, partitions) -> None:
        self.log.append(("assigned", list(partitions)))

    async def _revoked(self, partitions) -> None:
        self.log.append(("revoked", list(partitions)))


async def test_members_share_the_partitions_and_give_them_back() -> None:
    """Each rebalance revokes everything before it assigns anything."""
    broker = MemoryBroker(3)
    first, second = Assignment(broker), Assignment(broker)
    await first.member.start()
    assert first.member.assignment == {0, 1, 2}
    await second.member.start()
    assert first.member.assignment | second.member.assignment == {0, 1, 2}
    assert not first.member.assignment & second.member.assignment
    await second.member.stop()
    assert first.member.assignment == {0, 1, 2}
    assert [kind for kind, _ in first.log] == ["revoked", "assigned"] * 3


async def test_a_member_polls_from_where_it_resumed() -> None:
    """An assigned partition is paused until then; a revoked one gives nothing."""
    broker = MemoryBroker(1)
    offsets = [broker.append("in", 0, b"k", b"%d" % number) for number in range(3)]
    assert offsets == [0, 2, 4]
    assignment = Assignment(broker)
    await assignment.member.start()
    assert await assignment.member.poll([0], seconds=0, max_records=9) == {}
    assignment.member.resume(0, offset=1)
    first = await assignment.member.poll([0], seconds=0, max_records=1)
    assert [record.value for record in first[0]] == [b"1"]
    rest = await assignment.member.poll([0], seconds=0, max_records=9)
    assert [record.value for record in rest[0]] == [b"2"]
    await assignment.member.stop()
    assignment.member.resume(0, offset=0)
    assert await assignment.member.poll([0], seconds=0, max_records=9) == {}


async def test_the_position_passes_transaction_markers_at_the_end() -> None:
    """So a member commits past them, and its lag becomes zero."""
    broker = MemoryBroker(1)
    broker.append("in", 0, b"k", b"v")
    broker.markers["in", 0] = 2
    assignment = Assignment(broker)
    await assignment.member.start()
    assignment.member.resume(0, offset=0)
    assert await assignment.member.next_fetch_offset(0) == 0
    await assignment.member.poll([0], seconds=0, max_records=9)
    assert await assignment.member.next_fetch_offset(0) == 3
    offsets = await assignment.member.partition_offsets(0)
    assert (offsets.committed, offsets.beginning, offsets.end) == (None, 0, 3)


def opened(broker: MemoryBroker) -> MemoryTransactionalProducer:
    return MemoryTransactionalProducer(broker, transactional_id="x", group="g", topic="in", partition=0)


async def test_a_transaction_writes_records_and_offset_together_or_not_at_all() -> None:
    """Also when its answer is lost; a producer that is not open writes nothing."""
    broker = MemoryBroker(2)
    writer = opened(broker)
    with pytest.raises(BrokerError, match="not open"):
        await writer.write(BATCH)
    await writer.open()
    for fault, count in (("not_written", 0), ("written", 1)):
        broker.faults.append(fault)
        with pytest.raises(BrokerError):
            await writer.write(BATCH)
        assert len(broker.records("out")) == count
        assert (("g", "in", 0) in broker.offsets) == bool(count)


async def test_opening_fences_the_earlier_holder_of_an_id() -> None:
    """Other ids are not touched."""
    broker = MemoryBroker(2)
    earlier, later = opened(broker), opened(broker)
    other = MemoryTransactionalProducer(broker, transactional_id="y", group="g", topic="in", partition=1)
    for writer in (earlier, other, later):
        await writer.open()
    with pytest.raises(FencedError):
        await earlier.write(BATCH)
    await other.write(BATCH)
    await later.write(BATCH)
    assert len(broker.records("out")) == 2


def test_the_state_of_a_compacted_topic_is_the_newest_value_of_every_key() -> None:
    """A tombstone deletes its key."""
    broker = MemoryBroker(1)
    for key, value in ((b"a", b"1"), (b"b", b"2"), (b"a", b"3"), (b"b", None)):
        broker.append("state", 0, key, value)
    assert broker.read_state("state", 0) == {"a": b"3"}
