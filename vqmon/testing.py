"""In-memory stand-ins for the edges: segments, decoded pictures, scorers and lanes without media or models."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from vqmon.core.alerts.reactions.notifications import NotifiedState, QueuedAlert
from vqmon.core.types import (
    SIGNALS,
    Alert,
    DecodedSegment,
    MediaFacts,
    Rendition,
    Score,
    ScorerIdentity,
    Segment,
    View,
)
from vqmon.errors import DecodeError, DeliveryError, FetchError, ScoreError

STREAM_STARTS_AT = datetime(2026, 11, 20, 8, 0, 0, tzinfo=UTC)
"""When made-up streams begin."""

_SMALL_VIEW = View(kind="stretch", width=8, height=4)


def make_segment(sequence: int = 0, *, stream: str = "news", rendition: str = "720p", seconds: float = 4.0) -> Segment:
    """One segment of a made-up stream; segments of rising sequence follow each other without a gap."""
    return Segment(
        rendition=Rendition(stream_id=stream, name=rendition, width=1280, height=720, bitrate_kbps=3000.0),
        sequence=sequence,
        url=f"https://media.example/{stream}/{rendition}/{sequence}.ts",
        starts_at=STREAM_STARTS_AT + timedelta(seconds=sequence * seconds),
        duration_seconds=seconds,
    )


def make_decoded(
    *,
    frames: int = 4,
    level: int = 128,
    views: Sequence[View] = (_SMALL_VIEW,),
    signals: Mapping[str, float] | None = None,
) -> DecodedSegment:
    """What a made-up segment looks like: flat pictures of one grey level, all signals 0 but those given."""
    given = dict.fromkeys(SIGNALS, 0.0) | dict(signals or {})
    return DecodedSegment(
        times_seconds=tuple(float(second) for second in range(frames)),
        views={view: np.full((frames, *view.row_shape), level, np.uint8) for view in views},
        signals={name: (value,) * frames for name, value in given.items()},
        thumbnails=tuple(b"\xff\xd8%d" % number for number in range(frames)),
        edges=(f"{level:02x}" * 576, f"{level:02x}" * 576),
        media=MediaFacts(
            container="mpegts",
            codec="h264",
            width=1280,
            height=720,
            fps=25.0,
            duration_seconds=float(frames),
            frame_count=frames * 25,
            pixel_format="yuv420p",
            colour="bt709/limited",
            transfer="bt709",
        ),
    )


@dataclass(slots=True)
class MemoryFetcher:
    """Bytes by segment sequence; what is not there is `not_found`. Stands in for Fetcher.fetch."""

    content: dict[int, bytes] = field(default_factory=dict)

    async def fetch(self, segment: Segment) -> bytes:
        """Give the bytes, or raise FetchError."""
        if segment.sequence not in self.content:
            raise FetchError("not_found", f"no segment {segment.sequence}")
        return self.content[segment.sequence]


@dataclass(slots=True)
class GreyLevelDecoder:
    """Reads a grey level out of the first byte; b"" does not decode. Stands in for DecoderPool.decode."""

    frames: int = 4

    async def decode(self, media: bytes, views: tuple[View, ...]) -> DecodedSegment:
        """Give flat pictures, or raise DecodeError."""
        if not media:
            raise DecodeError("empty")
        return make_decoded(frames=self.frames, level=media[0], views=views)


@dataclass(slots=True)
class GreyLevelScorer:
    """Scores a picture by its mean grey level, 0..255 -> 0..100; level 0 fails. Stands in for FrameScorer."""

    name: str = "level"
    asks: View = _SMALL_VIEW
    value_of: Callable[[float], float] = lambda level: level / 2.55
    needs_prompt: bool = False

    @property
    def id(self) -> str:
        return f"{self.name}@1"

    @property
    def views(self) -> tuple[View, ...]:
        return (self.asks,)

    @property
    def identity(self) -> ScorerIdentity:
        return ScorerIdentity(
            scorer=self.id,
            sha256="0" * 64,
            preprocessing="none",
            calibration_version=1,
            device="cpu",
            licence="CC0-1.0",
        )

    async def score(self, decoded: DecodedSegment) -> Score:
        """Give the verdict, or raise ScoreError."""
        values = tuple(round(self.value_of(float(v)), 4) for v in decoded.views[self.asks].mean(axis=(1, 2, 3)))
        if not any(values):
            raise ScoreError("scorer_failed", "level 0")
        mean = sum(values) / len(values)
        low = min(values)
        return Score(
            scorer=self.id, value=mean, native_value=mean, p5=low, min=low, pooling="mean", frame_values=values
        )


Labels = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class MemoryAlertmanager:
    """An `HttpClient` that takes alerts as Alertmanager's API v2 does; `fault`, when set, is raised instead."""

    now: Callable[[], datetime]
    fault: DeliveryError | None = None
    # by its labels, what is invalid
    refuses: Callable[[Mapping[str, str]], bool] = lambda labels: "alertname" not in labels
    # label set -> (from, until)
    spans: dict[Labels, tuple[datetime, datetime]] = field(default_factory=dict)
    posts: list[list[dict[str, Any]]] = field(default_factory=list)

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Take what is valid; one invalid alert makes the answer a refusal."""
        if self.fault is not None:
            raise self.fault
        alerts = json.loads(body)
        self.posts.append(alerts)
        valid = [
            alert for alert in alerts if alert["startsAt"] <= alert["endsAt"] and not self.refuses(alert["labels"])
        ]
        for alert in valid:
            self._store(alert)
        if len(valid) < len(alerts):
            raise DeliveryError("refused", "status 400")

    def _store(self, alert: dict[str, Any]) -> None:
        """An earlier beginning stays; an end that has passed ends it, else the latest end rules."""
        key = tuple(sorted(alert["labels"].items()))
        begins, ends = (datetime.fromisoformat(alert[name]) for name in ("startsAt", "endsAt"))
        earlier = self.spans.get(key)
        if earlier is not None and begins < earlier[1] and earlier[0] < ends:
            ends = ends if ends <= self.now() else max(ends, earlier[1])
            begins = min(begins, earlier[0])
        self.spans[key] = (begins, ends)

    @property
    def active(self) -> list[dict[str, str]]:
        """Label sets of the alerts that hold now."""
        return [dict(key) for key, (_, ends) in sorted(self.spans.items()) if ends > self.now()]


@dataclass(slots=True)
class MemoryWebhook:
    """An `HttpClient` that takes any message; `fault`, when set, is raised instead."""

    fault: DeliveryError | None = None
    messages: list[tuple[bytes, Mapping[str, str]]] = field(default_factory=list)

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Take it."""
        if self.fault is not None:
            raise self.fault
        self.messages.append((body, dict(headers)))

    @property
    def ids(self) -> list[str]:
        """Their ids, in the order in which they came."""
        return [headers["webhook-id"] for _, headers in self.messages]


