"""Writes outcomes, alerts and what belongs to them as rows, inside a transaction that the caller has begun."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from vqmon.core.alerts.annotations import DeployMarker, StreamEnd
from vqmon.core.alerts.state import State, StateKey
from vqmon.core.timeline import Thumbnails
from vqmon.core.types import Alert, LaneCursor, Outcome, QualityEvent, Rendition
from vqmon.transport.history.backends.base import Transaction
from vqmon.transport.history.documents import BLOCK_EVENTS, pack_block, without_fingerprints
from vqmon.transport.history.rows import (
    encode_facts,
    encode_heat_maps,
    outcome_columns,
    pack_event_id,
    segment_digest,
    storable_text,
    to_microseconds,
)
from vqmon.transport.wire import cloudevents
from vqmon.transport.wire.alert_states.states import state_key

_MAX_QUERY_IDS = 500
"""Ids that one query may name."""


@dataclass(slots=True)
class InsertCache:
    """Ids of rows that this writer need not look up again; cleared when a transaction fails."""

    # (stream, name) -> rendition_id, and the stored (width, height, bitrate_kbps)
    renditions: dict[tuple[str, str], tuple[int, tuple[Any, ...]]] = field(default_factory=dict)
    # repr of a provenance -> dictionary_id, and the event that is the compression dictionary
    dictionaries: dict[str, tuple[int, bytes]] = field(default_factory=dict)

    def clear(self) -> None:
        self.renditions.clear()
        self.dictionaries.clear()


def insert_outcomes(
    transaction: Transaction,
    tip: int,
    outcomes: Sequence[Outcome],
    *,
    cache: InsertCache,
    documents: Mapping[str, bytes],
    thumbnails: Mapping[str, Thumbnails],
) -> int:
    """Insert outcomes numbered from `tip` + 1 on; those whose id is stored already stay as they are.

    Returns how many were new. `documents` and `thumbnails` are by event id.
    """
    if not outcomes:
        return 0
    by_id: dict[str, Outcome] = {}
    for outcome in outcomes:
        by_id.setdefault(outcome.id, outcome)
    new = list(by_id.values())
    if not transaction.insert_if_new("outcome", _outcome_rows(transaction, tip, new, cache)):
        stored_ids = _stored_ids(transaction, [outcome.id for outcome in new])
        new = [outcome for outcome in new if pack_event_id(outcome.id) not in stored_ids]
        transaction.insert_if_new("outcome", _outcome_rows(transaction, tip, new, cache))
    for begin in range(0, len(new), BLOCK_EVENTS):
        block = new[begin : begin + BLOCK_EVENTS]
        lines = [_document_of(outcome, documents.get(outcome.id)) for outcome in block]
        _insert_block(transaction, tip + 1 + begin, block, lines, cache)
    if thumbnails:
        _insert_thumbnails(transaction, tip, new, thumbnails)
    counts = Counter("" if isinstance(outcome, QualityEvent) else outcome.reason for outcome in new)
    transaction.executemany(
        "INSERT INTO published VALUES (?, ?)"
        " ON CONFLICT (reason) DO UPDATE SET total = published.total + excluded.total",
        sorted(counts.items()),
    )
    return len(new)


def _outcome_rows(
    transaction: Transaction, tip: int, outcomes: Sequence[Outcome], cache: InsertCache
) -> list[tuple[Any, ...]]:
    rows = []
    for number, outcome in enumerate(outcomes, tip + 1):
        rendition_id = _rendition_id(transaction, outcome.segment.rendition, cache)
        columns = (*outcome_columns(outcome), encode_facts(outcome))
        rows.append((number, pack_event_id(outcome.id), rendition_id, *columns))
    return rows


def _stored_ids(transaction: Transaction, ids: Sequence[str]) -> set[bytes]:
    stored_ids: set[bytes] = set()
    for begin in range(0, len(ids), _MAX_QUERY_IDS):
        packed_ids = [pack_event_id(id) for id in ids[begin : begin + _MAX_QUERY_IDS]]
        marks = ", ".join("?" * len(packed_ids))
        rows = transaction.execute(f"SELECT id FROM outcome WHERE id IN ({marks})", packed_ids).fetchall()
        stored_ids.update(bytes(row[0]) for row in rows)
    return stored_ids


def _document_of(outcome: Outcome, document: bytes | None) -> bytes:
    """The event as it was received, if it is one line, else encoded anew."""
    if document is not None and b"\n" not in document:
        return document
    return cloudevents.encode_outcome(outcome, source="vqmon:history")


def _insert_block(
    transaction: Transaction, number: int, outcomes: Sequence[Outcome], lines: Sequence[bytes], cache: InsertCache
) -> None:
    first_event = next((index for index, outcome in enumerate(outcomes) if isinstance(outcome, QualityEvent)), None)
    dictionary_id, dictionary = (None, None)
    if first_event is not None:
        dictionary_id, dictionary = _dictionary(transaction, outcomes[first_event], lines[first_event], cache)
    body, fingerprints = pack_block(lines, dictionary)
    row = (number, number + len(lines) - 1, dictionary_id, body, fingerprints)
    transaction.execute("INSERT INTO document VALUES (?, ?, ?, ?, ?)", row)


def _insert_thumbnails(
    transaction: Transaction, tip: int, outcomes: Sequence[Outcome], thumbnails: Mapping[str, Thumbnails]
) -> None:
    transaction.executemany(
        "INSERT INTO thumbnail VALUES (?, ?, ?, ?)",
        [
            (number, position, seconds, jpeg)
            for number, outcome in enumerate(outcomes, tip + 1)
            for position, (seconds, jpeg) in enumerate(thumbnails.get(outcome.id, ()))
        ],
    )


def _rendition_id(transaction: Transaction, rendition: Rendition, cache: InsertCache) -> int:
    """The id of a rendition, whose row is inserted or updated when it is new or has changed."""
    key = (rendition.stream_id, rendition.name)
    attributes = (rendition.width, rendition.height, rendition.bitrate_kbps)
    rendition_id, stored_attributes = cache.renditions.get(key, (0, ()))
    if stored_attributes == attributes:
        return rendition_id
    row = transaction.execute(
        "INSERT INTO rendition VALUES ((SELECT coalesce(max(rendition_id), 0) + 1 FROM rendition), ?, ?, ?, ?, ?)"
        " ON CONFLICT (stream_id, name) DO UPDATE SET"
        " width = excluded.width, height = excluded.height, bitrate_kbps = excluded.bitrate_kbps"
        " RETURNING rendition_id",
        (storable_text(rendition.stream_id), storable_text(rendition.name), *attributes),
    ).fetchone()
    cache.renditions[key] = int(row[0]), attributes
    return int(row[0])


def lookup_or_insert_id(transaction: Transaction, table: str, column: str, text: str) -> int:
    """The id of a text in a table of (TABLE_id, text); the text is inserted when it is new."""
    row = transaction.execute(f"SELECT {table}_id FROM {table} WHERE {column} = ?", (text,)).fetchone()
    if row is None:
        row = transaction.execute(
            f"INSERT INTO {table} VALUES ((SELECT coalesce(max({table}_id), 0) + 1 FROM {table}), ?)"
            f" RETURNING {table}_id",
            (text,),
        ).fetchone()
    return int(row[0])


def _dictionary(transaction: Transaction, outcome: Outcome, document: bytes, cache: InsertCache) -> tuple[int, bytes]:
    """The compression dictionary for events with this provenance: the first event that had it."""
    assert isinstance(outcome, QualityEvent)
    key = repr(outcome.provenance)
    if key not in cache.dictionaries:
        digest = sha256(key.encode(errors="replace")).hexdigest()
        select = "SELECT dictionary_id, body FROM dictionary WHERE provenance = ?"
        row = transaction.execute(select, (digest,)).fetchone()
        if row is None:
            row = transaction.execute(
                "INSERT INTO dictionary VALUES ((SELECT coalesce(max(dictionary_id), 0) + 1 FROM dictionary), ?, ?)"
                " RETURNING dictionary_id, body",
                (digest, without_fingerprints(document)),
            ).fetchone()
        cache.dictionaries[key] = int(row[0]), bytes(row[1])
    return cache.dictionaries[key]


def upsert_alert(transaction: Transaction, number: int, alert: Alert) -> bool:
    """Write an alert; returns whether that changed anything. A resolved alert never changes again."""
    values = (
        alert.id,
        number,
        storable_text(alert.stream_id),
        to_microseconds(alert.opened_at),
        None if alert.resolved_at is None else to_microseconds(alert.resolved_at),
        cloudevents.encode_alert(alert, source="vqmon:history").decode(),
    )
    result = transaction.execute(
        "INSERT INTO alert VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
        " number = excluded.number, resolved_at = excluded.resolved_at, document = excluded.document"
        " WHERE alert.resolved_at IS NULL AND alert.document <> excluded.document",
        values,
    )
    return result.rowcount > 0


def insert_evidence(transaction: Transaction, alert: Alert, *, max_bytes: int) -> None:
    """Copy the thumbnails of an alert's worst frames, worst first, until one is missing or exceeds `max_bytes`."""
    jpegs = dict(
        transaction.execute(
            "SELECT time_seconds, jpeg FROM thumbnail JOIN outcome USING (number) WHERE id = ?",
            (pack_event_id(alert.evidence.event_id),),
        ).fetchall()
    )
    left_bytes = max_bytes
    for position, seconds in enumerate(alert.evidence.worst_times_seconds):
        jpeg = jpegs.get(seconds)
        if jpeg is None or len(jpeg) > left_bytes:
            return
        left_bytes -= len(jpeg)
        transaction.execute(
            "INSERT INTO evidence VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", (alert.id, position, seconds, jpeg)
        )


