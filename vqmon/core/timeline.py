"""The read model: what a history answers, as pages, exports and commands use it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from vqmon.core.types import Alert

Thumbnails = Sequence[tuple[float, bytes]]
"""(presentation time in seconds, JPEG) per frame looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelinePoint:
    """One outcome as a chart wants it."""

    event_id: str
    stream_id: str
    rendition: str
    starts_at: datetime
    # a key of errors.REASONS; None when scored
    reason: str | None
    # per scorer, 0..100; `p5` and `lowest` are over its frames
    scores: Mapping[str, float]
    p5: Mapping[str, float]
    lowest: Mapping[str, float]
    # the highest frame value of each signal, 0..1
    signals: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeBucket:
    """All outcomes of one rendition in a stretch of time, with the scores of one scorer."""

    stream_id: str
    rendition: str
    starts_at: datetime
    seconds: float
    scored: int
    unscored: int
    mean: float | None
    lowest: float | None
    # the mean of the segments' fifth percentiles over their frames
    p5: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RenditionState:
    """Where one rendition stands: its last outcome and the recent ones before it."""

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
    # oldest first: the score of the first scorer, None where unscored
    trend: tuple[float | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryChanges:
    """What was written after a moment; `tip` is where to go on, `is_complete` False when there was more."""

    tip: int
    points: tuple[TimelinePoint, ...]
    alerts: tuple[Alert, ...]
    is_complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeCounts:
    """How many outcomes were ever published."""

    scored: int
    unscored_by_reason: Mapping[str, int]

    @property
    def unscored(self) -> int:
        return sum(self.unscored_by_reason.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunedCounts:
    """What retention took out."""

    outcomes: int
    thumbnails: int
    rollups: int = 0
    alerts: int = 0
