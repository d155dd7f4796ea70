"""Workers against a real broker that is taken away, workers that are frozen, told to stop, or given poison."""

import asyncio
import os
import signal
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from random import Random

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from confluent_kafka.admin import AdminClient

from tests.acceptance.kafka.broker import REMEDY, Cluster, is_available
from tests.acceptance.kafka.fleet import (
    Worker,
    header,
    make_topics,
    message_of,
    publish,
    read_all,
    segments_of,
    until,
    woven,
)
from tests.conftest import need
from vqmon.core.types import Segment, SegmentFailure
from vqmon.transport.kafka import ClientConfig, IdempotentProducer, TopicNames
from vqmon.transport.kafka.records import Headers
from vqmon.transport.wire import cloudevents

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

PARTITIONS = 4
NUMBERS = count()
AWAY_SECONDS = float(os.environ.get("VQMON_AWAY_SECONDS", "25"))


class Stage:
    """Topics of its own on one broker, and workers on them."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.group = f"faults{next(NUMBERS)}"
        self.names = TopicNames.from_prefix(self.group, self.group)
        self.workers: list[Worker] = []
        self._folder = folder

    def worker(self, *, most_seconds: float = 0.02, **changes: object) -> Worker:
        """Start one more worker."""
        kafka = {
            "bootstrap": self.cluster.bootstrap.split(","),
            "group": self.group,
            "prefix": self.group,
            "partitions": PARTITIONS,
            "session_seconds": 6,
            "rebalance_seconds": 12,
            "max_message_bytes": 100_000,
            **changes,
        }
        log = self._folder / f"worker-{len(self.workers)}.log"
        self.workers.append(Worker(log, kafka, most_seconds=most_seconds, seed=len(self.workers)).start())
        return self.workers[-1]

    async def put(self, streams: int, each: int) -> int:
        """Publish segments."""
        segments = woven([f"stream-{number}" for number in range(streams)], each)
        return await publish(self.cluster.bootstrap, self.names.segments, segments)

    async def put_at(self, segments: Mapping[int, Sequence[Segment]]) -> None:
        """Publish segments to partitions of the test's choice."""
        for partition, each in segments.items():
            for segment in each:
                key, value, headers = message_of(segment)
                await self.put_raw(self.names.segments, partition, key, value, headers=headers)

    async def put_raw(self, topic: str, partition: int, key: bytes, value: bytes, *, headers: Headers = ()) -> None:
        """Produce any record."""
        producer = AIOKafkaProducer(bootstrap_servers=self.cluster.bootstrap)
        async with producer:
            await producer.send_and_wait(topic, value, key, partition=partition, headers=list(headers))

    def outcomes(self, least: int) -> Callable[[], Awaitable[bool]]:
        """Whether so many outcomes are visible."""

        async def are_there() -> bool:
            return len(await read_all(self.cluster.bootstrap, self.names.quality)) >= least

        return are_there

    async def inputs_seen(self) -> list[str]:
        """Which input records have an outcome, one entry per outcome."""
        return [header(record, "vqmon-input") for record in await read_all(self.cluster.bootstrap, self.names.quality)]


@pytest.fixture
async def stage(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Stage]:
    """A stage whose workers are gone afterwards."""
    made = Stage(cluster, tmp_path)
    await make_topics(cluster.bootstrap, made.names, partitions=PARTITIONS, copies=1)
    yield made
    for worker in made.workers:
        worker.kill()


async def test_a_frozen_worker_writes_nothing_after_it_was_fenced(stage: Stage) -> None:
    """SIGSTOP beyond the session, then SIGCONT: the others have taken over, and nothing of it comes through."""
    first = stage.worker(most_seconds=1.0)
    count = await stage.put(6, 60)
    await until(stage.outcomes(20), seconds=60)
    first.signal(signal.SIGSTOP)
    stage.worker()
    await until(stage.outcomes(count), seconds=60)
    before = await stage.inputs_seen()
    first.signal(signal.SIGCONT)

    async def noticed() -> bool:
        log = first.log.read_text(encoding="utf-8")
        return "group.fenced" in log or "group.lost" in log or log.count("group.assigned") > 1

    await until(noticed, seconds=60)
    more = await publish(stage.cluster.bootstrap, stage.names.segments, segments_of("late", 30))
    await until(stage.outcomes(count + more), seconds=60)
    after = await stage.inputs_seen()
    assert len(before) == len(set(before)) == count
    assert len(after) == len(set(after)) == count + more


