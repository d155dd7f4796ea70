"""Maintenance of a history in small transactions: per-minute rollups, and retention."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from vqmon.core.timeline import PrunedCounts
from vqmon.transport.history.backends.base import Database, Transaction
from vqmon.transport.history.inserts import lookup_or_insert_id
from vqmon.transport.history.rows import FACTS_TEXT, scores_in_facts, to_microseconds

MINUTE = 60_000_000
"""Microseconds."""

ROLLUP_CHUNK_ROWS = 5000
"""Outcomes that one transaction adds to rollups."""

UNSCORED_ID = 0
"""The `scorer_id` of the rollup rows that count unscored segments."""

PRUNE_CHUNK_ROWS = 1000
"""Rows that one transaction deletes, so that publishing never waits long."""

MAX_CHUNKS = 300
"""Transactions in one call: weeks of backlog are deleted over hours, while writing goes on."""

_PRUNE_CHUNK_RENDITIONS = 100
"""Renditions whose rollups one transaction deletes."""

_SELECT_NEW = (
    f"SELECT rendition_id, starts_at, reason, {FACTS_TEXT}, number FROM outcome o"
    " WHERE number > ? ORDER BY number LIMIT ?"
)
_ADD_TO_ROLLUP = (
    "INSERT INTO rollup VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (rendition_id, begins_at, scorer_id) DO UPDATE SET"
    " scored = rollup.scored + excluded.scored, unscored = rollup.unscored + excluded.unscored,"
    " score_total = rollup.score_total + excluded.score_total, p5_total = rollup.p5_total + excluded.p5_total,"
    " lowest = CASE WHEN rollup.lowest < excluded.lowest THEN rollup.lowest ELSE excluded.lowest END"
)
_HAS_NO_OUTCOME = " AND NOT EXISTS (SELECT 1 FROM outcome o WHERE o.number = thumbnail.number)"


@dataclass(slots=True)
class ScoreTotals:
    """Counts, sums and the lowest score over some outcomes of one rendition, with one scorer."""

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

    def merge(self, other: "ScoreTotals") -> None:
        self.scored += other.scored
        self.unscored += other.unscored
        self.score_total += other.score_total
        self.p5_total += other.p5_total
        self.lowest = min((score for score in (self.lowest, other.lowest) if score is not None), default=None)


class Maintenance:
    """Rollups and retention of one history."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def roll_up(self) -> int:
        """Add outcomes to the per-minute rollups, the oldest first; returns how many."""
        return self._in_chunks(_roll_up_chunk)

    def prune(
        self,
        *,
        before: datetime,
        keep_frames_of_segments: int,
        rollups_before: datetime | None = None,
        alerts_before: datetime | None = None,
    ) -> PrunedCounts:
        """Delete outcomes observed before a time, and the thumbnails of all but the newest segments of a rendition.

        Also rollups of minutes that begin before `rollups_before`, and alerts that were resolved before
        `alerts_before`, with their evidence, and decisions about inputs that were made before it. Adds outcomes to
        rollups first, then deletes the oldest writes in small transactions; what is left after MAX_CHUNKS of them is
        for the next call.
        """
        self.roll_up()
        before_us = to_microseconds(before)
        counts = {
            "outcomes": self._in_chunks(lambda transaction: _prune_outcomes(transaction, before_us)),
            "thumbnails": self._prune_thumbnails(keep_frames_of_segments),
        }
        if rollups_before is not None:
            counts["rollups"] = self._prune_rollups(to_microseconds(rollups_before))
        if alerts_before is not None:
            alerts_before_us = to_microseconds(alerts_before)
            counts["alerts"] = self._in_chunks(lambda transaction: _prune_alerts(transaction, alerts_before_us))
            self._in_chunks(lambda transaction: _prune_decisions(transaction, alerts_before_us))
        return PrunedCounts(**counts)

    def checkpoint(self) -> None:
        """Move the write-ahead log into the file, as far as readers allow it."""
        self._database.checkpoint()

    def _in_chunks(self, run_chunk: Callable[[Transaction], int]) -> int:
        """Run a step, each time in a transaction of its own, until it has nothing left to do."""
        total = 0
        for _ in range(MAX_CHUNKS):
            with self._database.transaction() as transaction:
                count = run_chunk(transaction)
            total += count
            if not count:
                break
        return total

    def _prune_thumbnails(self, keep: int) -> int:
        """Delete the thumbnails of all but the newest `keep` segments of each rendition; returns how many segments."""
        ranked = (
            "SELECT number, row_number() OVER (PARTITION BY rendition_id ORDER BY starts_at DESC, number DESC) AS place"
            " FROM (SELECT DISTINCT number FROM thumbnail) AS pictured JOIN outcome USING (number)"
        )
        rows = self._database.query(f"SELECT number FROM ({ranked}) AS ranked WHERE place > ?", keep)
        for start in range(0, len(rows), PRUNE_CHUNK_ROWS):
            with self._database.transaction() as transaction:
                transaction.executemany(
                    "DELETE FROM thumbnail WHERE number = ?", rows[start : start + PRUNE_CHUNK_ROWS]
                )
        return len(rows)

    def _prune_rollups(self, before: int) -> int:
        """Delete minutes that begin before a time; returns how many rows."""
        ids = self._database.query("SELECT rendition_id FROM rendition")
        count = 0
        for start in range(0, len(ids), _PRUNE_CHUNK_RENDITIONS):
            with self._database.transaction() as transaction:
                for (rendition_id,) in ids[start : start + _PRUNE_CHUNK_RENDITIONS]:
                    delete = "DELETE FROM rollup WHERE rendition_id = ? AND begins_at < ?"
                    count += transaction.execute(delete, (rendition_id, before)).rowcount
        return count


