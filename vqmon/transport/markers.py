"""Deploy markers as rows of a history."""

from collections.abc import Sequence

from vqmon.core.alerts.annotations import Marker
from vqmon.transport.history.backends.base import Connection
from vqmon.transport.history.documents import Ask
from vqmon.transport.history.rows import microseconds, moment_of, text


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
