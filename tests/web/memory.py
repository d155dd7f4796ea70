"""A history in memory with the questions that the pages ask."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Lock

from tests.web.seed import Seeded
from vqmon.core.types import Alert, Outcome, QualityEvent


@dataclass(frozen=True, kw_only=True)
class State:
    stream_id: str
    rendition: str
    width: int | None
    height: int | None
    bitrate_kbps: float | None
    last_event_id: str
    last_starts_at: datetime
    last_observed_at: datetime
    last_duration_seconds: float
    last_reason: str | None
    last_scores: Mapping[str, float]
    trend: Sequence[float | None]


@dataclass(frozen=True, kw_only=True)
class Point:
    event_id: str
    stream_id: str
    rendition: str
    starts_at: datetime
    reason: str | None
    scores: Mapping[str, float]
    signals: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Changes:
    tip: int
    points: Sequence[Point]
    alerts: Sequence[Alert]
    is_complete: bool


def point_of(it: Outcome) -> Point:
    event = it if isinstance(it, QualityEvent) else None
    return Point(
        event_id=it.id,
        stream_id=it.segment.rendition.stream_id,
        rendition=it.segment.rendition.name,
        starts_at=it.segment.starts_at,
        reason=None if event else it.reason,
        scores={score.scorer: score.value for score in event.scores} if event else {},
        signals={name: summary.max for name, summary in event.signals.items()} if event else {},
    )


@dataclass
class MemoryHistory:
    """Lists, and a number that rises by one with every write."""

    log: list[Outcome | Alert] = field(default_factory=list)
    pictures: dict[str, Sequence[bytes]] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)

    @classmethod
    def of(cls, seeded: Seeded) -> "MemoryHistory":
        return cls([*seeded.outcomes, *seeded.alerts], dict(seeded.thumbnails))

    def write(self, *items: Outcome | Alert) -> None:
        with self.lock:
            self.log.extend(items)

    def _outcomes(self, stream_id: str | None = None) -> list[Outcome]:
        found = [it for it in list(self.log) if not isinstance(it, Alert)]
        return [it for it in found if stream_id in (None, it.segment.rendition.stream_id)]

    def tip(self) -> int:
        return len(self.log)

    def changes_since(self, tip: int, *, limit: int) -> Changes:
        new = self.log[tip:]
        return Changes(
            tip=tip + len(new),
            points=[point_of(it) for it in new if not isinstance(it, Alert)][-limit:],
            alerts=[it for it in new if isinstance(it, Alert)],
            is_complete=len(new) <= limit,
        )

    def renditions(self, *, stream_id: str | None = None) -> Sequence[State]:
        by_key: dict[tuple[str, str], list[Outcome]] = {}
        for it in self._outcomes(stream_id):
            who = it.segment.rendition
            by_key.setdefault((who.stream_id, who.name), []).append(it)
        return [_state(by_key[key]) for key in sorted(by_key)]

    def points(self, stream_id: str, *, begins_at: datetime, ends_at: datetime, limit: int) -> Sequence[Point]:
        found = [it for it in self._outcomes(stream_id) if begins_at <= it.segment.starts_at < ends_at]
        found.sort(key=lambda it: it.segment.starts_at)
        return [point_of(it) for it in found[-limit:]]

    def outcome(self, event_id: str) -> Outcome | None:
        return next((it for it in self._outcomes() if it.id == event_id), None)

    def neighbours(self, event_id: str) -> tuple[str | None, str | None]:
        it = self.outcome(event_id)
        assert it is not None
        line = [x.id for x in self._outcomes() if x.segment.rendition.key == it.segment.rendition.key]
        at = line.index(event_id)
        return (line[at - 1] if at else None), (line[at + 1] if at + 1 < len(line) else None)

    def thumbnails(self, event_id: str) -> Sequence[bytes]:
        return self.pictures.get(event_id, [])

    def alerts(
        self, *, open_only: bool = False, stream_id: str | None = None, since: datetime | None = None, limit: int = 200
    ) -> Sequence[Alert]:
        newest = {it.id: it for it in list(self.log) if isinstance(it, Alert)}
        found = [it for it in newest.values() if stream_id in (None, it.stream_id)]
        found = [it for it in found if not open_only or it.state == "open"]
        return sorted(found, key=lambda it: it.opened_at, reverse=True)[:limit]

    def alert(self, alert_id: str) -> Alert | None:
        return next((it for it in self.alerts(limit=10_000) if it.id == alert_id), None)

    def evidence(self, alert_id: str) -> Sequence[bytes]:
        it = self.alert(alert_id)
        pictures = self.pictures.get(it.evidence.event_id, []) if it else []
        return pictures[:2]


def _state(line: list[Outcome]) -> State:
    last = line[-1]
    who = last.segment.rendition
    points = [point_of(it) for it in line[-30:]]
    return State(
        stream_id=who.stream_id,
        rendition=who.name,
        width=who.width,
        height=who.height,
        bitrate_kbps=who.bitrate_kbps,
        last_event_id=last.id,
        last_starts_at=last.segment.starts_at,
        last_observed_at=last.observed_at,
        last_duration_seconds=last.segment.duration_seconds or timedelta(seconds=4).total_seconds(),
        last_reason=points[-1].reason,
        last_scores=points[-1].scores,
        trend=[next(iter(point.scores.values()), None) for point in points],
    )
