"""A copy beside a writer, and the targets that are refused."""

import sqlite3
from pathlib import Path

import pytest

from tests import factories
from tests.transport.recovery.damaged import overwrite_pages, pages_of
from vqmon.errors import StoreError
from vqmon.transport.history.history import open_history
from vqmon.transport.recovery.backup import back_up
from vqmon.transport.recovery.integrity import check_integrity


def test_a_copy_beside_a_writer_is_of_one_moment(damaged_history: Path, tmp_path: Path) -> None:
    """The writer publishes after every step of the copy, which holds what was there when it began."""
    source, target = damaged_history, tmp_path / "backup.db"
    steps: list[int] = []
    with open_history(source, "write") as writer:
        writer.publish([factories.event(sequence=5000)])
        tip = writer.queries.tip()

        def publish(done: int, total: int) -> None:
            steps.append(done)
            writer.publish([factories.event(sequence=5000 + len(steps))])

        size_bytes = back_up(source, target, on_progress=publish, step_pages=64)
        assert len(steps) > 3
        assert writer.queries.tip() == tip + len(steps)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("backup")) == ["backup.db"]
    assert target.stat().st_size == size_bytes
    assert check_integrity(target).is_sound
    with open_history(target, "read") as copy:
        assert copy.queries.tip() == tip
    # The next copy replaces it, and a copy is a history that is written to.
    back_up(source, target)
    with open_history(target, "write") as copy:
        assert copy.queries.tip() == tip + len(steps)


def test_targets_that_are_refused(sound_history: Path, tmp_path: Path) -> None:
    """The history itself, one that is in use, another file, and a folder that does not exist."""
    with pytest.raises(StoreError, match="is the history itself"):
        back_up(sound_history, sound_history)
    used = tmp_path / "used.db"
    with open_history(used, "write"), pytest.raises(StoreError, match="is in use"):
        back_up(sound_history, used)
    other = tmp_path / "letter.txt"
    other.write_text("x" * 200, encoding="utf-8")
    with pytest.raises(StoreError, match="is not a copy of a history"):
        back_up(sound_history, other)
    with pytest.raises(StoreError, match="the folder does not exist"):
        back_up(sound_history, tmp_path / "none" / "a.db")
    sqlite3.connect(tmp_path / "plain.db").execute("CREATE TABLE a (b)").connection.close()
    with pytest.raises(StoreError, match="not a history of vqmon"):
        back_up(tmp_path / "plain.db", tmp_path / "new.db")


def test_a_damaged_history_replaces_no_backup(damaged_history: Path, tmp_path: Path) -> None:
    """The older copy stays, and the message says what to do."""
    target = tmp_path / "backup.db"
    back_up(damaged_history, target)
    before = target.read_bytes()
    overwrite_pages(damaged_history, pages_of(damaged_history, "alert")[-1:])
    with pytest.raises(StoreError, match="vqmon history salvage"):
        back_up(damaged_history, target)
    assert target.read_bytes() == before
    assert [path for path in tmp_path.iterdir() if "partial" in path.name] == []
