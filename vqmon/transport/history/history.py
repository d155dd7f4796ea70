"""The history: outcomes, alerts, evidence and how far each lane has come, in a file or a PostgreSQL database."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path

from vqmon.core.alerts.annotations import End, Marker
from vqmon.core.alerts.judge import State
from vqmon.core.alerts.notifications import Notice, Said
from vqmon.core.timeline import Pruned, Thumbnails
from vqmon.core.types import Alert, Cursor, Outcome
from vqmon.errors import SettingsError
from vqmon.transport.history import maintenance
from vqmon.transport.history.backends.base import Connection, Database, Mode, repeated
from vqmon.transport.history.backends.location import Place
from vqmon.transport.history.backends.sqlite import SqliteDatabase, check_readable, only_writer
from vqmon.transport.history.ingest import Taken, move_on
from vqmon.transport.history.inserts import (
    Known,
    insert_end,
    insert_marker,
    insert_outcomes,
    keep_evidence,
    upsert_alert,
    write_cursors,
    write_seen,
    write_states,
)
from vqmon.transport.history.outbox import SELECT_NOTICES, enqueue, notice_of, write_told
from vqmon.transport.history.queries import Questions
from vqmon.transport.history.rows import microseconds

PATIENCE_SECONDS = 60.0
"""How long a write waits for a server that is away before it gives up."""


@contextmanager
def open_history(place: Place, mode: Mode, *, evidence_max_bytes: int = 200_000) -> Iterator["History"]:
    """Open a history: `write` makes it when there is none, `read` never changes it.

    Survives the end of the process at any moment: what `publish` returned from is there, what it did not is not.
    Only one `write` has a history open at a time; any number of `record` may, in a PostgreSQL database. `mark` goes
    beside a writer, for markers and ends alone. Raises
    SettingsError when there is none to read; StoreError when the file is no history, was written by a newer vqmon, or
    is being written by another one.
    """
    if mode == "read" and isinstance(place, Path):
        check_readable(place)
    with only_writer(place) if mode not in ("read", "mark") and isinstance(place, Path) else nullcontext():
        database = _open(place, mode)
        try:
            yield History(database, evidence_max_bytes=evidence_max_bytes)
        finally:
            database.close()


def _open(place: Place, mode: Mode) -> Database:
    if isinstance(place, Path):
        return SqliteDatabase(place, mode)
    try:
        from vqmon.transport.history.backends.postgres import PostgresDatabase
    except ImportError as error:
        raise SettingsError("history.url: PostgreSQL needs psycopg; pip install 'vqmon[postgres]'") from error
    return PostgresDatabase(place, mode)


def _batches(outcomes: Iterator[Outcome], size: int) -> Iterator[Sequence[Outcome]]:
    while some := list(islice(outcomes, size)):
        yield some


class SeenSegments:
    """The segments that a history has an outcome of; `in` takes a segment's key."""

    def __init__(self, questions: Questions) -> None:
        self._questions = questions

    def __contains__(self, segment_key: object) -> bool:
        return isinstance(segment_key, str) and self._questions.has_segment(segment_key)


