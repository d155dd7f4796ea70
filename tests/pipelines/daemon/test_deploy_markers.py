"""Deploy markers: told to a running daemon, and to every partition of a fleet."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from pipelines.daemon.deploy_markers import deploy, marker_of, marking
from pipelines.fleet.judging import Noted, Verdicts, look_at
from tests import factories
from tests.acceptance.kafka.looks import look_at_once
from tests.pipelines.fleet.test_partition import RULES
from tests.pipelines.rig import NAMES, SPEAKER
from vqmon.core.alerts.judge import Judge
from vqmon.settings.load import Settings
from vqmon.transport.history.history import open_history
from vqmon.transport.kafka import Record
from vqmon.transport.wire import cloudevents
from vqmon.transport.wire.control_messages import control_message_headers, encode_control_message, parse_control_message

AT = datetime(2026, 11, 20, 20, 0, tzinfo=UTC)
MARKER = marker_of("encoder 4.2", AT, stream="news-*")


async def test_a_marker_is_written_beside_a_daemon_and_taken_up(tmp_path: Path) -> None:
    """The writer keeps the history open; what was there at its start and what comes later both count, once."""
    path = tmp_path / "vqmon.db"
    settings = Settings(history={"path": path})  # type: ignore[arg-type]
    early = marker_of("before the start", AT)
    assert "2 s" in await deploy(settings, early)
    with open_history(path, "write") as history, ThreadPoolExecutor(1) as thread:
        judge = Judge(())
        with marking(history, judge, thread):
            assert list(judge.states()) == [early.key]
            await deploy(settings, MARKER)
            await deploy(settings, MARKER)
            history.publish([factories.event(sequence=1)])
            async with asyncio.timeout(20):
                while MARKER.key not in judge.states():  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        assert judge.states() == {early.key: early, MARKER.key: MARKER}
        assert list(history.queries.markers()) == [early, MARKER] or list(history.queries.markers()) == [MARKER, early]


async def looked(value: bytes, offset: int) -> object:
    record = Record(0, offset, None, value, control_message_headers(MARKER), 1_767_225_600_000)
    return await look_at(record, look_at_once, SPEAKER, now=lambda: AT)


async def test_a_marker_on_a_partition_is_remembered_there_and_is_no_outcome() -> None:
    """It moves offset and memory and is passed on, gathered too; told again the memory stays as it is."""
    verdicts = Verdicts(0, SPEAKER, rules=RULES, stored={}, limit=0.9)
    value = encode_control_message(MARKER, source="test")
    first, again = await looked(value, 7), await looked(value, 9)
    assert isinstance(first, Noted)
    assert isinstance(again, Noted)
    batch, taken, alerts = verdicts.fold([first])
    assert batch is not None
    assert (batch.next_offset, taken, alerts) == (8, [], [])
    passed, gathered, kept = batch.records
    assert (passed.topic, passed.key, parse_control_message(passed.value or b"")) == (NAMES.quality, None, MARKER)
    assert (gathered.topic, gathered.partition, gathered.value) == (NAMES.gathered, 0, passed.value)
    assert (kept.topic, kept.key, cloudevents.parse_state(kept.value or b"")) == (
        NAMES.state,
        MARKER.key.encode(),
        MARKER,
    )
    batch, _, _ = verdicts.fold([again])
    assert batch is not None
    assert (batch.next_offset, [one.topic for one in batch.records]) == (
        10,
        [NAMES.quality, NAMES.gathered],
    )


async def test_a_marker_that_cannot_be_read_is_rejected() -> None:
    """As any other record, with an outcome that stands for it."""
    found = await looked(b'{"specversion": "1.0"}', 3)
    assert not isinstance(found, Noted)
    assert getattr(found, "rejected", None)