async def test_a_segment_that_kills_its_worker_is_passed_by_whichever_has_it(stage: Stage) -> None:
    """Workers that keep nothing on a disk find it by the state topic; no other segment is blamed, lost or doubled."""
    segments = woven([f"stream-{number}" for number in range(6)], 40)
    deadly = replace(segments[20], url="file:///media/deadly.mp4")
    segments[20] = deadly
    await publish(stage.cluster.bootstrap, stage.names.segments, segments)
    workers = [stage.worker(most_seconds=0.2), stage.worker(most_seconds=0.2)]
    deaths = 0
    is_done = stage.outcomes(len(segments))

    async def is_done_with_restarts() -> bool:
        nonlocal deaths
        for worker in workers:
            if not worker.is_alive:
                deaths += 1
                worker.start()
        return await is_done()

    await until(is_done_with_restarts, seconds=200)
    records = await read_all(stage.cluster.bootstrap, stage.names.quality)
    inputs = [header(record, "vqmon-input") for record in records]
    assert len(inputs) == len(set(inputs)) == len(segments)
    outcomes = [cloudevents.parse_outcome(record.value) for record in records]
    unscored = {outcome.segment.key: outcome.reason for outcome in outcomes if isinstance(outcome, SegmentFailure)}
    assert unscored == {deadly.key: "poison"}
    assert 3 <= deaths <= 5


@pytest.mark.timeout(AWAY_SECONDS + 300)
async def test_a_broker_that_goes_away_is_waited_for(tmp_path: Path) -> None:
    """No crash, no loss, a clear message while it is away, and work goes on soon after its return."""
    need("kafka", present=is_available(), remedy=REMEDY)
    with Cluster(tmp_path / "broker") as cluster:
        stage = Stage(cluster, tmp_path)
        await make_topics(cluster.bootstrap, stage.names, partitions=PARTITIONS, copies=1)
        worker = stage.worker(most_seconds=0.2)
        try:
            count = await stage.put(4, 500)
            await until(stage.outcomes(10), seconds=60)
            cluster.brokers[0].kill()
            await asyncio.sleep(AWAY_SECONDS)
            assert worker.is_alive
            cluster.brokers[0].start()
            await asyncio.to_thread(cluster.brokers[0].wait)
            back = time.monotonic()
            await until(stage.outcomes(count), seconds=90)
            print(f"all {count} outcomes {time.monotonic() - back:.1f} s after the broker's return")  # noqa: T201
            seen = await stage.inputs_seen()
            assert len(seen) == len(set(seen)) == count
            assert "kafka.unreachable" in worker.log.read_text(encoding="utf-8")
            assert worker.stop() == 0
        finally:
            worker.kill()


async def test_sigterm_ends_a_worker_without_brokers_too(tmp_path: Path) -> None:
    """With work in hand that cannot be written, and with no broker to say goodbye to, it still ends in time."""
    need("kafka", present=is_available(), remedy=REMEDY)
    with Cluster(tmp_path / "broker") as cluster:
        stage = Stage(cluster, tmp_path)
        await make_topics(cluster.bootstrap, stage.names, partitions=PARTITIONS, copies=1)
        worker = stage.worker(most_seconds=1.0)
        try:
            await stage.put(4, 200)
            await until(stage.outcomes(5), seconds=60)
            cluster.brokers[0].kill()
            await asyncio.sleep(3)
            assert worker.stop(seconds=40) == 0
        finally:
            worker.kill()


