"""One partition: order, poison, state, broken writers, fences, and records that were deleted."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from pipelines.fleet.judging.judge import REJECTED_RULE
from pipelines.fleet.membership import GroupMember
from pipelines.fleet.partitions import worker as partition_module
from pipelines.fleet.partitions.context import PartitionContext
from pipelines.fleet.partitions.worker import PartitionWorker
from pipelines.observe.observer import Observation
from tests.acceptance.kafka.observers import outcome_of_segment
from tests.pipelines.memory_fleet import NAMES, MemoryFleet, segment, until
from vqmon.core.alerts.judge import Judge
from vqmon.core.types import QualityEvent, Segment, SegmentFailure, failure_from_error
from vqmon.errors import FetchError
from vqmon.flow import parked
from vqmon.settings.rules_file import parse_rules

RULES = parse_rules((Path(__file__).parents[4] / "config" / "rules.toml").read_text(), origin="rules.toml")


async def test_outcomes_come_in_input_order_whatever_finishes_first() -> None:
    """Work runs in parallel; outcomes leave in the order of the input, gaps in the offsets notwithstanding."""
    fleet, random = MemoryFleet(partitions=1), Random(1)

    async def slowly(segment: Segment) -> Observation:
        await asyncio.sleep(random.random() / 100)
        return Observation(outcome=outcome_of_segment(segment))

    for number in range(60):
        fleet.put(0, segment(number))
    await fleet.drain(fleet.context(slowly), 60)
    assert [outcome.segment.sequence for outcome in fleet.outcomes] == list(range(60))
    assert fleet.broker.offsets["g", NAMES.segments, 0] == fleet.broker.end_offset(NAMES.segments, 0)


async def test_every_record_has_one_outcome_and_poison_is_kept_with_its_bytes() -> None:
    """Bad JSON, a wrong schema, a missing key, an empty and a too large record are rejected, with an outcome each."""
    fleet = MemoryFleet(partitions=1)
    fleet.put(0, segment(0))
    poison = [(b"news", b"{"), (b"news", b"{}"), (None, b"\xff\xfe"), (None, None), (b"news", b"x" * 10_001)]
    for key, value in poison:
        fleet.put_raw(0, key, value, ("traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"))
    fleet.put(0, segment(1, url="file:///gone"))
    await fleet.drain(fleet.context(), 7)
    kinds = [outcome.reason if isinstance(outcome, SegmentFailure) else "scored" for outcome in fleet.outcomes]
    assert kinds == ["scored", "message", "message", "message", "message", "too_large", "not_found"]
    rejected = fleet.broker.records(NAMES.rejected)
    assert [(record.key, record.value) for record in rejected] == poison
    facts = dict(rejected[0].headers)
    assert facts["vqmon-rejected-reason"] == b"message"
    assert facts["vqmon-rejected-offset"] == b"2"
    assert facts["traceparent"].startswith(b"00-aaaa")
    assert len({outcome.id for outcome in fleet.outcomes}) == 7


async def test_a_prompt_goes_with_the_segment() -> None:
    """Into the outcome of the message that says it; the next one has none."""
    fleet = MemoryFleet(partitions=1)
    fleet.put(0, replace(segment(0), prompt="A fox in the snow, “35 mm”"))
    fleet.put(0, segment(1))
    await fleet.drain(fleet.context(), 2)
    assert [outcome.segment.prompt for outcome in fleet.outcomes] == ["A fox in the snow, “35 mm”", ""]


async def test_trace_and_input_position_go_with_the_outcome() -> None:
    """The trace context comes out as it came in; a malformed one is dropped."""
    fleet = MemoryFleet(partitions=1)
    good = b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"
    fleet.put(0, segment(0), ("traceparent", good), ("tracestate", b"x=y"))
    fleet.put(0, segment(1), ("traceparent", b"nonsense"))
    await fleet.drain(fleet.context(), 2)
    first, second = (dict(record.headers) for record in fleet.broker.records(NAMES.quality))
    assert (first["traceparent"], first["tracestate"]) == (good, b"x=y")
    assert "traceparent" not in second
    assert first["vqmon-input"] == f"{NAMES.segments}/0/0".encode()


@pytest.mark.parametrize("fault", ["refused", "not_written", "written"])
async def test_a_broken_write_is_repaired_without_a_double(fault: str) -> None:
    """Whether or not the broken transaction is there, the batch ends up there once."""
    fleet = MemoryFleet(partitions=1)
    fleet.broker.faults.extend([None, fault, "refused", None])  # type: ignore[list-item]
    fleet.put(0, segment(0))
    fleet.put(0, segment(1))
    await fleet.drain(fleet.context(gather_seconds=0.05), 2)
    assert [outcome.segment.sequence for outcome in fleet.outcomes] == [0, 1]


async def test_alerts_go_on_where_another_worker_left_them() -> None:
    """State comes back from the changelog: two workers one after the other alert like one without a break."""
    fleet = MemoryFleet(partitions=1, rules=RULES)
    for number in range(100):
        fleet.put(0, segment(number))
        if number in (35, 70):
            await fleet.drain(fleet.context(), number + 1)
    await fleet.drain(fleet.context(), 100)
    judge = Judge(RULES)
    expected = [alert for segment in fleet.inputs for alert in judge.judge(outcome_of_segment(segment))]
    assert fleet.alerts == expected
    assert len(expected) >= 4
    assert fleet.restored == [0, 0, 0]


async def test_state_is_kept_when_the_partition_comes_back() -> None:
    """A rebalance that gives a partition back needs no restore; one that moves it does."""
    fleet = MemoryFleet(partitions=2, rules=RULES)
    stops = [asyncio.Event(), asyncio.Event()]
    async with asyncio.TaskGroup() as group:
        group.create_task(fleet.member(fleet.context(), stops[0]).run())
        for number in range(50):
            fleet.put(0, segment(number))
            fleet.put(1, segment(number, stream_id="sport"))
        await fleet.until(100)
        assert sorted(fleet.restored) == [0, 1]
        group.create_task(fleet.member(fleet.context(), stops[1]).run())
        fleet.put(0, segment(50))
        fleet.put(1, segment(50, stream_id="sport"))
        await fleet.until(102)
        assert sorted(fleet.restored) == [0, 1, 1]
        for stop in stops:
            stop.set()
    assert all(isinstance(outcome, QualityEvent) for outcome in fleet.outcomes)


async def test_a_partition_of_poison_stops_instead_of_draining_away() -> None:
    """When nearly all is rejected the partition stops with one alert; a good record later resolves it."""
    fleet = MemoryFleet(partitions=1)
    for _ in range(300):
        fleet.put_raw(0, b"news", b"{")
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        member = fleet.member(fleet.context(), stop)
        group.create_task(member.run())
        await until(lambda: any(worker.is_halted for worker in member.workers))
        stop.set()
    taken = len(fleet.outcomes)
    assert 100 < taken < 130
    assert [(alert.rule, alert.state, alert.severity) for alert in fleet.alerts] == [(REJECTED_RULE, "open", "page")]
    await _still_halted(fleet, taken)
    fleet.broker.logs[NAMES.segments, 0][taken:] = []
    fleet.put(0, segment(0))
    await fleet.drain(fleet.context(), taken + 1)
    assert [alert.state for alert in fleet.alerts] == ["open", "resolved"]


async def _still_halted(fleet: MemoryFleet, taken: int) -> None:
    """A new worker drains nothing more and says nothing twice."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        member = fleet.member(fleet.context(), stop)
        group.create_task(member.run())
        await until(lambda: any(worker.is_halted for worker in member.workers))
        stop.set()
    assert len(fleet.outcomes) == taken
    assert len(fleet.alerts) == 1


