"""The readiness, states and lags that a worker reports of its partitions."""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from types import SimpleNamespace

import pytest

from pipelines.fleet.membership import SILENT_SECONDS
from pipelines.fleet.monitoring import LagTrend, MembershipMonitor, PartitionLag, measure_lag
from pipelines.observe.observer import Observation
from tests.acceptance.kafka.observers import outcome_of_segment
from tests.pipelines.memory_fleet import NAMES, MemoryFleet, segment, until
from vqmon.core.types import Segment
from vqmon.telemetry.bottleneck import Bottleneck
from vqmon.telemetry.health import ProgressTracker
from vqmon.telemetry.metrics import Meters, MetricName
from vqmon.transport.kafka.in_memory import MemoryLagReader
from vqmon.transport.kafka.records import Record


class GaugeMeters(Meters):
    """Remembers the newest value of each gauge, by (name, labels...), and what was counted."""

    def __init__(self) -> None:
        super().__init__()
        self.gauges: dict[tuple[str, ...], float] = {}
        self.counted: list[tuple[str, ...]] = []

    def set(self, name: MetricName, value: float, **labels: str) -> None:
        self.gauges[(name, *labels.values())] = value

    def replace(self, name: MetricName, series: Iterable[tuple[float, Mapping[str, str]]]) -> None:
        self.gauges = {key: value for key, value in self.gauges.items() if key[0] != name}
        self.gauges |= {(name, *labels.values()): value for value, labels in series}

    def count(self, name: MetricName, amount: int = 1, **labels: str) -> None:
        self.counted.append((name, *labels.values()))


def worker(partition: int = 0, **fields: object) -> SimpleNamespace:
    """The worker of one partition, as a monitor sees it."""
    defaults = {"state": "ready", "status": "ready", "held_seconds": 0.0, "oldest_record": None, "next_offset": 40}
    facts = {**defaults, **fields}
    return SimpleNamespace(partition=partition, is_halted=facts["state"] == "halted", **facts)


def record(offset: int, *, timestamp_ms: int) -> Record:
    return Record(0, offset, b"k", b"v", (), timestamp_ms)


HALTED = worker(state="halted", status="stopped at offset 40: nearly every record is rejected")
OPENING = worker(4, state="opening", status="opening")
STALLED = worker(held_seconds=60.5, oldest_record=record(41, timestamp_ms=0))


class StandInMember:
    """A membership whose state the test sets."""

    def __init__(
        self, *workers: SimpleNamespace, has_assignment: bool = True, silent: float = 0.0, stuck: float = 0.0
    ) -> None:
        self.has_assignment = has_assignment
        self.silent = silent
        self.stuck = stuck
        self.workers = workers

    def silent_seconds(self) -> float:
        return self.silent

    def stuck_seconds(self) -> float:
        return self.stuck


class Monitored:
    """A monitor and what it reports to."""

    def __init__(self, **members: StandInMember) -> None:
        self.progress = ProgressTracker(lambda: 0.0)
        self.meters = GaugeMeters()
        self.seconds = 0.0
        self.bottleneck = Bottleneck(lambda: self.seconds)
        self.monitor = MembershipMonitor(
            self.progress,
            self.meters,
            stalled_seconds=60.0,
            trend=LagTrend(slots=2, monotonic=lambda: self.seconds),
            bottleneck=self.bottleneck,
            segments_topic="in",
        )
        for topic, member in members.items():
            self.follow(topic, member)

    def follow(self, topic: str, member: StandInMember) -> None:
        self.monitor.follow(topic, member)  # type: ignore[arg-type]


def overloads(lags: Iterable[float], *, in_flight: int = 2) -> list[bool]:
    """Whether a worker with two places is overloaded, second by second."""
    seconds = [0.0]
    trend, answers = LagTrend(slots=2, monotonic=lambda: seconds[0]), []
    for lag in lags:
        seconds[0] += 1.0
        trend.record(lag, in_flight=in_flight)
        answers.append(trend.is_overloaded)
    return answers


def test_a_lag_that_grows_while_the_worker_is_at_its_limit_is_an_overload() -> None:
    """Not at the first minute above a minute, and until a minute after the last growth."""
    answers = overloads([50 + number for number in range(100)])
    assert answers.index(True) == 60
    assert answers[60:] == [True] * 40
    answers = overloads([*(100 + number for number in range(90)), *(190 - number for number in range(190))])
    assert not any(answers[90 + 31 + 60 :])


