"""Outcomes and ends come from two topics, in the order of each stream, however these become visible and are read."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from random import Random
from typing import Literal

import pytest

from pipelines.topics.outcome_reader import OutcomeReader
from pipelines.topics.topic_reader import OpenGroup, TopicReader
from vqmon.core.alerts.annotations import DeployMarker, stream_end
from vqmon.transport.history.ingest import OffsetCommit, RecordBatch, RecordKind
from vqmon.transport.kafka.in_memory import MemoryAssignedConsumer, MemoryBroker, MemoryGroupConsumer
from vqmon.transport.kafka.records import INPUT_HEADER, OnAssigned, OnRevoked, PartitionOffsets
from vqmon.transport.wire.control_messages import control_message_key, encode_control_message

OUTCOMES, CONTROL = "v.quality", "v.control"
AT = datetime(2026, 1, 1, tzinfo=UTC)
Kind = Literal["outcome", "end", "marker"]


class Topics:
    """The two topics of a fleet, a reader of them, and the history into which it is recorded."""

    def __init__(self, *, partitions: int = 1) -> None:
        self.broker = MemoryBroker(partitions)
        self.count = 0
        # stream -> what came of its input records, in order: all, and what is not written yet
        self.expected: dict[str, list[bytes]] = defaultdict(list)
        self.unwritten: dict[str, deque[tuple[int, Kind, bytes, bytes]]] = defaultdict(deque)
        self.stored: dict[tuple[str, int], int] = {}
        # stream -> what the history has of it
        self.recorded: dict[str, list[bytes]] = defaultdict(list)
        self.reader = self.new_reader()

    def new_reader(self) -> OutcomeReader:
        """A reader that begins at the stored offsets."""
        return OutcomeReader(
            OUTCOMES,
            CONTROL,
            open_reader=self._open_reader,
            open_group=self._open_group,
            open_assigned=lambda topic: MemoryAssignedConsumer(self.broker, topic=topic),
        )

    def _open_reader(self, topic: str, kind: RecordKind, open_group: OpenGroup) -> TopicReader:
        async def read_offsets(topic: str) -> dict[int, int]:
            return {partition: offset for (name, partition), offset in self.stored.items() if name == topic}

        return TopicReader(
            topic,
            kind,
            open_group=open_group,
            read_offsets=read_offsets,
            writing=asyncio.Lock(),
            revoke_seconds=1.0,
        )

    def _open_group(self, topic: str, assigned: OnAssigned, revoked: OnRevoked) -> MemoryGroupConsumer:
        return MemoryGroupConsumer(self.broker, topic=topic, group="g", assigned=assigned, revoked=revoked)

    def announce(self, stream: str, kind: Kind = "outcome") -> None:
        """The next input record; what comes of it is not written yet."""
        self.count += 1
        key, value = stream.encode(), f"{stream} {self.count}".encode()
        if kind != "outcome":
            message = (
                stream_end(stream, "*", AT, announced_at=AT.replace(microsecond=self.count))
                if kind == "end"
                else DeployMarker(id=f"{self.count:032}", at=AT, name=stream)
            )
            key, value = control_message_key(message), encode_control_message(message, source="test")
        self.expected[stream].append(value)
        self.unwritten[stream].append((self.count, kind, key, value))

    def write(self, stream: str) -> None:
        """Write what came of the oldest unwritten record of a stream, which may pass those of others."""
        if not self.unwritten[stream]:
            return
        offset, kind, key, value = self.unwritten[stream].popleft()
        place = (INPUT_HEADER, f"v.segments/0/{offset}".encode())
        self.broker.append(OUTCOMES if kind == "outcome" else CONTROL, 0, key, value, (place,))

    def put(self, stream: str, kind: Kind = "outcome") -> None:
        """The next input record, and what comes of it."""
        self.announce(stream, kind)
        self.write(stream)

    def go_on(self, chance: Random) -> None:
        """Some records come, some are written, and on each topic some transactions become visible."""
        self.announce(chance.choice("abc"), chance.choice(["outcome", "outcome", "end"]))
        if chance.random() < 0.1:
            self.announce("marker", "marker")
        for _ in range(chance.randint(0, 3)):
            self.write(chance.choice([*"abc", "marker"]))
        for topic in (OUTCOMES, CONTROL):
            end, before = self.broker.end_offset(topic, 0), self.broker.stable_offset(topic, 0)
            self.broker.stable_offsets[topic, 0] = chance.choice([before, chance.randint(before, end), end])

    async def poll(self, *, max_records: int = 100, fails: bool = False) -> list[str]:
        """Poll once and record what comes, unless that fails; returns of which stream each record is."""
        await self.reader.resume_assigned()
        batches = await self.reader.poll(seconds=0.0, max_records=max_records)
        if fails:
            self.reader.reset_positions()
            return []
        return self._record(batches)

    def _record(self, batches: Sequence[RecordBatch]) -> list[str]:
        streams = {value: stream for stream, values in self.expected.items() for value in values}
        seen = []
        for batch in batches:
            key = (batch.topic, batch.partition)
            assert self.stored.get(key) == batch.previous_offset
            assert batch.next_offset >= (batch.previous_offset or 0)
            self.stored[key] = batch.next_offset
            for _, value in batch.records:
                stream = streams[value or b""]
                seen.append(f"{stream} {batch.kind}")
                # An end or marker that is read again is in the history already, by its id.
                if batch.kind == "outcome" or value not in self.recorded[stream]:
                    self.recorded[stream].append(value or b"")
        self.reader.advance(
            [
                OffsetCommit(
                    topic=batch.topic,
                    partition=batch.partition,
                    previous_offset=batch.previous_offset,
                    next_offset=batch.next_offset,
                )
                for batch in batches
            ]
        )
        return seen


async def opened(topics: Topics) -> Topics:
    await topics.reader.start()
    return topics


@pytest.mark.parametrize("seed", range(12))
async def test_ends_are_in_their_place_however_the_topics_become_visible(seed: int) -> None:
    """Streams pass one another, a transaction ends on one topic first, polls are short, writes fail, and restarts."""
    chance, topics = Random(seed), await opened(Topics())
    for _ in range(120):
        topics.go_on(chance)
        if chance.random() < 0.7:
            await topics.poll(max_records=chance.randint(1, 6), fails=chance.random() < 0.1)
        if chance.random() < 0.05:
            await topics.reader.stop()
            topics.reader = topics.new_reader()
            await topics.reader.start()
    for stream in list(topics.unwritten) * 120:
        topics.write(stream)
    topics.broker.stable_offsets.clear()
    topics.broker.markers[OUTCOMES, 0] = topics.broker.markers[CONTROL, 0] = 1
    while await topics.poll():
        pass
    assert topics.recorded == topics.expected
    assert topics.stored == {(topic, 0): topics.broker.end_offset(topic, 0) for topic in (OUTCOMES, CONTROL)}


async def test_outcomes_wait_for_the_control_records_that_were_written_before_them() -> None:
    """As long as these are not visible; the lag counts them meanwhile."""
    topics = await opened(Topics())
    topics.put("a", "end")
    topics.put("a")
    topics.broker.stable_offsets[CONTROL, 0] = 0
    assert await topics.poll() == []
    assert (await topics.reader.lags_by_topic())[OUTCOMES] == {0: 1}
    assert await topics.poll() == []
    del topics.broker.stable_offsets[CONTROL, 0]
    assert await topics.poll() == ["a control", "a outcome"]
    assert await topics.reader.lags_by_topic() == {OUTCOMES: {0: 0}, CONTROL: {0: 0}}


async def test_an_end_waits_for_the_outcomes_that_were_written_before_it() -> None:
    """It is not committed meanwhile, and the lag counts it."""
    topics = await opened(Topics())
    for kind in ("outcome", "outcome", "end"):
        topics.put("a", kind)
    topics.put("b")
    assert await topics.poll(max_records=1) == ["a outcome"]
    assert topics.stored == {(OUTCOMES, 0): 1}
    assert (await topics.reader.lags_by_topic())[CONTROL] == {0: 1}
    assert await topics.poll(max_records=1) == ["a outcome"]
    assert await topics.poll(max_records=1) == ["b outcome", "a control"]
    assert topics.stored == {(OUTCOMES, 0): 5, (CONTROL, 0): 1}


async def test_a_partition_without_one_of_the_control_topic_waits_alone(caplog: pytest.LogCaptureFixture) -> None:
    """What is to be done is said once."""
    topics = Topics(partitions=2)
    topics.broker.partition_counts[CONTROL] = 1
    topics.broker.append(OUTCOMES, 1, b"a", b"a 1")
    await topics.reader.start()
    topics.put("a")
    assert await topics.poll() == ["a outcome"]
    assert not topics.reader.is_settled
    assert await topics.reader.lags_by_topic() == {OUTCOMES: {0: 0, 1: 1}, CONTROL: {0: 0}}
    await topics.poll()
    assert [record.message for record in caplog.records].count("record.no_control_partition") == 1
    topics.broker.partition_counts.clear()
    topics.expected["a"].append(b"a 1")
    assert await topics.poll() == ["a outcome"]
    assert topics.reader.is_settled


async def test_lags_are_measured_before_it_is_known_which_partitions_the_control_topic_lacks() -> None:
    """Its offsets are not asked: a client would wait for them in vain."""
    topics = Topics(partitions=2)
    topics.broker.partition_counts[CONTROL] = 1
    await topics.reader.start()
    assert (await topics.reader.lags_by_topic())[CONTROL] == {0: 0}


@pytest.mark.parametrize("asked", range(1, 4))
async def test_a_rebalance_while_partitions_are_resumed_leaves_none_behind(asked: int) -> None:
    """A second recorder comes while the offsets of a partition of outcomes are being read."""
    topics = await opened(Topics(partitions=3))
    consumer = topics.reader._outcomes._group
    assert isinstance(consumer, MemoryGroupConsumer)
    read_offsets, counts = consumer.partition_offsets, iter(range(1, 100))

    async def revoked(partitions: Collection[int]) -> None:
        pass

    async def rebalance_and_read_offsets(partition: int) -> PartitionOffsets:
        if next(counts) == asked:
            other = topics._open_group(OUTCOMES, lambda partitions: None, revoked)
            await other.start()
        return await read_offsets(partition)

    consumer.partition_offsets = rebalance_and_read_offsets  # type: ignore[method-assign]
    topics.put("a", "end")
    topics.put("a")
    seen = [entry for _ in range(4) for entry in await topics.poll()]
    assert seen == ["a control", "a outcome"]
    assert topics.reader.is_settled


async def test_offsets_are_moved_past_transaction_markers_where_nothing_waits() -> None:
    """Else a restart would miss a marker that retention has removed with the records before it."""
    topics = await opened(Topics())
    for kind in ("outcome", "outcome", "end"):
        topics.put("a", kind)
    topics.broker.markers[OUTCOMES, 0] = topics.broker.markers[CONTROL, 0] = 1
    assert await topics.poll(max_records=1) == ["a outcome"]
    # An end waits.
    assert await topics.reader.marker_batches() == []
    while await topics.poll():
        pass
    ends = {(topic, 0): topics.broker.end_offset(topic, 0) for topic in (OUTCOMES, CONTROL)}
    assert topics.stored == ends
    topics._record(await topics.reader.marker_batches())
    assert topics.stored == {key: end + 1 for key, end in ends.items()}
    assert await topics.reader.marker_batches() == []
    topics.broker.beginning_offsets.update(topics.stored)
    await topics.reader.stop()
    topics.reader = topics.new_reader()
    await topics.reader.start()
    assert await topics.poll() == []
    assert topics.reader.is_settled
