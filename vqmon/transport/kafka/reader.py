"""Consumers that are no group members: a changelog, a topic from stored offsets, and how far a group has come."""

import time
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Literal

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord

from vqmon.errors import BrokerError
from vqmon.flow import run_concurrently, run_with_deadline
from vqmon.transport.kafka.connection import ClientConfig, start_client, stop_consumer, translated_errors
from vqmon.transport.kafka.consumer_group import to_record
from vqmon.transport.kafka.records import Record

_START_TIMEOUT_SECONDS = 60.0
_STOP_TIMEOUT_SECONDS = 2.0
_REQUEST_TIMEOUT_SECONDS = 20.0
_LAG_TIMEOUT_SECONDS = 5.0
_POLL_SECONDS = 0.5
_PEEK_SECONDS = 1.0
MAX_EMPTY_ANSWERS = 3
"""Answers of a broker without records or progress after which only compacted transaction markers can be left."""

_STALLED_SECONDS = 60.0
_RESUMABLE_SECONDS = 3600.0
"""After a longer interruption a changelog is read from its start: deletions may have been compacted away meanwhile."""


class Changelog:
    """One partition of a compacted topic: the newest value of every key; deleted keys are left out.

    A read that fails or is cancelled goes on where it stopped when it is repeated; there is no limit to its duration.
    """

    def __init__(self, config: ClientConfig, topic: str, partition: int) -> None:
        self._config = config
        self._partition = TopicPartition(topic, partition)
        self._values: dict[str, bytes] = {}
        # None before the first record
        self._next_offset: int | None = None
        self._read_at = time.monotonic()

    async def read(self, *, report: Callable[[float], None] = lambda share: None) -> dict[str, bytes]:
        """Read to the end of the partition as it is now; `report` gets the share that is read, 0..1.

        Call it after the partition's writer was opened: that has ended what an earlier writer left open. Raises
        BrokerError when the brokers cannot be reached, or no broker gives records for a minute.
        """
        consumer = AIOKafkaConsumer(
            **self._config.client_options(),
            group_id=None,
            enable_auto_commit=False,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=4 << 20,
            fetch_max_wait_ms=100,
        )
        with translated_errors(f"read the state in {self._partition.topic}/{self._partition.partition}"):
            try:
                await run_with_deadline(consumer.start(), within_seconds=_START_TIMEOUT_SECONDS)
                await self._read_to_end(consumer, report)
            finally:
                await stop_consumer(consumer, timeout_seconds=_STOP_TIMEOUT_SECONDS)
        return self._values

    async def _read_to_end(self, consumer: AIOKafkaConsumer, report: Callable[[float], None]) -> None:
        partition = self._partition
        consumer.assign([partition])
        end_offset = await self._offset_of(consumer.end_offsets([partition]))
        begins_at = await self._offset_of(consumer.beginning_offsets([partition]))
        if self._next_offset is None or time.monotonic() - self._read_at > _RESUMABLE_SECONDS:
            self._next_offset = begins_at
            self._values.clear()
        position = max(begins_at, self._next_offset)
        consumer.seek(partition, position)
        progress_at, empty_answers = time.monotonic(), 0
        answered_at: int | None = None
        # The offsets at the end may be transaction markers that compaction has removed: then no record comes for them.
        while position < end_offset and empty_answers < MAX_EMPTY_ANSWERS:
            report((position - begins_at) / (end_offset - begins_at))
            fetched = await consumer.getmany(partition, timeout_ms=int(_POLL_SECONDS * 1000), max_records=5000)
            for record in fetched.get(partition, ()):
                self._apply(record)
            last_position, position = position, await consumer.position(partition)
            self._next_offset, self._read_at = position, time.monotonic()
            last_answered_at, answered_at = answered_at, consumer.last_poll_timestamp(partition)
            if fetched or position > last_position:
                progress_at, empty_answers = time.monotonic(), 0
            elif answered_at != last_answered_at:
                empty_answers += 1
            elif time.monotonic() - progress_at > _STALLED_SECONDS:
                raise BrokerError(
                    f"read the state in {partition.topic}/{partition.partition}: no record came for "
                    f"{_STALLED_SECONDS:.0f} s at offset {position} of {end_offset}"
                )

    async def _offset_of(self, request: Coroutine[None, None, dict[TopicPartition, int]]) -> int:
        offsets = await run_with_deadline(request, within_seconds=_REQUEST_TIMEOUT_SECONDS)
        return offsets[self._partition]

    def _apply(self, record: "ConsumerRecord[bytes, bytes]") -> None:
        key = record.key.decode("utf-8", "replace") if record.key else ""
        if record.value is None:
            self._values.pop(key, None)
        else:
            self._values[key] = record.value


