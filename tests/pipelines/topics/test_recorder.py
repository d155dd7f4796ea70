"""Recording on an in-memory Kafka and real databases: each outcome and alert once, whoever comes, goes and breaks."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Protocol

import pytest

from pipelines.service.history_thread import HistoryThread
from pipelines.service.lifecycle import Service
from pipelines.topics.recorder import Recorder, RecorderContext, run_recorder
from tests.acceptance.kafka.observers import outcome_of_segment
from tests.pipelines.memory_fleet import segment as fleet_segment
from tests.pipelines.memory_fleet import until
from vqmon.core.alerts.judge import Judge
from vqmon.core.types import Alert, Outcome
from vqmon.errors import StoreUnreachableError
from vqmon.settings.rules_file import parse_rules
from vqmon.telemetry.health import ProgressTracker
from vqmon.telemetry.metrics import Meters, MetricName
from vqmon.transport.history.backends.location import HistoryLocation
from vqmon.transport.history.history import History, open_history
from vqmon.transport.history.ingest import ParsedRecords
from vqmon.transport.kafka.in_memory import MemoryAssignedConsumer, MemoryBroker, MemoryGroupConsumer
from vqmon.transport.kafka.records import OnAssigned, OnRevoked
from vqmon.transport.wire import cloudevents

RULES = parse_rules((Path(__file__).parents[3] / "config" / "rules.toml").read_text(), origin="rules.toml")
TOPICS = {"outcome": "v.quality", "control": "v.control", "alert": "v.alerts"}
EACH = 120


class Fleet:
    """What a fleet has said: outcomes and alerts of two streams on two partitions."""

    def __init__(self) -> None:
        self.broker = MemoryBroker(2)
        self.outcomes: list[Outcome] = []
        self.alerts: dict[str, Alert] = {}
        self._judge = Judge(RULES)

    def publish_outcomes(self, stream_id: str, count: int = EACH, *, first: int = 0) -> None:
        """Put the outcomes of some segments on the topics, and the alerts that they give."""
        partition = ord(stream_id[0]) % 2
        for number in range(first, first + count):
            outcome = outcome_of_segment(fleet_segment(number, stream_id=stream_id))
            self.outcomes.append(outcome)
            value = cloudevents.encode_outcome(outcome, source="vqmon:test")
            self.broker.append("v.quality", partition, stream_id.encode(), value)
            for alert in self._judge.judge(outcome):
                self.alerts[alert.id] = alert
                value = cloudevents.encode_alert(alert, source="vqmon:test")
                self.broker.append("v.alerts", partition, alert.series.encode(), value)

    def open_group(self, topic: str, assigned: OnAssigned, revoked: OnRevoked) -> MemoryGroupConsumer:
        group = MemoryGroupConsumer(self._of(topic), topic=topic, group="g.record", assigned=assigned, revoked=revoked)
        return group

    def open_assigned(self, topic: str) -> MemoryAssignedConsumer:
        return MemoryAssignedConsumer(self.broker, topic=topic)

    def _of(self, topic: str) -> MemoryBroker:
        # One set of members per topic, as each has a group of its own.
        if not hasattr(self, "_others"):
            self._others = {
                name: replace(self.broker, members=[], _rebalancing=None, _is_rebalance_pending=False)
                for name in TOPICS.values()
            }
        return self._others[topic]


class Clients(Protocol):
    """Opens the clients of a recorder."""

    def open_group(self, topic: str, assigned: OnAssigned, revoked: OnRevoked) -> MemoryGroupConsumer: ...
    def open_assigned(self, topic: str) -> MemoryAssignedConsumer: ...


@contextmanager
def recorder_context(history: History, clients: Clients, **changes: object) -> Iterator[RecorderContext]:
    """What a recorder works with."""
    with ThreadPoolExecutor(1) as executor:
        fields: dict[str, object] = {
            "thread": HistoryThread(history, executor),
            "topics": TOPICS,
            "open_group": clients.open_group,
            "open_assigned": clients.open_assigned,
            "service": Service(meters=Meters(), progress=ProgressTracker(lambda: 0.0)),
            "gather_seconds": 0.0,
            "revoke_seconds": 1.0,
        }
        yield RecorderContext(**{**fields, **changes})  # type: ignore[arg-type]


@asynccontextmanager
async def recording(*contexts: RecorderContext) -> AsyncIterator[None]:
    """Run a recorder per context until the end of the block."""
    async with asyncio.TaskGroup() as group:
        for context in contexts:
            context.service.stop.clear()
            group.create_task(run_recorder(context))
        try:
            yield
        finally:
            for context in contexts:
                context.service.stop.set()


def has_all(fleet: Fleet, history: History) -> bool:
    """Whether everything said is in the history: as many, and up to the ends of the topics."""
    ends = [history.queries.next_offsets(topic).get(number, 0) for topic in TOPICS.values() for number in range(2)]
    return ends == [fleet.broker.end_offset(topic, number) for topic in TOPICS.values() for number in range(2)]


def check(fleet: Fleet, history: History) -> None:
    """Each outcome once, in the order of its partition; the last state of each alert."""
    stored = list(history.documents.outcomes_in_write_order())
    for stream_id in {outcome.segment.rendition.stream_id for outcome in fleet.outcomes}:

        def of_stream(outcomes: list[Outcome], name: str = stream_id) -> list[Outcome]:
            return [outcome for outcome in outcomes if outcome.segment.rendition.stream_id == name]

        assert of_stream(stored) == of_stream(fleet.outcomes)
    assert len(stored) == len({outcome.id for outcome in fleet.outcomes})
    assert {alert.id: alert for alert in history.queries.alerts(limit=10_000)} == fleet.alerts


async def test_everything_is_recorded_once_over_restarts(history_location: HistoryLocation) -> None:
    """A recorder goes on where the history stands; the same event on the topic twice is one row."""
    fleet = Fleet()
    fleet.publish_outcomes("a")
    fleet.publish_outcomes("b")
    for part in range(3):
        with open_history(history_location, "record") as history, recorder_context(history, fleet) as context:
            async with recording(context):
                await until(lambda: has_all(fleet, history))
            check(fleet, history)
        fleet.publish_outcomes("a", 20, first=EACH + 20 * part)
    repeated = fleet.outcomes[0]
    fleet.broker.append("v.quality", 1, b"a", cloudevents.encode_outcome(repeated, source="vqmon:test"))
    with open_history(history_location, "record") as history, recorder_context(history, fleet) as context:
        async with recording(context):
            await until(lambda: has_all(fleet, history))
        check(fleet, history)
        counts = history.queries.counts()
    assert counts.scored + counts.unscored == len(fleet.outcomes)


@pytest.mark.parametrize("seed", range(4))
async def test_several_recorders_share_the_work(history_location: HistoryLocation, seed: int) -> None:
    """Recorders that come, go and are cut off in mid-write: nothing twice, nothing missing, alerts as they ended."""
    fleet, chance = Fleet(), Random(seed)
    for name in ("a", "b", "c"):
        fleet.publish_outcomes(name)
    many = not isinstance(history_location, Path)
    with ExitStack() as stack:
        histories = [stack.enter_context(open_history(history_location, "record")) for _ in range(2 if many else 1)]
        contexts = [stack.enter_context(recorder_context(history, fleet)) for history in histories * (1 if many else 2)]
        for round in range(4):
            for context in contexts:
                context.service.stop.clear()
            tasks = [asyncio.ensure_future(run_recorder(context)) for context in contexts]
            await asyncio.sleep(chance.random() / 20)
            tasks[round % 2].cancel()
            await asyncio.sleep(chance.random() / 20)
            for context in contexts:
                context.service.stop.set()
            await asyncio.gather(*tasks, return_exceptions=True)
            fleet.publish_outcomes("abc"[round % 3], 10, first=EACH + 10 * round)
        async with recording(*contexts):
            await until(lambda: has_all(fleet, histories[0]))
        check(fleet, histories[0])


class UnreliableQueries:
    """The queries of a history whose server is unreachable when the offsets of one topic are read first."""

    def __init__(self, history: History, topic: str) -> None:
        self._history = history
        self._topic = topic

    def next_offsets(self, topic: str) -> Mapping[int, int]:
        if topic == self._topic:
            self._topic = ""
            raise StoreUnreachableError("away")
        return self._history.queries.next_offsets(topic)


class UnreliableHistory:
    """A history whose server is unreachable now and then: before a write, or after it, or when offsets are read."""

    def __init__(self, history: History, faults: list[str], *, unread_topic: str = "") -> None:
        self.queries = UnreliableQueries(history, unread_topic)
        self._history = history
        self._faults = faults

    def ingest(self, records: ParsedRecords) -> None:
        fault = self._faults.pop() if self._faults else ""
        if fault == "before":
            raise StoreUnreachableError("away")
        self._history.ingest(records)
        if fault == "after":
            raise StoreUnreachableError("no answer")


async def test_a_database_that_goes_away_is_waited_for(
    history_location: HistoryLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether a write got through when the answer is lost, the offsets in the history tell."""
    monkeypatch.setattr("pipelines.topics.recorder.RETRY_SECONDS", 0.01)
    fleet = Fleet()
    fleet.publish_outcomes("a")
    fleet.publish_outcomes("b")
    with open_history(history_location, "record") as history:
        unreliable = UnreliableHistory(history, ["after", "", "before", "after"])
        with recorder_context(unreliable, fleet) as context:  # type: ignore[arg-type]
            async with recording(context):
                for round in range(6):
                    fleet.publish_outcomes("a", 5, first=EACH + 5 * round)
                    await until(lambda: has_all(fleet, history))
        assert not unreliable._faults
        check(fleet, history)