@asynccontextmanager
async def working(fleet: MemoryFleet, context: PartitionContext) -> AsyncIterator[GroupMember]:
    """One member that works while the body runs."""
    stop = asyncio.Event()
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        member = fleet.member(context, stop)
        group.create_task(member.run())
        try:
            yield member
        finally:
            stop.set()


def sick_worker(member: GroupMember) -> PartitionWorker:
    """The worker of partition 0."""
    return next(worker for worker in member.workers if worker.partition == 0)


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_module, "_RECHECK_SECONDS", 0.02)
    monkeypatch.setattr(partition_module, "_COMPANION_SECONDS", 0.02)


@pytest.mark.usefixtures("_quick")
async def test_deleted_records_stop_their_partition_alone_unless_told_to_go_on() -> None:
    """One alert says which offsets are gone and what to do; the other partition works. With "go_on" it resolves."""
    fleet = MemoryFleet(partitions=2)
    offsets = [fleet.put(0, segment(number)) for number in range(6)]
    fleet.broker.offsets["g", NAMES.segments, 0] = offsets[1]
    fleet.broker.beginning_offsets[NAMES.segments, 0] = offsets[4]
    fleet.put(1, segment(0, stream_id="sport"))
    for _ in range(2):
        async with working(fleet, fleet.context()) as member:
            await fleet.until(1)
            await until(lambda: bool(fleet.alerts) and any(worker.is_halted for worker in member.workers))
            assert "the stored offset is 2, but the topic holds offsets 8 to 11" in sick_worker(member).status
    (alert,) = fleet.alerts
    assert (alert.rule, alert.state, alert.severity) == ("partition-stopped", "open", "page")
    assert f"{NAMES.segments} partition 0 is stopped at offset 2" in alert.summary
    assert 'kafka.when_lost = "go_on"' in alert.summary
    async with working(fleet, fleet.context(when_lost="go_on")):
        await fleet.until(3)
    assert sequences(fleet, "news") == [4, 5]
    assert [alert.state for alert in fleet.alerts] == ["open", "resolved"]


