"""The fleet form end to end on a real broker, with a scorer that costs nothing, beside plain loops in the same run.

Throughput is that of a catch-up from a full input; processor time is that of the workers' processes meanwhile, and its
ratio is to that of the transactional loop.

python -m bench.serving.kafka [--records 20000] [--long 100000] [--only cost]
"""

import argparse
import asyncio
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.acceptance.kafka.broker import REMEDY, Cluster, is_available
from tests.acceptance.kafka.fleet import make_topics, message_of, woven
from vqmon.transport.kafka import (
    Changelog,
    ClientConfig,
    IdempotentProducer,
    ProducerRecord,
    TopicNames,
    TransactionalProducer,
    TransactionBatch,
)

ROOT = Path(__file__).parents[2]
PARTITIONS = 8
STREAMS = 40
STEADY_SECONDS = 15
STEADY_PER_SECOND = 100
LIMIT_SECONDS = 300.0


@dataclass(frozen=True, kw_only=True)
class Course:
    """One topic set and whatever carries records from its input to its output."""

    name: str
    names: TopicNames
    commands: Sequence[Sequence[str]]


def worker_command(bootstrap: str, prefix: str, *, rules: str = "with-groups") -> list[str]:
    """A vqmon worker with a scorer that costs nothing."""
    kafka = {
        "bootstrap": bootstrap.split(","),
        "group": prefix,
        "prefix": prefix,
        "partitions": PARTITIONS,
        "session_seconds": 6,
        "rebalance_seconds": 12,
        "max_message_bytes": 100_000,
    }
    return [sys.executable, "-m", "bench.serving.kafka_worker", json.dumps(kafka), rules]


def loop_command(kind: str, bootstrap: str, names: TopicNames) -> list[str]:
    """A plain loop."""
    return [sys.executable, "-m", "bench.serving.kafka_peers", kind, bootstrap, names.segments, names.quality]


@contextmanager
def running(course: Course) -> Iterator[list[int]]:
    """The course's processes; gives their numbers."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}
    started = [
        subprocess.Popen(list(command), cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, **quiet)
        for command in course.commands
    ]
    try:
        yield [process.pid for process in started]
    finally:
        for process in started:
            process.terminate()
        for process in started:
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()


class Reader:
    """Sees what becomes visible on the output, and when."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.arrivals: list[tuple[float, str]] = []
        self._places = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            fetch_max_wait_ms=10,
        )

    async def __aenter__(self) -> "Reader":
        await self._consumer.start()
        self._consumer.assign(self._places)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()

    async def read(self, count: int, each: Callable[[], None] = lambda: None) -> None:
        """Read until so many have come."""
        deadline = time.monotonic() + LIMIT_SECONDS
        while len(self.arrivals) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(self.arrivals)} of {count} after {LIMIT_SECONDS} s")
            batches = await self._consumer.getmany(timeout_ms=50, max_records=2000)
            now = time.time()
            for records in batches.values():
                self.arrivals += [(now, _input_of(record)) for record in records]
            each()


def _input_of(record: object) -> str:
    return next(value.decode() for key, value in record.headers if key == "vqmon-input")  # type: ignore[attr-defined]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one course took per record."""

    per_second: float
    # of all processes of the course
    cpu_ms: float


