"""The history of one host: outcomes, alerts, evidence and how far each lane has come, in one SQLite file."""

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from vqmon.core.notices import Notice, Said
from vqmon.core.rules import State
from vqmon.core.types import Alert, Cursor, Outcome
from vqmon.errors import StoreError
from vqmon.transport import tables
from vqmon.transport.access import check_readable, frozen_at, only_writer
from vqmon.transport.asking import Questions
from vqmon.transport.notify_outbox import SELECT_NOTICES, enqueue, notice_of, write_told
from vqmon.transport.rows import Pruned, Thumbnails, microseconds
from vqmon.transport.writing import delete, insert_outcome, keep_evidence, upsert_alert, write_cursors, write_states

Mode = Literal["write", "read"]

BUSY_SECONDS = 5.0
"""How long a writer waits for another one."""

CHUNK_ROWS = 1000
"""How many rows retention takes out in one transaction, so that publishing never waits long."""


@contextmanager
def open_history(path: Path, mode: Mode, *, evidence_max_bytes: int = 200_000) -> Iterator["History"]:
    """Open a history: `write` makes it when there is none, `read` never changes it.

    Survives the end of the process at any moment: what `publish` returned from is there, what it did not is not.
    Raises SettingsError when there is none to read; StoreError when the file is no history, was written by a newer
    vqmon, or is being written by another one.
    """
    if mode == "read":
        check_readable(path)
    with only_writer(path) if mode == "write" else nullcontext():
        connections = _Connections(path, mode)
        try:
            _prepare(connections, mode)
            yield History(connections, evidence_max_bytes=evidence_max_bytes)
        finally:
            connections.close()


