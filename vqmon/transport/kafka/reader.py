"""Reads all partitions of a topic from where the reader says, without a group: for who keeps its own place."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition

from vqmon.errors import BrokerError
from vqmon.flow import apart
from vqmon.transport.kafka.connection import Connection, translated
from vqmon.transport.kafka.consumer_group import record_of
from vqmon.transport.kafka.records import Record

START_SECONDS = 60.0
STOP_SECONDS = 2.0
NEWEST_SECONDS = 20.0
READ_SECONDS = 60.0
QUIET_SECONDS = 0.5
QUIET_READS = 3
"""So many reads without a record and without progress mean: what is left are markers that were compacted away."""


async def read_changelog(connection: Connection, topic: str, partition: int) -> dict[str, bytes]:
    """The newest value of every key of one partition; forgotten keys are left out.

    Call it after the partition's writer was opened: what an earlier holder left open has been ended by then.
    """
    consumer = AIOKafkaConsumer(
        **connection.options(),
        group_id=None,
        enable_auto_commit=False,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=4 << 20,
        fetch_max_wait_ms=100,
    )
    with translated("read the state"):
        try:
            await apart(consumer.start(), within_seconds=READ_SECONDS)
            return await apart(_read(consumer, TopicPartition(topic, partition)), within_seconds=READ_SECONDS)
        finally:
            await _stop_consumer(consumer)


async def _read(consumer: AIOKafkaConsumer, place: TopicPartition) -> dict[str, bytes]:
    consumer.assign([place])
    end = (await consumer.end_offsets([place]))[place]
    await consumer.seek_to_beginning(place)
    values: dict[str, bytes] = {}
    quiet, last = 0, -1
    while (position := await consumer.position(place)) < end and quiet < QUIET_READS:
        got = await consumer.getmany(place, timeout_ms=int(QUIET_SECONDS * 1000), max_records=5000)
        for record in got.get(place, ()):
            key = record.key.decode("utf-8", "replace") if record.key else ""
            if record.value is None:
                values.pop(key, None)
            else:
                values[key] = record.value
        quiet = quiet + 1 if not got and position == last else 0
        last = position
    return values


async def _stop_consumer(consumer: AIOKafkaConsumer) -> None:
    for closing in (consumer.stop, consumer._client.close):
        try:
            await apart(closing(), within_seconds=STOP_SECONDS)
        except Exception:
            continue


class Follower:
    """An open reader of a topic; only what is committed is shown."""

    def __init__(self, consumer: AIOKafkaConsumer, places: Sequence[TopicPartition]) -> None:
        self._consumer = consumer
        self._places = places

    async def poll(self, *, seconds: float, max_records: int = 500) -> Sequence[Record]:
        """What has come, partition by partition in order; waits up to `seconds`."""
        with translated("poll"):
            got = await self._consumer.getmany(*self._places, timeout_ms=int(seconds * 1000), max_records=max_records)
        return [record_of(one) for records in got.values() for one in records]

    async def left(self) -> int:
        """How many offsets lie before us in all partitions."""
        with translated("read the ends of the topic"):
            ends = await apart(self._consumer.end_offsets(list(self._places)), within_seconds=NEWEST_SECONDS)
            positions = [await self._consumer.position(place) for place in self._places]
        return sum(max(0, ends[place] - position) for place, position in zip(self._places, positions, strict=True))


@asynccontextmanager
async def following(connection: Connection, topic: str, *, offsets: Mapping[int, int]) -> AsyncIterator[Follower]:
    """Read a topic from these offsets on, partitions without one from their oldest record on.

    Raises BrokerError when the brokers cannot be reached or the topic does not exist.
    """
    consumer = AIOKafkaConsumer(
        **connection.options(),
        group_id=None,
        enable_auto_commit=False,
        isolation_level="read_committed",
        # What was deleted before we read it is gone: the oldest that is left is the best place to go on.
        auto_offset_reset="earliest",
        fetch_max_wait_ms=100,
        metadata_max_age_ms=30_000,
    )
    try:
        with translated("follow the topic"):
            await apart(consumer.start(), within_seconds=START_SECONDS)
            # The public question answers only for topics that the client follows already.
            known = await apart(consumer._client.fetch_all_metadata(), within_seconds=START_SECONDS)
        numbers = known.partitions_for_topic(topic)
        if not numbers:
            raise BrokerError(f"topic {topic} does not exist: run `vqmon topics create`")
        places = [TopicPartition(topic, number) for number in sorted(numbers)]
        consumer.assign(places)
        for place in places:
            if place.partition in offsets:
                consumer.seek(place, offsets[place.partition])
        yield Follower(consumer, places)
    finally:
        await _stop(consumer)


async def _stop(consumer: AIOKafkaConsumer) -> None:
    for closing in (consumer.stop, consumer._client.close):
        try:
            await apart(closing(), within_seconds=STOP_SECONDS)
        except (Exception, asyncio.CancelledError):
            continue
