"""Who may open a history: one writer, and readers that cannot write beside it."""

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests import factories
from vqmon.errors import SettingsError, StoreError
from vqmon.transport.history.backends.sqlite import sqlite_problem
from vqmon.transport.history.history import open_history

NOBODY = 65534
HOLD = """
import sys, time
from pathlib import Path
from vqmon.transport.history.history import open_history
with open_history(Path(sys.argv[1]), "write"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_only_one_writes_at_a_time(tmp_path: Path) -> None:
    """A second writer is refused by any name of the file, readers are not, and the next one may."""
    path = tmp_path / "history.db"
    (tmp_path / "other.db").symlink_to(path)
    with open_history(path, "write"):
        for name in (path, tmp_path / "other.db"):
            with pytest.raises(StoreError, match="another vqmon writes"), open_history(name, "write"):
                pass
        with open_history(path, "read") as history:
            assert history.queries.tip() == 0
    with open_history(path, "write"):
        pass


def test_a_killed_writer_holds_nothing(tmp_path: Path) -> None:
    """SIGKILL frees the history for the next writer."""
    path = tmp_path / "history.db"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        with pytest.raises(StoreError, match="another vqmon writes"), open_history(path, "write"):
            pass
        child.send_signal(signal.SIGKILL)
    with open_history(path, "write"):
        pass


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user may enter, with a history in it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with open_history(folder / "history.db", "write") as history:
            history.publish([factories.event(sequence=0)])
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)


def outcome_of_reading(folder: Path) -> str:
    """What a user without special rights gets to see: the number of rows, or the error."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            with open_history(folder / "history.db", "read") as history:
                os.write(write_end, f"tip {history.queries.tip()}".encode())
        except (SettingsError, StoreError) as error:
            os.write(write_end, str(error).encode())
        finally:
            os._exit(0)
    os.close(write_end)
    os.waitpid(child, 0)
    with os.fdopen(read_end) as opened:
        return opened.read()


def test_a_folder_that_cannot_be_written_to_is_read(folder: Path) -> None:
    """The history of another user, at rest, is readable."""
    assert outcome_of_reading(folder) == "tip 1"


def test_a_folder_that_another_user_writes_to_is_read(folder: Path) -> None:
    """What stands in the log of the writer is seen too."""
    folder.chmod(0o755)
    with open_history(folder / "history.db", "write") as writer:
        writer.publish([factories.event(sequence=1)])
        folder.chmod(0o555)
        assert outcome_of_reading(folder) == "tip 2"


def test_a_missing_permission_is_named(folder: Path) -> None:
    """A log that this user cannot use, and a file that it cannot read, say so."""
    folder.chmod(0o755)
    (folder / "history.db-wal").write_bytes(b"x" * 100)
    folder.chmod(0o555)
    assert "history.db-shm, or to write in" in outcome_of_reading(folder)
    (folder / "history.db").chmod(0)
    if os.geteuid() == 0 or not os.access(folder / "history.db", os.R_OK):
        assert "needs permission to read it" in outcome_of_reading(folder)


def test_a_reader_follows_a_writer_that_comes_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was at rest when it was opened is seen to change."""
    path = tmp_path / "history.db"
    with open_history(path, "write"):
        pass
    monkeypatch.setattr(os, "access", lambda file, mode: mode != os.W_OK)
    with open_history(path, "read") as reader:
        assert reader.queries.tip() == 0
        with open_history(path, "write") as writer:
            writer.publish([factories.event(sequence=0)])
            assert reader.queries.tip() == 1
            writer.publish([factories.event(sequence=1)])
        assert reader.queries.tip() == 2


def test_a_full_disk_is_said_with_a_remedy() -> None:
    """SQLite's own words, which are few; of another error they are enough."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("PRAGMA max_page_count = 2")
        with pytest.raises(sqlite3.OperationalError) as caught:
            connection.execute("CREATE TABLE a AS SELECT zeroblob(100000)")
    assert sqlite_problem(caught.value) == "database or disk is full; make room there, or name another file"
    assert sqlite_problem(sqlite3.OperationalError("database is locked")) == "database is locked"
    failed = sqlite3.OperationalError("disk I/O error")
    failed.sqlite_errorcode = sqlite3.SQLITE_IOERR_SHMSIZE
    assert sqlite_problem(failed) == "disk I/O error; see whether its disk is full or fails"