class _Connections:
    """One connection per thread, opened when first needed: SQLite's own isolation then holds between threads."""

    def __init__(self, path: Path, mode: Mode) -> None:
        self.path = path
        self._mode = mode
        self._of_thread = threading.local()
        self._all: list[sqlite3.Connection] = []

    def get(self) -> sqlite3.Connection:
        known: sqlite3.Connection | None = getattr(self._of_thread, "connection", None)
        if known is not None and (frozen := self._of_thread.frozen_at) and frozen != frozen_at(self.path):
            # A writer has come since.
            self._all.remove(known)
            known.close()
            known = None
        if known is None:
            frozen = self._of_thread.frozen_at = frozen_at(self.path) if self._mode == "read" else None
            known = self._of_thread.connection = self._open(is_frozen=frozen is not None)
            self._all.append(known)
        return known

    def _open(self, *, is_frozen: bool) -> sqlite3.Connection:
        query = "mode=rwc" if self._mode == "write" else "mode=ro&immutable=1" if is_frozen else "mode=ro"
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?{query}",
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            # Closed by the thread that closes the history.
            check_same_thread=False,
            cached_statements=256,
        )
        # In WAL mode NORMAL loses nothing when the process dies; only a power cut can take the last transactions.
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    def ask(self, sql: str, *values: Any) -> list[Any]:
        with self.translated():
            return self.get().execute(sql, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing."""
        with self.translated():
            connection = self.get()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                # A full disk has already rolled it back.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    @contextmanager
    def translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: {error}") from error

    def close(self) -> None:
        while self._all:
            self._all.pop().close()


def _prepare(connections: _Connections, mode: Mode) -> None:
    """See that the file is a history of this version; make or migrate the tables in write mode."""
    path = connections.path
    version = connections.ask("PRAGMA user_version")[0][0]
    application = connections.ask("PRAGMA application_id")[0][0]
    is_empty = not connections.ask("SELECT 1 FROM sqlite_master LIMIT 1")
    if application != tables.APPLICATION_ID and not is_empty:
        raise StoreError(f"{path}: is an SQLite file, but no history of vqmon; name another file")
    if version > tables.VERSION:
        raise StoreError(
            f"{path}: was written by a newer vqmon (tables {version}, this one knows {tables.VERSION}); "
            "upgrade vqmon, or name another file"
        )
    if mode == "read":
        if version < tables.VERSION:
            raise StoreError(f"{path}: no history yet, or one of an older vqmon; start the daemon once")
        return
    if version < tables.VERSION:
        # Documents are between one and two kB: larger pages hold them with less waste.
        connections.ask("PRAGMA page_size = 8192")
        connections.ask("PRAGMA journal_mode = WAL")
        with connections.transaction() as connection:
            _migrate(connection)


def _migrate(connection: sqlite3.Connection) -> None:
    # Asked again, as another process may have been first.
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    scripts = [tables.TABLES] if version == 0 else [tables.MIGRATIONS[v] for v in range(version, tables.VERSION)]
    for script in scripts if version < tables.VERSION else ():
        for statement in _statements(script):
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {tables.VERSION}")
    connection.execute(f"PRAGMA application_id = {tables.APPLICATION_ID}")


def _statements(script: str) -> Iterator[str]:
    """One by one: `executescript` would commit the transaction that it runs in."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


class SeenSegments:
    """The segments that a history has an outcome of; `in` takes a segment's key."""

    def __init__(self, questions: Questions) -> None:
        self._questions = questions

    def __contains__(self, segment_key: object) -> bool:
        return isinstance(segment_key, str) and self._questions.has_segment(segment_key)


class History(Questions):
    """What was seen and said; safe to use from several threads."""

    def __init__(self, connections: _Connections, *, evidence_max_bytes: int) -> None:
        super().__init__(connections.ask)
        self._connections = connections
        self._evidence_max_bytes = evidence_max_bytes

    def publish(
        self,
        outcomes: Sequence[Outcome],
        *,
        alerts: Sequence[Alert] = (),
        states: Mapping[str, State | None] | None = None,
        cursors: Sequence[Cursor] = (),
        thumbnails: Mapping[str, Thumbnails] | None = None,
        queued_at: datetime | None = None,
    ) -> None:
        """Write all of it in one transaction.

        What is there already, by event id, stays as it is; an alert that is resolved never opens again. `states` with
        None are forgotten. `thumbnails` are by event id. With `queued_at`, the moment by this machine's clock, alerts
        that are news go into the outbox too.
        """
        pictures = thumbnails or {}
        with self._connections.transaction() as connection:
            number = connection.execute("SELECT number FROM tip").fetchone()[0]
            for outcome in outcomes:
                number += insert_outcome(connection, number + 1, outcome, pictures.get(outcome.id, ()))
            for alert in alerts:
                is_news = upsert_alert(connection, number + 1, alert)
                number += is_news
                if is_news and queued_at is not None:
                    enqueue(connection, alert, queued_at)
                if alert.state == "open":
                    keep_evidence(connection, alert, self._evidence_max_bytes)
            connection.execute("UPDATE tip SET number = ?", (number,))
            write_states(connection, states or {})
            write_cursors(connection, cursors)

    def notices(self, *, after: int = 0) -> Sequence[Notice]:
        """What waits in the outbox, of alerts written after this number, oldest change first."""
        return [notice_of(row) for row in self._ask(SELECT_NOTICES, after)]

    def mark_told(self, told: Mapping[str, Mapping[str, Said] | None]) -> None:
        """Remember what targets were told, by alert; None takes the alert out of the outbox."""
        with self._connections.transaction() as connection:
            write_told(connection, told)

    def seen_segments(self, stream_id: str) -> SeenSegments:
        """The segments of a stream that have an outcome; keys name their stream, so one answer serves all."""
        return SeenSegments(self)

    def prune(self, *, before: datetime, keep_frames_of_segments: int) -> Pruned:
        """Take out outcomes observed before a moment, and the thumbnails of all but the newest segments of a rendition.

        Works from the oldest write on in small transactions. Alerts and their evidence stay.
        """
        return Pruned(
            outcomes=sum(iter(lambda: self._prune_outcomes(microseconds(before)), 0)),
            thumbnails=self._prune_thumbnails(keep_frames_of_segments),
        )

    def checkpoint(self) -> None:
        """Write the log back into the file and empty it; does what it can while others read."""
        self._connections.ask("PRAGMA wal_checkpoint(TRUNCATE)")

    def _prune_outcomes(self, before: int) -> int:
        oldest = f"SELECT number, observed_at FROM outcome ORDER BY number LIMIT {CHUNK_ROWS}"
        with self._connections.transaction() as connection:
            found = connection.execute(f"SELECT number FROM ({oldest}) WHERE observed_at < ?", (before,)).fetchall()
            delete(connection, ("thumbnail", "document", "outcome"), found)
        return len(found)

    def _prune_thumbnails(self, keep: int) -> int:
        ranked = (
            "SELECT number, row_number() OVER (PARTITION BY rendition_id ORDER BY starts_at DESC, number DESC) AS place"
            " FROM (SELECT DISTINCT number FROM thumbnail) JOIN outcome USING (number)"
        )
        found = self._ask(f"SELECT number FROM ({ranked}) WHERE place > ?", keep)
        for start in range(0, len(found), CHUNK_ROWS):
            with self._connections.transaction() as connection:
                delete(connection, ("thumbnail",), found[start : start + CHUNK_ROWS])
        return len(found)
