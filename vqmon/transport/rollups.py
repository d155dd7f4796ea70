"""Minutes instead of segments: made from outcomes once, read for charts of days and weeks."""

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vqmon.transport.history.backends.base import Connection
from vqmon.transport.history.inserts import number_of
from vqmon.transport.history.rows import Bucket, Layout, moment_of

MINUTE = 60_000_000
"""Microseconds."""

CHUNK_ROWS = 5000
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
    rows = connection.execute(_NEW, (done, CHUNK_ROWS)).fetchall()
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
