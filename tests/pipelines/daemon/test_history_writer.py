"""The daemon goes on while its history cannot be written: it is full, locked, deleted, damaged or replaced."""

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pipelines.daemon.history_writer import HistoryWriter, JudgeAgain
from pipelines.daemon.judge_again import StoredProgress
from pipelines.service.delivery.notifications import HistoryOutbox
from pipelines.service.history_thread import HistoryThread, open_history_thread, start_history_thread
from tests import factories
from tests.factories import START
from tests.transport.wire.test_cloudevents import ALERT
from vqmon.errors import StoreError, StoreRefusedError
from vqmon.retry import Backoff
from vqmon.telemetry.health import ProgressTracker
from vqmon.telemetry.metrics import Meters
from vqmon.transport.history.backends import sqlite
from vqmon.transport.history.backends.sqlite import SqliteDatabase
from vqmon.transport.history.history import open_history
from vqmon.transport.recovery.spool import HistoryWrite, Spool

OVER = replace(ALERT, state="resolved", resolved_at=ALERT.opened_at + timedelta(seconds=40))


class Writing:
    """A writer over a real history file."""

    def __init__(
        self,
        thread: HistoryThread,
        *,
        spool: Spool,
        max_waiting_bytes: int = 10_000_000,
        judge_again: JudgeAgain = lambda writes, progress: writes,
    ) -> None:
        self.thread = thread
        self.progress = ProgressTracker(lambda: 0.0)
        self.writer = HistoryWriter(
            thread,
            meters=Meters(),
            progress=self.progress,
            max_waiting_bytes=max_waiting_bytes,
            backoff=Backoff(first_seconds=0.01, last_seconds=0.02),
            spool=spool,
            unwritten=spool.read(),
            judge_again=judge_again,
        )

    async def write(self, *sequences: int) -> None:
        for sequence in sequences:
            await self.writer.write(HistoryWrite(outcomes=[factories.event(sequence=sequence)]))

    @property
    def stored(self) -> list[int]:
        outcomes = self.thread.history.documents.outcomes_in_write_order()
        return [outcome.segment.sequence for outcome in outcomes]


def spool_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.spool")


@asynccontextmanager
async def writing(path: Path, *, max_waiting_bytes: int = 10_000_000) -> AsyncIterator[Writing]:
    with open_history_thread(path, mode="write") as thread:
        spool = Spool(spool_of(path))
        subject = Writing(thread, max_waiting_bytes=max_waiting_bytes, spool=spool)
        async with subject.writer.retrying():
            yield subject


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - a writer has no events
            await asyncio.sleep(0.005)


def on_disk(path: Path) -> list[int]:
    """The segments that another process reads."""
    with open_history(path, mode="read") as history:
        return [outcome.segment.sequence for outcome in history.documents.outcomes_in_write_order()]


@pytest.fixture(autouse=True)
def short_busy_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_BUSY_TIMEOUT_SECONDS", 0.02)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vqmon.db"


async def test_what_is_written_is_in_the_history_and_nothing_waits(path: Path) -> None:
    """The daemon is ready."""
    async with writing(path) as daemon:
        await daemon.write(0, 1)
        assert daemon.stored == [0, 1]
        assert not daemon.writer.is_degraded
        assert daemon.progress.problem == ""


async def test_a_locked_history_is_waited_for_in_order(path: Path) -> None:
    """Another program holds it; later writes queue behind the first, and the daemon says that it is not ready."""
    async with writing(path) as daemon:
        await daemon.write(0)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            await daemon.write(1, 2, 3)
            assert daemon.writer.is_degraded
            assert daemon.progress.problem.startswith(f"the history cannot be written: {path}: database is locked")
            other.execute("ROLLBACK")
        await until(lambda: not daemon.writer.is_degraded)
        assert daemon.stored == [0, 1, 2, 3]
        await until(lambda: daemon.progress.problem == "")
        await daemon.write(4)
        assert daemon.stored == [0, 1, 2, 3, 4]


