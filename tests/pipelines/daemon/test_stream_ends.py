"""The end of a stream: the same alerts live, on replay, over Kafka, and on replay of what was recorded of it."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import takewhile
from pathlib import Path
from random import Random
from typing import ClassVar

import pytest

from pipelines.commands.replay import HistoryFilter, replay_rules
from pipelines.daemon.history_writer import HistoryWriter
from pipelines.daemon.one_host import OutcomeSink
from pipelines.daemon.stream_ends import publish_requested_ends, request_end
from pipelines.observe.observer import Observation
from pipelines.service.history_thread import HistoryThread, open_history_thread
from pipelines.topics.recorder import run_recorder
from tests import factories
from tests.factories import RENDITION, START
from tests.pipelines.memory_fleet import NAMES, MemoryFleet, until
from tests.pipelines.topics.test_recorder import recorder_context
from vqmon.core.alerts.annotations import ALL_RENDITIONS, DeployMarker, StreamEnd, stream_end
from vqmon.core.alerts.judge import Judge
from vqmon.core.types import Alert, Outcome, Segment
from vqmon.errors import SettingsError
from vqmon.flow import run_concurrently
from vqmon.settings.load import Settings
from vqmon.settings.rules_file import parse_rules
from vqmon.telemetry.health import ProgressTracker
from vqmon.telemetry.metrics import Meters
from vqmon.transport.history.backends.location import HistoryLocation
from vqmon.transport.history.history import History, open_history
from vqmon.transport.kafka.in_memory import MemoryAssignedConsumer, MemoryGroupConsumer
from vqmon.transport.kafka.records import INPUT_HEADER, OnAssigned, OnRevoked, Record

RULES = """
[rules.low]
kind = "floor"
severity = "page"
scorer = "lite"
below = 40
recover_above = 45
for_seconds = 8
[rules.silence]
kind = "no_score"
severity = "page"
for_seconds = 12
[rules.drop]
kind = "regression"
severity = "ticket"
scorer = "lite"
delta_min = 3.0
block_seconds = 60
false_alarm_days = 0.1
[rules.pair]
kind = "regression"
severity = "ticket"
scorer = "lite"
against = "ladder"
wait_seconds = 20
delta_min = 3.0
block_seconds = 60
false_alarm_days = 0.1
"""
GROUP = """
[rules.both]
kind = "group"
severity = "page"
of = "drop"
min_series = 2
delta_min = 3.0
block_seconds = 96
false_alarm_days = 0.1
"""
MID = replace(RENDITION, name="720p", bitrate_kbps=2500.0)
LONG = 280
Step = Outcome | StreamEnd | DeployMarker


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What came of one stream, in order, and where whoever judges it is started anew."""

    steps: Sequence[Step]
    restarts: frozenset[int]


def course(seed: int) -> Course:
    """Two renditions with falls and silences, ends of one or both, the stream coming back, and a deploy."""
    chance = Random(seed)
    renditions = {rendition.name: rendition for rendition in (RENDITION, MID)}
    faults = {name: list(_faults(chance)) for name in renditions}
    done = dict.fromkeys(renditions, 0)
    pauses = {name: 0.0 for name in renditions}
    steps: list[Step] = []
    while min(done.values()) < LONG:
        name = chance.choice([key for key in done if done[key] < LONG and done[key] - min(done.values()) < 4])
        number, at = done[name], pauses[name] + 4.0 * done[name]
        done[name] += 1
        fault = next((kind for kind, first, last in faults[name] if first <= number < last), "")
        if fault == "silence":
            steps.append(
                factories.failure(sequence=number, reason="timeout", rendition=renditions[name], at_seconds=at)
            )
        else:
            value = (
                (75 if name == RENDITION.name else 65) + chance.gauss(0, 1) - {"": 0, "shallow": 15, "deep": 40}[fault]
            )
            steps.append(factories.event(sequence=number, score=value, rendition=renditions[name], at_seconds=at))
        if chance.random() < (0.15 if fault else 0.01):
            moment = START + timedelta(seconds=chance.choice([at, 1e6]))
            which = chance.choice([ALL_RENDITIONS, *renditions])
            steps.append(
                stream_end(RENDITION.stream_id, which, moment, announced_at=START + timedelta(seconds=len(steps)))
            )
            if chance.random() < 0.5:
                pauses = dict.fromkeys(pauses, max(pauses.values()) + chance.choice([0.0, 8.0, 120.0]))
        if sum(done.values()) == LONG:
            steps.append(DeployMarker(id="d" * 32, at=START + timedelta(seconds=at + 60), name="encoder 4.2"))
    restarts = frozenset(chance.sample(range(len(steps)), 4))
    return Course(steps=steps, restarts=restarts)