def insert_evidence_heat_maps(transaction: Transaction, alert: Alert, event: Outcome | None) -> None:
    """Store the heat maps of an alert's worst frames, of the event that is its evidence."""
    if not isinstance(event, QualityEvent):
        return
    heat_maps = event.heat_maps_at(alert.evidence.worst_times_seconds)
    if heat_maps:
        transaction.execute(
            "INSERT INTO evidence_heat_maps VALUES (?, ?) ON CONFLICT DO NOTHING",
            (alert.id, encode_heat_maps(heat_maps)),
        )


def insert_end(transaction: Transaction, end: StreamEnd, *, number: int | None) -> bool:
    """Write an end at its number among the outcomes, or without one while it is not judged yet.

    Returns whether that changed anything: an end that has a number keeps it.
    """
    result = transaction.execute(
        "INSERT INTO ended VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
        " number = excluded.number, at = excluded.at WHERE ended.number IS NULL AND excluded.number IS NOT NULL",
        (
            *(end.id, number, storable_text(end.stream_id), storable_text(end.rendition)),
            *(to_microseconds(end.at), end.why),
        ),
    )
    return result.rowcount > 0


def insert_marker(transaction: Transaction, marker: DeployMarker) -> None:
    """Write a marker, unless it is stored already."""
    transaction.execute(
        "INSERT INTO marker VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
        (
            *(marker.id, to_microseconds(marker.at), storable_text(marker.name)),
            *(storable_text(marker.stream), storable_text(marker.rendition)),
        ),
    )


