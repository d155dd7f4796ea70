"""Outcomes, alerts and what goes with them become rows, inside a transaction that the history has begun."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from vqmon.core.alerts.annotations import End, Marker
from vqmon.core.alerts.judge import State
from vqmon.core.timeline import Thumbnails
from vqmon.core.types import Alert, Cursor, Outcome, QualityEvent, Rendition
from vqmon.transport.history.backends.base import Connection as Connection
from vqmon.transport.history.documents import BLOCK_EVENTS, Ask, cut, pack
from vqmon.transport.history.rows import (
    Layout,
    columns_of,
    layout_of,
    measures_of,
    microseconds,
    moment_of,
    packed_id,
    segment_number,
    text,
)
from vqmon.transport.wire import cloudevents

_COLUMNS = "id, stream_id, rendition, at, why"


def insert_end(connection: Connection, end: End, number: int | None) -> int:
    """How many rows that changed; with a number it has been judged there, without one it waits for that."""
    cursor = connection.execute(
        "INSERT INTO ended VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
        " number = excluded.number, at = excluded.at WHERE ended.number IS NULL AND excluded.number IS NOT NULL",
        (end.id, number, text(end.stream_id), text(end.rendition), microseconds(end.at), end.why),
    )
    return int(cursor.rowcount)


def read_waiting(ask: Ask) -> Sequence[End]:
    """What was said by hand and is not judged yet, in one order."""
    return [_end(row) for row in ask(f"SELECT {_COLUMNS} FROM ended WHERE number IS NULL ORDER BY at, id")]


def read_ends(ask: Ask, *, stream_id: str, begins: int, ends: int) -> Sequence[tuple[int, End]]:
    """(number, end) of what was judged, in that order; of one stream or "" = all, `begins` <= at <= `ends`."""
    rows = ask(
        f"SELECT {_COLUMNS}, number FROM ended WHERE number IS NOT NULL AND ? IN (stream_id, '')"
        " AND at >= ? AND at <= ? ORDER BY number",
        *(stream_id, begins, ends),
    )
    return [(row[5], _end(row)) for row in rows]


def _end(row: Sequence[Any]) -> End:
    return End(id=row[0], stream_id=row[1], rendition=row[2], at=moment_of(row[3]), why=row[4])


def insert_marker(connection: Connection, marker: Marker) -> None:
    """Nothing when it is there."""
    connection.execute(
        "INSERT INTO marker VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
        (marker.id, microseconds(marker.at), text(marker.name), text(marker.stream), text(marker.rendition)),
    )


def read_markers(ask: Ask, limit: int) -> Sequence[Marker]:
    """The newest `limit` markers, oldest first."""
    rows = ask("SELECT id, at, name, stream, rendition FROM marker ORDER BY at DESC, id LIMIT ?", limit)
    return [
        Marker(id=id, at=moment_of(at), name=name, stream=stream, rendition=rendition)
        for id, at, name, stream, rendition in reversed(rows)
    ]


KNOWN_AT_A_TIME = 500
"""How many ids one question may name."""


@dataclass(slots=True)
class Known:
    """What a writer has seen in the tables and need not look up again; forgotten when a transaction fails."""

    # (stream, name) -> its number, and the facts that stand there
    renditions: dict[tuple[str, str], tuple[int, tuple[Any, ...]]] = field(default_factory=dict)
    layouts: dict[Layout, int] = field(default_factory=dict)
    # how provenance is written -> number and document of the event that is the dictionary
    dictionaries: dict[str, tuple[int, bytes]] = field(default_factory=dict)

    def forget(self) -> None:
        self.renditions.clear()
        self.layouts.clear()
        self.dictionaries.clear()


def insert_outcomes(
    connection: Connection,
    tip: int,
    outcomes: Sequence[Outcome],
    *,
    known: Known,
    documents: Mapping[str, bytes],
    thumbnails: Mapping[str, Thumbnails],
) -> int:
    """How many rows that gave, numbered after `tip`: those that are there already, by id, stay as they are."""
    if not outcomes:
        return 0
    first_of: dict[str, Outcome] = {}
    for outcome in outcomes:
        first_of.setdefault(outcome.id, outcome)
    new = list(first_of.values())
    if not connection.insert_new("outcome", _rows(connection, tip, new, known)):
        stored = _stored(connection, [outcome.id for outcome in new])
        new = [outcome for outcome in new if packed_id(outcome.id) not in stored]
        connection.insert_new("outcome", _rows(connection, tip, new, known))
    for begin in range(0, len(new), BLOCK_EVENTS):
        some = new[begin : begin + BLOCK_EVENTS]
        lines = [_document(outcome, documents.get(outcome.id)) for outcome in some]
        _insert_block(connection, tip + 1 + begin, some, lines, known)
    if thumbnails:
        _insert_thumbnails(connection, tip, new, thumbnails)
    counts = Counter("" if isinstance(it, QualityEvent) else it.reason for it in new)
    connection.executemany(
        "INSERT INTO published VALUES (?, ?)"
        " ON CONFLICT (reason) DO UPDATE SET total = published.total + excluded.total",
        sorted(counts.items()),
    )
    return len(new)


def _rows(connection: Connection, tip: int, outcomes: Sequence[Outcome], known: Known) -> list[tuple[Any, ...]]:
    rows = []
    for number, outcome in enumerate(outcomes, tip + 1):
        rendition_id = _rendition_id(connection, outcome.segment.rendition, known)
        measured: tuple[int | None, bytes | None] = (None, None)
        if isinstance(outcome, QualityEvent):
            layout = layout_of(outcome)
            measured = _layout_id(connection, layout, known), measures_of(outcome, layout)
        rows.append((number, packed_id(outcome.id), rendition_id, *columns_of(outcome), *measured))
    return rows


def _stored(connection: Connection, ids: Sequence[str]) -> set[bytes]:
    found: set[bytes] = set()
    for begin in range(0, len(ids), KNOWN_AT_A_TIME):
        some = [packed_id(id) for id in ids[begin : begin + KNOWN_AT_A_TIME]]
        places = ", ".join("?" * len(some))
        rows = connection.execute(f"SELECT id FROM outcome WHERE id IN ({places})", some).fetchall()
        found.update(bytes(row[0]) for row in rows)
    return found


def _document(outcome: Outcome, given: bytes | None) -> bytes:
    if given is not None and b"\n" not in given:
        return given
    return cloudevents.encode_outcome(outcome, source="vqmon:history")


def _insert_block(
    connection: Connection, number: int, outcomes: Sequence[Outcome], lines: Sequence[bytes], known: Known
) -> None:
    first = next((place for place, it in enumerate(outcomes) if isinstance(it, QualityEvent)), None)
    dictionary_id, dictionary = (None, None)
    if first is not None:
        dictionary_id, dictionary = _dictionary(connection, outcomes[first], lines[first], known)
    body, pictures = pack(lines, dictionary)
    row = (number, number + len(lines) - 1, dictionary_id, body, pictures)
    connection.execute("INSERT INTO document VALUES (?, ?, ?, ?, ?)", row)


def _insert_thumbnails(
    connection: Connection, tip: int, outcomes: Sequence[Outcome], thumbnails: Mapping[str, Thumbnails]
) -> None:
    connection.executemany(
        "INSERT INTO thumbnail VALUES (?, ?, ?, ?)",
        [
            (number, position, seconds, jpeg)
            for number, outcome in enumerate(outcomes, tip + 1)
            for position, (seconds, jpeg) in enumerate(thumbnails.get(outcome.id, ()))
        ],
    )


def _rendition_id(connection: Connection, rendition: Rendition, known: Known) -> int:
    names = (rendition.stream_id, rendition.name)
    facts = (rendition.width, rendition.height, rendition.bitrate_kbps)
    number, stored = known.renditions.get(names, (0, ()))
    if stored == facts:
        return number
    found = connection.execute(
        "INSERT INTO rendition VALUES ((SELECT coalesce(max(rendition_id), 0) + 1 FROM rendition), ?, ?, ?, ?, ?)"
        " ON CONFLICT (stream_id, name) DO UPDATE SET"
        " width = excluded.width, height = excluded.height, bitrate_kbps = excluded.bitrate_kbps"
        " RETURNING rendition_id",
        (text(names[0]), text(names[1]), *facts),
    ).fetchone()
    known.renditions[names] = int(found[0]), facts
    return int(found[0])


def _layout_id(connection: Connection, layout: Layout, known: Known) -> int:
    if layout not in known.layouts:
        known.layouts[layout] = number_of(connection, "layout", "names", layout.names)
    return known.layouts[layout]


def number_of(connection: Connection, table: str, column: str, value: str) -> int:
    """The number that a text has in a table of numbered texts; it gets one when it has none."""
    found = connection.execute(f"SELECT {table}_id FROM {table} WHERE {column} = ?", (value,)).fetchone()
    if found is None:
        found = connection.execute(
            f"INSERT INTO {table} VALUES ((SELECT coalesce(max({table}_id), 0) + 1 FROM {table}), ?)"
            f" RETURNING {table}_id",
            (value,),
        ).fetchone()
    return int(found[0])


def _dictionary(connection: Connection, outcome: Outcome, document: bytes, known: Known) -> tuple[int, bytes]:
    """The dictionary of events like this one: the first that these scorers and libraries gave."""
    assert isinstance(outcome, QualityEvent)
    written = repr(outcome.provenance)
    if written not in known.dictionaries:
        provenance = sha256(written.encode(errors="replace")).hexdigest()
        ask = "SELECT dictionary_id, body FROM dictionary WHERE provenance = ?"
        found = connection.execute(ask, (provenance,)).fetchone()
        if found is None:
            found = connection.execute(
                "INSERT INTO dictionary VALUES ((SELECT coalesce(max(dictionary_id), 0) + 1 FROM dictionary), ?, ?)"
                " RETURNING dictionary_id, body",
                (provenance, cut(document)),
            ).fetchone()
        known.dictionaries[written] = int(found[0]), bytes(found[1])
    return known.dictionaries[written]


def upsert_alert(connection: Connection, number: int, alert: Alert) -> int:
    """How many rows that changed: 0 when it is known already, or is resolved."""
    values = (
        alert.id,
        number,
        text(alert.stream_id),
        microseconds(alert.opened_at),
        None if alert.resolved_at is None else microseconds(alert.resolved_at),
        cloudevents.encode_alert(alert, source="vqmon:history").decode(),
    )
    cursor = connection.execute(
        "INSERT INTO alert VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
        " number = excluded.number, resolved_at = excluded.resolved_at, document = excluded.document"
        " WHERE alert.resolved_at IS NULL AND alert.document <> excluded.document",
        values,
    )
    return int(cursor.rowcount)


def keep_evidence(connection: Connection, alert: Alert, max_bytes: int) -> None:
    """Copy the worst frames' pictures, worst first, until one is missing or does not fit any more."""
    stored = dict(
        connection.execute(
            "SELECT time_seconds, jpeg FROM thumbnail JOIN outcome USING (number) WHERE id = ?",
            (packed_id(alert.evidence.event_id),),
        ).fetchall()
    )
    left = max_bytes
    for position, seconds in enumerate(alert.evidence.worst_times_seconds):
        jpeg = stored.get(seconds)
        if jpeg is None or len(jpeg) > left:
            return
        left -= len(jpeg)
        connection.execute(
            "INSERT INTO evidence VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", (alert.id, position, seconds, jpeg)
        )


def write_states(connection: Connection, states: Mapping[str, State | None]) -> None:
    if not states:
        return
    kept = [(text(key), cloudevents.encode_state(state)) for key, state in states.items() if state is not None]
    connection.executemany(
        "INSERT INTO state VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET document = excluded.document", kept
    )
    gone = [(text(key),) for key, state in states.items() if state is None]
    connection.executemany("DELETE FROM state WHERE key = ?", gone)


def write_seen(connection: Connection, outcomes: Iterable[Outcome]) -> None:
    """Remember which segments have an outcome."""
    connection.executemany(
        "INSERT INTO seen VALUES (?) ON CONFLICT DO NOTHING",
        [(number,) for number in sorted({segment_number(outcome.segment.key) for outcome in outcomes})],
    )


def write_cursors(connection: Connection, cursors: Iterable[Cursor]) -> None:
    connection.executemany(
        "INSERT INTO cursor VALUES (?, ?, ?, ?) ON CONFLICT (lane) DO UPDATE SET sequence = excluded.sequence,"
        " segment_key = excluded.segment_key, ends_at = excluded.ends_at",
        [(text(it.lane), it.sequence, text(it.segment_key), microseconds(it.ends_at)) for it in cursors],
    )