def _faults(chance: Random) -> Iterator[tuple[str, int, int]]:
    first = chance.randint(85, 105)
    while first < LONG:
        last = first + chance.randint(4, 25)
        yield chance.choice(["shallow", "deep", "silence"]), first, last
        first = last + chance.randint(5, 40)


def history_writer(thread: HistoryThread) -> HistoryWriter:
    return HistoryWriter(thread, meters=Meters(), progress=ProgressTracker(lambda: 0.0))


async def live(course: Course, path: Path, text: str) -> dict[str, Alert]:
    """The daemon's sink over one history, started anew here and there."""
    with open_history_thread(path, mode="write") as thread:
        history = thread.history
        for number, step in enumerate(course.steps):
            if number == 0 or number in course.restarts:
                judge = Judge(parse_rules(text), history.queries.states())
                sink = OutcomeSink(history_writer(thread), judge)
            if isinstance(step, StreamEnd):
                await sink.publish_end(step)
            elif isinstance(step, DeployMarker):
                history.add_marker(step)
                judge.add_marker(step)
            else:
                await sink.publish(step.segment.rendition.key, [Observation(outcome=step)])
        assert not history.queries.unjudged_ends()
        return {alert.id: alert for alert in history.queries.alerts(limit=10_000)}


async def over_kafka(course: Course, text: str) -> MemoryFleet:
    """A fleet of one worker after the other on one partition; rules over all streams are judged by one of their own."""
    fleet = MemoryFleet(partitions=1, rules=parse_rules(text))
    seen = {step.segment.key: step for step in course.steps if not isinstance(step, StreamEnd | DeployMarker)}

    async def observe(segment: Segment) -> Observation:
        return Observation(outcome=seen[segment.key])

    async def drained(count: int) -> None:
        await fleet.drain(fleet.context(observe), count)
        await fleet.judge_gathered()

    for number, step in enumerate(course.steps):
        if number in course.restarts and number:
            await drained(number)
        if isinstance(step, StreamEnd | DeployMarker):
            fleet.note(0, step)
        else:
            fleet.put(0, step.segment)
    await drained(len(course.steps))
    return fleet


class Topics:
    """The topics of a fleet as a recorder sees them when the records up to one of the input are there."""

    names: ClassVar[Mapping[str, str]] = {"outcome": NAMES.quality, "control": NAMES.control, "alert": NAMES.alerts}

    def __init__(self, fleet: MemoryFleet, last_input: int) -> None:
        def written(record: Record) -> bool:
            return int(dict(record.headers)[INPUT_HEADER].rpartition(b"/")[2]) <= last_input

        # a set of members for each, as each topic has a group of its own
        self.brokers = {
            topic: replace(
                fleet.broker,
                members=[],
                _rebalancing=None,
                _is_rebalance_pending=False,
                logs={(topic, 0): list(takewhile(written, fleet.broker.logs[topic, 0]))},
            )
            for topic in self.names.values()
        }
        self.brokers[NAMES.control].logs[NAMES.quality, 0] = self.brokers[NAMES.quality].logs[NAMES.quality, 0]

    def open_group(self, topic: str, assigned: OnAssigned, revoked: OnRevoked) -> MemoryGroupConsumer:
        return MemoryGroupConsumer(
            self.brokers[topic], topic=topic, group="g.record", assigned=assigned, revoked=revoked
        )

    def open_assigned(self, topic: str) -> MemoryAssignedConsumer:
        return MemoryAssignedConsumer(self.brokers[topic], topic=topic)

    def are_recorded(self, history: History) -> bool:
        return all(
            history.queries.next_offsets(topic).get(0, 0) == broker.end_offset(topic, 0)
            for topic, broker in self.brokers.items()
        )


