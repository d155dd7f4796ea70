"""The log of decisions about inputs: each decision, and what became of its delivery."""

from collections.abc import Sequence
from typing import Any

from vqmon.core.alerts.reactions.input_switching import DecisionRecord
from vqmon.transport.history.backends.base import Database
from vqmon.transport.history.rows import from_microseconds, to_microseconds
from vqmon.transport.wire import cloudevents

_UPSERT = (
    "INSERT INTO input_decision VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
    " changed_at = excluded.changed_at, delivery = excluded.delivery, attempts = excluded.attempts,"
    " error = excluded.error"
)
_SELECT = "SELECT document, delivery, attempts, error, changed_at FROM input_decision"
_MAX_STREAMS = 20_000


class DecisionLog:
    """Writes and reads decisions; raises StoreError when the history cannot be written or read."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, records: Sequence[DecisionRecord]) -> None:
        """Store decisions, or what became of them; a decision is stored once."""
        with self._database.transaction() as transaction:
            transaction.executemany(_UPSERT, [_row(record) for record in records])

    def newest(self, *, stream_id: str | None = None, limit: int = 200) -> Sequence[DecisionRecord]:
        """The newest decisions, newest first, of one stream or of all."""
        where, values = (" WHERE stream_id = ?", [stream_id]) if stream_id is not None else ("", [])
        rows = self._database.query(f"{_SELECT}{where} ORDER BY decided_at DESC, id LIMIT ?", *values, limit)
        return [_record_from_row(row) for row in rows]

    def last_of_streams(self) -> Sequence[DecisionRecord]:
        """The newest change (no hold) of each hook and stream, oldest first; that of dry runs beside the real one."""
        newest = (
            "SELECT hook, stream_id, max(decided_at) AS decided_at FROM input_decision WHERE kind <> 'hold'"
            " GROUP BY hook, stream_id, delivery = 'dry_run'"
        )
        rows = self._database.query(
            f"{_SELECT} JOIN ({newest}) AS newest USING (hook, stream_id, decided_at)"
            " WHERE kind <> 'hold' ORDER BY decided_at DESC LIMIT ?",
            _MAX_STREAMS,
        )
        return [_record_from_row(row) for row in reversed(rows)]

    def waiting(self) -> Sequence[DecisionRecord]:
        """Decisions whose delivery has not ended, oldest first."""
        rows = self._database.query(f"{_SELECT} WHERE delivery = 'waiting' ORDER BY decided_at")
        return [_record_from_row(row) for row in rows]


def _row(record: DecisionRecord) -> tuple[Any, ...]:
    decision = record.decision
    return (
        *(decision.id, decision.hook, decision.stream_id, decision.kind, to_microseconds(decision.decided_at)),
        *(to_microseconds(record.changed_at), record.delivery, record.attempts, record.error),
        cloudevents.encode_decision(decision, source="vqmon:history").decode(),
    )


def _record_from_row(row: Sequence[Any]) -> DecisionRecord:
    document, delivery, attempts, error, changed_at = row
    return DecisionRecord(
        decision=cloudevents.parse_decision(document),
        delivery=delivery,
        attempts=int(attempts),
        error=error,
        changed_at=from_microseconds(changed_at),
    )