async def test_a_full_disk_is_waited_for(path: Path) -> None:
    """Every later write fails too until there is room."""
    async with writing(path) as daemon:
        await daemon.write(0)

        def limit_pages(count: int) -> None:
            daemon.thread.history._database.query(f"PRAGMA max_page_count = {count}")

        await daemon.thread.run(lambda: limit_pages(1))
        sequence = 0
        while not daemon.writer.is_degraded:
            sequence += 1
            await daemon.write(sequence)
        assert "full" in daemon.progress.problem
        # what was opened anew has no limit
        await until(lambda: not daemon.writer.is_degraded)
        assert daemon.stored == list(range(sequence + 1))


async def test_a_deleted_history_is_restored_from_what_is_open(path: Path) -> None:
    """With everything that it held."""
    async with writing(path) as daemon:
        await daemon.write(0, 1)
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink()
        await daemon.write(2)
        await until(lambda: not daemon.writer.is_degraded)
        await daemon.write(3)
        assert daemon.stored == [0, 1, 2, 3]
        assert on_disk(path) == [0, 1, 2, 3]
    assert on_disk(path) == [0, 1, 2, 3]


async def test_a_history_that_was_replaced_is_written_to(path: Path, tmp_path: Path) -> None:
    """By a backup, say, or by one that is not damaged; what is no history is waited out."""
    backup = tmp_path / "backup.db"
    async with writing(backup) as daemon:
        await daemon.write(0)
    async with writing(path) as daemon:
        await daemon.write(0, 1)
        (tmp_path / "text").write_text("no history")
        shutil.move(tmp_path / "text", path)
        await daemon.write(2, 3)
        assert daemon.writer.is_degraded
        assert "deleted or replaced" in daemon.progress.problem
        await asyncio.sleep(0.1)
        assert daemon.writer.is_degraded
        shutil.move(backup, path)
        await until(lambda: not daemon.writer.is_degraded)
        assert daemon.stored == [0, 2, 3]
    assert on_disk(path) == [0, 2, 3]


def make_damaged(path: Path) -> None:
    path.write_bytes(b"no SQLite file " * 1000)


def make_folder_missing(path: Path) -> None:
    path.parent.rmdir()


def remove(path: Path) -> None:
    """What is at fault goes, and its folder is there."""
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)


