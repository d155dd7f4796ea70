"""The read model of a history for pages and commands; every answer is bounded in size."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from vqmon.core.alerts.annotations import ALL_RENDITIONS, DeployMarker, EndReason, StreamEnd
from vqmon.core.alerts.reactions.input_switching import DecisionRecord
from vqmon.core.alerts.state import State, StateKey
from vqmon.core.timeline import HistoryChanges, OutcomeCounts, RenditionState, TimeBucket, TimelinePoint
from vqmon.core.types import Alert, HeatMap, LaneCursor, Outcome
from vqmon.transport.history.backends.base import Database
from vqmon.transport.history.deliveries.decision_log import DecisionLog
from vqmon.transport.history.documents import Documents, end_from_row, rendition_rows
from vqmon.transport.history.maintenance import MINUTE, UNSCORED_ID, ScoreTotals
from vqmon.transport.history.rows import (
    FACTS_TEXT,
    POINT_COLUMNS,
    from_microseconds,
    pack_event_id,
    parse_heat_maps,
    point_from_row,
    scores_in_facts,
    to_microseconds,
    unpack_event_id,
)
from vqmon.transport.wire import cloudevents

_TREND_OUTCOMES = 60
"""Outcomes in the trend of a rendition."""

_ROLLUP_RACE_ATTEMPTS = 5
"""How often a range is added up when a roll-up keeps moving outcomes meanwhile."""

_EndsByRendition = Mapping[tuple[str, str], tuple[int, EndReason | None]]

_OUTCOME_JOIN = "outcome o JOIN rendition r USING (rendition_id)"


class Queries:
    """Bounded reads of one history; safe to use from several threads."""

    def __init__(self, database: Database, *, documents: Documents) -> None:
        self._decisions = DecisionLog(database)
        self._query = database.query
        self._documents = documents

    def identity(self) -> str:
        """The random id of this history, made with its tables."""
        return str(self._column("SELECT id FROM identity")[0])

    def tip(self) -> int:
        """The number of the newest write."""
        return int(self._query("SELECT number FROM tip")[0][0])

    def changes_since(self, tip: int, *, limit: int = 1000) -> HistoryChanges:
        """The oldest `limit` outcomes and alerts written after `tip`; cheap when there are none."""
        newest = self.tip()
        if newest <= tip:
            return HistoryChanges(tip=newest, points=(), alerts=(), is_complete=True)
        within = "number > ? AND number <= ? ORDER BY number LIMIT ?"
        points = self._query(f"SELECT {POINT_COLUMNS} FROM {_OUTCOME_JOIN} WHERE o.{within}", tip, newest, limit + 1)
        alerts = self._query(f"SELECT number, document FROM alert WHERE {within}", tip, newest, limit + 1)
        numbers = sorted([row[0] for row in points] + [row[0] for row in alerts])
        last = numbers[limit - 1] if len(numbers) > limit else newest
        return HistoryChanges(
            tip=last,
            points=tuple(point_from_row(row) for row in points if row[0] <= last),
            alerts=tuple(cloudevents.parse_alert(row[1]) for row in alerts if row[0] <= last),
            is_complete=len(numbers) <= limit,
        )

    # ---- outcomes

    def outcome(self, event_id: str) -> Outcome | None:
        """One whole outcome."""
        return self._documents.outcome(event_id)

    def neighbours(self, event_id: str) -> tuple[str | None, str | None]:
        """Ids of the outcomes before and after this one, of the same rendition."""
        rows = self._query("SELECT rendition_id, starts_at, number FROM outcome WHERE id = ?", pack_event_id(event_id))
        if not rows:
            return None, None
        before, after = (
            self._query(
                f"SELECT id FROM outcome WHERE rendition_id = ? AND (starts_at, number) {sign} (?, ?)"
                f" ORDER BY starts_at {order}, number {order} LIMIT 1",
                *rows[0],
            )
            for sign, order in (("<", "DESC"), (">", "ASC"))
        )
        return unpack_event_id(before[0][0]) if before else None, unpack_event_id(after[0][0]) if after else None

    def thumbnails(self, event_id: str) -> Sequence[bytes]:
        """JPEGs of the sampled frames, in order; empty when retention has deleted them."""
        return self._column(
            "SELECT jpeg FROM thumbnail WHERE number = (SELECT number FROM outcome WHERE id = ?) ORDER BY position",
            pack_event_id(event_id),
        )

    def counts(self) -> OutcomeCounts:
        """How many outcomes were ever published."""
        totals = dict(self._query("SELECT reason, total FROM published"))
        return OutcomeCounts(scored=totals.pop("", 0), unscored_by_reason=totals)

    # ---- alerts

    def alerts(
        self, *, open_only: bool = False, stream_id: str | None = None, since: datetime | None = None, limit: int = 200
    ) -> Sequence[Alert]:
        """Alerts, newest first; `since` keeps those that are open or were resolved at or after it."""
        conditions: list[str] = ["1 = 1"]
        values: list[str | int] = []
        if open_only:
            conditions.append("resolved_at IS NULL")
        if stream_id is not None:
            conditions.append("stream_id = ?")
            values.append(stream_id)
        if since is not None:
            conditions.append("(resolved_at IS NULL OR resolved_at >= ?)")
            values.append(to_microseconds(since))
        where = " AND ".join(conditions)
        sql = f"SELECT document FROM alert WHERE {where} ORDER BY opened_at DESC, number DESC LIMIT ?"
        return [cloudevents.parse_alert(document) for document in self._column(sql, *values, limit)]

    def input_decisions(self, *, stream_id: str | None = None, limit: int = 200) -> Sequence[DecisionRecord]:
        """The newest decisions about inputs, newest first, of one stream or of all."""
        return self._decisions.newest(stream_id=stream_id, limit=limit)

    def last_input_changes(self) -> Sequence[DecisionRecord]:
        """The newest switch or return of each hook and stream, oldest first; that of dry runs beside the real one."""
        return self._decisions.last_of_streams()

    def alert(self, alert_id: str) -> Alert | None:
        documents = self._column("SELECT document FROM alert WHERE id = ?", alert_id)
        return cloudevents.parse_alert(documents[0]) if documents else None

    def evidence(self, alert_id: str) -> Sequence[bytes]:
        """JPEGs of the first of `Evidence.worst_times_seconds`, as many as the size limit allowed."""
        return self._column("SELECT jpeg FROM evidence WHERE alert_id = ? ORDER BY position", alert_id)

    def evidence_heat_maps(self, alert_id: str) -> tuple[HeatMap, ...]:
        """Where quality is lost in the frames at `Evidence.worst_times_seconds`, by measure."""
        documents = self._column("SELECT document FROM evidence_heat_maps WHERE alert_id = ?", alert_id)
        return parse_heat_maps(documents[0]) if documents else ()

    def states(self) -> Mapping[StateKey, State]:
        """The state of every alert rule and series, by key."""
        states = (cloudevents.parse_state(row[0]) for row in self._query("SELECT document FROM state"))
        return {state.key: state for state in states}

    def states_of_stream(self, stream_id: str) -> Mapping[StateKey, State]:
        """The states of one stream's series, by key, without the blocks of content that may return."""
        states = self._states_like(f"%|{_escaped(stream_id)}/%", containing=f"|{stream_id}/")
        return {state.key: state for state in states}

    def states_of_rule(self, rule: str) -> Sequence[State]:
        """The states of one alert rule's series."""
        return self._states_like(f"{_escaped(rule)}|%", containing=f"{rule}|")

    def _states_like(self, pattern: str, *, containing: str) -> list[State]:
        """The states whose keys match a LIKE pattern and hold the text, as LIKE may ignore the case."""
        # The keys are read from their index: most documents belong to other streams.
        sql = (
            "SELECT key, document FROM state WHERE key IN "
            "(SELECT key FROM state WHERE key LIKE ? ESCAPE '!' AND key NOT LIKE '=%')"
        )
        return [cloudevents.parse_state(document) for key, document in self._query(sql, pattern) if containing in key]

    def markers(self, *, limit: int = 1000) -> Sequence[DeployMarker]:
        """The newest `limit` deploy markers, oldest first."""
        rows = self._query("SELECT id, at, name, stream, rendition FROM marker ORDER BY at DESC, id LIMIT ?", limit)
        return [
            DeployMarker(id=id, at=from_microseconds(at), name=name, stream=stream, rendition=rendition)
            for id, at, name, stream, rendition in reversed(rows)
        ]

    def unjudged_ends(self) -> Sequence[StreamEnd]:
        """Ends that were added by hand and are not judged yet, by time."""
        rows = self._query("SELECT id, stream_id, rendition, at, why FROM ended WHERE number IS NULL ORDER BY at, id")
        return [end_from_row(row) for row in rows]

    # ---- progress of sources

    def cursors(self, stream_id: str) -> Mapping[str, LaneCursor]:
        """How far each lane (stream/rendition) of a stream has come, by lane."""
        rows = self._query(
            "SELECT lane, sequence, segment_key, ends_at FROM cursor WHERE lane >= ? AND lane < ?",
            *(f"{stream_id}/", f"{stream_id}0"),
        )
        return {
            lane: LaneCursor(lane=lane, sequence=sequence, segment_key=segment_key, ends_at=from_microseconds(ends_at))
            for lane, sequence, segment_key, ends_at in rows
        }

    def next_offsets(self, topic: str) -> Mapping[int, int]:
        """Partition -> the offset from which `vqmon record` reads on."""
        return dict(self._query("SELECT partition_number, next_offset FROM record_offset WHERE topic = ?", topic))

    # ---- charts

    def renditions(self, *, stream_id: str | None = None, trend: int = _TREND_OUTCOMES) -> Sequence[RenditionState]:
        """Every rendition that has an outcome, or those of one stream, by stream and name."""
        where = "" if stream_id is None else "WHERE stream_id = ?"
        rows = self._query(
            f"SELECT rendition_id, stream_id, name, width, height, bitrate_kbps FROM rendition {where}"
            " ORDER BY stream_id, name",
            *([] if stream_id is None else [stream_id]),
        )
        ends = self._newest_ends(stream_id)
        states = (self._rendition_state(row, trend, ends) for row in rows)
        return [state for state in states if state is not None]

    def points(
        self, stream_id: str, *, begins_at: datetime, ends_at: datetime, limit: int, rendition: str | None = None
    ) -> Sequence[TimelinePoint]:
        """Outcomes of a stream that start within the range, in time order; the newest `limit` of them."""
        rows: list[Any] = []
        for rendition_id, *_ in rendition_rows(self._query, stream_id=stream_id, rendition=rendition or ""):
            rows += self._query(
                f"SELECT {POINT_COLUMNS} FROM {_OUTCOME_JOIN}"
                " WHERE o.rendition_id = ? AND o.starts_at >= ? AND o.starts_at < ? ORDER BY o.starts_at DESC LIMIT ?",
                *(rendition_id, to_microseconds(begins_at), to_microseconds(ends_at), limit),
            )
        rows.sort(key=lambda row: (row[4], row[0]))
        return [point_from_row(row) for row in rows[-limit:]]

    def points_written_after(
        self, number: int, *, limit: int, stream_id: str = "", rendition: str = ""
    ) -> Sequence[TimelinePoint]:
        """The oldest `limit` outcomes written after a number, of all streams unless one is named."""
        rows = self._query(
            f"SELECT {POINT_COLUMNS} FROM {_OUTCOME_JOIN} WHERE o.number > ?"
            " AND (? = '' OR r.stream_id = ?) AND (? = '' OR r.name = ?) ORDER BY o.number LIMIT ?",
            *(number, stream_id, stream_id, rendition, rendition, limit),
        )
        return [point_from_row(row) for row in rows]

    def buckets(
        self, stream_id: str, *, begins_at: datetime, ends_at: datetime, count: int = 500, scorer: str = ""
    ) -> Sequence[TimeBucket]:
        """The range in `count` buckets of equal length, empty ones left out: for ranges with too many points.

        Scores are those of `scorer`, by default the first scorer of the stream's newest score. Buckets of a minute and
        more are made of per-minute rollups, which reach further back than single outcomes.
        """
        names = {row[0]: row[2] for row in rendition_rows(self._query, stream_id=stream_id)}
        span = (to_microseconds(begins_at), to_microseconds(ends_at))
        scorer = scorer or self._first_scorer(list(names))
        for _ in range(_ROLLUP_RACE_ATTEMPTS):
            buckets = _Buckets(*span, count, scorer=scorer)
            if buckets.width < MINUTE:
                self._add_outcomes(buckets, list(names), span)
                break
            rolled_up_to = self._rolled_up_to()
            self._add_rollups(buckets, list(names), span)
            self._add_outcomes_after(buckets, list(names), span, number=rolled_up_to)
            if self._rolled_up_to() == rolled_up_to:
                break
        return buckets.to_read_model(stream_id, names)

    def _add_outcomes(self, buckets: "_Buckets", ids: Sequence[int], span: tuple[int, int]) -> None:
        for rendition_id in ids:
            buckets.add_outcomes(
                self._query(
                    f"SELECT rendition_id, starts_at, reason, {FACTS_TEXT} FROM outcome o"
                    " WHERE rendition_id = ? AND starts_at >= ? AND starts_at < ?",
                    *(rendition_id, *span),
                )
            )

    def _add_rollups(self, buckets: "_Buckets", ids: Sequence[int], span: tuple[int, int]) -> None:
        scorer_ids = self._column("SELECT scorer_id FROM scorer WHERE name = ?", buckets.scorer)
        scorer_id = scorer_ids[0] if scorer_ids else UNSCORED_ID
        for rendition_id in ids:
            rows = self._query(
                "SELECT begins_at, scored, unscored, score_total, lowest, p5_total FROM rollup"
                " WHERE rendition_id = ? AND begins_at > ? AND begins_at < ? AND scorer_id IN (?, ?)",
                *(rendition_id, span[0] - MINUTE, span[1], UNSCORED_ID, scorer_id),
            )
            for begins_at, scored, unscored, score_total, lowest, p5_total in rows:
                buckets.totals_at(rendition_id, begins_at).merge(
                    ScoreTotals(
                        scored=int(scored),
                        unscored=int(unscored),
                        score_total=score_total,
                        lowest=lowest,
                        p5_total=p5_total,
                    )
                )

    def _add_outcomes_after(
        self, buckets: "_Buckets", ids: Sequence[int], span: tuple[int, int], *, number: int
    ) -> None:
        """Add the outcomes that are in no rollup yet."""
        marks = ", ".join("?" * len(ids)) or "NULL"
        buckets.add_outcomes(
            self._query(
                # The unary plus keeps the database from scanning the whole range by its index.
                f"SELECT rendition_id, starts_at, reason, {FACTS_TEXT} FROM outcome o"
                f" WHERE number > ? AND +rendition_id IN ({marks}) AND +starts_at >= ? AND +starts_at < ?",
                *(number, *ids, *span),
            )
        )

    def _rolled_up_to(self) -> int:
        return int(self._query("SELECT number FROM rolled")[0][0])

    def _first_scorer(self, rendition_ids: Sequence[int]) -> str:
        newest: list[Any] = []
        for rendition_id in rendition_ids:
            newest += self._query(
                f"SELECT starts_at, {FACTS_TEXT} FROM outcome o WHERE rendition_id = ? AND score IS NOT NULL"
                " ORDER BY starts_at DESC LIMIT 1",
                rendition_id,
            )
        scores = scores_in_facts(max(newest)[1]) if newest else ()
        return scores[0][0] if scores else ""

    def _newest_ends(self, stream_id: str | None) -> _EndsByRendition:
        """(stream, rendition or `ALL_RENDITIONS`) -> number and reason of its newest end."""
        where = "" if stream_id is None else "AND stream_id = ?"
        rows = self._query(
            f"SELECT stream_id, rendition, number, why FROM ended WHERE number IS NOT NULL {where} ORDER BY number",
            *([] if stream_id is None else [stream_id]),
        )
        return {(stream, rendition): (number, why) for stream, rendition, number, why in rows}

    def _rendition_state(self, row: Sequence[Any], trend: int, ends: _EndsByRendition) -> RenditionState | None:
        rendition_id, stream_id, name, width, height, bitrate_kbps = row
        recent = self._query(
            "SELECT number, score FROM outcome WHERE rendition_id = ? ORDER BY starts_at DESC, number DESC LIMIT ?",
            *(rendition_id, max(trend, 1)),
        )
        if not recent:
            return None
        last = self._query(
            f"SELECT {POINT_COLUMNS}, o.observed_at, o.duration_seconds FROM {_OUTCOME_JOIN} WHERE o.number = ?",
            recent[0][0],
        )[0]
        point = point_from_row(last[:-2])
        end_number, end_reason = max(ends.get((stream_id, key), (0, None)) for key in (name, ALL_RENDITIONS))
        return RenditionState(
            stream_id=stream_id,
            rendition=name,
            width=width,
            height=height,
            bitrate_kbps=bitrate_kbps,
            last_event_id=point.event_id,
            last_starts_at=point.starts_at,
            last_observed_at=from_microseconds(last[-2]),
            last_duration_seconds=last[-1],
            last_reason=point.reason,
            last_scores=point.scores,
            trend=tuple(score for _, score in reversed(recent[:trend])),
            # a segment that came after the end took the stream up again
            end_reason=end_reason if end_number > max(number for number, _ in recent) else None,
            last_scorer_failures=point.scorer_failures,
        )

    def _column(self, sql: str, *values: Any) -> list[Any]:
        """The first column of a query's rows."""
        return [row[0] for row in self._query(sql, *values)]


