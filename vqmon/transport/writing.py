"""Outcomes, alerts and what goes with them become rows, inside a transaction that the history has begun."""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, Protocol

from vqmon.core.rules import State
from vqmon.core.types import Alert, Cursor, Outcome, QualityEvent, Rendition
from vqmon.transport import wire
from vqmon.transport.rows import Thumbnails, columns_of, microseconds, pack, text


class Connection(Protocol):
    """What is needed of an SQLite connection."""

    def execute(self, sql: str, parameters: Any = ..., /) -> Any: ...
    def executemany(self, sql: str, parameters: Any, /) -> Any: ...


def insert_outcome(connection: Connection, number: int, outcome: Outcome, thumbnails: Thumbnails) -> int:
    """How many rows that gave: 0 when the outcome is there already."""
    rendition_id = _rendition_id(connection, outcome.segment.rendition)
    id, *columns = columns_of(outcome)
    cursor = connection.execute(
        "INSERT OR IGNORE INTO outcome VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (number, id, rendition_id, *columns)
    )
    if cursor.rowcount == 0:
        return 0
    document = wire.encode_outcome(outcome, source="vqmon:history")
    dictionary_id, dictionary = _dictionary(connection, outcome, document)
    connection.execute("INSERT INTO document VALUES (?, ?, ?)", (number, dictionary_id, pack(document, dictionary)))
    connection.executemany(
        "INSERT INTO thumbnail VALUES (?, ?, ?, ?)",
        [(number, position, seconds, jpeg) for position, (seconds, jpeg) in enumerate(thumbnails)],
    )
    connection.execute(
        "INSERT INTO published VALUES (?, 1) ON CONFLICT (reason) DO UPDATE SET total = total + 1",
        ("" if isinstance(outcome, QualityEvent) else outcome.reason,),
    )
    return 1


def _rendition_id(connection: Connection, rendition: Rendition) -> int:
    names = (text(rendition.stream_id), text(rendition.name))
    facts = (rendition.width, rendition.height, rendition.bitrate_kbps)
    found = connection.execute(
        "SELECT rendition_id, width, height, bitrate_kbps FROM rendition WHERE stream_id = ? AND name = ?", names
    ).fetchone()
    if found and found[1:] == facts:
        return int(found[0])
    return int(
        connection.execute(
            "INSERT INTO rendition (stream_id, name, width, height, bitrate_kbps) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (stream_id, name) DO UPDATE SET"
            " width = excluded.width, height = excluded.height, bitrate_kbps = excluded.bitrate_kbps"
            " RETURNING rendition_id",
            (*names, *facts),
        ).fetchone()[0]
    )


def _dictionary(connection: Connection, outcome: Outcome, document: bytes) -> tuple[int | None, bytes | None]:
    """The dictionary of events like this one: the first that these scorers and libraries gave."""
    if not isinstance(outcome, QualityEvent):
        return None, None
    provenance = sha256(repr(outcome.provenance).encode(errors="replace")).hexdigest()
    found = connection.execute(
        "SELECT dictionary_id, body FROM dictionary WHERE provenance = ?", (provenance,)
    ).fetchone()
    if found is None:
        made = connection.execute("INSERT INTO dictionary (provenance, body) VALUES (?, ?)", (provenance, document))
        found = (made.lastrowid, document)
    return int(found[0]), bytes(found[1])


def upsert_alert(connection: Connection, number: int, alert: Alert) -> int:
    """How many rows that changed: 0 when it is known already, or is resolved."""
    values = (
        alert.id,
        number,
        text(alert.stream_id),
        microseconds(alert.opened_at),
        None if alert.resolved_at is None else microseconds(alert.resolved_at),
        wire.encode_alert(alert, source="vqmon:history").decode(),
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
            (alert.evidence.event_id,),
        ).fetchall()
    )
    left = max_bytes
    for position, seconds in enumerate(alert.evidence.worst_times_seconds):
        jpeg = stored.get(seconds)
        if jpeg is None or len(jpeg) > left:
            return
        left -= len(jpeg)
        connection.execute("INSERT OR IGNORE INTO evidence VALUES (?, ?, ?, ?)", (alert.id, position, seconds, jpeg))


def write_states(connection: Connection, states: Mapping[str, State | None]) -> None:
    kept = [(text(key), wire.encode_state(state)) for key, state in states.items() if state is not None]
    connection.executemany("INSERT OR REPLACE INTO state VALUES (?, ?)", kept)
    gone = [(text(key),) for key, state in states.items() if state is None]
    connection.executemany("DELETE FROM state WHERE key = ?", gone)


def write_cursors(connection: Connection, cursors: Sequence[Cursor]) -> None:
    connection.executemany(
        "INSERT OR REPLACE INTO cursor VALUES (?, ?, ?, ?)",
        [(text(it.lane), it.sequence, text(it.segment_key), microseconds(it.ends_at)) for it in cursors],
    )


def delete(connection: Connection, names: Iterable[str], numbers: Sequence[tuple[int]]) -> None:
    for name in names:
        connection.executemany(f"DELETE FROM {name} WHERE number = ?", numbers)
