"""The questions that pages and commands ask of a history; every answer has a bound."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from vqmon.core.alerts.annotations import End, Marker
from vqmon.core.alerts.judge import State
from vqmon.core.timeline import Bucket, Changes, Counts, Point, RenditionState
from vqmon.core.types import Alert, Cursor, Outcome
from vqmon.transport.history.documents import FOREVER, Ask, Documents
from vqmon.transport.history.inserts import read_ends, read_markers, read_waiting
from vqmon.transport.history.maintenance import MINUTE, UNSCORED, Parts, fill
from vqmon.transport.history.rows import (
    POINT_COLUMNS,
    microseconds,
    moment_of,
    packed_id,
    point_of,
    segment_number,
    unpacked_id,
)
from vqmon.transport.wire import cloudevents

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


__all__ = ["Ask", "Questions"]


class Questions(Charting):
    """All that reads."""

    def tip(self) -> int:
        """The number of the newest write."""
        return int(self._ask("SELECT number FROM tip")[0][0])

    def changes_since(self, tip: int, *, limit: int = 1000) -> Changes:
        """The oldest `limit` outcomes and alerts written after `tip`; cheap when there are none."""
        newest = self.tip()
        if newest <= tip:
            return Changes(tip=newest, points=(), alerts=(), is_complete=True)
        within = "number > ? AND number <= ? ORDER BY number LIMIT ?"
        points = self._ask(f"SELECT {POINT_COLUMNS} FROM {JOINED} WHERE o.{within}", tip, newest, limit + 1)
        alerts = self._ask(f"SELECT number, document FROM alert WHERE {within}", tip, newest, limit + 1)
        numbers = sorted([row[0] for row in points] + [row[0] for row in alerts])
        last = numbers[limit - 1] if len(numbers) > limit else newest
        return Changes(
            tip=last,
            points=tuple(point_of(row, self._layouts) for row in points if row[0] <= last),
            alerts=tuple(cloudevents.parse_alert(row[1]) for row in alerts if row[0] <= last),
            is_complete=len(numbers) <= limit,
        )

    def neighbours(self, event_id: str) -> tuple[str | None, str | None]:
        """The outcomes before and after this one, of the same rendition."""
        here = self._ask("SELECT rendition_id, starts_at, number FROM outcome WHERE id = ?", packed_id(event_id))
        if not here:
            return None, None
        before, after = (
            self._ask(
                f"SELECT id FROM outcome WHERE rendition_id = ? AND (starts_at, number) {sign} (?, ?)"
                f" ORDER BY starts_at {order}, number {order} LIMIT 1",
                *here[0],
            )
            for sign, order in (("<", "DESC"), (">", "ASC"))
        )
        return unpacked_id(before[0][0]) if before else None, unpacked_id(after[0][0]) if after else None

    def thumbnails(self, event_id: str) -> Sequence[bytes]:
        """JPEGs of the frames looked at, in order; none when they are not kept any more."""
        return self._column(
            "SELECT jpeg FROM thumbnail WHERE number = (SELECT number FROM outcome WHERE id = ?) ORDER BY position",
            packed_id(event_id),
        )

    def alerts(
        self, *, open_only: bool = False, stream_id: str | None = None, since: datetime | None = None, limit: int = 200
    ) -> Sequence[Alert]:
        """Alerts, newest first; `since` keeps those that are open or were resolved after it."""
        parts: list[str] = ["1 = 1"]
        values: list[str | int] = []
        if open_only:
            parts.append("resolved_at IS NULL")
        if stream_id is not None:
            parts.append("stream_id = ?")
            values.append(stream_id)
        if since is not None:
            parts.append("(resolved_at IS NULL OR resolved_at >= ?)")
            values.append(microseconds(since))
        sql = f"SELECT document FROM alert WHERE {' AND '.join(parts)} ORDER BY opened_at DESC, number DESC LIMIT ?"
        return [cloudevents.parse_alert(document) for document in self._column(sql, *values, limit)]

    def alert(self, alert_id: str) -> Alert | None:
        found = self._column("SELECT document FROM alert WHERE id = ?", alert_id)
        return cloudevents.parse_alert(found[0]) if found else None

    def evidence(self, alert_id: str) -> Sequence[bytes]:
        """JPEGs of the first of `Evidence.worst_times_seconds`, as many as were within the size limit."""
        return self._column("SELECT jpeg FROM evidence WHERE alert_id = ? ORDER BY position", alert_id)

    def counts(self) -> Counts:
        """How many outcomes were ever published."""
        totals = dict(self._ask("SELECT reason, total FROM published"))
        return Counts(scored=totals.pop("", 0), unscored_by_reason=totals)

    def markers(self, *, limit: int = 1000) -> Sequence[Marker]:
        """What was changed on purpose, the newest `limit`, oldest first."""
        return read_markers(self._ask, limit)

    def waiting_ends(self) -> Sequence[End]:
        """The ends that somebody told and nobody has judged yet."""
        return read_waiting(self._ask)

    def inputs_in_order(
        self, *, stream_id: str = "", since: datetime | None = None, until: datetime | None = None
    ) -> Iterator[Outcome | End]:
        """What was judged, in that order: as `outcomes_in_order`, with the ends among them that are there now."""
        begins = FOREVER[0] if since is None else microseconds(since)
        last = FOREVER[1] if until is None else microseconds(until)
        after = 0
        for number, end in read_ends(self._ask, stream_id=stream_id, begins=begins, ends=last):
            yield from self.outcomes_in_order(stream_id=stream_id, since=since, until=until, after=after, up_to=number)
            yield end
            after = number
        yield from self.outcomes_in_order(stream_id=stream_id, since=since, until=until, after=after)

    def cursors(self, stream_id: str) -> Mapping[str, Cursor]:
        """Lane -> how far it has come, for the lanes of a stream (stream/rendition)."""
        found = self._ask(
            "SELECT lane, sequence, segment_key, ends_at FROM cursor WHERE lane >= ? AND lane < ?",
            *(f"{stream_id}/", f"{stream_id}0"),
        )
        return {
            lane: Cursor(lane=lane, sequence=sequence, segment_key=segment_key, ends_at=moment_of(ends_at))
            for lane, sequence, segment_key, ends_at in found
        }

    def identity(self) -> str:
        """What tells this history from every other."""
        return str(self._column("SELECT id FROM identity")[0])

    def offsets(self, topic: str) -> Mapping[int, int]:
        """Partition -> where `vqmon record` goes on."""
        ask = "SELECT partition_number, next_offset FROM record_offset WHERE topic = ?"
        return dict(self._ask(ask, topic))

    def states(self) -> Mapping[str, State]:
        """What the rules remember."""
        return {
            key: cloudevents.parse_state(document) for key, document in self._ask("SELECT key, document FROM state")
        }

    def states_of(self, stream_id: str) -> Mapping[str, State]:
        """What the rules remember of one stream's series."""
        plain = stream_id.replace("!", "!!").replace("%", "!%").replace("_", "!_")
        found = self._ask("SELECT key, document FROM state WHERE key LIKE ? ESCAPE '!'", f"%|{plain}/%")
        return {key: cloudevents.parse_state(document) for key, document in found if f"|{stream_id}/" in key}

    def has_segment(self, segment_key: str) -> bool:
        """Whether there is an outcome of this segment of a folder."""
        return bool(self._ask("SELECT 1 FROM seen WHERE segment = ?", segment_number(segment_key)))

    def _column(self, sql: str, *values: Any) -> list[Any]:
        return [row[0] for row in self._ask(sql, *values)]