async def test_who_writes_the_same_partition_is_noticed(history_location: HistoryLocation) -> None:
    """A recorder that was frozen and wakes up finds that the history stands elsewhere, and goes on from there."""
    fleet = Fleet()
    fleet.publish_outcomes("a", 30)
    with open_history(history_location, "record") as history, recorder_context(history, fleet) as context:
        late = Recorder(context)
        for reader in late._readers:
            await reader.start()
        await late._record_once()
        assert has_all(fleet, history)
        fleet.publish_outcomes("a", 30, first=30)
        async with recording(context):
            # The late one has read what the other one now writes too.
            await until(lambda: has_all(fleet, history))
        for _ in range(4):
            await late._record_once()
        check(fleet, history)


async def test_what_cannot_be_read_holds_nothing_up(history_location: HistoryLocation) -> None:
    """A record that is no outcome is counted and stepped over."""
    fleet = Fleet()
    fleet.publish_outcomes("a", 3)
    fleet.broker.append("v.quality", 1, b"a", b"{}")
    fleet.broker.append("v.quality", 1, b"a", None)
    fleet.publish_outcomes("a", 3, first=3)
    with open_history(history_location, "record") as history, recorder_context(history, fleet) as context:
        async with recording(context):
            await until(lambda: has_all(fleet, history))
        check(fleet, history)