async def test_sigterm_drains_and_hands_over(stage: Stage) -> None:
    """A worker that is told to stop ends well within its time; what it did not do, the next one does, once.

    Also when the group's offsets are gone by then, as they are a week later.
    """
    first = stage.worker(most_seconds=0.5)
    count = await stage.put(6, 50)
    await until(stage.outcomes(10), seconds=60)
    began = time.monotonic()
    assert first.stop(seconds=35) == 0
    assert "drain_cut" not in first.log.read_text(encoding="utf-8")
    print(f"drained in {time.monotonic() - began:.1f} s")  # noqa: T201
    admin = AdminClient({"bootstrap.servers": stage.cluster.bootstrap})
    for result in admin.delete_consumer_groups([stage.group, f"{stage.group}.gathered"]).values():
        result.result(timeout=30)
    stage.worker()
    await until(stage.outcomes(count), seconds=60)
    seen = await stage.inputs_seen()
    assert len(seen) == len(set(seen)) == count


async def test_reloads_lose_and_double_nothing(stage: Stage) -> None:
    """SIGHUP after SIGHUP at two workers: each drains, writes, joins again and goes on; none of them ends."""
    workers = [stage.worker(most_seconds=0.3), stage.worker(most_seconds=0.3)]
    count = await stage.put(6, 60)
    await until(stage.outcomes(10), seconds=60)
    for number in range(8):
        workers[number % 2].signal(signal.SIGHUP)
        await asyncio.sleep(0.4)
    await until(stage.outcomes(count), seconds=90)
    seen = await stage.inputs_seen()
    assert len(seen) == len(set(seen)) == count
    for worker in workers:
        assert worker.is_alive
        assert "daemon.reloading" in worker.log.read_text(encoding="utf-8")


async def test_segments_of_a_dead_origin_hold_back_no_other_stream(stage: Stage) -> None:
    """The healthy streams of the partition go on at once, the dead one is `origin_away` after its wait, also when the
    worker is replaced meanwhile: one outcome each, in the order of each stream.
    """
    sick = [replace(each, url=f"https://dead.example/{each.sequence}.ts") for each in segments_of("sick", 4)]
    healthy = woven(["stream-0", "stream-1", "stream-2", "stream-3", "stream-4"], 20)
    await publish(stage.cluster.bootstrap, stage.names.segments, [*sick, *healthy])
    first = stage.worker(origin_wait_seconds=3600)
    await until(stage.outcomes(100), seconds=60)
    assert first.stop() == 0
    stage.worker(origin_wait_seconds=2)
    await until(stage.outcomes(104), seconds=60)
    records = await read_all(stage.cluster.bootstrap, stage.names.quality)
    seen = [header(record, "vqmon-input") for record in records]
    assert len(seen) == len(set(seen)) == 104
    order: dict[str, list[int]] = defaultdict(list)
    for outcome in (cloudevents.parse_outcome(record.value) for record in records):
        order[outcome.segment.rendition.stream_id].append(outcome.segment.sequence)
        if outcome.segment.rendition.stream_id == "sick":
            assert getattr(outcome, "reason", "scored") == "origin_away"
    assert order == {"sick": list(range(4)), **{f"stream-{number}": list(range(20)) for number in range(5)}}
    alerts = [
        cloudevents.parse_alert(record.value) for record in await read_all(stage.cluster.bootstrap, stage.names.alerts)
    ]
    assert [alert.state for alert in alerts if alert.rule == "origin-away"] == ["open"]


