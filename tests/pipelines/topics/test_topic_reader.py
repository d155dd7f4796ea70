"""Where a topic is read on, and what becomes of positions when partitions come and go."""

import asyncio

import pytest

from pipelines.topics.topic_reader import TopicReader, _PartitionPosition
from vqmon.errors import BrokerError
from vqmon.transport.history.ingest import OffsetCommit
from vqmon.transport.kafka.in_memory import MemoryBroker, MemoryGroupConsumer

TOPIC = "v.quality"


class Topic:
    """A reader of a topic with records at the offsets 0, 2, 4 of both partitions, and the offsets in the history."""

    def __init__(self, *, revoke_seconds: float = 1.0, **stored: int) -> None:
        self.broker = MemoryBroker(2)
        for partition in range(2):
            for number in range(3):
                self.broker.append(TOPIC, partition, b"key", b"%d" % number)
        self.stored = {int(name.removeprefix("partition_")): offset for name, offset in stored.items()}
        self.read_count = 0
        self.writing = asyncio.Lock()
        self.reader = TopicReader(
            TOPIC,
            "outcome",
            open_group=lambda topic, assigned, revoked: MemoryGroupConsumer(
                self.broker, topic=topic, group="g.record", assigned=assigned, revoked=revoked
            ),
            read_offsets=self._read_offsets,
            writing=self.writing,
            revoke_seconds=revoke_seconds,
        )

    async def _read_offsets(self, topic: str) -> dict[int, int]:
        assert topic == TOPIC
        self.read_count += 1
        return self.stored

    async def poll(self) -> dict[int, tuple[int | None, list[int]]]:
        """Partition -> the offset in the history, and the offsets of the records that were polled."""
        batches = await self.reader.poll(seconds=0.0, max_records=100)
        return {batch.partition: (batch.previous_offset, [offset for offset, _ in batch.records]) for batch in batches}

    async def started(self) -> "Topic":
        await self.reader.start()
        await self.reader.resume_assigned()
        return self


def commit(partition: int, next_offset: int, *, topic: str = TOPIC) -> OffsetCommit:
    return OffsetCommit(topic=topic, partition=partition, previous_offset=None, next_offset=next_offset)


async def test_a_reader_is_settled_once_all_assigned_partitions_are_being_read() -> None:
    """Not before the group has assigned any."""
    topic = Topic()
    assert not topic.reader.is_settled
    await topic.reader.start()
    assert not topic.reader.is_settled
    await topic.reader.resume_assigned()
    assert topic.reader.is_settled


async def test_partitions_are_read_from_the_offsets_in_the_history() -> None:
    """Those that it does not know from their oldest record on; nothing before they are resumed."""
    topic = Topic(partition_1=3)
    await topic.reader.start()
    assert await topic.poll() == {}
    await topic.reader.resume_assigned()
    assert await topic.poll() == {0: (None, [0, 2, 4]), 1: (3, [4])}
    assert await topic.poll() == {}


async def test_the_history_is_asked_only_about_new_partitions() -> None:
    """Once for all of them."""
    topic = await Topic().started()
    await topic.reader.resume_assigned()
    assert topic.read_count == 1


async def test_positions_move_with_what_was_committed_to_the_history() -> None:
    """Commits of other topics and of partitions of other members change nothing."""
    topic = await Topic().started()
    await topic.poll()
    topic.reader.advance([commit(0, 5), commit(1, 5, topic="v.alerts"), commit(7, 5)])
    assert topic.reader._positions == {0: _PartitionPosition(5, 5), 1: _PartitionPosition(None, 0)}
    topic.broker.append(TOPIC, 0, b"key", b"3")
    topic.broker.append(TOPIC, 1, b"key", b"3")
    assert await topic.poll() == {0: (5, [6]), 1: (None, [6])}


async def test_a_reset_reads_again_what_is_not_in_the_history() -> None:
    """After a write whose fate is unknown; a commit that comes late does not skip it."""
    topic = await Topic().started()
    await topic.poll()
    topic.stored = {0: 3}
    topic.reader.reset_positions()
    topic.reader.advance([commit(0, 5)])
    assert not topic.reader.is_settled
    assert await topic.poll() == {}
    await topic.reader.resume_assigned()
    assert await topic.poll() == {0: (3, [4]), 1: (None, [0, 2, 4])}


async def test_a_revoked_partition_is_read_no_more() -> None:
    """And reading of the others goes on where it was."""
    topic = await Topic().started()
    await topic.reader.revoked([0])
    assert await topic.poll() == {1: (None, [0, 2, 4])}


async def test_a_partition_that_is_revoked_while_its_offset_is_read_is_not_resumed() -> None:
    """It belongs to another member by then."""
    topic = Topic()
    await topic.reader.start()

    async def read_offsets(name: str) -> dict[int, int]:
        await topic.reader.revoked([0])
        return {}

    topic.reader._read_offsets = read_offsets
    await topic.reader.resume_assigned()
    assert topic.reader._positions == {1: _PartitionPosition(None, 0)}


async def test_a_revocation_waits_for_the_write_that_has_begun() -> None:
    """So that the next owner finds its offset in the history."""
    topic = await Topic().started()
    await topic.writing.acquire()
    revoking = asyncio.ensure_future(topic.reader.revoked([0, 1]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not revoking.done()
    topic.writing.release()
    await revoking
    assert not topic.writing.locked()


async def test_a_revocation_does_not_wait_longer_than_the_group_grants() -> None:
    """Otherwise the group would expel the member."""
    topic = await Topic(revoke_seconds=0.0).started()
    async with topic.writing:
        await topic.reader.revoked([0, 1])
    assert topic.reader._positions == {}


async def test_lag_counts_the_records_that_are_not_in_the_history() -> None:
    """Not the markers at the end once they are read; also before a partition is read, and while the history is away."""
    topic = Topic(partition_1=5)
    topic.broker.markers[TOPIC, 1] = 3
    await topic.reader.start()
    # What lies between two offsets is not known before it is read.
    assert await topic.reader.lags() == {0: 5, 1: 8}
    await topic.reader.resume_assigned()
    assert await topic.reader.lags() == {0: 5, 1: 0}
    await topic.poll()
    assert await topic.reader.lags() == {0: 0, 1: 0}
    topic.reader.reset_positions()
    assert await topic.reader.lags() == {0: 5, 1: 3}


async def test_deleted_records_are_passed_and_named_until_the_history_is_behind_them() -> None:
    """Reading goes on with the oldest record that is left; a partition that the history does not know misses none."""
    topic = Topic(partition_0=1)
    for partition in range(2):
        topic.broker.beginning_offsets[TOPIC, partition] = 4
    await topic.started()
    step = OffsetCommit(topic=TOPIC, partition=0, previous_offset=1, next_offset=4)
    assert topic.reader.deletions() == [step]
    topic.reader.advance([step])
    assert topic.reader.deletions() == []
    assert await topic.poll() == {0: (4, [4]), 1: (None, [4])}


async def test_a_history_that_is_ahead_of_the_topic_is_an_error() -> None:
    """The topic was created anew, or a new leader does not know its end yet."""
    topic = Topic(partition_0=6)
    await topic.reader.start()
    with pytest.raises(BrokerError, match="another topic of the same name"):
        await topic.reader.resume_assigned()
