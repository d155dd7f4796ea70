"""The history: outcomes, alerts, evidence and the progress of every lane, in a file or a PostgreSQL database."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path

from vqmon.core.alerts.annotations import DeployMarker, StreamEnd
from vqmon.core.alerts.state import State, StateKey
from vqmon.core.timeline import Thumbnails
from vqmon.core.types import Alert, LaneCursor, Outcome
from vqmon.errors import SettingsError, install_extra
from vqmon.telemetry.logs import log_event
from vqmon.transport.history.backends.base import Database, OpenMode, Transaction, retry_until_reachable
from vqmon.transport.history.backends.location import HistoryLocation
from vqmon.transport.history.backends.sqlite import SqliteDatabase, check_readable, hold_writer_lock
from vqmon.transport.history.deliveries.decision_log import DecisionLog
from vqmon.transport.history.deliveries.outbox import Outbox, enqueue
from vqmon.transport.history.documents import Documents
from vqmon.transport.history.ingest import ParsedRecords, commit_offsets
from vqmon.transport.history.inserts import (
    InsertCache,
    insert_end,
    insert_evidence,
    insert_evidence_heat_maps,
    insert_marker,
    insert_outcomes,
    insert_seen_segments,
    upsert_alert,
    upsert_cursors,
    upsert_states,
)
from vqmon.transport.history.maintenance import Maintenance
from vqmon.transport.history.queries import Queries
from vqmon.transport.history.rows import encode_facts, pack_event_id, segment_digest

log = logging.getLogger("vqmon.history")

RETRY_TIMEOUT_SECONDS = 60.0
"""How long a write waits for a database that is away before it fails."""

_FILL_CHUNK_NUMBERS = 5000
"""Writes whose facts one transaction fills."""

_SEEN_CHUNK_OUTCOMES = 1000
"""Outcomes whose segments one transaction marks as seen."""


@contextmanager
def open_history(
    location: HistoryLocation, mode: OpenMode, *, evidence_max_bytes: int = 200_000
) -> Iterator["History"]:
    """Open a history: `write` and `record` create it when there is none, `read` never changes it.

    What `publish` returned from survives the end of the process at any moment; what it did not is not stored. Only one
    `write` has a history open at a time; any number of `record` may, in a PostgreSQL database. `annotate` goes beside a
    writer, for markers, ends and decisions alone. Raises SettingsError when there is none to read; StoreRefusedError
    when the file is not a history, was written by a newer vqmon, or has another writer; StoreError when it cannot be
    opened.
    """
    if isinstance(location, Path) and mode == "read":
        check_readable(location)
    needs_lock = mode in ("write", "record")
    with hold_writer_lock(location) if isinstance(location, Path) and needs_lock else nullcontext():
        database = open_database(location, mode)
        try:
            history = History(database, evidence_max_bytes=evidence_max_bytes)
            if needs_lock:
                history.fill_facts()
            yield history
        finally:
            database.close()


def open_database(location: HistoryLocation, mode: OpenMode) -> Database:
    """Open the database of a history, without the writer lock of a file."""
    if isinstance(location, Path):
        return SqliteDatabase(location, mode)
    try:
        from vqmon.transport.history.backends.postgres import PostgresDatabase
    except ImportError as error:
        raise SettingsError(f"history.url: PostgreSQL needs psycopg: {install_extra('postgres')}") from error
    return PostgresDatabase(location, mode)


class SeenSegments:
    """The segments that have an outcome; `in` takes a segment's key."""

    def __init__(self, database: Database) -> None:
        self._query = database.query

    def __contains__(self, segment_key: object) -> bool:
        return isinstance(segment_key, str) and bool(
            self._query("SELECT 1 FROM seen WHERE segment = ?", segment_digest(segment_key))
        )


