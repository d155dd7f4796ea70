"""Group rules of a fleet: each partition judges its own streams, and groups say what they say on one host."""

import asyncio
from datetime import UTC, datetime

import pytest

from pipelines.daemon.deploy_markers import make_marker
from pipelines.fleet.membership import GroupMember
from pipelines.observe.observer import Observation
from tests.acceptance.kafka.observers import good_score, outcome_of_score
from tests.pipelines.memory_fleet import NAMES, MemoryFleet, segment, until
from vqmon.core.alerts.judge import Judge
from vqmon.core.types import Alert, Outcome, Segment
from vqmon.settings.rules_file import parse_rules
from vqmon.transport.wire.control_messages import control_message_headers, encode_control_message

RULES = parse_rules(
    """
[rules.series]
kind = "regression"
severity = "ticket"
scorer = "lite"
hold_seconds = 40
block_seconds = 120
false_alarm_days = 0.1
[rules.scorer-fault]
kind = "group"
severity = "page"
of = "series"
quantile = 0.8
min_series = 8
block_seconds = 120
false_alarm_days = 0.1
[rules.low]
kind = "floor"
severity = "ticket"
scorer = "lite"
below = 40
recover_above = 45
for_seconds = 4
""",
    origin="rules",
)
STREAMS = [f"s{number}" for number in range(12)]
PARTITIONS = 3
FELL, COUNT = 200, 280


def fallen(segment: Segment) -> Outcome:
    """Ten of twelve streams are 12 points lower after a while; one of them has a fault of its own before."""
    stream = segment.rendition.stream_id
    if stream == "s5" and 100 <= segment.sequence < 110:
        return outcome_of_score(segment, 20.0)
    return outcome_of_score(
        segment, good_score(segment) - (12 if segment.sequence >= FELL and stream not in STREAMS[:2] else 0)
    )


async def observe(segment: Segment) -> Observation:
    return Observation(outcome=fallen(segment))


def in_order() -> list[Segment]:
    """All segments as one host sees them: everybody's next one, in turn."""
    return [segment(number, stream_id=stream) for number in range(COUNT) for stream in STREAMS]


def facts_of(alerts: list[Alert]) -> list[tuple[object, ...]]:
    """What an alert says, whoever says it."""
    facts = [
        (alert.id, alert.rule, alert.state, alert.opened_at, alert.resolved_at, alert.muted_by, alert.summary)
        for alert in alerts
    ]
    return sorted(facts, key=str)


async def run_fleet(*, restart_at: int = COUNT) -> MemoryFleet:
    """The fleet sees the same segments, each stream on its partition; the groups move to another worker once."""
    fleet = MemoryFleet(partitions=PARTITIONS, rules=RULES)
    for first, last in ((0, restart_at), (restart_at, COUNT)):
        for source in in_order():
            if first <= source.sequence < last:
                fleet.put(STREAMS.index(source.rendition.stream_id) % PARTITIONS, source)
        await fleet.drain(fleet.context(observe), last * len(STREAMS))
        await fleet.judge_gathered()
    return fleet


@pytest.mark.parametrize("restart_at", [COUNT, FELL + 5])
async def test_a_fleet_says_what_one_host_says(restart_at: int) -> None:
    """Groups across partitions page once and mute their series, as by a single Judge; a restart changes nothing."""
    fleet = await run_fleet(restart_at=restart_at)
    alerts = [alert for partition in range(PARTITIONS) for alert in fleet.alerts_of(partition)]
    judge = Judge(RULES)
    expected = [alert for segment in in_order() for alert in judge.judge(fallen(segment))]
    assert facts_of(alerts) == facts_of(expected)
    pages = [alert for alert in alerts if alert.rule == "scorer-fault"]
    assert [alert.state for alert in pages] == ["open"]
    muted = {alert.stream_id for alert in alerts if alert.rule == "series" and alert.muted_by == pages[0].id}
    assert len(muted) >= 8
    assert {alert.rule for alert in alerts} == {"scorer-fault", "series", "low"}


async def test_a_partition_alone_could_not_tell() -> None:
    """Four streams of twelve are on a partition, and the group asks for eight."""
    judge = Judge(RULES)
    alone = [segment for segment in in_order() if STREAMS.index(segment.rendition.stream_id) % PARTITIONS == 0]
    assert not [alert for segment in alone for alert in judge.judge(fallen(segment)) if alert.rule == "scorer-fault"]


async def test_without_groups_nothing_is_gathered() -> None:
    """Each partition judges all by itself then."""
    rules = [rule for rule in RULES if rule.name != "scorer-fault"]
    fleet = MemoryFleet(partitions=1, rules=rules)
    for number in range(COUNT):
        fleet.put(0, segment(number, stream_id="s6"))
    await fleet.drain(fleet.context(observe), COUNT)
    assert "series" in {alert.rule for alert in fleet.alerts_of(0)}
    assert fleet.broker.records(NAMES.gathered) == []


async def test_a_deploy_marker_starts_series_anew() -> None:
    """The fall at the moment of a deploy is none, for the groups either."""
    marker = make_marker("encoder 5", datetime.fromtimestamp(1_767_225_600 + 4 * FELL, UTC))
    fleet = MemoryFleet(partitions=PARTITIONS, rules=RULES)
    for partition in range(PARTITIONS):
        fleet.put_raw(partition, None, encode_control_message(marker, source="test"), *control_message_headers(marker))
    for source in in_order():
        fleet.put(STREAMS.index(source.rendition.stream_id) % PARTITIONS, source)
    await fleet.drain(fleet.context(observe), COUNT * len(STREAMS) + PARTITIONS)
    await fleet.judge_gathered()
    assert fleet.broker.records(NAMES.gathered)
    fell = FELL * 4 + 1_767_225_600
    assert not [alert for alert in fleet.alerts if alert.rule != "low" and alert.opened_at.timestamp() >= fell]


async def test_what_another_version_gathered_is_not_stepped_over() -> None:
    """It stays where it is until a worker comes that can read it."""
    fleet = MemoryFleet(partitions=1, rules=RULES)
    fleet.broker.append(NAMES.gathered, 0, b"news", b'{"specversion": "1.0", "type": "org.vqmon.later.v9"}')
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        member = GroupMember(fleet.gathered_context(), fleet.open_gathered, stop=stop, revoke_seconds=2.0)
        group.create_task(member.run())
        try:
            await until(lambda: any(worker.is_halted for worker in member.workers))
            (problem,) = [worker.status for worker in member.workers]
        finally:
            stop.set()
    assert "record 0 of partition 0 of the gathered topic was written by another version" in problem
    assert not fleet.is_gathered