@pytest.mark.parametrize(
    ("lags", "in_flight"),
    [
        # a backlog that becomes smaller, as after a stop
        ([900.0 - number for number in range(200)], 2),
        # young records
        ([number / 10 for number in range(200)], 2),
        # an origin is waited for, and places are free
        ([float(number) for number in range(300)], 1),
    ],
)
def test_other_lags_are_none(lags: list[float], in_flight: int) -> None:
    """They say nothing about the machine."""
    assert not any(overloads(lags, in_flight=in_flight))


def test_an_overload_is_said_by_the_probe_and_by_one_partition() -> None:
    """With what is short, and what to do."""
    monitored = Monitored(**{"in": StandInMember(OPENING, worker(1), worker(2), worker(3))})
    tickets = [monitored.progress.begin() for _ in range(2)]
    for second in range(90):
        monitored.seconds = float(second)
        monitored.bottleneck.record_stage("score", 3.0)
        # nothing is judged in partition 1, so that it cannot say anything
        monitored.monitor._lags["in"] = [
            PartitionLag(partition=partition, records=records, seconds=records and 100.0 + second)
            for partition, records in ((1, 0), (2, 9), (3, 9))
        ]
        monitored.monitor.update()
        assert (monitored.monitor.overload_of(3) is None) == (second < 60)
    warning = monitored.progress.warning
    assert warning.startswith("vqmon cannot keep up, score is short; the oldest segment waits for 189 s in Kafka")
    assert [monitored.monitor.overload_of(partition) for partition in (1, 2, 3, 4)] == ["", warning, "", ""]
    assert monitored.meters.gauges["vqmon.overloaded", "score"] == 1.0
    for ticket in tickets:
        monitored.progress.end(ticket)
    monitored.seconds += 61.0
    monitored.monitor.update()
    assert (monitored.progress.warning, monitored.monitor.overload_of(2)) == ("", "")


def test_before_the_first_membership_nothing_is_reported() -> None:
    """Neither stuck nor ready, and no gauge has a value that nobody measured."""
    monitored = Monitored()
    monitored.monitor.update()
    assert monitored.monitor.stuck_seconds() == 0.0
    assert not monitored.progress.is_ready
    assert monitored.meters.gauges == {}


@pytest.mark.parametrize(
    ("member", "problem"),
    [
        (StandInMember(worker(0), worker(1)), ""),
        (StandInMember(), ""),
        (StandInMember(has_assignment=False), "in: waiting for the group to assign partitions"),
        (StandInMember(worker(0), OPENING), "in/4: opening"),
        (StandInMember(silent=SILENT_SECONDS - 0.1), ""),
        (StandInMember(silent=SILENT_SECONDS), "no broker has answered for 10 s"),
        (StandInMember(HALTED, worker(1)), "in/0: stopped at offset 40: nearly every record is rejected"),
        (StandInMember(worker(held_seconds=60.0, oldest_record=record(41, timestamp_ms=0))), ""),
        (StandInMember(STALLED), "in/0: stalled: the record at offset 41 is held for 60 s"),
        (StandInMember(*[OPENING] * 5), "in/4: opening; in/4: opening; in/4: opening; and 2 more"),
    ],
)
def test_readiness_names_what_is_missing(member: StandInMember, problem: str) -> None:
    """A worker is ready when brokers answer and every assigned partition gets on."""
    monitored = Monitored(**{"in": member})
    monitored.monitor.update()
    assert (monitored.progress.is_ready, monitored.progress.problem) == (not problem, problem)
    assert monitored.meters.gauges["vqmon.kafka.connected",] == (member.silent < SILENT_SECONDS)


def test_all_memberships_must_be_well() -> None:
    """The worst of them decides; halted partitions add up, and each partition has one state."""
    monitored = Monitored(
        segments=StandInMember(HALTED, STALLED.__class__(**{**vars(STALLED), "partition": 7}), stuck=3.0),
        gathered=StandInMember(HALTED, silent=20.0, stuck=7.0),
    )
    monitored.monitor.update()
    assert monitored.monitor.stuck_seconds() == 7.0
    assert not monitored.progress.is_ready
    gauges = monitored.meters.gauges
    assert gauges["vqmon.kafka.connected",] == 0
    assert gauges["vqmon.kafka.halted",] == 2
    assert [key[1:] for key in gauges if key[0] == "vqmon.kafka.partition"] == [
        ("segments", "0", "halted"),
        ("segments", "7", "stalled"),
        ("gathered", "0", "halted"),
    ]
    assert gauges["vqmon.kafka.oldest", "segments", "7"] == 60.5