def upsert_states(transaction: Transaction, states: Mapping[StateKey, State | None]) -> None:
    """Write alert states by key; None deletes the key."""
    if not states:
        return
    changed = [
        (storable_text(state_key(key)), cloudevents.encode_state(state))
        for key, state in states.items()
        if state is not None
    ]
    transaction.executemany(
        "INSERT INTO state VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET document = excluded.document", changed
    )
    deleted = [(storable_text(state_key(key)),) for key, state in states.items() if state is None]
    transaction.executemany("DELETE FROM state WHERE key = ?", deleted)


def insert_seen_segments(transaction: Transaction, outcomes: Iterable[Outcome]) -> None:
    """Store which segments have an outcome."""
    transaction.executemany(
        "INSERT INTO seen VALUES (?) ON CONFLICT DO NOTHING",
        [(digest,) for digest in sorted({segment_digest(outcome.segment.key) for outcome in outcomes})],
    )


def upsert_cursors(transaction: Transaction, cursors: Iterable[LaneCursor]) -> None:
    """Write how far each lane has come."""
    transaction.executemany(
        "INSERT INTO cursor VALUES (?, ?, ?, ?) ON CONFLICT (lane) DO UPDATE SET sequence = excluded.sequence,"
        " segment_key = excluded.segment_key, ends_at = excluded.ends_at",
        [
            (
                *(storable_text(cursor.lane), cursor.sequence),
                *(storable_text(cursor.segment_key), to_microseconds(cursor.ends_at)),
            )
            for cursor in cursors
        ],
    )
