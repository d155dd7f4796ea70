"""Any order of faults, takeovers and restarts on an in-memory Kafka: exactly one outcome per record, in order."""

import asyncio
from pathlib import Path
from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.fleet.membership import run_member
from pipelines.observe.observer import Observation
from pipelines.observe.poison import PoisonGuard
from tests.acceptance.kafka.observers import good_score, outcome_of_score
from tests.factories import START
from tests.pipelines.memory_fleet import NAMES, MemoryFleet, judged_with_groups, segment, until
from vqmon.core.alerts.judge import Judge
from vqmon.core.alerts.regression.groups.detector import GroupJudge, MemberValue
from vqmon.core.types import Outcome, Segment
from vqmon.flow import parked, run_concurrently
from vqmon.settings.rules_file import parse_rules
from vqmon.transport.wire import cloudevents
from vqmon.transport.wire.alert_states.states import state_key
from vqmon.transport.wire.member_values import parse_member_values

QUICK = """
[rules.quick]
kind = "regression"
severity = "ticket"
scorer = "lite"
block_seconds = 60
false_alarm_days = 0.1
[rules.both]
kind = "group"
severity = "page"
of = "quick"
min_series = 2
block_seconds = 60
false_alarm_days = 0.1
"""
SHIPPED = parse_rules((Path(__file__).parents[3] / "config" / "rules.toml").read_text(), origin="rules.toml")
RULES = (*SHIPPED, *parse_rules(QUICK, origin="quick"))
GROUPED = judged_with_groups(RULES)
EACH, FELL = 120, 90
FAULTS = st.lists(st.sampled_from([None, None, None, "refused", "not_written", "written"]), max_size=40)
WRITE_FAULTS = st.lists(st.sampled_from([None, None, None, "not_written", "written"]), max_size=20)
STEPS = st.lists(st.sampled_from(["join", "leave", "crash", "wait"]), min_size=2, max_size=8)


def fallen(segment: Segment) -> Outcome:
    """Every stream is 50 points lower in the end: late enough for a regression rule to know what is usual."""
    return outcome_of_score(segment, good_score(segment) - (50 if segment.sequence >= FELL else 0))


