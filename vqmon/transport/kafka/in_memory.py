"""An in-memory Kafka with the guarantees of the real one, for tests without a broker."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal
from zlib import crc32

from vqmon.errors import BrokerError, FencedError, RecordsDeletedError, RecordTooLargeError
from vqmon.transport.kafka.records import (
    INPUT_HEADER,
    CommittedOffset,
    Headers,
    OnAssigned,
    OnRevoked,
    PartitionOffsets,
    ProducerRecord,
    Record,
    TransactionBatch,
)

Fault = Literal["refused", "not_written", "written"]
"""Fate of a transaction: `open` is refused; the write fails and nothing is written; it fails but all is written."""


@dataclass
class MemoryBroker:
    """The topics, committed offsets, transactional ids and groups of one cluster."""

    partitions: int
    logs: dict[tuple[str, int], list[Record]] = field(default_factory=lambda: defaultdict(list))
    offsets: dict[tuple[str, str, int], int] = field(default_factory=dict)
    # of the committed offsets, where it is not ""
    commit_metadata: dict[tuple[str, str, int], str] = field(default_factory=dict)
    epochs: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    # the faults of the next opens and writes, in order; None = none
    faults: deque[Fault | None] = field(default_factory=deque)
    # topic -> the most bytes of a value, where it is limited
    max_value_bytes: dict[str, int] = field(default_factory=dict)
    # topic -> its number of partitions, where it is not that of the others
    partition_counts: dict[str, int] = field(default_factory=dict)
    # the offset of the first record that is not deleted
    beginning_offsets: dict[tuple[str, int], int] = field(default_factory=lambda: defaultdict(int))
    # the offset from which on records are of open transactions, where there are any
    stable_offsets: dict[tuple[str, int], int] = field(default_factory=dict)
    # transaction markers behind the last record; they take offsets
    markers: dict[tuple[str, int], int] = field(default_factory=lambda: defaultdict(int))
    members: "list[MemoryGroupConsumer]" = field(default_factory=list)
    _rebalancing: "asyncio.Task[None] | None" = None
    _is_rebalance_pending: bool = False

    def append(self, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: Headers = ()) -> int:
        """Append one record as a producer from outside would; returns its offset."""
        log = self.logs[topic, partition]
        # Offsets grow by two: markers and compaction leave gaps, so no reader may rely on offset + 1.
        offset = log[-1].offset + 2 if log else 0
        log.append(Record(partition, offset, key, value, headers, 1_767_225_600_000 + offset))
        return offset

    def records(self, topic: str) -> list[Record]:
        """Every record of a topic, partition by partition, in order."""
        return [record for partition in range(self.partitions) for record in self.logs[topic, partition]]

    def end_offset(self, topic: str, partition: int) -> int:
        """The offset after the last record."""
        log = self.logs[topic, partition]
        return log[-1].offset + 1 if log else 0

    def stable_offset(self, topic: str, partition: int) -> int:
        """The end offset for a reader of committed records."""
        return min(self.stable_offsets.get((topic, partition), 1 << 62), self.end_offset(topic, partition))

    def stable_high_watermark(self, topic: str, partition: int) -> int:
        """The end offset for a reader of committed records, transaction markers included."""
        return min(self.stable_offsets.get((topic, partition), 1 << 62), self.high_watermark(topic, partition))

    def high_watermark(self, topic: str, partition: int) -> int:
        """The offset after all records and transaction markers."""
        return self.end_offset(topic, partition) + self.markers[topic, partition]

    def next_fault(self) -> Fault | None:
        """Take the next fault off the queue."""
        return self.faults.popleft() if self.faults else None

    async def rebalance(self) -> None:
        """Revoke all partitions of all members and assign them anew, as the eager protocol does.

        A task of the broker does this, so a member that dies meanwhile does not stop it.
        """
        self._is_rebalance_pending = True
        if self._rebalancing is None or self._rebalancing.done():
            self._rebalancing = asyncio.get_running_loop().create_task(self._reassign(), name="rebalance")
        await asyncio.shield(self._rebalancing)

    async def _reassign(self) -> None:
        while self._is_rebalance_pending:
            self._is_rebalance_pending = False
            for member in list(self.members):
                await member.revoked(sorted(member.assignment))
                member.assignment.clear()
            groups: dict[str, list[MemoryGroupConsumer]] = defaultdict(list)
            for member in self.members:
                groups[member.group].append(member)
            for members in groups.values():
                for partition in range(self.partitions):
                    members[partition % len(members)].assignment.add(partition)
            for member in list(self.members):
                member.assigned(sorted(member.assignment))

    def read_state(self, topic: str, partition: int) -> dict[str, bytes]:
        """The newest value of every key; tombstones delete theirs."""
        values: dict[str, bytes] = {}
        for record in self.logs[topic, partition]:
            key = (record.key or b"").decode()
            values.pop(key, None)
            if record.value is not None:
                values[key] = record.value
        return values


class MemoryTransactionalProducer:
    """The transactional producer of one input partition."""

    def __init__(self, broker: MemoryBroker, *, transactional_id: str, group: str, topic: str, partition: int) -> None:
        self._broker = broker
        self._transactional_id = transactional_id
        self._committed_key = (group, topic, partition)
        self._epoch: int | None = None

    async def open(self) -> None:
        """Fence earlier holders of the transactional id."""
        await asyncio.sleep(0)
        if self._broker.next_fault() == "refused":
            raise BrokerError("open the producer: the broker is unreachable")
        self._broker.epochs[self._transactional_id] += 1
        self._epoch = self._broker.epochs[self._transactional_id]

    async def write(self, batch: TransactionBatch) -> None:
        """Write a batch and commit its offset, or neither."""
        await asyncio.sleep(0)
        if self._epoch is None:
            raise BrokerError("write a transaction: the producer is not open")
        if self._epoch != self._broker.epochs[self._transactional_id]:
            raise FencedError("write a transaction: another producer has taken over the id")
        fault = self._broker.next_fault()
        if fault in ("refused", "not_written"):
            raise BrokerError("write a transaction: the broker is unreachable")
        for record in batch.records:
            if len(record.value or b"") > self._broker.max_value_bytes.get(record.topic, 1 << 30):
                raise RecordTooLargeError(
                    topic=record.topic,
                    partition=record.partition,
                    size_bytes=len(record.value or b""),
                    written_for=(dict(record.headers).get(INPUT_HEADER) or b"").decode(),
                )
        for record in batch.records:
            self._append(record)
        self._broker.offsets[self._committed_key] = batch.next_offset
        self._broker.commit_metadata[self._committed_key] = batch.metadata
        if fault == "written":
            raise BrokerError("write a transaction: no answer")

    def _append(self, record: ProducerRecord) -> None:
        partition = record.partition
        if partition is None:
            partition = crc32(record.key or b"") % self._broker.partitions
        self._broker.append(record.topic, partition, record.key, record.value, record.headers)

    async def close(self) -> None:
        """Stop using the id."""
        self._epoch = None

    async def kill(self) -> None:
        """The same as `close`, as nothing hangs in memory."""
        self._epoch = None


class MemoryGroupConsumer:
    """One member of a consumer group."""

    def __init__(
        self, broker: MemoryBroker, *, topic: str, group: str, assigned: OnAssigned, revoked: OnRevoked
    ) -> None:
        self.assigned = assigned
        self.revoked = revoked
        self.assignment: set[int] = set()
        self._broker = broker
        self._topic = topic
        self.group = group
        self._positions: dict[int, int] = {}

    async def start(self) -> None:
        """Join the group, which rebalances."""
        self._broker.members.append(self)
        await self._broker.rebalance()

    async def stop(self) -> None:
        """Leave the group, which rebalances."""
        if self in self._broker.members:
            self._broker.members.remove(self)
            self.assignment.clear()
            await self._broker.rebalance()

    async def poll(
        self, partitions: Collection[int], *, seconds: float, max_records: int
    ) -> Mapping[int, Sequence[Record]]:
        """Fetch records of these partitions."""
        fetched: dict[int, Sequence[Record]] = {}
        topic = self._topic
        for partition in partitions:
            position = self._positions.get(partition)
            if partition in self.assignment and position is not None:
                if position < self._broker.beginning_offsets[topic, partition]:
                    raise RecordsDeletedError([partition])
                log, end_offset = self._broker.logs[topic, partition], self._broker.stable_offset(topic, partition)
                records = [record for record in log if position <= record.offset < end_offset][:max_records]
                if records:
                    self._positions[partition] = records[-1].offset + 1
                    fetched[partition] = records
        await asyncio.sleep(0 if fetched else min(seconds, 0.005))
        return fetched

    async def partition_counts(self, topics: Collection[str]) -> Mapping[str, int]:
        """Topic -> its number of partitions."""
        await asyncio.sleep(0)
        return {topic: self._broker.partition_counts.get(topic, self._broker.partitions) for topic in topics}

    async def ping(self) -> bool:
        """The broker always answers."""
        return True

    async def committed(self, partition: int) -> CommittedOffset | None:
        """The group's committed offset; None when there is none."""
        await asyncio.sleep(0)
        key = (self.group, self._topic, partition)
        if key not in self._broker.offsets:
            return None
        return CommittedOffset(offset=self._broker.offsets[key], metadata=self._broker.commit_metadata.get(key, ""))

    async def partition_offsets(self, partition: int) -> PartitionOffsets:
        """The committed offset of a partition, and its beginning and end offsets."""
        if partition >= self._broker.partition_counts.get(self._topic, self._broker.partitions):
            raise BrokerError("read the beginning and end offsets: there is no such partition")
        return PartitionOffsets(
            committed=await self.committed(partition),
            beginning=self._broker.beginning_offsets[self._topic, partition],
            end=self._broker.stable_high_watermark(self._topic, partition),
        )

    def resume(self, partition: int, *, offset: int) -> None:
        """Resume a partition at this offset; newly assigned partitions are paused."""
        self._positions[partition] = offset

    async def next_fetch_offset(self, partition: int) -> int:
        """The offset of the next fetch; behind all transaction markers when every record was read."""
        await asyncio.sleep(0)
        position = self._positions.get(partition)
        if position is None:
            raise BrokerError(f"read the position: partition {partition} is not assigned any more")
        is_at_end = position >= self._broker.end_offset(self._topic, partition)
        return self._broker.high_watermark(self._topic, partition) if is_at_end else position


