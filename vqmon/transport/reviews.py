"""Votes of blind reviews, and the pictures and clips stored for them, in a small SQLite file beside the history.

They have their own file because the history has a single writer, the daemon, while votes come from the pages and
pictures from a command. Each write is one short transaction, so any number of processes may write.
"""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from vqmon.core.experiments.human_review import Vote
from vqmon.core.timeline import Thumbnails
from vqmon.errors import StoreError
from vqmon.transport.history.backends.sqlite import sqlite_problem
from vqmon.transport.history.rows import from_microseconds, storable_text, to_microseconds

_APPLICATION_ID = 0x76716D72
"""Marks an SQLite file as one of reviews ("vqmr")."""

_BUSY_SECONDS = 5.0
"""How long a writer waits for another writer's transaction."""

_TABLES = (
    """
    CREATE TABLE IF NOT EXISTS vote (
        experiment TEXT NOT NULL, pair_id TEXT NOT NULL, voter TEXT NOT NULL, choice TEXT NOT NULL, at INTEGER NOT NULL,
        PRIMARY KEY (experiment, pair_id, voter)
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS picture (
        event_id TEXT NOT NULL, experiment TEXT NOT NULL, position INTEGER NOT NULL, time_seconds REAL NOT NULL,
        jpeg BLOB NOT NULL, PRIMARY KEY (event_id, experiment, position)
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS clip (
        event_id TEXT NOT NULL, experiment TEXT NOT NULL, mp4 BLOB NOT NULL, PRIMARY KEY (event_id, experiment)
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS secret (number INTEGER PRIMARY KEY CHECK (number = 1), body BLOB NOT NULL)
    """,
)


class Reviews:
    """Stores votes, pictures and clips. The first write creates the file; safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def votes(self, experiment: str) -> Sequence[Vote]:
        """All votes of an experiment, oldest first."""
        rows = self._query("SELECT pair_id, choice, voter, at FROM vote WHERE experiment = ? ORDER BY at", experiment)
        return [
            Vote(pair_id=pair_id, choice=choice, voter=voter, at=from_microseconds(at))
            for pair_id, choice, voter, at in rows
        ]

    def store_vote(self, experiment: str, vote: Vote) -> None:
        """Store a vote; it replaces the same voter's earlier vote on the same pair."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO vote VALUES (?, ?, ?, ?, ?) ON CONFLICT (experiment, pair_id, voter)"
                " DO UPDATE SET choice = excluded.choice, at = excluded.at",
                (
                    storable_text(experiment),
                    vote.pair_id,
                    storable_text(vote.voter),
                    storable_text(vote.choice),
                    to_microseconds(vote.at),
                ),
            )

    def pictures(self, event_id: str) -> Sequence[tuple[float, bytes]]:
        """(presentation time in seconds, JPEG) per picture of an outcome, from any one experiment that has some."""
        return self._query(
            "SELECT time_seconds, jpeg FROM picture WHERE event_id = ? AND experiment ="
            " (SELECT min(experiment) FROM picture WHERE event_id = ?) ORDER BY position",
            *(event_id, event_id),
        )

    def event_ids_with_pictures(self, experiment: str | None = None) -> set[str]:
        """The event ids for which pictures are stored, by one experiment or (None) by any."""
        where, values = ("", ()) if experiment is None else ("WHERE experiment = ?", (storable_text(experiment),))
        return {row[0] for row in self._query(f"SELECT DISTINCT event_id FROM picture {where}", *values)}

    def replace_pictures(self, experiment: str, event_id: str, pictures: Thumbnails) -> None:
        """Store the pictures of an outcome for an experiment; they replace those stored before."""
        key = (event_id, storable_text(experiment))
        with self._transaction() as connection:
            connection.execute("DELETE FROM picture WHERE event_id = ? AND experiment = ?", key)
            connection.executemany(
                "INSERT INTO picture VALUES (?, ?, ?, ?, ?)",
                [(*key, position, seconds, jpeg) for position, (seconds, jpeg) in enumerate(pictures)],
            )

    def delete_pictures(self, experiment: str, *, except_event_ids: Sequence[str]) -> int:
        """Delete an experiment's pictures and clips of all outcomes except these; returns from how many outcomes."""
        event_ids = sorted(self.event_ids_with_pictures(experiment) - set(except_event_ids))
        if event_ids:
            with self._transaction() as connection:
                for table in ("picture", "clip"):
                    connection.executemany(
                        f"DELETE FROM {table} WHERE event_id = ? AND experiment = ?",
                        [(event_id, storable_text(experiment)) for event_id in event_ids],
                    )
        return len(event_ids)

    # ---- clips

    def clip(self, event_id: str) -> bytes | None:
        """A short MP4 of an outcome, from any one experiment that has one."""
        if not self._has_clips():
            return None
        rows = self._query("SELECT mp4 FROM clip WHERE event_id = ? LIMIT 1", event_id)
        return bytes(rows[0][0]) if rows else None

    def event_ids_with_clips(self) -> set[str]:
        """The event ids for which clips are stored, by any experiment."""
        return {row[0] for row in self._query("SELECT event_id FROM clip")} if self._has_clips() else set()

    def clip_bytes(self) -> int:
        """Bytes of all clips."""
        return int(self._query("SELECT coalesce(sum(length(mp4)), 0) FROM clip")[0][0]) if self._has_clips() else 0

    def replace_clip(self, experiment: str, event_id: str, mp4: bytes) -> None:
        """Store the clip of an outcome for an experiment; it replaces the one stored before."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO clip VALUES (?, ?, ?)", (event_id, storable_text(experiment), mp4)
            )

    def _has_clips(self) -> bool:
        """Whether the file can hold clips: files of earlier versions cannot until the next write."""
        return bool(self._query("SELECT 1 FROM sqlite_master WHERE name = 'clip'"))

    def secret(self) -> bytes:
        """The 32-byte key that signs the tokens of voting forms; created at the first call, kept in this file only."""
        with self._transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO secret VALUES (1, ?)", (os.urandom(32),))
            return bytes(connection.execute("SELECT body FROM secret").fetchone()[0])

    # ---- file

    def _query(self, sql: str, *values: object) -> list[Any]:
        # a first write that failed, such as on a full disk, leaves an empty file
        if not self.path.is_file() or not self.path.stat().st_size:
            return []
        with self._translated_errors(), closing(self._open("ro")) as connection:
            return connection.execute(sql, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._translated_errors(), closing(self._open("rwc")) as connection:
            # Within the transaction: of several first writers one creates the tables while the others wait.
            connection.execute("BEGIN IMMEDIATE")
            if connection.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
                if connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
                    raise StoreError(f"{self.path}: not a file of votes; name another file in web.reviews")
                connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            # Files of earlier versions lack some of them.
            for table in _TABLES:
                connection.execute(table)
            yield connection
            connection.execute("COMMIT")

    def _open(self, mode: str) -> sqlite3.Connection:
        uri = f"{self.path.absolute().as_uri()}?mode={mode}"
        return sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: {sqlite_problem(error)}") from error