async def play(faults: list[str | None], steps: list[str], seed: int) -> MemoryFleet:
    """Members come, go and crash while records are read and writes break."""
    fleet, random, number = MemoryFleet(partitions=2, rules=RULES), Random(seed), 0
    guard = PoisonGuard(Path("never-opened"), now=lambda: START)

    async def observe(segment: Segment) -> Observation:
        async with guard.turn(segment):
            await asyncio.sleep(random.random() / 500)
        return Observation(outcome=fallen(segment))

    for number in range(EACH):
        fleet.put(0, segment(number, stream_id="a"))
        fleet.put(1, segment(number, stream_id="b"))
    fleet.broker.faults.extend(faults)  # type: ignore[arg-type]
    gathered = fleet.gathered_context()
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        members: list[tuple[asyncio.Event, asyncio.Task[list[None]]]] = []

        def join() -> None:
            stop = asyncio.Event()
            context = fleet.context(observe, process_id=str(random.random()))
            works = [
                run_member(member_context, open_group, stop=stop, revoke_seconds=0.05, on_join=lambda member: None)
                for member_context, open_group in ((context, fleet.open_group), (gathered, fleet.open_gathered))
            ]
            members.append((stop, group.create_task(run_concurrently(works))))

        join()
        for step in steps:
            await asyncio.sleep(random.random() / 20)
            if step == "join" and len(members) < 3:
                join()
            elif step in ("leave", "crash") and len(members) > 1:
                stop, task = members.pop(random.randrange(len(members)))
                stop.set()
                if step == "crash":
                    task.cancel()
        await fleet.until(2 * EACH, seconds=50)
        await until(lambda: fleet.is_gathered, seconds=50)
        for stop, _ in members:
            stop.set()
    return fleet


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(faults=FAULTS, steps=STEPS, seed=st.integers(0, 1000))
def test_exactly_once_whatever_happens(faults: list[str | None], steps: list[str], seed: int) -> None:
    """Committed, visible and remembered always agree, and alerts are those of an undisturbed run."""
    fleet = asyncio.run(play(faults, steps, seed))
    records = fleet.broker.records(NAMES.gathered)
    gathered = [parse_member_values(record.value or b"") for record in records]
    for partition, stream in enumerate("ab"):
        records = fleet.broker.logs[NAMES.quality, partition]
        outcomes = [cloudevents.parse_outcome(record.value or b"") for record in records]
        assert [outcome.segment.sequence for outcome in outcomes] == list(range(EACH))
        values: list[MemberValue] = []
        judge = Judge(RULES, gather=lambda shard, value, values=values: values.append(value))  # type: ignore[misc]
        expected = [alert for number in range(EACH) for alert in judge.judge(fallen(segment(number, stream_id=stream)))]
        assert fleet.alerts_of(partition, but=GROUPED) == expected
        assert [value for part in gathered for value in part if value.rendition_key == f"{stream}/720p"] == values
        stored = fleet.broker.read_state(NAMES.state, partition)
        assert b'"tries":{}' in stored.pop("trials")
        assert int(stored.pop("next-offset")) == fleet.broker.end_offset(NAMES.segments, partition)
        assert {key: cloudevents.parse_state(value) for key, value in stored.items()} == {
            state_key(key): state for key, state in judge.states().items()
        }
        assert fleet.broker.offsets["g", NAMES.segments, partition] == fleet.broker.end_offset(
            NAMES.segments, partition
        )
    groups = GroupJudge(RULES)
    expected = [alert for values in gathered for alert in groups.judge(values)]
    assert expected
    assert [alert for partition in range(2) for alert in fleet.alerts_of(partition, of=GROUPED)] == expected
    stored = {key: value for n in range(2) for key, value in fleet.broker.read_state(NAMES.gathered_state, n).items()}
    stored.pop("next-offset")
    assert {key: cloudevents.parse_state(value) for key, value in stored.items()} == {
        state_key(key): state for key, state in groups.drain_changes().items() if state is not None
    }


async def play_parked(faults: list[str | None], steps: list[str], seed: int) -> MemoryFleet:
    """As `play`, with four streams in one partition of which some wait for their origins now and then."""
    fleet, random = MemoryFleet(partitions=1), Random(seed)

    async def observe(segment: Segment) -> Observation:
        if segment.rendition.stream_id in "ab" and random.random() < 0.3:
            with parked():
                await asyncio.sleep(random.random() / 20)
        return Observation(outcome=fallen(segment))

    for number in range(12):
        for stream_id in "abcd":
            fleet.put(0, segment(number, stream_id=stream_id))
    fleet.broker.faults.extend(faults)  # type: ignore[arg-type]
    context = fleet.context(observe)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        stops = []
        for step in steps:
            if not stops or step == "join":
                stops.append(asyncio.Event())
                member = run_member(
                    context, fleet.open_group, stop=stops[-1], revoke_seconds=0.05, on_join=lambda member: None
                )
                group.create_task(member)
            elif step != "wait" and len(stops) > 1:
                stops.pop(random.randrange(len(stops))).set()
            await asyncio.sleep(random.random() / 50)
        await fleet.until(48, seconds=50)
        for stop in stops:
            stop.set()
    return fleet


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(faults=WRITE_FAULTS, steps=STEPS, seed=st.integers(0, 1000))
def test_exactly_once_when_streams_pass_each_other(faults: list[str | None], steps: list[str], seed: int) -> None:
    """Each record has one outcome, each stream its order, and nothing is left beyond the committed offset."""
    fleet = asyncio.run(play_parked(faults, steps, seed))
    for stream_id in "abcd":
        sequences = [
            outcome.segment.sequence for outcome in fleet.outcomes if outcome.segment.rendition.stream_id == stream_id
        ]
        assert sequences == list(range(12))
    assert fleet.broker.offsets["g", NAMES.segments, 0] == fleet.broker.end_offset(NAMES.segments, 0)
    assert "overtaken" not in fleet.broker.read_state(NAMES.state, 0)
