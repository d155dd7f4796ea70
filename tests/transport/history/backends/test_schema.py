"""Versions of the tables: an older history is upgraded, a newer one and other files are refused."""

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests import factories
from tests.postgres import PostgresServer
from tests.transport.history.samples import end_after
from vqmon.errors import NoHistoryError, SettingsError, StoreError
from vqmon.transport.history.backends.location import HistoryLocation
from vqmon.transport.history.backends.schema import to_postgres
from vqmon.transport.history.backends.views import VIEW_COLUMNS
from vqmon.transport.history.history import open_history

_TO_VERSION_1 = (
    "DROP TABLE views",
    "DROP TABLE unfilled",
    "DROP TABLE ended",
    "DROP TABLE evidence_heat_maps",
    "DROP TABLE input_decision",
    "ALTER TABLE outcome DROP COLUMN facts",
    "ALTER TABLE outcome ADD COLUMN layout_id INTEGER",
    "ALTER TABLE outcome ADD COLUMN measures BLOB",
    "CREATE TABLE layout (layout_id INTEGER PRIMARY KEY, names TEXT NOT NULL UNIQUE)",
)


def make_older(history_location: HistoryLocation, server: PostgresServer | None) -> None:
    """As the first version left it."""
    views = [name for name in reversed(VIEW_COLUMNS)]
    statements = [f"DROP VIEW {name}" for name in views] + list(_TO_VERSION_1)
    if isinstance(history_location, Path):
        with closing(sqlite3.connect(history_location)) as older:
            older.executescript(";".join([*statements, "PRAGMA user_version = 1"]))
        return
    assert server is not None
    database = urlsplit(history_location.url).path.lstrip("/")
    script = [to_postgres(statement) for statement in statements]
    server.run_sql("SET search_path = vqmon; " + "; ".join([*script, "UPDATE about SET version = 1"]), database)


def test_a_history_of_the_first_version_is_upgraded(
    history_location: HistoryLocation, request: pytest.FixtureRequest
) -> None:
    """With all that is in it; to be read it must have been opened by a writer once."""
    with open_history(history_location, "write") as history:
        history.publish([factories.event(sequence=0)])
    make_older(history_location, None if isinstance(history_location, Path) else request.getfixturevalue("postgres"))
    with pytest.raises((StoreError, NoHistoryError)), open_history(history_location, "read"):
        pass
    with open_history(history_location, "write") as history:
        history.publish([factories.event(sequence=1)], ends=[end_after(2)])
    with open_history(history_location, "read") as history:
        assert list(history.documents.judge_inputs()) == [
            factories.event(sequence=0),
            factories.event(sequence=1),
            end_after(2),
        ]
        facts = [
            (point.scores, point.signals, point.labels) for point in history.queries.points_written_after(0, limit=9)
        ]
        assert facts[0] == facts[1]
        assert facts[0][0] == {factories.SCORER: 70.0}


def test_files_that_are_not_a_history_are_refused(tmp_path: Path) -> None:
    """Nothing there, another database, no database, another version: each says what to do."""
    with pytest.raises(SettingsError, match="no history yet; run"), open_history(tmp_path / "none.db", "read"):
        pass
    with pytest.raises(StoreError, match="folder does not exist"), open_history(tmp_path / "a" / "b.db", "write"):
        pass
    (tmp_path / "text.db").write_text("no database at all, but long enough to be looked at" * 20)
    with pytest.raises(StoreError, match="not a database"), open_history(tmp_path / "text.db", "write"):
        pass
    (tmp_path / "empty.db").touch()
    with pytest.raises(StoreError, match="no history yet"), open_history(tmp_path / "empty.db", "read"):
        pass
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE t (x)")
    other.close()
    with pytest.raises(StoreError, match="not a history of vqmon"), open_history(tmp_path / "other.db", "write"):
        pass


def test_a_newer_history_is_refused(tmp_path: Path) -> None:
    """A file of a later vqmon is not touched."""
    path = tmp_path / "history.db"
    with open_history(path, "write"):
        pass
    later = sqlite3.connect(path)
    later.execute("PRAGMA user_version = 99")
    later.close()
    for mode in ("write", "read"):
        with pytest.raises(StoreError, match="newer vqmon"), open_history(path, mode):
            pass