async def recorded(fleet: MemoryFleet, history_location: HistoryLocation) -> dict[str, Alert]:
    """What a recorder that is started anew makes of the fleet's topics."""
    for last in (fleet.broker.logs[NAMES.segments, 0][-1].offset // 2, 1 << 62):
        topics = Topics(fleet, last)
        with (
            open_history(history_location, "record") as history,
            recorder_context(history, topics, topics=topics.names) as context,
        ):
            async with asyncio.TaskGroup() as group:
                group.create_task(run_recorder(context))
                await until(partial(topics.are_recorded, history))
                context.service.stop.set()
    with open_history(history_location, "read") as history:
        assert list(history.documents.outcomes_in_write_order()) == fleet.outcomes
        assert list(history.queries.markers()) == [
            message for message in fleet.control_messages if isinstance(message, DeployMarker)
        ]
        return {alert.id: alert for alert in history.queries.alerts(limit=10_000)}


def replayed(history_location: HistoryLocation, rules: Path) -> dict[str, Alert]:
    settings = Settings(alerts={"rules": rules})  # type: ignore[arg-type]
    return {
        alert.id: alert
        for alert in replay_rules(settings, history_location, rules=None, span=HistoryFilter())[0].alerts
    }


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("text", [RULES, RULES + GROUP], ids=["alone", "grouped"])
async def test_the_same_input_gives_the_same_alerts_everywhere(seed: int, text: str, tmp_path: Path) -> None:
    """Whole alerts are equal, to the last word: live, replayed, over Kafka, recorded, and replayed again."""
    inputs, rules = course(seed), tmp_path / "rules.toml"
    rules.write_text(text)
    expected = await live(inputs, tmp_path / "live.db", text)
    assert {alert.state for alert in expected.values()} >= {"resolved"}
    assert any("the stream has ended" in alert.summary for alert in expected.values())
    assert replayed(tmp_path / "live.db", rules) == expected
    fleet = await over_kafka(inputs, text)
    outcomes = [step for step in inputs.steps if not isinstance(step, StreamEnd | DeployMarker)]
    assert fleet.outcomes == outcomes
    assert [message.id for message in fleet.control_messages] == [
        step.id for step in inputs.steps if isinstance(step, StreamEnd | DeployMarker)
    ]
    assert {alert.id: alert for alert in fleet.alerts} == expected
    assert await recorded(fleet, tmp_path / "fleet.db") == expected
    assert replayed(tmp_path / "fleet.db", rules) == expected


def test_the_courses_have_all_of_it() -> None:
    """Each kind of rule opens alerts that an end closes, also what waited for another rendition."""
    closed: dict[str, int] = {}
    for seed in range(8):
        judge = Judge(parse_rules(RULES))
        for step in course(seed).steps:
            if isinstance(step, DeployMarker):
                judge.add_marker(step)
                continue
            for alert in judge.end_stream(step) if isinstance(step, StreamEnd) else judge.judge(step):
                closed[alert.rule] = closed.get(alert.rule, 0) + ("the stream has ended" in alert.summary)
    assert set(closed) == {"low", "silence", "drop", "pair"}
    assert all(closed.values()), closed


async def test_an_end_that_is_said_by_hand_is_taken_up_by_a_daemon(tmp_path: Path) -> None:
    """One that waits for the next start, one that comes while it runs; judged once, at its place."""
    path = tmp_path / "vqmon.db"
    settings = Settings(history={"path": path})  # type: ignore[arg-type]
    with open_history_thread(path, mode="write") as thread:
        history = thread.history
        judge = Judge(parse_rules(RULES))
        sink = OutcomeSink(history_writer(thread), judge)
        for n in range(4):
            for rendition in (RENDITION, MID):
                await sink.publish(
                    rendition.key, [Observation(outcome=factories.event(sequence=n, score=20, rendition=rendition))]
                )
        assert "2 s" in await request_end(settings, RENDITION.stream_id, MID.name)
        seen_alerts, done = list[Alert](), asyncio.Event()

        async def publish_end() -> None:
            await until(lambda: len(seen_alerts) == 1)
            await request_end(settings, RENDITION.stream_id)
            await until(lambda: len(seen_alerts) == 2)
            done.set()

        await run_concurrently(
            [
                publish_requested_ends(
                    thread, sink.publish_end, on_publish=lambda _, alerts: seen_alerts.extend(alerts), stop=done
                ),
                publish_end(),
            ]
        )
        assert [alert.rendition for alert in seen_alerts] == [MID.name, RENDITION.name]
        assert [alert.state for alert in history.queries.alerts()] == ["resolved"] * 2
        ends = [end for end in history.documents.judge_inputs() if isinstance(end, StreamEnd)]
        assert [(end.rendition, end.at) for end in ends] == [(MID.name, low_end()), (ALL_RENDITIONS, low_end())]
        assert not history.queries.unjudged_ends()


def low_end() -> datetime:
    return START + timedelta(seconds=16)


async def test_an_end_of_what_was_never_seen_is_refused(tmp_path: Path) -> None:
    """With what is known."""
    settings = Settings(history={"path": tmp_path / "vqmon.db"})  # type: ignore[arg-type]
    with open_history(tmp_path / "vqmon.db", "write") as history:
        judge = Judge(())
        judge.judge(factories.event(sequence=0))
        history.publish([factories.event(sequence=0)], states=judge.drain_changes())
    with pytest.raises(SettingsError, match="no segment of the stream 'tv' was ever seen"):
        await request_end(settings, "tv")
    with pytest.raises(SettingsError, match="news-1/144p was ever seen; known: news-1/1080p"):
        await request_end(settings, RENDITION.stream_id, "144p")