def test_the_newest_membership_of_a_topic_is_measured() -> None:
    """One that was lost no longer counts, nor a partition that is assigned no more."""
    monitored = Monitored(segments=StandInMember(has_assignment=False, silent=60.0, stuck=60.0))
    monitored.follow("segments", StandInMember(worker(0), worker(3)))
    monitored.monitor._lags["segments"] = [
        PartitionLag(partition=partition, records=partition + 4, seconds=None) for partition in (0, 1, 3)
    ]
    monitored.monitor.update()
    assert monitored.progress.is_ready
    assert monitored.monitor.stuck_seconds() == 0.0
    lags = {key[2]: value for key, value in monitored.meters.gauges.items() if key[0] == "vqmon.kafka.lag"}
    assert lags == {"0": 4, "3": 7}


def test_lost_brokers_are_logged_once_and_once_more_when_they_answer(caplog: pytest.LogCaptureFixture) -> None:
    """Not at each update meanwhile."""
    member = StandInMember()
    monitored = Monitored(segments=member)
    with caplog.at_level(logging.WARNING, "vqmon.fleet"):
        for silent in (0.0, 11.0, 12.0, 0.0, 1.0):
            member.silent = silent
            monitored.monitor.update()
    assert [record.getMessage() for record in caplog.records] == ["kafka.unreachable", "kafka.connected"]


class StandInReader:
    """Offsets as a broker has them; partition 9 has no leader."""

    def __init__(self, timestamps: Mapping[int, int]) -> None:
        self.timestamps = timestamps
        self.peeks: list[dict[int, int]] = []

    async def end_offsets(self, partitions: Iterable[int]) -> Mapping[int, int]:
        return {partition: 100 for partition in partitions if partition != 9}

    async def next_offsets(self, partitions: Iterable[int]) -> Mapping[int, int]:
        return dict.fromkeys(partitions, 10)

    async def timestamps_ms(self, offsets: Mapping[int, int]) -> Mapping[int, int]:
        self.peeks.append(dict(offsets))
        return {partition: self.timestamps[partition] for partition in offsets if partition in self.timestamps}


async def test_lag_is_measured_whatever_a_partition_is_doing() -> None:
    """From the record in hand, or else from the topic, which is read once per offset; unknown is not 0."""
    reader, known = StandInReader({1: 30_000, 3: 80_000}), dict[tuple[int, int], int]()
    workers = [
        worker(0, oldest_record=record(40, timestamp_ms=90_000)),
        worker(1, state="opening", next_offset=None),
        worker(2, next_offset=100),
        worker(3),
        worker(4),
        worker(9),
    ]
    for _ in range(2):
        lags = await measure_lag(workers, reader, now_ms=100_000, known=known)  # type: ignore[arg-type]
        assert {lag.partition: (lag.records, lag.seconds) for lag in lags} == {
            0: (60, 10.0),
            1: (90, 70.0),
            2: (0, 0.0),
            3: (60, 20.0),
            4: (60, None),
            9: (None, None),
        }
    assert reader.peeks == [{1: 10, 3: 40, 4: 40}, {4: 40}]


async def test_a_stalled_partition_shows_its_whole_lag_and_the_record_that_it_waits_for() -> None:
    """Also for the records that were never polled, as the queue is full."""
    fleet, released = MemoryFleet(partitions=1), asyncio.Event()

    async def observe(segment: Segment) -> Observation:
        await released.wait()
        return Observation(outcome=outcome_of_segment(segment))

    for number in range(50):
        fleet.put(0, segment(number))
    reader = MemoryLagReader(fleet.broker, topic=NAMES.segments, group="g")
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        member = fleet.member(fleet.context(observe), stop)
        group.create_task(member.run())
        await until(lambda: bool(member.workers) and member.workers[0].oldest_record is not None)
        stalled = member.workers[0]
        lags = await measure_lag(member.workers, reader, now_ms=1_767_225_607_000, known={})
        assert lags == [PartitionLag(partition=0, records=99, seconds=7.0)]
        assert stalled.oldest_record is not None
        assert (stalled.oldest_record.offset, stalled.held_seconds > 0) == (0, True)
        released.set()
        await until(lambda: stalled.next_offset == 99)
        assert (stalled.oldest_record, stalled.held_seconds) == (None, 0.0)
        stop.set()
