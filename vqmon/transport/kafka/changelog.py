"""Reads the state of one partition back from its compacted topic."""

from aiokafka import AIOKafkaConsumer, TopicPartition

from vqmon.flow import apart
from vqmon.transport.kafka.connection import Connection, translated

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
            await _stop(consumer)


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


async def _stop(consumer: AIOKafkaConsumer) -> None:
    for closing in (consumer.stop, consumer._client.close):
        try:
            await apart(closing(), within_seconds=2.0)
        except Exception:
            continue