@pytest.mark.usefixtures("_quick")
async def test_records_that_are_deleted_while_a_worker_runs_stop_their_partition_alone() -> None:
    """No membership is lost: the other partition's worker stays the same."""
    fleet = MemoryFleet(partitions=2)
    fleet.put(0, segment(0))
    fleet.put(1, segment(0, stream_id="sport"))
    async with working(fleet, fleet.context()) as member:
        await fleet.until(2)
        workers = set(member.workers)
        offsets = [fleet.put(0, segment(number)) for number in range(1, 5)]
        fleet.broker.beginning_offsets[NAMES.segments, 0] = offsets[2]
        await until(lambda: bool(fleet.alerts))
        assert "deleted before they were read" in sick_worker(member).status
        fleet.put(1, segment(1, stream_id="sport"))
        await fleet.until(3)
        assert set(member.workers) == workers
    async with working(fleet, fleet.context(when_lost="go_on")):
        await fleet.until(5)
    assert sequences(fleet, "news") == [0, 3, 4]


@pytest.mark.usefixtures("_quick")
async def test_a_state_that_cannot_be_read_stops_its_partition_alone() -> None:
    """The message names topic, partition, key and size; emptied, the partition goes on by itself."""
    fleet = MemoryFleet(partitions=2, rules=RULES)
    fleet.broker.append(NAMES.state, 0, b"floor|news", b"{}")
    fleet.put(0, segment(0))
    fleet.put(1, segment(0, stream_id="sport"))
    async with working(fleet, fleet.context()) as member:
        await until(lambda: bool(fleet.alerts))
        await fleet.until(1)
        problem = sick_worker(member).status
        assert f"{NAMES.state} partition 0: the state 'floor|news' (2 bytes)" in problem
        assert 'kafka.when_unreadable = "go_on"' in problem
        fleet.broker.append(NAMES.state, 0, b"floor|news", None)
        await fleet.until(2)
    assert [alert.state for alert in fleet.alerts] == ["open", "resolved"]


@pytest.mark.usefixtures("_quick")
async def test_an_outcome_that_its_topic_does_not_take_stops_its_partition_alone() -> None:
    """The message names both topics, partition, offset, size and remedy; with a larger limit it goes on, in order."""
    fleet = MemoryFleet(partitions=2)
    limit = fleet.broker.max_value_bytes
    for number in range(3):
        fleet.put(0, segment(number))
    fleet.put(0, replace(segment(3), prompt="x" * 2000))
    fleet.put(0, segment(4))
    fleet.put(1, segment(0, stream_id="sport"))
    limit[NAMES.quality] = 6000
    async with working(fleet, fleet.context(max_waiting=1)) as member:
        await until(lambda: bool(fleet.alerts))
        await fleet.until(4)
        problem = sick_worker(member).status
        assert f"{NAMES.segments} partition 0 is stopped at offset 5" in problem
        assert f"bytes for {NAMES.segments}/0/6 is larger than topic {NAMES.quality} (partition 0) takes" in problem
        assert f"raise max.message.bytes of {NAMES.quality}" in problem
        limit.clear()
        await fleet.until(6)
    assert sequences(fleet, "news") == list(range(5))
    assert [alert.state for alert in fleet.alerts] == ["open", "resolved"]


async def test_an_outcome_that_its_topic_does_not_take_can_be_a_failure_instead() -> None:
    """With "go_on" the segment is unscored, and no partition stops."""
    fleet = MemoryFleet(partitions=1)
    fleet.broker.max_value_bytes[NAMES.quality] = 1100
    for number in range(3):
        fleet.put(0, segment(number))
    await fleet.drain(fleet.context(when_too_large="go_on"), 3)
    assert [getattr(outcome, "reason", "scored") for outcome in fleet.outcomes] == ["outcome_too_large"] * 3
    assert fleet.alerts == []