class _Buckets:
    """A range of time in buckets of equal length, filled from rollups and from single outcomes; microseconds."""

    def __init__(self, begins_at: int, ends_at: int, count: int, *, scorer: str) -> None:
        self.scorer = scorer
        self.width = max((ends_at - begins_at) // count, 1)
        self._begins_at = begins_at
        self._totals: dict[tuple[int, int], ScoreTotals] = {}

    def totals_at(self, rendition_id: int, at: int) -> ScoreTotals:
        """The totals of the bucket that contains a time; a minute that began before the range is in the first."""
        index = max(0, (at - self._begins_at) // self.width)
        return self._totals.setdefault((rendition_id, index), ScoreTotals())

    def add_outcomes(self, rows: Iterable[Sequence[Any]]) -> None:
        """Add single outcomes: rows of (rendition_id, starts_at, reason, facts)."""
        for rendition_id, starts_at, reason, facts in rows:
            totals = self.totals_at(rendition_id, starts_at)
            if reason is not None:
                totals.unscored += 1
                continue
            for scorer, score, p5 in scores_in_facts(facts):
                if scorer == self.scorer:
                    totals.add(score, p5)

    def to_read_model(self, stream_id: str, names: Mapping[int, str]) -> Sequence[TimeBucket]:
        """The buckets that hold anything, in the order of `names` (rendition_id -> name), then by time."""
        order = {rendition_id: position for position, rendition_id in enumerate(names)}
        return [
            TimeBucket(
                stream_id=stream_id,
                rendition=names[rendition_id],
                starts_at=from_microseconds(self._begins_at + index * self.width),
                seconds=self.width / 1e6,
                scored=totals.scored,
                unscored=totals.unscored,
                mean=totals.score_total / totals.scored if totals.scored else None,
                lowest=totals.lowest,
                p5=totals.p5_total / totals.scored if totals.scored else None,
            )
            for (rendition_id, index), totals in sorted(
                self._totals.items(), key=lambda item: (order[item[0][0]], item[0][1])
            )
        ]


def _escaped(text: str) -> str:
    """The text as part of a LIKE pattern whose escape character is `!`."""
    return text.replace("!", "!!").replace("%", "!%").replace("_", "!_")