class MemoryAssignedConsumer(MemoryGroupConsumer):
    """Partitions of a topic that the caller assigns."""

    def __init__(self, broker: MemoryBroker, *, topic: str) -> None:
        async def revoked(partitions: Collection[int]) -> None:
            """Never called: there is no group."""

        super().__init__(broker, topic=topic, group="", assigned=lambda partitions: None, revoked=revoked)

    async def start(self) -> None:
        """The broker is there."""

    async def stop(self) -> None:
        """Read no more."""
        self.assignment.clear()

    def assign(self, partitions: Collection[int]) -> None:
        """Read these partitions and no others, each once it is resumed at an offset."""
        self.assignment, self._positions = set(partitions), {}

    async def high_watermarks(self, topic: str, partitions: Collection[int]) -> Mapping[int, int]:
        """The end offset of each partition, records of open transactions included."""
        await asyncio.sleep(0)
        return {partition: self._broker.high_watermark(topic, partition) for partition in partitions}


class MemoryTopicConsumer:
    """All partitions of a topic, read without a group."""

    def __init__(self, broker: MemoryBroker, topic: str, *, start: Literal["oldest", "newest"]) -> None:
        self._broker, self._topic = broker, topic
        self._positions = {
            partition: 0 if start == "oldest" else broker.end_offset(topic, partition)
            for partition in range(broker.partitions)
        }

    async def poll(self, *, seconds: float, max_records: int = 500) -> Sequence[Record]:
        """Fetch records, partition by partition in order."""
        fetched: list[Record] = []
        for partition, position in self._positions.items():
            log = self._broker.logs[self._topic, partition]
            records = [record for record in log if record.offset >= position][: max_records - len(fetched)]
            if records:
                self._positions[partition] = records[-1].offset + 1
                fetched += records
        await asyncio.sleep(0 if fetched else min(seconds, 0.005))
        return fetched


class MemoryLagReader:
    """How far a group has come in a topic, seen from outside."""

    def __init__(self, broker: MemoryBroker, *, topic: str, group: str) -> None:
        self._broker, self._topic, self._group = broker, topic, group

    async def end_offsets(self, partitions: Collection[int]) -> Mapping[int, int]:
        """The end offset of each partition."""
        return {partition: self._broker.end_offset(self._topic, partition) for partition in partitions}

    async def next_offsets(self, partitions: Collection[int]) -> Mapping[int, int]:
        """The committed offset of each partition, or else its oldest one."""
        broker, topic = self._broker, self._topic
        return {
            partition: broker.offsets.get((self._group, topic, partition), broker.beginning_offsets[topic, partition])
            for partition in partitions
        }

    async def timestamps_ms(self, offsets: Mapping[int, int]) -> Mapping[int, int]:
        """Partition -> timestamp of the first record from this offset on."""
        logs = {partition: self._broker.logs[self._topic, partition] for partition in offsets}
        return {
            partition: next(record.timestamp_ms for record in log if record.offset >= offsets[partition])
            for partition, log in logs.items()
            if log and log[-1].offset >= offsets[partition]
        }
