"""Deploy markers: told to a running daemon, and to every partition of a fleet."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

from pipelines.daemon.deploy_markers import follow_markers, make_marker, record_deployment
from pipelines.fleet.judging.judge import PartitionJudge
from pipelines.fleet.judging.records import ControlRecord, observe_record
from pipelines.service.history_thread import open_history_thread
from tests import factories
from tests.acceptance.kafka.observers import observe_at_once
from tests.pipelines.fleet.partitions.test_worker import RULES
from tests.pipelines.memory_fleet import IDENTITY, NAMES
from vqmon.core.alerts.judge import Judge
from vqmon.settings.load import Settings
from vqmon.transport.kafka import Record
from vqmon.transport.wire import cloudevents
from vqmon.transport.wire.alert_states.states import state_key
from vqmon.transport.wire.control_messages import (
    control_message_headers,
    control_message_key,
    encode_control_message,
    parse_control_message,
)

AT = datetime(2026, 11, 20, 20, 0, tzinfo=UTC)
MARKER = make_marker("encoder 4.2", AT, stream="news-*")


async def test_a_marker_is_written_beside_a_daemon_and_taken_up(tmp_path: Path) -> None:
    """The writer keeps the history open; what was there at its start and what comes later both count, once."""
    path = tmp_path / "vqmon.db"
    settings = Settings(history={"path": path})  # type: ignore[arg-type]
    early = make_marker("before the start", AT)
    assert "2 s" in await record_deployment(settings, early)
    with open_history_thread(path, mode="write") as thread:
        judge = Judge(())
        with follow_markers(thread, judge.add_marker):
            assert list(judge.states()) == [early.key]
            await record_deployment(settings, MARKER)
            await record_deployment(settings, MARKER)
            thread.history.publish([factories.event(sequence=1)])
            async with asyncio.timeout(20):
                while MARKER.key not in judge.states():  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        assert judge.states() == {early.key: early, MARKER.key: MARKER}
        assert {marker.id for marker in thread.history.queries.markers()} == {early.id, MARKER.id}


async def observed(value: bytes, offset: int) -> object:
    record = Record(0, offset, None, value, control_message_headers(MARKER), 1_767_225_600_000)
    return await observe_record(record, observe_at_once, IDENTITY, now=lambda: AT)


async def test_a_marker_on_a_partition_is_remembered_there_and_is_no_outcome() -> None:
    """It moves offset and memory and is passed on; told again the memory stays as it is."""
    judge = PartitionJudge(0, IDENTITY, rules=RULES, stored={}, rejected_limit=0.9)
    value = encode_control_message(MARKER, source="test")
    first, repeated = await observed(value, 7), await observed(value, 9)
    assert isinstance(first, ControlRecord)
    assert isinstance(repeated, ControlRecord)
    judged = judge.judge_records([first])
    assert (judged.count, judged.observed, judged.alerts) == (1, [], [])
    passed, stored = judged.records
    assert (passed.topic, passed.key) == (NAMES.control, control_message_key(MARKER))
    assert parse_control_message(passed.value or b"") == MARKER
    assert (stored.topic, stored.key, cloudevents.parse_state(stored.value or b"")) == (
        NAMES.state,
        state_key(MARKER.key).encode(),
        MARKER,
    )
    assert [record.topic for record in judge.judge_records([repeated]).records] == [NAMES.control]


async def test_a_marker_that_cannot_be_read_is_rejected() -> None:
    """As any other record, with an outcome that stands for it."""
    rejected = await observed(b'{"specversion": "1.0"}', 3)
    assert not isinstance(rejected, ControlRecord)
    assert getattr(rejected, "rejected", None)
