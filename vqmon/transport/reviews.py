"""What people said in blind looks, and the pictures kept for them: a small SQLite file beside the history.

A file of its own, because the history has one writer, the daemon, while votes come from the pages and pictures from a
command. Each write is one short transaction, so any number of processes may write.
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
from vqmon.transport.history.rows import from_microseconds, storable_text, to_microseconds

_APPLICATION_ID = 0x76716D72
"""Tells it from other SQLite files ("vqmr")."""

_BUSY_SECONDS = 5.0
"""How long one writer waits for another."""

_TABLES = (
    """
    CREATE TABLE vote (
        experiment TEXT NOT NULL, pair_id TEXT NOT NULL, voter TEXT NOT NULL, choice TEXT NOT NULL, at INTEGER NOT NULL,
        PRIMARY KEY (experiment, pair_id, voter)
    )
    """,
    """
    CREATE TABLE picture (
        event_id TEXT NOT NULL, experiment TEXT NOT NULL, position INTEGER NOT NULL, time_seconds REAL NOT NULL,
        jpeg BLOB NOT NULL, PRIMARY KEY (event_id, experiment, position)
    )
    """,
    """
    CREATE TABLE secret (number INTEGER PRIMARY KEY CHECK (number = 1), body BLOB NOT NULL)
    """,
)


class Reviews:
    """Votes and pictures; the file is made by the first write, and safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def votes(self, experiment: str) -> Sequence[Vote]:
        """All votes of an experiment, the oldest first."""
        rows = self._ask("SELECT pair_id, choice, voter, at FROM vote WHERE experiment = ? ORDER BY at", experiment)
        return [
            Vote(pair_id=pair_id, choice=choice, voter=voter, at=from_microseconds(at))
            for pair_id, choice, voter, at in rows
        ]

    def cast(self, experiment: str, vote: Vote) -> None:
        """Keep a vote; one per voter and pair, a later one takes its place."""
        with self._writing() as connection:
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
        """(presentation time in seconds, JPEG) per frame kept of an outcome, for whichever experiment."""
        return self._ask(
            "SELECT time_seconds, jpeg FROM picture WHERE event_id = ? AND experiment ="
            " (SELECT min(experiment) FROM picture WHERE event_id = ?) ORDER BY position",
            *(event_id, event_id),
        )

    def pictured(self, experiment: str | None = None) -> set[str]:
        """The event ids that have pictures, for one experiment or for any."""
        where, values = ("", ()) if experiment is None else ("WHERE experiment = ?", (storable_text(experiment),))
        return {row[0] for row in self._ask(f"SELECT DISTINCT event_id FROM picture {where}", *values)}

    def keep_pictures(self, experiment: str, event_id: str, pictures: Thumbnails) -> None:
        """Keep the pictures of an outcome for an experiment, instead of those kept before."""
        key = (event_id, storable_text(experiment))
        with self._writing() as connection:
            connection.execute("DELETE FROM picture WHERE event_id = ? AND experiment = ?", key)
            connection.executemany(
                "INSERT INTO picture VALUES (?, ?, ?, ?, ?)",
                [(*key, position, seconds, jpeg) for position, (seconds, jpeg) in enumerate(pictures)],
            )

    def drop_pictures(self, experiment: str, *, keep: Sequence[str]) -> int:
        """Take out an experiment's pictures of all outcomes but these; how many outcomes lost theirs."""
        gone = sorted(self.pictured(experiment) - set(keep))
        if gone:
            with self._writing() as connection:
                connection.executemany(
                    "DELETE FROM picture WHERE event_id = ? AND experiment = ?",
                    [(event_id, storable_text(experiment)) for event_id in gone],
                )
        return len(gone)

    def secret(self) -> bytes:
        """32 bytes that only this file holds, made at the first need; they sign what the pages hand out."""
        with self._writing() as connection:
            connection.execute("INSERT OR IGNORE INTO secret VALUES (1, ?)", (os.urandom(32),))
            return bytes(connection.execute("SELECT body FROM secret").fetchone()[0])

    # ---- the file

    def _ask(self, sql: str, *values: object) -> list[Any]:
        if not self.path.is_file():
            return []
        with self._translated(), closing(self._open("ro")) as connection:
            return connection.execute(sql, values).fetchall()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._translated(), closing(self._open("rwc")) as connection:
            # Made within the transaction: of several first writers one makes the tables, the others wait and find them.
            connection.execute("BEGIN IMMEDIATE")
            if connection.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
                if connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
                    raise StoreError(f"{self.path}: is no file of votes; name another one in web.reviews")
                connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                for table in _TABLES:
                    connection.execute(table)
            yield connection
            connection.execute("COMMIT")

    def _open(self, mode: str) -> sqlite3.Connection:
        uri = f"{self.path.absolute().as_uri()}?mode={mode}"
        return sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: {error}") from error