@pytest.mark.usefixtures("_quick")
async def test_an_added_partition_is_read_as_soon_as_the_other_topics_have_it() -> None:
    """Until then its status says which topics lack it, and the others are read."""
    fleet = MemoryFleet(partitions=2)
    fleet.broker.partition_counts |= {NAMES.quality: 1, NAMES.state: 1}
    fleet.put(0, segment(0))
    fleet.put(1, segment(0, stream_id="sport"))
    async with working(fleet, fleet.context()) as member:
        await fleet.until(1)
        await until(lambda: any("was added" in worker.status for worker in member.workers))
        added = next(worker for worker in member.workers if worker.partition == 1)
        assert f"{NAMES.quality} (1 partition), {NAMES.state} (1 partition)" in added.status
        fleet.broker.partition_counts.clear()
        await fleet.until(2)


async def test_a_partition_that_seems_to_end_before_the_group_is_waited_for() -> None:
    """A new leader that does not know the end yet makes nobody skip, repeat or end."""
    fleet = MemoryFleet(partitions=1)
    first = fleet.put(0, segment(0))
    fleet.broker.offsets["g", NAMES.segments, 0] = first + 2
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        member = fleet.member(fleet.context(), stop)
        group.create_task(member.run())
        await asyncio.sleep(0.2)
        assert not any(worker.is_ready for worker in member.workers)
        fleet.put(0, segment(1))
        await fleet.until(1)
        stop.set()
    assert [outcome.segment.sequence for outcome in fleet.outcomes] == [1]


async def test_a_refused_bring_up_is_tried_again() -> None:
    """A broker that is away when a partition is assigned delays it, nothing more."""
    fleet = MemoryFleet(partitions=1)
    fleet.broker.faults.append("refused")
    fleet.put(0, segment(0))
    await fleet.drain(fleet.context(), 1)
    assert len(fleet.outcomes) == 1


async def test_own_bugs_end_the_process() -> None:
    """What is neither a segment's fault nor the broker's is raised, and the record stays uncommitted."""

    async def broken(segment: Segment) -> Observation:
        raise ZeroDivisionError

    fleet = MemoryFleet(partitions=1)
    fleet.put(0, segment(0))
    with pytest.raises(ZeroDivisionError):
        await fleet.member(fleet.context(broken), asyncio.Event()).run()
    assert fleet.outcomes == []
    assert ("g", NAMES.segments, 0) not in fleet.broker.offsets


async def test_an_idle_partition_steps_over_what_is_no_record() -> None:
    """Markers at the end are committed over, so that the partition does not look behind for ever."""
    fleet, stop = MemoryFleet(partitions=1), asyncio.Event()
    fleet.put(0, segment(0))
    fleet.broker.markers[NAMES.segments, 0] = 3
    beyond = fleet.broker.end_offset(NAMES.segments, 0) + 3
    async with asyncio.TaskGroup() as group:
        group.create_task(fleet.member(fleet.context(idle_seconds=0.05), stop).run())
        await until(lambda: fleet.broker.offsets.get(("g", NAMES.segments, 0)) == beyond)
        stop.set()
    assert len(fleet.outcomes) == 1