@dataclass(slots=True)
class MemoryOutbox:
    """Queued alerts by alert id. Stands in for the outbox of a history."""

    alerts_by_id: dict[str, QueuedAlert] = field(default_factory=dict)
    _number: int = 0

    def add(self, alert: Alert, at: datetime) -> None:
        """Queue an alert as the history does when it is published."""
        self._number += 1
        queued = self.alerts_by_id.get(alert.id)
        if queued is not None:
            opened = queued.opened if queued.notified_states or alert.state == "resolved" else alert
            self.alerts_by_id[alert.id] = replace(
                queued, alert=alert, opened=opened, changed_at=at, number=self._number
            )
        elif alert.state == "open":
            self.alerts_by_id[alert.id] = QueuedAlert(
                alert=alert, opened=alert, queued_at=at, changed_at=at, number=self._number
            )

    async def queued_alerts(self, *, after: int) -> Sequence[QueuedAlert]:
        """Return the alerts that changed after this number, in order."""
        changed = [queued for queued in self.alerts_by_id.values() if queued.number > after]
        return sorted(changed, key=lambda queued: queued.number)

    async def record_deliveries(self, deliveries: Mapping[str, Mapping[str, NotifiedState] | None]) -> None:
        """Store the states that each receiver was notified of, by alert id; None removes the alert."""
        for alert_id, states in deliveries.items():
            if states is None:
                self.alerts_by_id.pop(alert_id, None)
            elif alert_id in self.alerts_by_id:
                self.alerts_by_id[alert_id] = replace(self.alerts_by_id[alert_id], notified_states=dict(states))
