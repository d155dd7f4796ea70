"""One topic as the recorder reads it: which partitions are assigned, and the offset at which each resumes."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from pipelines.fleet.membership import ConsumerGroup
from pipelines.service.brokers import resume_offset
from vqmon.telemetry.logs import log_event
from vqmon.transport.history.ingest import OffsetCommit, RecordBatch, RecordKind
from vqmon.transport.kafka.records import OnAssigned, OnRevoked, Record

log = logging.getLogger("vqmon.record")

OpenGroup = Callable[[str, OnAssigned, OnRevoked], ConsumerGroup]
"""Joins the consumer group of a topic."""


@dataclass(frozen=True, slots=True)
class _PartitionPosition:
    """How far a partition was read: the offset that the history holds, and the one to read next."""

    # None when the history holds none
    stored_offset: int | None
    next_offset: int


class TopicReader:
    """Reads the partitions of one topic that are assigned to us, each from the offset in the history."""

    def __init__(
        self,
        topic: str,
        kind: RecordKind,
        *,
        open_group: OpenGroup,
        read_offsets: Callable[[str], Awaitable[Mapping[int, int]]],
        writing: asyncio.Lock,
        revoke_seconds: float,
    ) -> None:
        self.topic = topic
        self._kind: RecordKind = kind
        self._read_offsets = read_offsets
        self._writing = writing
        self._revoke_seconds = revoke_seconds
        # None = assigned, and its offset not read from the history yet
        self._positions: dict[int, _PartitionPosition | None] = {}
        # up to where the history holds each partition, as last measured
        self._read_until: dict[int, int] = {}
        self._has_assignment = False
        self._group = open_group(topic, self.assigned, self.revoked)

    @property
    def is_settled(self) -> bool:
        """Whether the group has assigned partitions to us, be it none, and all of them are being read."""
        return self._has_assignment and None not in self._positions.values()

    @property
    def partitions(self) -> Collection[int]:
        """The partitions that are assigned."""
        return list(self._positions)

    @property
    def waiting(self) -> Sequence[int]:
        """The partitions that are assigned and not read yet."""
        return [partition for partition, position in self._positions.items() if position is None]

    def stored_offset(self, partition: int) -> int | None:
        """The offset that the history holds of a partition that is being read."""
        position = self._positions[partition]
        assert position is not None
        return position.stored_offset

    async def next_offset(self, partition: int) -> int:
        """The offset from which a partition is read on; all records and transaction markers before it were polled."""
        return await self._group.next_fetch_offset(partition)

    async def partition_count(self, topic: str) -> int:
        """The number of partitions of a topic; 0 when it does not exist."""
        return (await self._group.partition_counts([topic]))[topic]

    async def start(self) -> None:
        await self._group.start()

    async def stop(self) -> None:
        await self._group.stop()

    def reset_positions(self) -> None:
        """Read the offsets of all partitions from the history again before the next poll."""
        self._read_until |= {
            partition: position.next_offset for partition, position in self._positions.items() if position is not None
        }
        self._positions = dict.fromkeys(self._positions)

    async def resume_assigned(self, *, skip: Collection[int] = ()) -> None:
        """Start to read newly assigned partitions from the offsets in the history."""
        waiting = [partition for partition in self.waiting if partition not in skip]
        if not waiting:
            return
        stored_offsets = await self._read_offsets(self.topic)
        for partition in waiting:
            stored = stored_offsets.get(partition)
            offsets = await self._group.partition_offsets(partition)
            # Deleted records come from nowhere, and whoever waits loses those that are deleted next too.
            offset = resume_offset(stored, offsets, "go_on", partition=f"{self.topic}/{partition}")
            # The partition may have been revoked meanwhile.
            if partition in self._positions:
                self._group.resume(partition, offset=offset)
                self._positions[partition] = _PartitionPosition(stored, offset)
                log.info(**log_event("record.partition", topic=self.topic, partition=partition, offset=offset))

    async def poll(self, *, seconds: float, max_records: int) -> Sequence[RecordBatch]:
        """Return the records that have arrived, as one batch per partition."""
        polled = await self.poll_records(seconds=seconds, max_records=max_records)
        return [
            self.batch(partition, records, self.stored_offset(partition), records[-1].offset + 1)
            for partition, records in polled.items()
        ]

    async def poll_records(
        self, *, seconds: float, max_records: int, skip: Collection[int] = ()
    ) -> Mapping[int, Sequence[Record]]:
        """Return the records that have arrived, by partition."""
        readable = [
            partition
            for partition, position in self._positions.items()
            if position is not None and partition not in skip
        ]
        polled = await self._group.poll(readable, seconds=seconds, max_records=max_records)
        # A partition may have been revoked meanwhile.
        return {
            partition: records
            for partition, records in polled.items()
            if records and self._positions.get(partition) is not None
        }

    def batch(
        self, partition: int, records: Sequence[Record], previous_offset: int | None, next_offset: int
    ) -> RecordBatch:
        """Records of a partition to write, which move its offset in the history from one to the other."""
        return RecordBatch(
            topic=self.topic,
            partition=partition,
            kind=self._kind,
            previous_offset=previous_offset,
            next_offset=next_offset,
            records=[(record.offset, record.value) for record in records],
        )

    def deletions(self) -> Sequence[OffsetCommit]:
        """Steps of partitions over offsets that were deleted before they were read, until the history holds them."""
        return [
            OffsetCommit(
                topic=self.topic,
                partition=partition,
                previous_offset=position.stored_offset,
                next_offset=position.next_offset,
            )
            for partition, position in self._positions.items()
            if position is not None
            and position.stored_offset is not None
            and position.next_offset > position.stored_offset
        ]

    async def marker_batches(self, *, skip: Collection[int] = ()) -> Sequence[RecordBatch]:
        """Batches without records for partitions that were read beyond the offset in the history.

        What lies between are transaction markers and aborted records, provided that all records that were polled are in
        the history. An offset before them would count as deleted unread once retention has removed them.
        """
        batches = []
        for partition, position in list(self._positions.items()):
            if position is None or partition in skip or self._positions.get(partition) is not position:
                continue
            offset = await self.next_offset(partition)
            # The partition may have been revoked meanwhile.
            if offset > (position.stored_offset or 0) and self._positions.get(partition) is position:
                batches.append(self.batch(partition, (), position.stored_offset, offset))
        return batches

    def advance(self, steps: Sequence[OffsetCommit]) -> None:
        """Move the positions of partitions whose new offsets are in the history now."""
        for step in steps:
            if step.topic == self.topic and self._positions.get(step.partition) is not None:
                self._positions[step.partition] = _PartitionPosition(step.next_offset, step.next_offset)

    async def lags_by_topic(self) -> Mapping[str, Mapping[int, int]]:
        """Topic -> its `lags`."""
        return {self.topic: await self.lags()}

    async def lags(self, *, skip: Collection[int] = ()) -> Mapping[int, int]:
        """Partition -> records not in the history yet; transaction markers do not count.

        A partition that is not read now, such as while the history cannot be written, has the lag since it was.
        """
        lags = {}
        for partition, position in list(self._positions.items()):
            if partition in skip:
                continue
            offsets = await self._group.partition_offsets(partition)
            # One that was revoked meanwhile has no position.
            if position is not None and self._positions.get(partition) is position:
                self._read_until[partition] = await self._group.next_fetch_offset(partition)
            lags[partition] = max(0, offsets.end - self._read_until.get(partition, offsets.beginning))
        return lags

    def assigned(self, partitions: Collection[int]) -> None:
        """The group, or whoever assigns in its place, has given us these partitions."""
        self._positions.update(dict.fromkeys(partitions))
        self._has_assignment = True
        log.info(**log_event("record.assigned", topic=self.topic, partitions=sorted(partitions)))

    def forget(self, partitions: Collection[int]) -> None:
        """Read these partitions no more."""
        for partition in partitions:
            self._positions.pop(partition, None)
            self._read_until.pop(partition, None)

    async def revoked(self, partitions: Collection[int]) -> None:
        """Let a write that has begun finish, within the time that the group grants."""
        self.forget(partitions)
        try:
            async with asyncio.timeout(self._revoke_seconds):
                async with self._writing:
                    pass
        except TimeoutError:
            # The next owner of the partition reads the offset from the history, and so do we.
            log.warning(**log_event("record.revoked_while_writing", topic=self.topic))