async def throughput(cluster: Cluster, course: Course, records: int) -> Cost:
    """Speed and processor time from a full input, without the time to start."""
    await make_topics(cluster.bootstrap, course.names, partitions=PARTITIONS, copies=1)
    await fill(cluster.bootstrap, course.names, records)
    async with Reader(cluster.bootstrap, course.names.quality) as reader:
        with running(course) as pids:
            # The first fifth is left out: workers are still joining then.
            await reader.read(records // 5)
            first, began, began_cpu = len(reader.arrivals), time.monotonic(), _cpu_seconds(pids)
            await reader.read(records)
            seconds = time.monotonic() - began
            # What is gathered for groups is judged a little later.
            await asyncio.sleep(2)
            cpu_seconds = _cpu_seconds(pids) - began_cpu
    count = records - first
    return Cost(per_second=count / max(seconds, 1e-9), cpu_ms=cpu_seconds * 1000 / count)


def _cpu_seconds(pids: Sequence[int]) -> float:
    """Processor time of processes so far, of system calls too."""
    fields = [Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split() for pid in pids]
    return sum(int(user) + int(system) for *_, user, system in (each[:13] for each in fields)) / os.sysconf(
        "SC_CLK_TCK"
    )


async def fill(bootstrap: str, names: TopicNames, records: int) -> None:
    """Put so many segment messages on the input."""
    segments = woven([f"stream-{number:02}" for number in range(STREAMS)], records // STREAMS)
    async with IdempotentProducer(ClientConfig(bootstrap=tuple(bootstrap.split(",")))) as publisher:
        for first in range(0, len(segments), 5000):
            await publisher.publish(names.segments, [message_of(segment) for segment in segments[first : first + 5000]])


async def latency(cluster: Cluster, course: Course) -> tuple[float, float]:
    """Seconds from the input record to the visible outcome at a steady rate: median and 99th percentile."""
    await make_topics(cluster.bootstrap, course.names, partitions=PARTITIONS, copies=1)
    each = STEADY_SECONDS * STEADY_PER_SECOND // STREAMS
    segments = woven([f"stream-{number:02}" for number in range(STREAMS)], each)
    put: dict[str, float] = {}
    async with Reader(cluster.bootstrap, course.names.quality) as reader:
        with running(course):
            await _put(cluster.bootstrap, course.names, segments[:STREAMS], {})
            await reader.read(STREAMS)
            warm = len(reader.arrivals)
            await asyncio.sleep(3)
            async with asyncio.TaskGroup() as group:
                group.create_task(_put(cluster.bootstrap, course.names, segments[STREAMS:], put))
                group.create_task(reader.read(len(segments)))
    seconds = sorted(at - put[input_id] for at, input_id in reader.arrivals[warm:])
    return statistics.median(seconds), seconds[int(len(seconds) * 0.99)]


async def _put(bootstrap: str, names: TopicNames, segments: Sequence[object], put: dict[str, float]) -> None:
    from aiokafka import AIOKafkaProducer

    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
        for segment in segments:
            key, value, headers = message_of(segment)  # type: ignore[arg-type]
            at = time.time()
            sent = await producer.send_and_wait(names.segments, value, key, headers=list(headers))
            put[f"{names.segments}/{sent.partition}/{sent.offset}"] = at
            await asyncio.sleep(max(0.0, 1 / STEADY_PER_SECOND - (time.time() - at)))


async def restore(cluster: Cluster, series: int) -> float:
    """Seconds to read so many series back."""
    names = TopicNames.from_prefix("restore", "restore")
    await make_topics(cluster.bootstrap, names, partitions=PARTITIONS, copies=1)
    connection = ClientConfig(bootstrap=tuple(cluster.bootstrap.split(",")))
    writer = TransactionalProducer(connection, transactional_id="restore", group="r", topic=names.segments, partition=0)
    await writer.open()
    for first in range(0, series, 1000):
        records = [
            ProducerRecord(topic=names.state, partition=0, key=f"rule|s/{number}/lite".encode(), value=b"x" * 600)
            for number in range(first, first + 1000)
        ]
        await writer.write(TransactionBatch(records=records, next_offset=first + 1))
    await writer.close()
    began = time.monotonic()
    entries = await Changelog(connection, names.state, 0).read()
    assert len(entries) == series
    return time.monotonic() - began


async def memory(cluster: Cluster, records: int) -> list[tuple[int, float]]:
    """(records done, resident MB) of one worker along a long way."""
    names = TopicNames.from_prefix("long", "long")
    course = Course(name="long", names=names, commands=[worker_command(cluster.bootstrap, "long")])
    await make_topics(cluster.bootstrap, names, partitions=PARTITIONS, copies=1)
    await fill(cluster.bootstrap, names, records)
    marks: list[tuple[int, float]] = []
    async with Reader(cluster.bootstrap, names.quality) as reader:
        with running(course) as pids:

            def mark() -> None:
                if len(reader.arrivals) >= (len(marks) + 1) * records // 5:
                    marks.append((len(reader.arrivals), _resident_mb(pids[0])))

            await reader.read(records, mark)
    return marks


def _resident_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def _courses(bootstrap: str) -> dict[str, Course]:
    """What is compared, by the prefix of its topics."""

    def course(key: str, name: str, *commands: Sequence[str]) -> Course:
        return Course(name=name, names=TopicNames.from_prefix(key, key), commands=commands)

    def loop(key: str, name: str, kind: str) -> Course:
        return course(key, name, loop_command(kind, bootstrap, TopicNames.from_prefix(key, key)))

    two = worker_command(bootstrap, "two")
    courses = [
        loop("aio", "plain aiokafka loop", "aiokafka"),
        loop("rd", "plain confluent loop", "confluent"),
        loop("tx", "transactional loop", "transactions"),
        course("alone", "vqmon, no group rules", worker_command(bootstrap, "alone", rules="without-groups")),
        course("one", "vqmon, shipped rules", worker_command(bootstrap, "one")),
        course("two", "vqmon, 2 workers", two, two),
    ]
    return {course.names.segments.split(".")[0]: course for course in courses}


async def _compare_costs(cluster: Cluster, records: int) -> None:
    print(f"cores {os.cpu_count()}, load {os.getloadavg()[0]:.1f}, records {records}, partitions {PARTITIONS}")
    courses = _courses(cluster.bootstrap)
    costs = {key: await throughput(cluster, course, records) for key, course in courses.items()}
    for key, cost in costs.items():
        ratio = cost.cpu_ms / costs["tx"].cpu_ms
        print(f"{courses[key].name:22} {cost.per_second:8.0f} segments/s {cost.cpu_ms:7.3f} ms each, x {ratio:.1f}")


async def main(records: int, long: int, only: str) -> None:
    """Run everything on one broker and print one table."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="vqmon-bench-") as folder, Cluster(Path(folder)) as cluster:
        await _compare_costs(cluster, records)
        if only == "cost":
            return
        for key, kind in (("one-l", ""), ("aio-l", "aiokafka"), ("rd-l", "confluent")):
            at, names = cluster.bootstrap, TopicNames.from_prefix(key, key)
            command = loop_command(kind, at, names) if kind else worker_command(at, key)
            course = Course(name=f"{kind or 'vqmon'}, one worker", names=names, commands=[command])
            middle, worst = await latency(cluster, course)
            print(f"{course.name:22} p50 {middle * 1000:6.0f} ms  p99 {worst * 1000:6.0f} ms at {STEADY_PER_SECOND}/s")
        print(f"restore of 10000 series {await restore(cluster, 10_000):.2f} s")
        for done, megabytes in await memory(cluster, long):
            print(f"resident after {done:7} records {megabytes:6.1f} MB")


if __name__ == "__main__":
    if not is_available():
        raise SystemExit(f"no Kafka here: {REMEDY}")
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--long", type=int, default=100_000)
    parser.add_argument("--only", choices=("", "cost"), default="")
    given = parser.parse_args()
    asyncio.run(main(given.records, given.long, given.only))
