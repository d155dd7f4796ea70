"""Tools for tests of the fleet: topics, segment messages, workers as processes, and what a reader finds."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord

from vqmon.core.types import Rendition, Segment
from vqmon.transport.kafka import ClientConfig, IdempotentProducer, TopicNames, create_topics, topic_specs
from vqmon.transport.wire.segment_messages import STRUCTURED_CONTENT_TYPE, encode_segment

ROOT = Path(__file__).parents[3]
BEGINS = datetime(2026, 1, 1, tzinfo=UTC)
SECONDS = 4.0


def segments_of(stream_id: str, count: int, *, first: int = 0) -> list[Segment]:
    """Segments of one stream in order."""
    rendition = Rendition(stream_id=stream_id, name="720p")
    return [
        Segment(
            rendition=rendition,
            sequence=number,
            url=f"file:///media/{stream_id}/{number}.mp4",
            starts_at=BEGINS + timedelta(seconds=SECONDS * number),
            duration_seconds=SECONDS,
        )
        for number in range(first, first + count)
    ]


def woven(streams: Sequence[str], count: int) -> list[Segment]:
    """`count` segments of each stream, as they would come in time."""
    return [
        segment
        for group in zip(*(segments_of(stream_id, count) for stream_id in streams), strict=True)
        for segment in group
    ]


def message_of(segment: Segment) -> tuple[bytes, bytes, tuple[tuple[str, bytes], ...]]:
    """Key, value and headers of a segment message."""
    key, value = encode_segment(segment, source="test")
    return key, value, (("content-type", STRUCTURED_CONTENT_TYPE),)


async def make_topics(bootstrap: str, names: TopicNames, *, partitions: int, copies: int) -> None:
    """All topics of a deployment."""
    plans = topic_specs(names, partitions=partitions, replication_factor=copies, max_message_bytes=100_000)
    await create_topics(ClientConfig(bootstrap=tuple(bootstrap.split(","))), plans)


async def publish(bootstrap: str, topic: str, segments: Iterable[Segment]) -> int:
    """Put segment messages on the topic."""
    async with IdempotentProducer(ClientConfig(bootstrap=tuple(bootstrap.split(",")))) as publisher:
        return await publisher.publish(topic, [message_of(segment) for segment in segments])


async def read_all(bootstrap: str, topic: str, *, isolation: str = "read_committed") -> list["ConsumerRecord"]:
    """Every visible record of a topic, partition by partition, in order."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, isolation_level=isolation, auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    try:
        await consumer._client.force_metadata_update()
        numbers = sorted((await consumer._client.fetch_all_metadata()).partitions_for_topic(topic) or ())
        partitions = [TopicPartition(topic, number) for number in numbers]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        all_records: list[ConsumerRecord] = []
        deadline = time.monotonic() + 60
        for partition in partitions:
            while await consumer.position(partition) < ends[partition] and time.monotonic() < deadline:
                for records in (await consumer.getmany(partition, timeout_ms=300)).values():
                    all_records += records
        return sorted(all_records, key=lambda record: (record.partition, record.offset))
    finally:
        await consumer.stop()


def header(record: "ConsumerRecord", name: str) -> str:
    """A header as text, empty when it is not there."""
    return next((value.decode() for key, value in record.headers if key == name), "")


@dataclass
class Worker:
    """A worker process; what it logs goes to a file."""

    log: Path
    kafka: dict[str, object]
    most_seconds: float = 0.01
    seed: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> "Worker":
        arguments = [json.dumps(self.kafka), str(self.most_seconds), str(self.seed)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.acceptance.kafka.worker", *arguments],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                start_new_session=True,
            )
        return self

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def signal(self, number: int) -> None:
        if self.process is not None and self.is_alive:
            self.process.send_signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait(timeout=30)

    def stop(self, *, seconds: float = 40.0) -> int:
        """SIGTERM, then wait; gives the exit status."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        assert self.process is not None
        try:
            return self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return -signal.SIGKILL


async def until(condition: Callable[[], Awaitable[bool]], *, seconds: float, every: float = 0.5) -> None:
    """Wait until something holds; TimeoutError when it does not come."""
    deadline = time.monotonic() + seconds
    while not await condition():
        if time.monotonic() > deadline:
            raise TimeoutError("it did not come in time")
        await asyncio.sleep(every)