async def test_a_topic_whose_records_were_all_read_and_deleted_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Transaction markers behind the last record are no records, also for a restart after retention removed them."""
    monkeypatch.setattr("pipelines.topics.recorder._MARKERS_INTERVAL_SECONDS", 0.0)
    fleet = Fleet()
    fleet.publish_outcomes("a", 3)
    fleet.broker.markers["v.quality", 1] = 1
    end = fleet.broker.high_watermark("v.quality", 1)
    with open_history(tmp_path / "history.db", "record") as history:
        with recorder_context(history, fleet) as context:
            async with recording(context):
                await until(lambda: history.queries.next_offsets("v.quality").get(1) == end)
        fleet.broker.beginning_offsets["v.quality", 1] = end
        with recorder_context(history, fleet) as context:
            async with recording(context):
                await until(lambda: context.service.progress.is_ready)
        check(fleet, history)


class DeletionMeters(Meters):
    """Adds up what was counted as deleted."""

    deleted = 0

    def count(self, name: MetricName, amount: int = 1, **labels: str) -> None:
        if name == "vqmon.record.deleted":
            self.deleted += amount


@pytest.mark.parametrize(
    ("faults", "unread_topic"), [(["before"], ""), (["after"], ""), ([], "v.alerts"), ([], "v.quality")]
)
async def test_records_that_were_deleted_unread_are_passed_and_reported_once(
    history_location: HistoryLocation,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    faults: list[str],
    unread_topic: str,
) -> None:
    """Also when none is left, and the history is away when offsets are read or written; the next recorder is silent."""
    monkeypatch.setattr("pipelines.topics.recorder.RETRY_SECONDS", 0.01)
    fleet = Fleet()
    fleet.publish_outcomes("a", 10)
    with open_history(history_location, "record") as history:
        with recorder_context(history, fleet) as context:
            async with recording(context):
                await until(lambda: has_all(fleet, history))
        stored = history.queries.next_offsets("v.quality")[1]
        fleet.publish_outcomes("a", 10, first=10)
        end = fleet.broker.high_watermark("v.quality", 1)
        fleet.broker.beginning_offsets["v.quality", 1] = end
        unreliable, meters = UnreliableHistory(history, [*faults], unread_topic=unread_topic), DeletionMeters()
        service = Service(meters=meters, progress=ProgressTracker(lambda: 0.0))
        with recorder_context(unreliable, fleet, service=service) as context:  # type: ignore[arg-type]
            for _ in range(2):
                async with recording(context):
                    await until(lambda: service.progress.is_ready)
        assert not unreliable._faults
        assert meters.deleted == end - stored
        assert history.queries.next_offsets("v.quality")[1] == end
        assert len(list(history.documents.outcomes_in_write_order())) == 10
    [fields] = [vars(record)["fields"] for record in caplog.records if record.msg == "record.deleted_unread"]
    assert fields | {"note": ""} == {
        "topic": "v.quality",
        "partition": 1,
        "offsets": f"{stored} to {end - 1}",
        "note": "",
    }