class Origins:
    """Segments of the stream `sick` wait for their origin until `answer` says how that ends; others do not."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def observe(self, segment: Segment) -> Observation:
        if segment.rendition.stream_id == "sick":
            with parked():
                if await asyncio.shield(self.answer) == "away":
                    error = FetchError("origin_away", "origin.example has served no segment for 60 s")
                    return Observation(outcome=failure_from_error(segment, error, observed_at=segment.ends_at))
        return Observation(outcome=outcome_of_segment(segment))


def put_sick_and_healthy(fleet: MemoryFleet) -> None:
    """Four segments of a dead origin, then twenty of two healthy streams, and two more of the dead one between."""
    for number in range(4):
        fleet.put(0, segment(number, stream_id="sick", url=f"https://origin.example/{number}.ts"))
    for number in range(10):
        fleet.put(0, segment(number, stream_id="a"))
        fleet.put(0, segment(number, stream_id="b"))
        if number in (3, 6):
            fleet.put(0, segment(4 + number // 6, stream_id="sick", url="https://origin.example/later.ts"))


def sequences(fleet: MemoryFleet, stream_id: str) -> list[int]:
    """What was published of one stream, in the order of the topic."""
    return [outcome.segment.sequence for outcome in fleet.outcomes if outcome.segment.rendition.stream_id == stream_id]


async def test_a_sick_stream_holds_back_nobody_and_a_restart_neither_loses_nor_doubles() -> None:
    """Healthy streams go on while it waits; the next worker reads what was passed, and nothing that is finished."""
    fleet, origins, stop = MemoryFleet(partitions=1), Origins(), asyncio.Event()
    put_sick_and_healthy(fleet)
    async with asyncio.TaskGroup() as group:
        group.create_task(fleet.member(fleet.context(origins.observe), stop).run())
        await fleet.until(20)
        fleet.put(0, segment(10, stream_id="a"))
        await fleet.until(21)
        stop.set()
    assert sequences(fleet, "sick") == []
    assert fleet.broker.offsets["g", NAMES.segments, 0] == 0
    origins.answer.set_result("up")
    await fleet.drain(fleet.context(origins.observe), 27)
    assert sequences(fleet, "sick") == list(range(6))
    assert sequences(fleet, "a") == list(range(11))
    assert sequences(fleet, "b") == list(range(10))
    assert len(fleet.outcomes) == 27
    assert fleet.broker.offsets["g", NAMES.segments, 0] == fleet.broker.end_offset(NAMES.segments, 0)
    assert "overtaken" not in fleet.broker.read_state(NAMES.state, 0)


async def test_an_origin_that_is_away_raises_an_alert_to_the_operator_until_it_serves_again() -> None:
    """One alert, which names origin, topic and partition; it resolves with the first segment that is served."""
    fleet, origins = MemoryFleet(partitions=1), Origins()
    put_sick_and_healthy(fleet)
    origins.answer.set_result("away")
    await fleet.drain(fleet.context(origins.observe), 26)
    reasons = {getattr(outcome, "reason", "scored") for outcome in fleet.outcomes}
    assert reasons == {"origin_away", "scored"}
    (alert,) = fleet.alerts
    assert (alert.rule, alert.state) == ("origin-away", "open")
    assert "origin.example has served no segment for 60 s" in alert.summary
    assert f"{NAMES.segments} partition 0" in alert.summary
    origins = Origins()
    origins.answer.set_result("up")
    fleet.put(0, segment(6, stream_id="sick", url="https://origin.example/6.ts"))
    await fleet.drain(fleet.context(origins.observe), 27)
    assert [alert.state for alert in fleet.alerts] == ["open", "resolved"]
    assert fleet.alerts[0].id == fleet.alerts[1].id


@pytest.mark.parametrize("lost", ["expired", "set back"])
async def test_an_offset_that_the_group_has_lost_is_in_the_state_topic(
    lost: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is read twice, neither before the offset nor what was finished beyond it; the group gets it back."""
    fleet, origins, stop = MemoryFleet(partitions=1), Origins(), asyncio.Event()
    fleet.put(0, segment(90, stream_id="a"))
    await fleet.drain(fleet.context(), 1)
    put_sick_and_healthy(fleet)
    async with asyncio.TaskGroup() as group:
        group.create_task(fleet.member(fleet.context(origins.observe), stop).run())
        await fleet.until(21)
        stop.set()
    key = ("g", NAMES.segments, 0)
    assert fleet.broker.offsets.pop(key) == 2
    fleet.broker.commit_metadata.pop(key)
    if lost == "set back":
        fleet.broker.offsets[key] = 0
    stop = asyncio.Event()
    with caplog.at_level("WARNING", "vqmon.fleet"):
        async with asyncio.TaskGroup() as group:
            group.create_task(fleet.member(fleet.context(origins.observe), stop).run())
            await until(lambda: fleet.broker.offsets.get(key) == 2)
            origins.answer.set_result("up")
            await fleet.until(27)
            stop.set()
    assert "partition.offset_restored" in [record.getMessage() for record in caplog.records]
    assert len(fleet.outcomes) == len({outcome.id for outcome in fleet.outcomes}) == 27
    assert fleet.broker.offsets[key] == fleet.broker.end_offset(NAMES.segments, 0)


async def test_an_offset_that_an_operator_sets_forward_counts() -> None:
    """The records before it are not wanted."""
    fleet = MemoryFleet(partitions=1)
    for number in range(10):
        fleet.put(0, segment(number))
    await fleet.drain(fleet.context(), 10)
    for number in range(10, 20):
        fleet.put(0, segment(number))
    fleet.broker.offsets["g", NAMES.segments, 0] = 2 * 15
    await fleet.drain(fleet.context(), 15)
    assert [outcome.segment.sequence for outcome in fleet.outcomes] == [*range(10), *range(15, 20)]
