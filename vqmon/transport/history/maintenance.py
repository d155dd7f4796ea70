"""Takes out what is older than its keep, in small transactions."""

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vqmon.core.timeline import Bucket
from vqmon.transport.history.backends.base import Connection, Database
from vqmon.transport.history.documents import Ask
from vqmon.transport.history.inserts import number_of
from vqmon.transport.history.rows import Layout, moment_of

MINUTE = 60_000_000
"""Microseconds."""

ROLLUP_ROWS = 5000
"""Outcomes that become rollups in one transaction."""

UNSCORED = 0
"""Stands where a scorer's number does."""

_NEW = (
    "SELECT number, rendition_id, starts_at, reason, layout_id, measures FROM outcome"
    " WHERE number > ? ORDER BY number LIMIT ?"
)
_ADD = (
    "INSERT INTO rollup VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (rendition_id, begins_at, scorer_id) DO UPDATE SET"
    " scored = rollup.scored + excluded.scored, unscored = rollup.unscored + excluded.unscored,"
    " score_total = rollup.score_total + excluded.score_total, p5_total = rollup.p5_total + excluded.p5_total,"
    " lowest = CASE WHEN rollup.lowest < excluded.lowest THEN rollup.lowest ELSE excluded.lowest END"
)


@dataclass(slots=True)
class Sum:
    """What is added up over some outcomes of one rendition, with one scorer."""

    scored: int = 0
    unscored: int = 0
    score_total: float = 0.0
    lowest: float | None = None
    p5_total: float = 0.0

    def add(self, score: float, p5: float) -> None:
        self.scored += 1
        self.score_total += score
        self.p5_total += p5
        self.lowest = score if self.lowest is None else min(self.lowest, score)

    def join(self, scored: int, unscored: int, score_total: float, lowest: float | None, p5_total: float) -> None:
        """Add what was added up elsewhere."""
        self.scored += int(scored)
        self.unscored += int(unscored)
        self.score_total += score_total
        self.p5_total += p5_total
        self.lowest = min((it for it in (self.lowest, lowest) if it is not None), default=None)


LayoutOf = Callable[[int], Layout]


def roll_up(connection: Connection, layout_of: LayoutOf) -> int:
    """Take the oldest outcomes that are in no rollup yet into theirs; how many were taken.

    Sums only ever grow by new outcomes, so it does not matter in which order segments come, or how late.
    """
    done = int(connection.execute("UPDATE rolled SET number = number RETURNING number").fetchone()[0])
    rows = connection.execute(_NEW, (done, ROLLUP_ROWS)).fetchall()
    if not rows:
        return 0
    sums: dict[tuple[int, int, str], Sum] = {}
    for _, rendition_id, starts_at, _, layout_id, measures in rows:
        begins_at = starts_at - starts_at % MINUTE
        if layout_id is None:
            sums.setdefault((rendition_id, begins_at, ""), Sum()).unscored += 1
            continue
        for scorer, score, p5 in scores_in(layout_of(layout_id), measures):
            sums.setdefault((rendition_id, begins_at, scorer), Sum()).add(score, p5)
    numbers = {name: number_of(connection, "scorer", "name", name) for name in {key[2] for key in sums} - {""}}
    numbers[""] = UNSCORED
    connection.executemany(
        _ADD,
        [
            (*key[:2], numbers[key[2]], it.scored, it.unscored, it.score_total, it.lowest, it.p5_total)
            for key, it in sorted(sums.items())
        ],
    )
    connection.execute("UPDATE rolled SET number = ?", (rows[-1][0],))
    return len(rows)


def scores_in(layout: Layout, measures: bytes) -> Iterable[tuple[str, float, float]]:
    """(scorer, score, p5) of each scorer of an event."""
    numbers = struct.unpack_from(f"<{3 * len(layout.scorers)}d", measures)
    return zip(layout.scorers, numbers[0::3], numbers[1::3], strict=True)


class Parts:
    """A range of time in parts of equal length, filled from minutes and from single outcomes."""

    def __init__(self, begins_at: int, ends_at: int, count: int) -> None:
        self.begins_at = begins_at
        self.width = max((ends_at - begins_at) // count, 1)
        self._sums: dict[tuple[int, int], Sum] = {}

    def at(self, rendition_id: int, moment: int) -> Sum:
        """The sum of the part that a moment lies in; a minute that began before the range lies in the first."""
        part = max(0, (moment - self.begins_at) // self.width)
        return self._sums.setdefault((rendition_id, part), Sum())

    def buckets(self, stream_id: str, names: Mapping[int, str]) -> Sequence[Bucket]:
        """The parts that hold anything, by the order of `names` and time."""
        order = {rendition_id: place for place, rendition_id in enumerate(names)}
        return [
            Bucket(
                stream_id=stream_id,
                rendition=names[rendition_id],
                starts_at=moment_of(self.begins_at + part * self.width),
                seconds=self.width / 1e6,
                scored=it.scored,
                unscored=it.unscored,
                mean=it.score_total / it.scored if it.scored else None,
                lowest=it.lowest,
                p5=it.p5_total / it.scored if it.scored else None,
            )
            for (rendition_id, part), it in sorted(self._sums.items(), key=lambda item: (order[item[0][0]], item[0][1]))
        ]


def fill(parts: Parts, rows: Iterable[Sequence[Any]], layout_of: LayoutOf, scorer: str) -> None:
    """Add single outcomes: rows of (rendition_id, starts_at, layout_id, measures)."""
    for rendition_id, starts_at, layout_id, measures in rows:
        it = parts.at(rendition_id, starts_at)
        if layout_id is None:
            it.unscored += 1
            continue
        for name, score, p5 in scores_in(layout_of(layout_id), measures):
            if name == scorer:
                it.add(score, p5)


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
