"""Ends of renditions as rows of a history: numbered among the outcomes, or waiting to be judged."""

from collections.abc import Sequence
from typing import Any

from vqmon.core.alerts.annotations import End
from vqmon.transport.history.backends.base import Connection
from vqmon.transport.history.documents import Ask
from vqmon.transport.history.rows import microseconds, moment_of, text

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
