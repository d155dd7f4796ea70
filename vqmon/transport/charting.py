"""What charts ask of a history: where renditions stand, single outcomes, and long ranges in parts."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from vqmon.transport.history.documents import Documents
from vqmon.transport.history.rows import POINT_COLUMNS, Bucket, Point, RenditionState, microseconds, moment_of, point_of
from vqmon.transport.rollups import MINUTE, UNSCORED, Parts, fill

TREND_OUTCOMES = 60
"""How many outcomes the trend of a rendition shows."""

TRIES = 5
"""How often a range is added up anew because outcomes became rollups meanwhile."""

JOINED = "outcome o JOIN rendition r USING (rendition_id)"


class Charting(Documents):
    """Numbers over time."""

    def renditions(self, *, stream_id: str | None = None, trend: int = TREND_OUTCOMES) -> Sequence[RenditionState]:
        """Every rendition that has an outcome, or those of one stream, by stream and name."""
        where = "" if stream_id is None else "WHERE stream_id = ?"
        found = self._ask(
            f"SELECT rendition_id, stream_id, name, width, height, bitrate_kbps FROM rendition {where}"
            " ORDER BY stream_id, name",
            *([] if stream_id is None else [stream_id]),
        )
        states = (self._rendition(row, trend) for row in found)
        return [state for state in states if state is not None]

    def points(
        self, stream_id: str, *, begins_at: datetime, ends_at: datetime, limit: int, rendition: str | None = None
    ) -> Sequence[Point]:
        """Outcomes of a stream that start within the range, in time order; the newest `limit` of them."""
        found: list[Any] = []
        for (rendition_id,) in self._rendition_ids(stream_id, rendition or ""):
            found += self._ask(
                f"SELECT {POINT_COLUMNS} FROM {JOINED}"
                " WHERE o.rendition_id = ? AND o.starts_at >= ? AND o.starts_at < ? ORDER BY o.starts_at DESC LIMIT ?",
                *(rendition_id, microseconds(begins_at), microseconds(ends_at), limit),
            )
        found.sort(key=lambda row: (row[4], row[0]))
        return [point_of(row, self._layouts) for row in found[-limit:]]

    def buckets(
        self, stream_id: str, *, begins_at: datetime, ends_at: datetime, count: int = 500, scorer: str = ""
    ) -> Sequence[Bucket]:
        """The range in `count` parts of equal length, empty ones left out: for weeks, where points are too many.

        Scores are those of `scorer`, by default the first one of the stream's newest score. Parts of a minute and more
        are made of whole minutes and reach back further than single outcomes.
        """
        names = {row[0]: row[1] for row in self._rendition_ids(stream_id, "", columns="rendition_id, name")}
        begins, ends = microseconds(begins_at), microseconds(ends_at)
        chosen = scorer or self._first_scorer(list(names))
        for _ in range(TRIES):
            parts = Parts(begins, ends, count)
            if parts.width < MINUTE:
                self._add_outcomes(parts, list(names), (begins, ends), chosen)
                break
            rolled = self._rolled()
            self._add_minutes(parts, list(names), (begins, ends), chosen)
            self._add_tail(parts, list(names), (begins, ends), chosen, rolled)
            if self._rolled() == rolled:
                break
        return parts.buckets(stream_id, names)

    def _add_outcomes(self, parts: Parts, ids: Sequence[int], span: tuple[int, int], scorer: str) -> None:
        for rendition_id in ids:
            rows = self._ask(
                "SELECT rendition_id, starts_at, layout_id, measures FROM outcome"
                " WHERE rendition_id = ? AND starts_at >= ? AND starts_at < ?",
                *(rendition_id, *span),
            )
            fill(parts, rows, self._layouts.__getitem__, scorer)

    def _add_minutes(self, parts: Parts, ids: Sequence[int], span: tuple[int, int], scorer: str) -> None:
        found = self._ask("SELECT scorer_id FROM scorer WHERE name = ?", scorer)
        scorer_id = found[0][0] if found else UNSCORED
        for rendition_id in ids:
            rows = self._ask(
                "SELECT begins_at, scored, unscored, score_total, lowest, p5_total FROM rollup"
                " WHERE rendition_id = ? AND begins_at > ? AND begins_at < ? AND scorer_id IN (?, ?)",
                *(rendition_id, span[0] - MINUTE, span[1], UNSCORED, scorer_id),
            )
            for begin, *sums in rows:
                parts.at(rendition_id, begin).join(*sums)

    def _add_tail(self, parts: Parts, ids: Sequence[int], span: tuple[int, int], scorer: str, rolled: int) -> None:
        """What came after the newest rollup."""
        places = ", ".join("?" * len(ids)) or "NULL"
        rows = self._ask(
            # The signs keep databases from going through the whole range by its index.
            "SELECT rendition_id, starts_at, layout_id, measures FROM outcome"
            f" WHERE number > ? AND +rendition_id IN ({places}) AND +starts_at >= ? AND +starts_at < ?",
            *(rolled, *ids, *span),
        )
        fill(parts, rows, self._layouts.__getitem__, scorer)

    def _rolled(self) -> int:
        return int(self._ask("SELECT number FROM rolled")[0][0])

    def _first_scorer(self, ids: Sequence[int]) -> str:
        newest: list[Any] = []
        for rendition_id in ids:
            newest += self._ask(
                "SELECT starts_at, layout_id FROM outcome WHERE rendition_id = ? AND score IS NOT NULL"
                " ORDER BY starts_at DESC LIMIT 1",
                rendition_id,
            )
        scorers = self._layouts[max(newest)[1]].scorers if newest else ()
        return scorers[0] if scorers else ""

    def _rendition(self, row: Sequence[Any], trend: int) -> RenditionState | None:
        rendition_id, stream_id, name, width, height, bitrate_kbps = row
        recent = self._ask(
            "SELECT number, score FROM outcome WHERE rendition_id = ? ORDER BY starts_at DESC, number DESC LIMIT ?",
            *(rendition_id, max(trend, 1)),
        )
        if not recent:
            return None
        number = recent[0][0]
        last = self._ask(
            f"SELECT {POINT_COLUMNS}, o.observed_at, o.duration_seconds FROM {JOINED} WHERE o.number = ?", number
        )[0]
        point = point_of(last[:-2], self._layouts)
        return RenditionState(
            stream_id=stream_id,
            rendition=name,
            width=width,
            height=height,
            bitrate_kbps=bitrate_kbps,
            last_event_id=point.event_id,
            last_starts_at=point.starts_at,
            last_observed_at=moment_of(last[-2]),
            last_duration_seconds=last[-1],
            last_reason=point.reason,
            last_scores=point.scores,
            trend=tuple(score for _, score in reversed(recent[:trend])),
        )