class History(Questions):
    """What was seen and said; safe to use from several threads."""

    def __init__(self, database: Database, *, evidence_max_bytes: int) -> None:
        super().__init__(database.ask)
        self._database = database
        self._evidence_max_bytes = evidence_max_bytes
        self._known = Known()
        self._remembers_segments = False

    def publish(
        self,
        outcomes: Sequence[Outcome],
        *,
        ends: Sequence[End] = (),
        alerts: Sequence[Alert] = (),
        states: Mapping[str, State | None] | None = None,
        cursors: Sequence[Cursor] = (),
        thumbnails: Mapping[str, Thumbnails] | None = None,
        queued_at: datetime | None = None,
        documents: Mapping[str, bytes] | None = None,
    ) -> None:
        """Write all of it in one transaction; `ends` come after the outcomes.

        What is there already, by event id, stays as it is; an alert that is resolved never opens again. `states` with
        None are forgotten. `thumbnails` are by event id. With `queued_at`, the moment by this machine's clock, alerts
        that are news go into the outbox too. `documents`, by event id, are the events as they came, where they came as
        such. All of it may be written twice, so a server that is away is waited for.
        """

        def write(connection: Connection) -> None:
            number = self._insert(
                connection,
                outcomes,
                ends=[(len(outcomes), end) for end in ends],
                documents=documents or {},
                thumbnails=thumbnails or {},
            )
            number = self._upsert(connection, number, alerts, queued_at)
            connection.execute("UPDATE tip SET number = ?", (number,))
            write_states(connection, states or {})
            write_cursors(connection, cursors)
            if self._remembers_segments:
                write_seen(connection, outcomes)

        self._write(write)

    def record(self, taken: Taken) -> None:
        """Write what was read from topics, and how far they were read; FencedError when that is not news any more.

        Raises StoreUnreachableError at once: the offsets tell what is there.
        """
        with self._written() as connection:
            number = self._insert(connection, taken.outcomes, ends=taken.ends, documents=taken.documents, thumbnails={})
            # From here on no other recorder can move.
            move_on(connection, taken.steps)
            for marker in taken.markers:
                insert_marker(connection, marker)
            number = self._upsert(connection, number, taken.alerts, None)
            connection.execute("UPDATE tip SET number = ?", (number,))

    def notices(self, *, after: int = 0) -> Sequence[Notice]:
        """What waits in the outbox, of alerts written after this number, oldest change first; waits for a server."""
        found: list[Notice] = []
        repeated(
            lambda: found.extend(notice_of(row) for row in self._ask(SELECT_NOTICES, after)),
            for_seconds=PATIENCE_SECONDS,
        )
        return found

    def mark_told(self, told: Mapping[str, Mapping[str, Said] | None]) -> None:
        """Remember what targets were told, by alert; None takes the alert out of the outbox."""
        self._write(lambda connection: write_told(connection, told))

    def add_marker(self, marker: Marker) -> None:
        """Remember what was changed on purpose; the same marker again changes nothing."""
        self._write(lambda connection: insert_marker(connection, marker))

    def add_end(self, end: End) -> None:
        """Remember that somebody said so; whoever judges takes it up and publishes it at its place."""
        self._write(lambda connection: insert_end(connection, end, None))

    def seen_segments(self, stream_id: str) -> SeenSegments:
        """The segments of a stream that have an outcome; keys name their stream, so one answer serves all.

        They are remembered from the first call on, and what was published before is gone through then.
        """
        if not self._remembers_segments:
            self._remembers_segments = True
            if not self._ask("SELECT 1 FROM seen LIMIT 1"):
                for some in _batches(self.outcomes_in_order(), maintenance.CHUNK_ROWS):
                    self._write(partial(write_seen, outcomes=some))
        return SeenSegments(self)

    def roll_up(self) -> int:
        """Make rollups of outcomes that are in none yet, the oldest first; how many."""
        return self._in_chunks(lambda connection: maintenance.roll_up(connection, self._layouts.__getitem__))

    def prune(
        self,
        *,
        before: datetime,
        keep_frames_of_segments: int,
        rollups_before: datetime | None = None,
        alerts_before: datetime | None = None,
    ) -> Pruned:
        """Take out outcomes observed before a moment, and the thumbnails of all but the newest segments of a rendition.

        Works from the oldest write on in small transactions, and makes rollups first; what is left after MOST_CHUNKS of
        them is for the next time. Those that began before
        `rollups_before` go, and alerts that ended before `alerts_before`, with their evidence.
        """
        chunk = maintenance.CHUNK_ROWS
        self.roll_up()
        moment = microseconds(before)
        gone = {
            "outcomes": self._in_chunks(lambda connection: maintenance.prune_outcomes(connection, moment, chunk)),
            "thumbnails": maintenance.prune_thumbnails(self._database, self._ask, keep_frames_of_segments, chunk),
        }
        if rollups_before is not None:
            gone["rollups"] = maintenance.prune_rollups(self._database, self._ask, microseconds(rollups_before))
        if alerts_before is not None:
            ended = microseconds(alerts_before)
            gone["alerts"] = self._in_chunks(lambda connection: maintenance.prune_alerts(connection, ended, chunk))
        return Pruned(**gone)

    def checkpoint(self) -> None:
        """Write the log back into the file and empty it; does what it can while others read."""
        self._database.checkpoint()

    def _insert(
        self,
        connection: Connection,
        outcomes: Sequence[Outcome],
        *,
        ends: Sequence[tuple[int, End]],
        documents: Mapping[str, bytes],
        thumbnails: Mapping[str, Thumbnails],
    ) -> int:
        # Also locks the row: writers take turns from here on, so numbers become visible in their order.
        number = int(connection.execute("UPDATE tip SET number = number RETURNING number").fetchone()[0])
        begin = 0
        for place, end in (*ends, (len(outcomes), None)):
            some = outcomes[begin:place]
            number += insert_outcomes(
                connection, number, some, known=self._known, documents=documents, thumbnails=thumbnails
            )
            number += insert_end(connection, end, number + 1) if end else 0
            begin = place
        return number

    def _upsert(self, connection: Connection, number: int, alerts: Sequence[Alert], queued_at: datetime | None) -> int:
        for alert in alerts:
            is_news = upsert_alert(connection, number + 1, alert)
            number += is_news
            if is_news and queued_at is not None:
                enqueue(connection, alert, queued_at)
            if alert.state == "open":
                keep_evidence(connection, alert, self._evidence_max_bytes)
        return number

    def _in_chunks(self, take: Callable[[Connection], int]) -> int:
        total = 0
        for _ in range(maintenance.MOST_CHUNKS):
            with self._database.transaction() as connection:
                taken = take(connection)
            total += taken
            if not taken:
                break
        return total

    def _write(self, write: Callable[[Connection], object]) -> None:
        def once() -> None:
            with self._written() as connection:
                write(connection)

        repeated(once, for_seconds=PATIENCE_SECONDS)

    @contextmanager
    def _written(self) -> Iterator[Connection]:
        try:
            with self._database.transaction() as connection:
                yield connection
        except BaseException:
            # It may name rows that were rolled back.
            self._known.forget()
            raise