class TopicConsumer:
    """An open consumer of all partitions of a topic; it reads committed records only."""

    def __init__(self, consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> None:
        self._consumer = consumer
        self._partitions = partitions

    async def poll(self, *, seconds: float, max_records: int = 500) -> Sequence[Record]:
        """Fetch records, partition by partition in order; waits up to `seconds`."""
        with translated_errors("poll"):
            fetched = await self._consumer.getmany(
                *self._partitions, timeout_ms=int(seconds * 1000), max_records=max_records
            )
        return [to_record(record) for records in fetched.values() for record in records]

    async def lag_records(self) -> int:
        """The number of offsets that are not read yet, over all partitions."""
        with translated_errors("read the ends of the topic"):
            end_offsets = await run_with_deadline(
                self._consumer.end_offsets(list(self._partitions)), within_seconds=_REQUEST_TIMEOUT_SECONDS
            )
            positions = [await self._consumer.position(partition) for partition in self._partitions]
        return sum(
            max(0, end_offsets[partition] - position)
            for partition, position in zip(self._partitions, positions, strict=True)
        )


@asynccontextmanager
async def open_topic_consumer(
    config: ClientConfig, topic: str, *, offsets: Mapping[int, int], start: Literal["oldest", "newest"] = "oldest"
) -> AsyncIterator[TopicConsumer]:
    """Consume a topic from these offsets on; partitions without one from their oldest record on, or after the newest.

    Raises BrokerError when the brokers cannot be reached or the topic does not exist.
    """
    consumer = AIOKafkaConsumer(
        **config.client_options(),
        group_id=None,
        enable_auto_commit=False,
        isolation_level="read_committed",
        # Records that were deleted before they were read are lost: go on with the oldest that is left.
        auto_offset_reset="earliest",
        fetch_max_wait_ms=100,
        metadata_max_age_ms=30_000,
    )
    try:
        starting = consumer.start()
        await start_client(starting, config, action="follow the topic", within_seconds=_START_TIMEOUT_SECONDS)
        with translated_errors("follow the topic"):
            # The public method knows only topics to which the client is subscribed already.
            metadata = await run_with_deadline(
                consumer._client.fetch_all_metadata(), within_seconds=_START_TIMEOUT_SECONDS
            )
        numbers = metadata.partitions_for_topic(topic)
        if not numbers:
            # Brokers do not name topics that the user may not describe.
            raise BrokerError(
                f"topic {topic} does not exist: run `vqmon topics create`; "
                "where brokers have ACLs, this user may have none for it: `vqmon topics acls`"
            )
        partitions = [TopicPartition(topic, number) for number in sorted(numbers)]
        consumer.assign(partitions)
        for partition in partitions:
            if partition.partition in offsets:
                consumer.seek(partition, offsets[partition.partition])
        unstored = [partition for partition in partitions if partition.partition not in offsets]
        if start == "newest" and unstored:
            with translated_errors("find the end of the topic"):
                # Of committed records: those of a transaction that is open now are still to come.
                await run_with_deadline(consumer.seek_to_end(*unstored), within_seconds=_REQUEST_TIMEOUT_SECONDS)
        yield TopicConsumer(consumer, partitions)
    finally:
        await stop_consumer(consumer, timeout_seconds=_STOP_TIMEOUT_SECONDS)


class LagReader:
    """Reads how far a group has come in a topic, as lag exporters do: from outside, whatever its members are doing.

    Its clients are its own, so it also answers while a member is stuck or joins the group. Raises BrokerError.
    """

    def __init__(self, consumer: AIOKafkaConsumer, topic: str) -> None:
        self._consumer = consumer
        self._topic = topic

    async def end_offsets(self, partitions: Collection[int]) -> Mapping[int, int]:
        """The high watermark of each partition; those that no broker leads now are left out."""
        return await self._of_each(partitions, self._end_offset)

    async def next_offsets(self, partitions: Collection[int]) -> Mapping[int, int]:
        """The committed offset, or else the oldest one, of each partition; left out where it cannot be read."""
        return await self._of_each(partitions, self._next_offset)

    async def _of_each(
        self, partitions: Collection[int], read: Callable[[TopicPartition], Coroutine[None, None, int]]
    ) -> Mapping[int, int]:
        async def read_or_none(partition: int) -> int | None:
            # Each by itself: one partition without a leader must not hide the others.
            try:
                with translated_errors("read the lag"):
                    work = read(TopicPartition(self._topic, partition))
                    return await run_with_deadline(work, within_seconds=_LAG_TIMEOUT_SECONDS)
            except BrokerError:
                return None

        offsets = await run_concurrently(read_or_none(partition) for partition in partitions)
        return {partition: offset for partition, offset in zip(partitions, offsets, strict=True) if offset is not None}

    async def _end_offset(self, partition: TopicPartition) -> int:
        return int((await self._consumer.end_offsets([partition]))[partition])

    async def _next_offset(self, partition: TopicPartition) -> int:
        offset = await self._consumer.committed(partition)
        if offset is None:
            offset = (await self._consumer.beginning_offsets([partition]))[partition]
        return int(offset)

    async def timestamps_ms(self, offsets: Mapping[int, int]) -> Mapping[int, int]:
        """Partition -> timestamp of the first record from this offset on; left out where none comes within a second."""
        partitions = {TopicPartition(self._topic, partition): offset for partition, offset in offsets.items()}
        timestamps: dict[int, int] = {}
        with translated_errors("read the oldest record"):
            self._consumer.assign(list(partitions))
            try:
                for partition, offset in partitions.items():
                    self._consumer.seek(partition, offset)
                ends_at = time.monotonic() + _PEEK_SECONDS
                while partitions and (left_seconds := ends_at - time.monotonic()) > 0:
                    # One record at a time: the others of a partition would be parsed for nothing.
                    timeout_ms = int(left_seconds * 1000)
                    fetched = await self._consumer.getmany(*partitions, timeout_ms=timeout_ms, max_records=1)
                    for partition, records in fetched.items():
                        timestamps[partition.partition] = records[0].timestamp
                        del partitions[partition]
            finally:
                self._consumer.assign([])
        return timestamps


@asynccontextmanager
async def open_lag_reader(config: ClientConfig, topic: str, *, group: str) -> AsyncIterator[LagReader]:
    """Connect without joining the group; raises BrokerError."""
    consumer = AIOKafkaConsumer(
        **config.client_options(),
        group_id=group,
        enable_auto_commit=False,
        # What lag exporters report: uncommitted records count, as they wait too.
        isolation_level="read_uncommitted",
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=64 << 10,
        fetch_max_wait_ms=100,
        metadata_max_age_ms=30_000,
    )
    try:
        with translated_errors("read the lag"):
            await run_with_deadline(consumer.start(), within_seconds=_START_TIMEOUT_SECONDS)
        yield LagReader(consumer, topic)
    finally:
        await stop_consumer(consumer, timeout_seconds=_STOP_TIMEOUT_SECONDS)
