"""Consumers that are no group members: a changelog, a topic from stored offsets, and how far a group has come."""

import time
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition

from vqmon.errors import BrokerError
from vqmon.flow import run_concurrently, run_with_deadline
from vqmon.transport.kafka.connection import ClientConfig, stop_consumer, translated_errors
from vqmon.transport.kafka.consumer_group import to_record
from vqmon.transport.kafka.records import Record

_START_TIMEOUT_SECONDS = 60.0
_STOP_TIMEOUT_SECONDS = 2.0
_REQUEST_TIMEOUT_SECONDS = 20.0
_LAG_TIMEOUT_SECONDS = 5.0
_CHANGELOG_TIMEOUT_SECONDS = 60.0
_POLL_SECONDS = 0.5
_PEEK_SECONDS = 1.0
MAX_EMPTY_POLLS = 3
"""Polls without records or progress after which only compacted transaction markers can be left."""


async def read_changelog(config: ClientConfig, topic: str, partition: int) -> dict[str, bytes]:
    """Read one partition of a compacted topic: the newest value of every key; deleted keys are left out.

    Call it after the partition's writer was opened: that has ended what an earlier writer left open. Raises
    BrokerError.
    """
    consumer = AIOKafkaConsumer(
        **config.client_options(),
        group_id=None,
        enable_auto_commit=False,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=4 << 20,
        fetch_max_wait_ms=100,
    )
    with translated_errors("read the state"):
        try:
            await run_with_deadline(consumer.start(), within_seconds=_CHANGELOG_TIMEOUT_SECONDS)
            return await run_with_deadline(
                _read_to_end(consumer, TopicPartition(topic, partition)), within_seconds=_CHANGELOG_TIMEOUT_SECONDS
            )
        finally:
            await stop_consumer(consumer, timeout_seconds=_STOP_TIMEOUT_SECONDS)


async def _read_to_end(consumer: AIOKafkaConsumer, partition: TopicPartition) -> dict[str, bytes]:
    consumer.assign([partition])
    end_offset = (await consumer.end_offsets([partition]))[partition]
    await consumer.seek_to_beginning(partition)
    values: dict[str, bytes] = {}
    empty_polls, last_position = 0, -1
    while (position := await consumer.position(partition)) < end_offset and empty_polls < MAX_EMPTY_POLLS:
        fetched = await consumer.getmany(partition, timeout_ms=int(_POLL_SECONDS * 1000), max_records=5000)
        for record in fetched.get(partition, ()):
            key = record.key.decode("utf-8", "replace") if record.key else ""
            if record.value is None:
                values.pop(key, None)
            else:
                values[key] = record.value
        empty_polls = empty_polls + 1 if not fetched and position == last_position else 0
        last_position = position
    return values


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
    config: ClientConfig, topic: str, *, offsets: Mapping[int, int]
) -> AsyncIterator[TopicConsumer]:
    """Consume a topic from these offsets on; partitions without one from their oldest record on.

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
        with translated_errors("follow the topic"):
            await run_with_deadline(consumer.start(), within_seconds=_START_TIMEOUT_SECONDS)
            # The public method knows only topics to which the client is subscribed already.
            metadata = await run_with_deadline(
                consumer._client.fetch_all_metadata(), within_seconds=_START_TIMEOUT_SECONDS
            )
        numbers = metadata.partitions_for_topic(topic)
        if not numbers:
            raise BrokerError(f"topic {topic} does not exist: run `vqmon topics create`")
        partitions = [TopicPartition(topic, number) for number in sorted(numbers)]
        consumer.assign(partitions)
        for partition in partitions:
            if partition.partition in offsets:
                consumer.seek(partition, offsets[partition.partition])
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
                    fetched = await self._consumer.getmany(*partitions, timeout_ms=int(left_seconds * 1000))
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
