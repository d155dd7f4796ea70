"""What is left of many short streams: memory, states, changelog and restore time of one partition.

`python -m bench.serving.short_streams [--streams 20000] [--keep]`. Needs Java 17 and Maven. Streams of three segments
come and end, one every two seconds of stream time; their outcomes are judged as by a worker, and the states are written
to a real changelog, which is read back at each row. `--keep` forgets nothing, for comparison.
"""

import argparse
import asyncio
import gc
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from confluent_kafka.admin import AdminClient, NewTopic

from pipelines.fleet.judging.judge import PartitionJudge
from pipelines.fleet.judging.records import ControlRecord, ObservedRecord, ProducerIdentity
from pipelines.service.wiring import load_rules
from tests import factories
from tests.acceptance.kafka.broker import Cluster
from vqmon.core.alerts.annotations import ALL_RENDITIONS, stream_end
from vqmon.core.alerts.state import StateRetention
from vqmon.core.types import Rendition
from vqmon.settings.load import Settings
from vqmon.transport.kafka import Changelog, ClientConfig, TopicNames, TransactionalProducer, TransactionBatch
from vqmon.transport.kafka.records import Record

SEGMENTS = 3
SECONDS_BETWEEN_STREAMS = 2.0
STREAMS_PER_TRANSACTION = 100
NAMES = TopicNames.from_prefix("short", "short")
START = datetime(2026, 1, 1, tzinfo=UTC)
RETENTION = StateRetention(ended_seconds=600.0, silent_seconds=3600.0)
EDGE = "00" * 576
CHANGELOG = {
    "cleanup.policy": "compact",
    "segment.bytes": "1048576",
    "min.cleanable.dirty.ratio": "0.01",
    "max.compaction.lag.ms": "1000",
    "delete.retention.ms": "0",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What is there after so many streams."""

    streams: int
    resident_mb: float
    states: int
    states_kb: float
    changelog_mb: float
    restore_seconds: float
    microseconds_per_segment: float


def entries_of(number: int) -> list[ObservedRecord | ControlRecord]:
    """The outcomes of one short stream, and its end."""
    rendition = Rendition(stream_id=f"short-{number}", name="720p", height=720)
    record = Record(0, number, b"k", b"v", (), 0)
    entries: list[ObservedRecord | ControlRecord] = []
    for sequence in range(SEGMENTS):
        at_seconds = SECONDS_BETWEEN_STREAMS * number + 4.0 * sequence
        event = factories.event(
            sequence=sequence,
            score=70.0,
            rendition=rendition,
            at_seconds=at_seconds,
            edges=(EDGE, EDGE),
            observed_after_seconds=0,
        )
        entries.append(ObservedRecord(record=record, outcome=event))
    announced_at = START + timedelta(seconds=number)
    end = stream_end(rendition.stream_id, ALL_RENDITIONS, START, announced_at=announced_at)
    return [*entries, ControlRecord(record=record, message=end)]


def resident_mb() -> float:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 1e6


def log_mb(folder: Path) -> float:
    """The size of the changelog on the broker's disk."""
    return sum(file.stat().st_size for file in folder.glob(f"**/{NAMES.state}-0/*.log")) / 1e6


async def measure(folder: Path, bootstrap: str, *, streams: int, retention: StateRetention | None) -> Sequence[Row]:
    """Judge the streams, and measure four times on the way."""
    config = ClientConfig(bootstrap=(bootstrap,))
    topics = [NewTopic(NAMES.segments, 1, 1), NewTopic(NAMES.state, 1, 1, config=CHANGELOG)]
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for created in admin.create_topics(topics).values():
        created.result(timeout=30)
    identity = ProducerIdentity(
        names=NAMES, source="bench", group="short", version="0", max_message_bytes=10_000, max_rejected_bytes=60_000
    )
    judge = PartitionJudge(
        0, identity, rules=load_rules(Settings()), stored={}, rejected_limit=0.9, retention=retention
    )
    writer = TransactionalProducer(config, transactional_id="short.0", group="short", topic=NAMES.segments, partition=0)
    await writer.open()
    rows, judging_seconds = [], 0.0
    for first in range(0, streams, STREAMS_PER_TRANSACTION):
        entries = [entry for number in range(first, first + STREAMS_PER_TRANSACTION) for entry in entries_of(number)]
        started_at = time.process_time()
        judged = judge.judge_records(entries)
        judging_seconds += time.process_time() - started_at
        states = [record for record in judged.records if record.topic == NAMES.state]
        await writer.write(TransactionBatch(records=states, next_offset=first + STREAMS_PER_TRANSACTION))
        done = first + STREAMS_PER_TRANSACTION
        if done * 4 % streams == 0:
            rows.append(await _row(folder, config, done, judging_seconds / (done * SEGMENTS)))
    await writer.close()
    return rows


async def _row(folder: Path, config: ClientConfig, streams: int, seconds_per_segment: float) -> Row:
    memory_mb = resident_mb()
    started_at = time.monotonic()
    stored = await Changelog(config, NAMES.state, 0).read()
    return Row(
        streams=streams,
        resident_mb=memory_mb,
        states=len(stored),
        states_kb=sum(map(len, stored.values())) / 1e3,
        changelog_mb=log_mb(folder),
        restore_seconds=time.monotonic() - started_at,
        microseconds_per_segment=1e6 * seconds_per_segment,
    )


def main() -> None:
    """Print a row per quarter of the streams."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=20_000)
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, Cluster(Path(name)) as cluster:
        rows = asyncio.run(
            measure(
                Path(name),
                cluster.bootstrap,
                streams=arguments.streams,
                retention=None if arguments.keep else RETENTION,
            )
        )
    print("streams  memory MB  states  states kB  changelog MB  restore s  judging us per segment")
    for row in rows:
        print(
            f"{row.streams:7}  {row.resident_mb:9.0f}  {row.states:6}  {row.states_kb:9.0f}  {row.changelog_mb:12.1f}"
            f"  {row.restore_seconds:9.2f}  {row.microseconds_per_segment:22.0f}"
        )


if __name__ == "__main__":
    main()