async def test_sick_partitions_stop_alone_and_say_why(stage: Stage) -> None:
    """Deleted records, a state that cannot be read, an outcome that is too large, and an added partition without
    companions: each has a message and an alert of its own, while the healthy partition is read.
    """
    names, random = stage.names, Random(1)
    stream_ids = [f"of-partition-{number}" for number in range(5)]
    await stage.put_at({number: segments_of(stream_ids[number], 1) for number in range(4)})
    first = stage.worker()
    await until(stage.outcomes(4), seconds=60)
    assert first.stop() == 0
    long_prompt = "".join(random.choices("0123456789abcdef", k=2000))
    admin = AIOKafkaAdminClient(bootstrap_servers=stage.cluster.bootstrap)
    await admin.start()
    try:
        await admin.create_partitions({names.segments: NewPartitions(5)})
        await admin.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, names.quality, {"max.message.bytes": "3000"})]
        )
        later = {number: segments_of(stream_ids[number], 3, first=1) for number in range(4)}
        later[1][1] = replace(later[1][1], prompt=long_prompt)
        await stage.put_at({**later, 4: segments_of(stream_ids[4], 1)})
        await stage.put_raw(names.state, 2, b"floor|of-partition-2", b"{}")
        await admin.delete_records({TopicPartition(names.segments, 0): RecordsToDelete(before_offset=3)})
        worker = stage.worker()

        async def stopped() -> dict[int, str]:
            records = await read_all(stage.cluster.bootstrap, names.alerts)
            alerts = [cloudevents.parse_alert(record.value) for record in records]
            return {int(alert.rendition[-1]): alert.summary for alert in alerts if alert.rule == "partition-stopped"}

        async def all_stopped() -> bool:
            return len(await stopped()) == 3

        await until(all_stopped, seconds=60)
        summaries = await stopped()
        assert "the stored offset is 1, but the topic holds offsets 3 to 4" in summaries[0]
        assert f"for {names.segments}/1/2 is larger than topic {names.quality} (partition 1) takes" in summaries[1]
        assert f"{names.state} partition 2: the state 'floor|of-partition-2' (2 bytes)" in summaries[2]
        log = worker.log.read_text(encoding="utf-8")
        assert f"{names.quality} (4 partitions)" in log
        companions = (names.quality, names.control, names.alerts, names.state, names.rejected)
        await admin.create_partitions({name: NewPartitions(5) for name in companions})
    finally:
        await admin.close()

    async def last_ones_are_there() -> bool:
        records = await read_all(stage.cluster.bootstrap, names.quality)
        return {(record.partition, record.key) for record in records} >= {
            (number, stream_ids[number].encode()) for number in range(5)
        } and sum(record.partition == 3 for record in records) == 4

    await until(last_ones_are_there, seconds=60)
    assert worker.is_alive


async def test_poison_on_a_real_topic_has_outcomes_too(stage: Stage) -> None:
    """Bad records between good ones: one outcome each, the bytes kept, the good ones unharmed."""
    good = segments_of("stream-0", 20)
    await publish(stage.cluster.bootstrap, stage.names.segments, good[:10])
    poison = [(b"stream-0", b"{", ()), (b"other", b"[]", (("traceparent", b"x"),)), (b"x", b"y" * 99_000, ())]
    async with IdempotentProducer(ClientConfig(bootstrap=tuple(stage.cluster.bootstrap.split(",")))) as publisher:
        await publisher.publish(stage.names.segments, poison)
    await publish(stage.cluster.bootstrap, stage.names.segments, good[10:])
    stage.worker(max_message_bytes=50_000)
    await until(stage.outcomes(23), seconds=60)
    outcomes = [
        cloudevents.parse_outcome(record.value)
        for record in await read_all(stage.cluster.bootstrap, stage.names.quality)
    ]
    assert sorted(getattr(outcome, "reason", "scored") for outcome in outcomes) == ["message"] * 2 + ["scored"] * 20 + [
        "too_large"
    ]
    rejected = await read_all(stage.cluster.bootstrap, stage.names.rejected)
    assert {record.value for record in rejected} == {value for _, value, _ in poison}


async def test_a_worker_refuses_topics_that_are_not_right(stage: Stage) -> None:
    """A missing topic ends the worker with a message that names it and the remedy."""
    worker = stage.worker(prefix="nothing-here")

    async def ended() -> bool:
        return not worker.is_alive

    await until(ended, seconds=60)
    assert "nothing-here.segments.v1" in worker.log.read_text(encoding="utf-8")
    assert "vqmon topics create" in worker.log.read_text(encoding="utf-8")
