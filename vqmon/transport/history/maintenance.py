"""Takes out what is older than its keep, in small transactions."""

from vqmon.transport.history.backends.base import Connection, Database
from vqmon.transport.history.documents import Ask

CHUNK_ROWS = 1000
"""How many rows retention takes out in one transaction, so that publishing never waits long."""


MOST_CHUNKS = 300
"""In one go: who has to take out weeks at once does it over hours, and writing goes on meanwhile."""

RENDITIONS = 100
"""Whose minutes go in one transaction."""

_GONE = " AND NOT EXISTS (SELECT 1 FROM outcome o WHERE o.number = thumbnail.number)"


def prune_outcomes(connection: Connection, before: int, chunk_rows: int) -> int:
    """Of the oldest writes, those observed before a moment, with documents, thumbnails and ends; how many."""
    oldest = f"SELECT number, observed_at FROM outcome ORDER BY number LIMIT {chunk_rows}"
    found = connection.execute(
        f"DELETE FROM outcome WHERE number IN (SELECT number FROM ({oldest}) AS oldest WHERE observed_at < ?"
        # What is in no rollup yet would be missing in charts.
        " AND number <= (SELECT number FROM rolled))"
        " RETURNING number",
        (before,),
    ).fetchall()
    if found:
        first, last = min(found)[0], max(found)[0]
        connection.execute("DELETE FROM thumbnail WHERE number BETWEEN ? AND ?" + _GONE, (first, last))
        # A block goes with the last of its outcomes.
        connection.execute(
            "DELETE FROM document WHERE number <= ? AND NOT EXISTS"
            " (SELECT 1 FROM outcome o WHERE o.number BETWEEN document.number AND document.last)",
            (last,),
        )
        # An end goes when nothing is left that came before it.
        connection.execute(
            "DELETE FROM ended WHERE number < coalesce((SELECT min(number) FROM outcome), (SELECT number + 1 FROM tip))"
        )
    return len(found)


def prune_thumbnails(database: Database, ask: Ask, keep: int, chunk_rows: int) -> int:
    """The thumbnails of all but the newest segments of a rendition; of how many segments."""
    ranked = (
        "SELECT number, row_number() OVER (PARTITION BY rendition_id ORDER BY starts_at DESC, number DESC) AS place"
        " FROM (SELECT DISTINCT number FROM thumbnail) AS pictured JOIN outcome USING (number)"
    )
    found = ask(f"SELECT number FROM ({ranked}) AS ranked WHERE place > ?", keep)
    for start in range(0, len(found), chunk_rows):
        with database.transaction() as connection:
            connection.executemany("DELETE FROM thumbnail WHERE number = ?", found[start : start + chunk_rows])
    return len(found)


def prune_rollups(database: Database, ask: Ask, before: int) -> int:
    """Minutes that began before a moment; how many rows."""
    ids = ask("SELECT rendition_id FROM rendition")
    gone = 0
    for start in range(0, len(ids), RENDITIONS):
        with database.transaction() as connection:
            for (rendition_id,) in ids[start : start + RENDITIONS]:
                old = "DELETE FROM rollup WHERE rendition_id = ? AND begins_at < ?"
                gone += connection.execute(old, (rendition_id, before)).rowcount
    return gone


def prune_alerts(connection: Connection, before: int, chunk_rows: int) -> int:
    """Alerts that ended before a moment and that nobody waits to be told of, with their evidence; how many."""
    found = connection.execute(
        "DELETE FROM alert WHERE id IN (SELECT id FROM alert WHERE resolved_at < ?"
        f" AND id NOT IN (SELECT alert_id FROM outbox) LIMIT {chunk_rows}) RETURNING id",
        (before,),
    ).fetchall()
    connection.executemany("DELETE FROM evidence WHERE alert_id = ?", found)
    return len(found)