def _roll_up_chunk(transaction: Transaction) -> int:
    """Add the oldest outcomes that are in no rollup yet; returns how many.

    Totals only ever grow by new outcomes, so the order in which segments come, and how late, does not matter.
    """
    # Locks the row, so that no two processes add the same outcomes.
    rolled_up_to = int(transaction.execute("UPDATE rolled SET number = number RETURNING number").fetchone()[0])
    rows = transaction.execute(_SELECT_NEW, (rolled_up_to, ROLLUP_CHUNK_ROWS)).fetchall()
    if not rows:
        return 0
    totals_by_key: dict[tuple[int, int, str], ScoreTotals] = {}
    for rendition_id, starts_at, reason, facts, _ in rows:
        begins_at = starts_at - starts_at % MINUTE
        if reason is not None:
            totals_by_key.setdefault((rendition_id, begins_at, ""), ScoreTotals()).unscored += 1
            continue
        for scorer, score, p5 in scores_in_facts(facts):
            totals_by_key.setdefault((rendition_id, begins_at, scorer), ScoreTotals()).add(score, p5)
    scorers = {scorer for _, _, scorer in totals_by_key} - {""}
    ids = {scorer: lookup_or_insert_id(transaction, "scorer", "name", scorer) for scorer in scorers}
    ids[""] = UNSCORED_ID
    transaction.executemany(
        _ADD_TO_ROLLUP,
        [
            (
                *(rendition_id, begins_at, ids[scorer]),
                *(totals.scored, totals.unscored, totals.score_total, totals.lowest, totals.p5_total),
            )
            for (rendition_id, begins_at, scorer), totals in sorted(totals_by_key.items(), key=lambda item: item[0])
        ],
    )
    transaction.execute("UPDATE rolled SET number = ?", (rows[-1][-1],))
    return len(rows)


def _prune_outcomes(transaction: Transaction, before: int) -> int:
    """Of the oldest writes, delete those observed before a time, with documents, thumbnails and ends."""
    oldest = f"SELECT number, observed_at FROM outcome ORDER BY number LIMIT {PRUNE_CHUNK_ROWS}"
    deleted = transaction.execute(
        f"DELETE FROM outcome WHERE number IN (SELECT number FROM ({oldest}) AS oldest WHERE observed_at < ?"
        # Charts would lose outcomes that are in no rollup yet.
        " AND number <= (SELECT number FROM rolled))"
        " RETURNING number",
        (before,),
    ).fetchall()
    if deleted:
        first, last = min(deleted)[0], max(deleted)[0]
        transaction.execute("DELETE FROM thumbnail WHERE number BETWEEN ? AND ?" + _HAS_NO_OUTCOME, (first, last))
        # A block goes with the last of its outcomes.
        transaction.execute(
            "DELETE FROM document WHERE number <= ? AND NOT EXISTS"
            " (SELECT 1 FROM outcome o WHERE o.number BETWEEN document.number AND document.last)",
            (last,),
        )
        # An end goes when no outcome before it is left.
        transaction.execute(
            "DELETE FROM ended WHERE number < coalesce((SELECT min(number) FROM outcome), (SELECT number + 1 FROM tip))"
        )
    return len(deleted)


def _prune_alerts(transaction: Transaction, before: int) -> int:
    """Delete alerts that were resolved before a time and are not in the outbox, with their evidence."""
    deleted = transaction.execute(
        "DELETE FROM alert WHERE id IN (SELECT id FROM alert WHERE resolved_at < ?"
        f" AND id NOT IN (SELECT alert_id FROM outbox) LIMIT {PRUNE_CHUNK_ROWS}) RETURNING id",
        (before,),
    ).fetchall()
    for table in ("evidence", "evidence_heat_maps"):
        transaction.executemany(f"DELETE FROM {table} WHERE alert_id = ?", deleted)
    return len(deleted)


def _prune_decisions(transaction: Transaction, before: int) -> int:
    """Delete decisions about inputs that were made before a time, but for the last real and dry change of a stream."""
    newer = (
        "SELECT 1 FROM input_decision n WHERE n.hook = d.hook AND n.stream_id = d.stream_id"
        " AND n.kind <> 'hold' AND n.decided_at > d.decided_at"
        " AND (n.delivery = 'dry_run') = (d.delivery = 'dry_run')"
    )
    old = f"SELECT id FROM input_decision d WHERE decided_at < ? AND (kind = 'hold' OR EXISTS ({newer}))"
    return transaction.execute(
        f"DELETE FROM input_decision WHERE id IN ({old} LIMIT {PRUNE_CHUNK_ROWS})", (before,)
    ).rowcount
