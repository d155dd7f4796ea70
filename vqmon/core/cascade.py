"""Which segments the heavy scorers score in addition to the cheap ones, and the device time that this may take."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from statistics import median

from vqmon.core.types import Score, Segment

MEDIAN_WINDOW_SEGMENTS = 30
"""A drop is measured against the median score of this many segments before it."""

_MIN_MEDIAN_SEGMENTS = 5
"""With fewer segments before it, no segment counts as a drop."""

_SECONDS_PER_HOUR = 3600.0
_BURST_SHARE = 1 / 6
_NON_QUALITY_TASKS = ("aesthetics",)
"""Scorer tasks whose scores do not state the technical quality."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionPolicy:
    """When a segment is promoted, that is scored by the heavy scorers too."""

    # random share of all segments, 0..1
    share: float = 0.05
    # (name, value) of labels whose segments are always promoted
    labels: tuple[tuple[str, str], ...] = ()
    # promote below this cheap score, 0..100; 0 = never
    below: float = 0.0
    # promote when the cheap score is this many points below the median of the rendition's segments before; 0 = never
    drop: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1 or not 0 <= self.below <= 100 or not 0 <= self.drop <= 100:
            raise ValueError("share must be within 0..1, below and drop within 0..100")


def reasons_before_decoding(segment: Segment, policy: PromotionPolicy) -> tuple[str, ...]:
    """Keys of `PROMOTION_REASONS` that follow from the segment message alone, so a replay finds the same ones."""
    reasons = []
    draw = int.from_bytes(sha256(segment.key.encode(errors="replace")).digest()[:8], "big")
    if draw < policy.share * 2**64:
        reasons.append("sample")
    labels = segment.all_labels
    if any(labels.get(name) == value for name, value in policy.labels):
        reasons.append("label")
    return tuple(reasons)


def reasons_from_score(score: float, previous_scores: Sequence[float], policy: PromotionPolicy) -> tuple[str, ...]:
    """Keys of `PROMOTION_REASONS` that follow from the cheap score and those of the rendition's segments before it."""
    reasons = []
    if score < policy.below:
        reasons.append("low")
    if policy.drop and len(previous_scores) >= _MIN_MEDIAN_SEGMENTS and score < median(previous_scores) - policy.drop:
        reasons.append("drop")
    return tuple(reasons)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceTimeBudget:
    """A token bucket of device-seconds: no hour spends more than `seconds_per_hour`.

    A sixth of them may be spent at once, the rest is refilled evenly: burst + rate x one hour = `seconds_per_hour`.
    """

    seconds_per_hour: float
    remaining_seconds: float
    # of a monotonic clock
    updated_at_seconds: float

    @classmethod
    def full(cls, seconds_per_hour: float, now_seconds: float) -> "DeviceTimeBudget":
        """A budget of which nothing has been spent."""
        return cls(
            seconds_per_hour=seconds_per_hour,
            remaining_seconds=seconds_per_hour * _BURST_SHARE,
            updated_at_seconds=now_seconds,
        )

    @property
    def capacity_seconds(self) -> float:
        """The most that may be spent at once."""
        return self.seconds_per_hour * _BURST_SHARE

    def refilled_at(self, now_seconds: float) -> "DeviceTimeBudget":
        """The budget with what was refilled since its last update."""
        rate = self.seconds_per_hour * (1 - _BURST_SHARE) / _SECONDS_PER_HOUR
        refill = rate * max(0.0, now_seconds - self.updated_at_seconds)
        return replace(
            self,
            remaining_seconds=min(self.capacity_seconds, self.remaining_seconds + refill),
            updated_at_seconds=now_seconds,
        )

    def after_spending(self, seconds: float) -> "DeviceTimeBudget":
        """The budget less `seconds`; below 0 it must be refilled before the next run."""
        return replace(self, remaining_seconds=self.remaining_seconds - seconds)


def score_disagreement(scores: Sequence[Score]) -> float | None:
    """The largest difference between two scores of quality, in points of 0..100; None with fewer than two.

    Scores of tasks that do not state quality, such as aesthetics, are left out.
    """
    values = [score.value for score in scores if not any(f".{task}@" in score.scorer for task in _NON_QUALITY_TASKS)]
    return round(max(values) - min(values), 4) if len(values) > 1 else None
