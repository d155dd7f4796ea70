"""Any order of faults, takeovers and restarts on an in-memory Kafka: exactly one outcome per record, in order."""

import asyncio
from pathlib import Path
from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.member import stay_member
from pipelines.observe import Observation
from tests.acceptance.kafka.looks import look_of
from tests.pipelines.rig import NAMES, Rig, segment
from vqmon.core.rules import Judge, parse_rules
from vqmon.core.types import Segment
from vqmon.transport import wire

RULES = parse_rules((Path(__file__).parents[2] / "config" / "rules.toml").read_text(), origin="rules.toml")
EACH = 80
FAULTS = st.lists(st.sampled_from([None, None, None, "refused", "not_written", "written"]), max_size=40)
STEPS = st.lists(st.sampled_from(["join", "leave", "crash", "wait"]), min_size=2, max_size=8)


async def play(faults: list[str | None], steps: list[str], seed: int) -> Rig:
    """Members come, go and crash while records are read and writes break."""
    rig, random, number = Rig(partitions=2, rules=RULES), Random(seed), 0

    async def look(one: Segment) -> Observation:
        await asyncio.sleep(random.random() / 500)
        return Observation(outcome=look_of(one))

    for number in range(EACH):
        rig.put(0, segment(number, stream_id="a"))
        rig.put(1, segment(number, stream_id="b"))
    rig.broker.faults.extend(faults)  # type: ignore[arg-type]
    floor = rig.floor(look)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        members: list[tuple[asyncio.Event, asyncio.Task[None]]] = []

        def join() -> None:
            stop = asyncio.Event()
            work = stay_member(floor, rig.open_group, stop=stop, revoke_seconds=0.05, seen=lambda member: None)
            members.append((stop, group.create_task(work)))

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
        await rig.until(2 * EACH, seconds=50)
        for stop, _ in members:
            stop.set()
    return rig


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(faults=FAULTS, steps=STEPS, seed=st.integers(0, 1000))
def test_exactly_once_whatever_happens(faults: list[str | None], steps: list[str], seed: int) -> None:
    """Committed, visible and remembered always agree, and alerts are those of an undisturbed run."""
    rig = asyncio.run(play(faults, steps, seed))
    for partition, stream in enumerate("ab"):
        records = rig.broker.logs[NAMES.quality, partition]
        outcomes = [wire.parse_outcome(one.value or b"") for one in records]
        assert [one.segment.sequence for one in outcomes] == list(range(EACH))
        judge = Judge(RULES)
        expected = [
            alert for number in range(EACH) for alert in judge.judge(look_of(segment(number, stream_id=stream)))
        ]
        alerts = [wire.parse_alert(one.value or b"") for one in rig.broker.logs[NAMES.alerts, partition]]
        assert alerts == expected
        stored = rig.broker.read_state(NAMES.state, partition)
        assert {key: wire.parse_state(value) for key, value in stored.items()} == dict(judge.states())
        assert rig.broker.offsets["g", NAMES.segments, partition] == rig.broker.newest(NAMES.segments, partition)
