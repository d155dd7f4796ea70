"""The spool: what was appended is read again in order, whatever a kill, a full disk or damage leaves of the file."""

import os
import resource
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import factories
from tests.factories import RENDITION, START
from tests.transport.wire.test_cloudevents import ALERT
from vqmon.core.alerts.annotations import MarkerKey, stream_end
from vqmon.core.alerts.state import (
    AlertKey,
    GroupKey,
    GroupSeries,
    GroupValuesKey,
    LadderKey,
    MutedAlertKey,
    PairSeries,
    RenditionSeries,
    RenditionTimeline,
    RepeatBlockKey,
    StateKey,
    TimelineKey,
)
from vqmon.core.types import LaneCursor
from vqmon.errors import StoreError
from vqmon.transport.recovery.spool import HistoryWrite, Spool, _framed

GROUP, PAIR = GroupSeries("encoder=a", "lite"), PairSeries(RENDITION.key, "lite", "ladder")
KEYS: list[StateKey] = [
    AlertKey("low", RenditionSeries(RENDITION.key, "lite")),
    AlertKey("drop", PAIR),
    AlertKey("group", GROUP),
    LadderKey(stream_id="news-1", rendition="720p"),
    GroupKey(rule="group", series=GROUP),
    GroupValuesKey(rule="group", series=GROUP, starts_at=8.0, number=3),
    MutedAlertKey(rule="group", series="news-1/1080p/lite"),
    MarkerKey(id="m"),
    RepeatBlockKey(rule="drop", series=PAIR, number=2),
    TimelineKey(rendition_key="other/1080p"),
]


def write(sequence: int) -> HistoryWrite:
    """A transaction with everything that one may hold."""
    event = factories.event(sequence=sequence)
    timeline = RenditionTimeline(
        rendition_key=RENDITION.key,
        stream_id="news-1",
        ends_at=4.0,
        sequence=sequence,
        scored_until=4.0,
        scored_observed_at=8.0,
        observed_at=8.0,
    )
    return HistoryWrite(
        outcomes=[event, factories.failure(sequence=sequence + 1)],
        ends=[stream_end("old", "1080p", START, announced_at=START, why="unwatched")],
        alerts=[ALERT],
        states={timeline.key: timeline, **dict.fromkeys(KEYS)},
        cursors=[LaneCursor(lane=RENDITION.key, sequence=sequence, segment_key=event.segment.key, ends_at=START)],
        thumbnails={event.id: [(0.5, b"\xff\xd8jpeg")]},
        queued_at=START,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vqmon.db.spool"


def spooled(path: Path, *sequences: int) -> Spool:
    spool = Spool(path)
    for sequence in sequences:
        spool.append(write(sequence))
    return spool


def first_sequences(path: Path) -> list[int]:
    return [write.outcomes[0].segment.sequence for write in Spool(path).read()]


def test_what_was_appended_is_read_again_as_it_was(path: Path) -> None:
    """Outcomes, ends, alerts, states and keys of every kind, cursors and pictures."""
    spool = spooled(path, 0, 10)
    assert spool.size_bytes == path.stat().st_size
    assert list(Spool(path).read()) == [write(0), write(10)]


def test_an_empty_or_missing_spool_holds_nothing(path: Path) -> None:
    """And can be removed when it is not there."""
    assert Spool(path).read() == []
    path.touch()
    assert Spool(path).read() == []
    Spool(path).clear()
    assert not path.exists()
    Spool(path).clear()


def test_the_next_process_appends_behind_what_it_read(path: Path) -> None:
    """A removed spool begins anew."""
    spooled(path, 0, 10).close()
    spool = Spool(path)
    spool.read()
    spool.append(write(20))
    assert first_sequences(path) == [0, 10, 20]
    spool.clear()
    assert (spool.size_bytes, path.exists()) == (0, False)
    spool.append(write(30))
    assert first_sequences(path) == [30]


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_what_a_kill_cuts_short_is_left_out(path: Path, kept: float) -> None:
    """It was never said to be written; the next write takes its place."""
    first_bytes = spooled(path, 0).size_bytes
    spooled(path, 0, 10)
    content = path.read_bytes()
    path.write_bytes(content[: first_bytes + int(kept * (len(content) - first_bytes))])
    spool = Spool(path)
    assert list(spool.read()) == [write(0)]
    spool.append(write(20))
    assert first_sequences(path) == [0, 20]
    path.write_bytes(content[: int(kept * 12)])
    assert first_sequences(path) == []


@pytest.mark.parametrize("length_bytes", [3, 8, 100])
def test_the_zeros_that_a_power_failure_leaves_are_no_write(path: Path, length_bytes: int) -> None:
    """A file may be as long as it was made without its last bytes, or any of them."""
    spooled(path, 0, 10)
    path.write_bytes(path.read_bytes() + bytes(length_bytes))
    spool = Spool(path)
    assert [write.outcomes[0].segment.sequence for write in spool.read()] == [0, 10]
    spool.append(write(20))
    assert first_sequences(path) == [0, 10, 20]
    path.write_bytes(bytes(length_bytes))
    assert first_sequences(path) == []


def test_a_record_that_does_not_unpack_is_refused(path: Path) -> None:
    """Its checksum is right: another version may have packed it in another way."""
    spooled(path, 0)
    path.write_bytes(path.read_bytes() + _framed(b"not packed"))
    with pytest.raises(StoreError, match="was written by another version of vqmon"):
        Spool(path).read()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"SQLite format 3\0" * 4, "is no spool of vqmon"),
        (None, "is damaged at byte [0-9]+, after 0 writes"),
    ],
)
def test_a_damaged_spool_is_refused_with_what_to_do(path: Path, content: bytes | None, message: str) -> None:
    """What is behind the damage may not be written without what is lost."""
    spooled(path, 0, 10)
    damaged = bytearray(path.read_bytes())
    damaged[60] ^= 0xFF
    path.write_bytes(damaged if content is None else content)
    with pytest.raises(StoreError, match=rf"vqmon\.db\.spool: {message}; or move the file away"):
        Spool(path).read()