class History:
    """Writes outcomes and alerts, and owns the parts that read and maintain them; safe to use from several threads."""

    def __init__(self, database: Database, *, evidence_max_bytes: int) -> None:
        self.documents = Documents(database.query)
        self.queries = Queries(database, documents=self.documents)
        self.outbox = Outbox(database, retry_timeout_seconds=RETRY_TIMEOUT_SECONDS)
        self.decisions = DecisionLog(database)
        self.maintenance = Maintenance(database)
        self._database = database
        self._evidence_max_bytes = evidence_max_bytes
        self._cache = InsertCache()
        self._stores_seen_segments = False

    def publish(
        self,
        outcomes: Sequence[Outcome],
        *,
        ends: Sequence[StreamEnd] = (),
        alerts: Sequence[Alert] = (),
        states: Mapping[StateKey, State | None] | None = None,
        cursors: Sequence[LaneCursor] = (),
        thumbnails: Mapping[str, Thumbnails] | None = None,
        queued_at: datetime | None = None,
        documents: Mapping[str, bytes] | None = None,
    ) -> None:
        """Write all of it in one transaction, the ends after the outcomes.

        Idempotent: outcomes whose id is stored stay as they are, and a resolved alert never opens again; so a database
        that is away is waited for. A state of None is deleted. `thumbnails` and `documents` are by event id; a document
        is the event as it was received. With `queued_at`, by the clock of this machine, alerts that changed are
        put into the outbox too.
        """

        def write(transaction: Transaction) -> None:
            number = self._insert(
                transaction,
                outcomes,
                ends=[(len(outcomes), end) for end in ends],
                documents=documents or {},
                thumbnails=thumbnails or {},
            )
            number = self._upsert_alerts(transaction, number, alerts, queued_at)
            transaction.execute("UPDATE tip SET number = ?", (number,))
            upsert_states(transaction, states or {})
            upsert_cursors(transaction, cursors)
            if self._stores_seen_segments:
                insert_seen_segments(transaction, outcomes)

        self._write(write)

    def ingest(self, records: ParsedRecords) -> None:
        """Write records of topics together with the offsets up to which they were read.

        Raises FencedError when another recorder has moved these offsets, and StoreUnreachableError at once: the
        stored offsets tell the caller whether the records were written.
        """
        with self._transaction() as transaction:
            number = self._insert(
                transaction, records.outcomes, ends=records.ends, documents=records.documents, thumbnails={}
            )
            # `_insert` has locked the tip: no other recorder moves an offset from here on.
            commit_offsets(transaction, records.offset_commits)
            for marker in records.markers:
                insert_marker(transaction, marker)
            number = self._upsert_alerts(transaction, number, records.alerts, None)
            transaction.execute("UPDATE tip SET number = ?", (number,))

    def check(self) -> None:
        """Read all of the database; raises StoreError when it is damaged."""
        self._database.check()

    def reopen(self) -> None:
        """Open the database anew after a write failed; raises StoreError when it is still not in order."""
        self._cache.clear()
        self._database.reopen()

    def fill_facts(self) -> None:
        """Write the facts of outcomes that an older vqmon wrote; a run that was interrupted is gone on with."""
        for after, up_to in self._database.query("SELECT after_number, up_to_number FROM unfilled"):
            for begin in range(after, up_to, _FILL_CHUNK_NUMBERS):
                end = min(begin + _FILL_CHUNK_NUMBERS, up_to)
                self._write(partial(self._fill_chunk, begin=begin, end=end))
                log.info(**log_event("history.upgrading", done=end, of=up_to))
            self._write(lambda transaction: transaction.execute("DELETE FROM unfilled"))

    def _fill_chunk(self, transaction: Transaction, *, begin: int, end: int) -> None:
        outcomes = self.documents.outcomes_in_write_order(after=begin, up_to=end)
        rows = [(encode_facts(outcome), pack_event_id(outcome.id)) for outcome in outcomes]
        transaction.executemany("UPDATE outcome SET facts = ? WHERE id = ?", rows)
        transaction.execute("UPDATE unfilled SET after_number = ?", (end,))

    def add_marker(self, marker: DeployMarker) -> None:
        """Store a deploy marker; adding it twice changes nothing."""
        self._write(lambda transaction: insert_marker(transaction, marker))

    def add_end(self, end: StreamEnd) -> None:
        """Store an end for the writer to judge, who then publishes it with its number among the outcomes."""
        self._write(lambda transaction: insert_end(transaction, end, number=None))

    def seen_segments(self) -> SeenSegments:
        """The segments that have an outcome, of all streams.

        From the first call on they are stored with each outcome; the first call goes through all earlier outcomes.
        """
        if not self._stores_seen_segments:
            self._stores_seen_segments = True
            if not self._database.query("SELECT 1 FROM seen LIMIT 1"):
                outcomes = self.documents.outcomes_in_write_order()
                while chunk := list(islice(outcomes, _SEEN_CHUNK_OUTCOMES)):
                    self._write(partial(insert_seen_segments, outcomes=chunk))
        return SeenSegments(self._database)

    def _insert(
        self,
        transaction: Transaction,
        outcomes: Sequence[Outcome],
        *,
        ends: Sequence[tuple[int, StreamEnd]],
        documents: Mapping[str, bytes],
        thumbnails: Mapping[str, Thumbnails],
    ) -> int:
        """Insert outcomes, and each end after its count of outcomes; returns the last number that was given."""
        # Locks the row: writers take turns from here on, so numbers become visible in their order.
        number = int(transaction.execute("UPDATE tip SET number = number RETURNING number").fetchone()[0])
        begin = 0
        for count, end in (*ends, (len(outcomes), None)):
            number += insert_outcomes(
                transaction,
                number,
                outcomes[begin:count],
                cache=self._cache,
                documents=documents,
                thumbnails=thumbnails,
            )
            number += insert_end(transaction, end, number=number + 1) if end else 0
            begin = count
        return number

    def _upsert_alerts(
        self, transaction: Transaction, number: int, alerts: Sequence[Alert], queued_at: datetime | None
    ) -> int:
        for alert in alerts:
            has_changed = upsert_alert(transaction, number + 1, alert)
            number += has_changed
            if has_changed and queued_at is not None:
                enqueue(transaction, alert, queued_at)
            if alert.state == "open":
                insert_evidence(transaction, alert, max_bytes=self._evidence_max_bytes)
                if alert.evidence.worst_times_seconds:
                    # within the transaction, as it may hold the event itself
                    documents = Documents(lambda sql, *values: transaction.execute(sql, values).fetchall())
                    insert_evidence_heat_maps(transaction, alert, documents.outcome(alert.evidence.event_id))
        return number

    def _write(self, write: Callable[[Transaction], object]) -> None:
        """Run an idempotent write in a transaction, retried while the database is away."""

        def write_once() -> None:
            with self._transaction() as transaction:
                write(transaction)

        retry_until_reachable(write_once, timeout_seconds=RETRY_TIMEOUT_SECONDS)

    @contextmanager
    def _transaction(self) -> Iterator[Transaction]:
        try:
            with self._database.transaction() as transaction:
                yield transaction
        except BaseException:
            # The cache may name rows that were rolled back.
            self._cache.clear()
            raise