@pytest.mark.parametrize("spoil", [make_damaged, make_folder_missing])
async def test_a_history_that_cannot_be_opened_is_waited_for(
    tmp_path: Path, spoil: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Alerts are delivered meanwhile; what was judged without it is judged again when it opens, in its order."""
    path = tmp_path / "disk" / "vqmon.db"
    path.parent.mkdir()
    spoil(path)
    with start_history_thread(path, mode="write") as thread:
        seen: list[list[int]] = []

        def judge_again(writes: Sequence[HistoryWrite], progress: StoredProgress) -> Sequence[HistoryWrite]:
            assert all(write.is_provisional for write in writes)
            seen.append([outcome.segment.sequence for write in writes for outcome in write.outcomes])
            return [replace(write, is_provisional=False) for write in writes]

        subject = Writing(thread, spool=Spool(tmp_path / "spool"), judge_again=judge_again)
        outbox = HistoryOutbox(thread, waiting=subject.writer)
        async with subject.writer.retrying():
            assert subject.writer.is_degraded
            assert subject.progress.problem.startswith("the history cannot be opened: ")
            await subject.write(0, 1)
            await subject.writer.write(HistoryWrite(alerts=[ALERT], queued_at=START))
            assert [queued.alert for queued in await outbox.queued_alerts(after=0)] == [ALERT]
            assert [write.is_provisional for write in Spool(tmp_path / "spool").read()] == [True] * 3
            remove(path)
            await until(lambda: not subject.writer.is_degraded)
            await subject.write(2)
            assert subject.stored == [0, 1, 2]
            assert [alert.id for alert in thread.history.queries.alerts()] == [ALERT.id]
            assert subject.progress.problem == ""
    assert seen == [[0, 1]]
    assert [record.getMessage() for record in caplog.records].count("history.unopened") == 1
    with start_history_thread(path, mode="write") as thread:
        # its lock was given back
        assert thread.is_open


def test_a_history_that_is_not_ours_ends_the_start(path: Path, tmp_path: Path) -> None:
    """Waiting would not help: the file is of another program, or another vqmon writes it."""
    with (
        open_history(path, mode="write"),
        pytest.raises(StoreRefusedError, match="another vqmon writes"),
        start_history_thread(path, mode="write"),
    ):
        pass
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE bookmarks (address)")
    with (
        pytest.raises(StoreRefusedError, match="not a history of vqmon"),
        start_history_thread(tmp_path / "other.db", mode="write"),
    ):
        pass


async def test_no_write_is_left_out_when_the_history_opens_while_one_waits_for_room(path: Path, tmp_path: Path) -> None:
    """It was judged by the first judge, and is judged again with those that wait."""
    make_damaged(path)
    with start_history_thread(path, mode="write") as thread:
        counts: list[int] = []

        def judge_again(writes: Sequence[HistoryWrite], progress: StoredProgress) -> Sequence[HistoryWrite]:
            counts.append(len(writes))
            return [replace(write, is_provisional=False) for write in writes]

        subject = Writing(thread, spool=Spool(tmp_path / "spool"), max_waiting_bytes=40_000, judge_again=judge_again)
        async with subject.writer.retrying():
            await subject.write(0, 1)
            third = asyncio.ensure_future(subject.write(2))
            await asyncio.sleep(0.02)
            assert not third.done()
            remove(path)
            await third
            await until(lambda: not subject.writer.is_degraded)
            assert subject.stored == [0, 1, 2]
    assert counts == [3]


def test_a_damaged_history_is_refused_at_the_start_with_a_remedy(path: Path) -> None:
    """Before a segment is scored into it."""
    with open_history(path, mode="write") as history:
        history.publish([factories.event(sequence=sequence) for sequence in range(40)])
    content = bytearray(path.read_bytes())
    content[8192 * 3 : 8192 * 3 + 4000] = bytes(4000)
    path.write_bytes(content)
    message = r"vqmon.db: is damaged \(.*\); restore a backup, or save what can be read: vqmon history salvage"
    with pytest.raises(StoreError, match=message), open_history_thread(path, mode="write"):
        pass


async def test_no_more_is_accepted_than_has_room(path: Path) -> None:
    """The source stands still then, so that nothing is lost, and goes on when the history does."""
    async with writing(path, max_waiting_bytes=3 * 16_000) as daemon:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            await daemon.write(0, 1, 2)
            fourth = asyncio.ensure_future(daemon.write(3))
            await asyncio.sleep(0.1)
            assert not fourth.done()
            other.execute("ROLLBACK")
        await fourth
        await until(lambda: not daemon.writer.is_degraded)
        assert daemon.stored == [0, 1, 2, 3]


async def test_what_waits_outlives_a_restart_in_its_order(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second daemon, for which the history is still away, adds to it; the third writes all, once, before its own."""
    monkeypatch.setattr("pipelines.daemon.history_writer._LAST_TRY_SECONDS", 0.1)
    async with writing(path) as daemon:
        await daemon.write(0)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        async with writing(path) as daemon:
            other.execute("BEGIN IMMEDIATE")
            await daemon.writer.write(HistoryWrite(alerts=[ALERT], queued_at=START))
            await daemon.write(1, 2)
    (record,) = [record for record in caplog.records if record.getMessage() == "history.spooled"]
    assert record.fields["outcomes"] == 2  # type: ignore[attr-defined]
    killed_at = spool_of(path).read_bytes()
    async with writing(path) as daemon:
        assert daemon.writer.is_degraded
        assert daemon.progress.problem == "3 writes of an earlier run are not in the history yet"
        assert [queued.alert for queued in daemon.writer.take_alerts()] == [ALERT]
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            await daemon.write(3)
            assert len(Spool(spool_of(path)).read()) == 4
        await until(lambda: not daemon.writer.is_degraded)
        await daemon.write(4)
        assert daemon.stored == [0, 1, 2, 3, 4]
        assert not spool_of(path).exists()
    # as after a kill between the last write and the removal of the spool
    spool_of(path).write_bytes(killed_at)
    async with writing(path) as daemon:
        await until(lambda: not daemon.writer.is_degraded)
        assert daemon.stored == [0, 1, 2, 3, 4]
        assert [alert.id for alert in daemon.thread.history.queries.alerts()] == [ALERT.id]


async def test_the_spool_goes_after_the_history_is_on_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power failure may take what SQLite has in its log alone."""
    calls = []
    checkpoint, clear = SqliteDatabase.checkpoint, Spool.clear

    def record(name: str, call: Callable[[Any], None]) -> Callable[[Any], None]:
        return lambda subject: (calls.append(name), call(subject))[1]

    monkeypatch.setattr(SqliteDatabase, "checkpoint", record("checkpoint", checkpoint))
    monkeypatch.setattr(Spool, "clear", record("clear", clear))
    async with writing(path) as daemon:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            await daemon.write(0, 1)
            other.execute("ROLLBACK")
        await until(lambda: not daemon.writer.is_degraded)
        assert calls == ["checkpoint", "clear"]


async def test_a_new_writer_has_none_of_the_problems_of_the_last(path: Path) -> None:
    """After a reload, with nothing in the spool: the daemon is ready."""
    with open_history_thread(path, mode="write") as thread:
        progress = ProgressTracker(lambda: 0.0)
        progress.problem = "the history cannot be written"
        HistoryWriter(thread, meters=Meters(), progress=progress)
        assert progress.problem == ""


async def test_where_the_spool_cannot_be_written_either_outcomes_wait_in_memory(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the same full disk. It is said, and so is what the next start observes again; room is used later."""
    monkeypatch.setattr("pipelines.daemon.history_writer._LAST_TRY_SECONDS", 0.1)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        async with writing(path) as daemon:
            other.execute("BEGIN EXCLUSIVE")
            spool_of(path).mkdir()
            await daemon.write(0, 1)
            await until(lambda: "nor can the spool" in daemon.progress.problem)
            spool_of(path).rmdir()
            await until(lambda: "nor can the spool" not in daemon.progress.problem)
            assert len(Spool(spool_of(path)).read()) == 2
            daemon.writer._spool = None
            daemon.writer._spooled = 0
            await daemon.write(2)
    (failed,) = [record for record in caplog.records if record.getMessage() == "history.spool_failed"]
    assert "set daemon.state_folder to another disk" in failed.fields["remedy"]  # type: ignore[attr-defined]
    (left,) = [record for record in caplog.records if record.getMessage() == "history.given_up"]
    assert left.fields["outcomes"] == 3  # type: ignore[attr-defined]


async def test_alerts_are_queued_without_the_history_and_once(path: Path) -> None:
    """What receivers got meanwhile is recorded when the history takes the alerts."""
    async with writing(path) as daemon:
        outbox = HistoryOutbox(daemon.thread, waiting=daemon.writer)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            for alert in (ALERT, OVER):
                await daemon.writer.write(HistoryWrite(alerts=[alert], queued_at=START))
            queued = await outbox.queued_alerts(after=0)
            assert [(entry.alert.state, entry.number) for entry in queued] == [("open", 0), ("resolved", 0)]
            assert not await outbox.queued_alerts(after=0)
            await outbox.record_deliveries({ALERT.id: {"chat": "resolved"}})
            other.execute("ROLLBACK")
        await until(lambda: not daemon.writer.is_degraded)
        (stored,) = await outbox.queued_alerts(after=0)
        assert stored.alert.state == "resolved"
        assert stored.number > 0
        assert stored.notified_states == {"chat": "resolved"}
        await outbox.record_deliveries({ALERT.id: None})
        assert await outbox.queued_alerts(after=0) == []


async def test_the_end_of_the_daemon_cuts_a_long_delay_short(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock ends while the writer waits for a minute: its last seconds must see a try, or the outcomes are lost."""
    with open_history_thread(path, mode="write") as thread:
        writer = HistoryWriter(
            thread,
            meters=Meters(),
            progress=ProgressTracker(lambda: 0.0),
            backoff=Backoff(first_seconds=60.0, last_seconds=60.0),
        )
        calls = 0
        publish = writer._publish

        async def fail_first(write: HistoryWrite) -> None:
            nonlocal calls
            calls += 1
            if calls <= 2:
                raise StoreError("locked")
            await publish(write)

        monkeypatch.setattr(writer, "_publish", fail_first)
        async with asyncio.timeout(20), writer.retrying():
            await writer.write(HistoryWrite(outcomes=[factories.event(sequence=7)]))
            await until(lambda: calls == 2)
    assert on_disk(path) == [7]
