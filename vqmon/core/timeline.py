"""The read model of a history: points, buckets and counts, as pages, exports and commands use them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from vqmon.core.types import Alert

Thumbnails = Sequence[tuple[float, bytes]]
"""(presentation time in seconds, JPEG) of each sampled frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelinePoint:
    """One outcome as a point of a chart."""

    event_id: str
    stream_id: str
    rendition: str
    starts_at: datetime
    # a key of errors.REASONS; None when scored
    reason: str | None
    # scorer -> score, 0..100; `p5` and `lowest` are over the frames of the segment
    scores: Mapping[str, float]
    p5: Mapping[str, float]
    lowest: Mapping[str, float]
    # the highest frame value of each signal, 0..1
    signals: Mapping[str, float]
    # reference measure -> value on its own scale
    references: Mapping[str, float] = field(default_factory=dict)
    # of the segment, else of its rendition
    labels: Mapping[str, str] = field(default_factory=dict)
    # position among the writes of the history
    number: int = 0
    # scorer that failed -> a key of errors.REASONS
    scorer_failures: Mapping[str, str] = field(default_factory=dict)

    def reason_of(self, scorer: str) -> str | None:
        """Why there is no score of this scorer, a key of errors.REASONS; None when none is known."""
        return self.reason or self.scorer_failures.get(scorer)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeBucket:
    """The outcomes of one rendition in a span of `seconds`, with the scores of one scorer, 0..100."""

    stream_id: str
    rendition: str
    starts_at: datetime
    seconds: float
    scored: int
    unscored: int
    mean: float | None
    lowest: float | None
    # mean over segments of the fifth percentile over frames
    p5: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RenditionState:
    """The state of one rendition: its last outcome and the recent ones before it."""

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
    # scores of the first scorer, oldest first; None where unscored
    trend: tuple[float | None, ...]
    # why no more segments are expected; None while they are
    end_reason: Literal["ended", "unwatched"] | None = None
    # of the last outcome: scorer that failed -> a key of errors.REASONS
    last_scorer_failures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryChanges:
    """What was written after a position of the history; `tip` is the position to go on from.

    `is_complete` is False when there was more than the limit.
    """

    tip: int
    points: tuple[TimelinePoint, ...]
    alerts: tuple[Alert, ...]
    is_complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeCounts:
    """How many outcomes have ever been published."""

    scored: int
    unscored_by_reason: Mapping[str, int]

    @property
    def unscored(self) -> int:
        return sum(self.unscored_by_reason.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunedCounts:
    """How many rows retention has deleted."""

    outcomes: int
    thumbnails: int
    rollups: int = 0
    alerts: int = 0
