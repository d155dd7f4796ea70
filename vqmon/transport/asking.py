"""The questions that pages and commands ask of a history; every answer has a bound."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from vqmon.core.rules import State
from vqmon.core.types import Alert, Cursor, Outcome
from vqmon.transport import wire
from vqmon.transport.rows import (
    POINT_COLUMNS,
    Bucket,
    Changes,
    Counts,
    Point,
    RenditionState,
    microseconds,
    moment_of,
    point_of,
    segment_number,
    unpack,
)

TREND_OUTCOMES = 60
"""How many outcomes the trend of a rendition shows."""

CHUNK_ROWS = 500
"""How many rows are read at a time, so that no reader holds back a checkpoint for long."""

_JOINED = "outcome o JOIN rendition r USING (rendition_id)"
_FOREVER = (-(1 << 62), 1 << 62)


class Ask(Protocol):
    """Runs one SELECT and gives all its rows."""

    def __call__(self, sql: str, *values: Any) -> list[Any]: ...


class Questions:
    """All that reads. `ask` may be called from several threads at once."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def tip(self) -> int:
        """The number of the newest write."""
        return int(self._ask("SELECT number FROM tip")[0][0])

    def changes_since(self, tip: int, *, limit: int = 1000) -> Changes:
        """The oldest `limit` outcomes and alerts written after `tip`; cheap when there are none."""
        newest = self.tip()
        if newest <= tip:
            return Changes(tip=newest, points=(), alerts=(), is_complete=True)
        within = "number > ? AND number <= ? ORDER BY number LIMIT ?"
        points = self._ask(f"SELECT {POINT_COLUMNS} FROM {_JOINED} WHERE o.{within}", tip, newest, limit + 1)
        alerts = self._ask(f"SELECT number, document FROM alert WHERE {within}", tip, newest, limit + 1)
        numbers = sorted([row[0] for row in points] + [row[0] for row in alerts])
        last = numbers[limit - 1] if len(numbers) > limit else newest
        return Changes(
            tip=last,
            points=tuple(point_of(row) for row in points if row[0] <= last),
            alerts=tuple(wire.parse_alert(row[1]) for row in alerts if row[0] <= last),
            is_complete=len(numbers) <= limit,
        )

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
                f"SELECT {POINT_COLUMNS} FROM {_JOINED}"
                " WHERE o.rendition_id = ? AND o.starts_at >= ? AND o.starts_at < ? ORDER BY o.starts_at DESC LIMIT ?",
                *(rendition_id, microseconds(begins_at), microseconds(ends_at), limit),
            )
        found.sort(key=lambda row: (row[4], row[0]))
        return [point_of(row) for row in found[-limit:]]

    def buckets(self, stream_id: str, *, begins_at: datetime, ends_at: datetime, count: int = 500) -> Sequence[Bucket]:
        """The range in `count` parts of equal length, empty ones left out: for weeks, where points are too many."""
        begins, width = microseconds(begins_at), max((microseconds(ends_at) - microseconds(begins_at)) // count, 1)
        buckets = []
        for rendition_id, name in self._rendition_ids(stream_id, "", columns="rendition_id, name"):
            rows = self._ask(
                "SELECT (starts_at - ?) / ?, count(score), count(*) - count(score), avg(score), min(score) FROM outcome"
                " WHERE rendition_id = ? AND starts_at >= ? AND starts_at < ? GROUP BY 1",
                *(begins, width, rendition_id, begins, microseconds(ends_at)),
            )
            buckets += [
                Bucket(
                    stream_id=stream_id,
                    rendition=name,
                    starts_at=moment_of(begins + part * width),
                    seconds=width / 1e6,
                    scored=scored,
                    unscored=unscored,
                    mean=mean,
                    lowest=lowest,
                )
                for part, scored, unscored, mean, lowest in rows
            ]
        return buckets

    def outcome(self, event_id: str) -> Outcome | None:
        """One outcome, whole."""
        found = self._ask("SELECT body, dictionary_id FROM outcome JOIN document USING (number) WHERE id = ?", event_id)
        return wire.parse_outcome(self._unpacked(*found[0])) if found else None

    def neighbours(self, event_id: str) -> tuple[str | None, str | None]:
        """The outcomes before and after this one, of the same rendition."""
        here = self._ask("SELECT rendition_id, starts_at, number FROM outcome WHERE id = ?", event_id)
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
        return before[0][0] if before else None, after[0][0] if after else None

    def thumbnails(self, event_id: str) -> Sequence[bytes]:
        """JPEGs of the frames looked at, in order; none when they are not kept any more."""
        return self._column(
            "SELECT jpeg FROM thumbnail WHERE number = (SELECT number FROM outcome WHERE id = ?) ORDER BY position",
            event_id,
        )

    def alerts(
        self, *, open_only: bool = False, stream_id: str | None = None, since: datetime | None = None, limit: int = 200
    ) -> Sequence[Alert]:
        """Alerts, newest first; `since` keeps those that are open or were resolved after it."""
        parts: list[str] = ["1"]
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
        return [wire.parse_alert(document) for document in self._column(sql, *values, limit)]

    def alert(self, alert_id: str) -> Alert | None:
        found = self._column("SELECT document FROM alert WHERE id = ?", alert_id)
        return wire.parse_alert(found[0]) if found else None

    def evidence(self, alert_id: str) -> Sequence[bytes]:
        """JPEGs of the first of `Evidence.worst_times_seconds`, as many as were within the size limit."""
        return self._column("SELECT jpeg FROM evidence WHERE alert_id = ? ORDER BY position", alert_id)

    def counts(self) -> Counts:
        """How many outcomes were ever published."""
        totals = dict(self._ask("SELECT reason, total FROM published"))
        return Counts(scored=totals.pop("", 0), unscored_by_reason=totals)

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

    def states(self) -> Mapping[str, State]:
        """What the rules remember."""
        return {key: wire.parse_state(document) for key, document in self._ask("SELECT key, document FROM state")}

    def has_segment(self, segment_key: str) -> bool:
        """Whether there is an outcome of this segment."""
        return bool(self._ask("SELECT 1 FROM outcome WHERE segment = ? LIMIT 1", segment_number(segment_key)))

    def outcomes_in_order(
        self, *, stream_id: str = "", rendition: str = "", since: datetime | None = None, until: datetime | None = None
    ) -> Iterator[Outcome]:
        """Outcomes in the order in which they were published, of segments that start within `since` <= start < `until`.

        Reads in chunks: what is published meanwhile comes too, and memory stays small.
        """
        for document in self.documents_in_order(stream_id=stream_id, rendition=rendition, since=since, until=until):
            yield wire.parse_outcome(document)

    def documents_in_order(
        self, *, stream_id: str = "", rendition: str = "", since: datetime | None = None, until: datetime | None = None
    ) -> Iterator[bytes]:
        """The same as CloudEvents."""
        wanted = {row[0] for row in self._rendition_ids(stream_id, rendition)} if stream_id or rendition else None
        begins = _FOREVER[0] if since is None else microseconds(since)
        ends = _FOREVER[1] if until is None else microseconds(until)
        last = 0
        while chunk := self._ask(
            "SELECT number, rendition_id, starts_at, body, dictionary_id FROM outcome NOT INDEXED"
            " JOIN document USING (number) WHERE number > ? ORDER BY number LIMIT ?",
            *(last, CHUNK_ROWS),
        ):
            last = chunk[-1][0]
            for _, rendition_id, starts_at, body, dictionary_id in chunk:
                if begins <= starts_at < ends and (wanted is None or rendition_id in wanted):
                    yield self._unpacked(body, dictionary_id)

    def _rendition_ids(self, stream_id: str, rendition: str, *, columns: str = "rendition_id") -> list[Any]:
        return self._ask(
            f"SELECT {columns} FROM rendition WHERE ? IN (stream_id, '') AND ? IN (name, '') ORDER BY name",
            *(stream_id, rendition),
        )

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
            f"SELECT {POINT_COLUMNS}, o.observed_at, o.duration_seconds FROM {_JOINED} WHERE o.number = ?", number
        )[0]
        point = point_of(last[:-2])
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

    def _column(self, sql: str, *values: Any) -> list[Any]:
        return [row[0] for row in self._ask(sql, *values)]

    def _unpacked(self, body: bytes, dictionary_id: int | None) -> bytes:
        if dictionary_id is None:
            return unpack(body, None)
        dictionary = self._column("SELECT body FROM dictionary WHERE dictionary_id = ?", dictionary_id)
        return unpack(body, dictionary[0])