def test_a_spool_of_another_history_is_refused(path: Path) -> None:
    """Two databases may share a folder for states."""
    spool = Spool(path, history="postgresql://vqmon@one/vqmon")
    spool.append(write(0))
    assert len(Spool(path, history="postgresql://vqmon@one/vqmon").read()) == 1
    with pytest.raises(StoreError, match="belongs to another history; start vqmon once with that one"):
        Spool(path, history="postgresql://vqmon@two/vqmon").read()


def test_two_daemons_do_not_share_a_spool(path: Path) -> None:
    """The second one gets a remedy; others may read beside the first, and its end frees the spool."""
    with Spool(path).held():
        spooled(path, 0)
        with (
            pytest.raises(
                StoreError, match=r"vqmon\.db\.spool: another vqmon .*; stop it, or set daemon\.state_folder"
            ),
            Spool(path).held(),
        ):
            pass
        assert first_sequences(path) == [0]
    with Spool(path).held():
        pass


def test_a_spool_that_cannot_be_removed_is_empty(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the next start would write it over newer states."""

    def refuse(self: Path, *, missing_ok: bool) -> None:
        raise PermissionError(13, "Permission denied")

    spool = spooled(path, 0)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refuse)
        with pytest.raises(StoreError, match="cannot be removed: Permission denied"):
            spool.clear()
    assert first_sequences(path) == []
    spool.append(write(10))
    assert first_sequences(path) == [10]


def test_calls_that_go_on_in_their_threads_wait_for_each_other(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that was cancelled is still at work when the next one comes, which may not write at the same place."""
    flush, has_begun, may_end = os.fdatasync, threading.Event(), threading.Event()

    def flush_late(handle: int) -> None:
        monkeypatch.undo()
        has_begun.set()
        assert may_end.wait(10)
        flush(handle)

    spool = Spool(path)
    monkeypatch.setattr("vqmon.transport.recovery.spool.os.fdatasync", flush_late)
    with ThreadPoolExecutor(2) as executor:
        first = executor.submit(spool.append, write(0))
        assert has_begun.wait(10)
        second = executor.submit(spool.append, write(10))
        with pytest.raises(TimeoutError):
            second.result(timeout=0.1)
        may_end.set()
        first.result()
        second.result()
    assert first_sequences(path) == [0, 10]


@contextmanager
def largest_file(size_bytes: int) -> Iterator[None]:
    """As on a full disk: a file takes no more than this."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_does_not_fit_leaves_the_spool_as_it_was(path: Path) -> None:
    """And the next one that fits is behind the last."""
    spool = spooled(path, 0)
    with largest_file(spool.size_bytes + 100), pytest.raises(StoreError, match=r"vqmon\.db\.spool: cannot be written"):
        spool.append(write(10))
    assert first_sequences(path) == [0]
    spool.append(write(20))
    assert first_sequences(path) == [0, 20]
