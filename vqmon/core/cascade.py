"""Which segments the heavy scorers look at beside the cheap ones, what that may cost, and how far verdicts differ."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from statistics import median

from vqmon.core.types import Score, Segment

USUAL_SEGMENTS = 30
"""Over how many segments before it a drop is measured."""
LEAST_SEGMENTS = 5
SECONDS_PER_HOUR = 3600.0
_BURST = 1 / 6
_APART = ("aesthetics",)
"""Tasks that ask for something else than quality."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """When a segment is looked at by the heavy scorers too."""

    # 0..1 of all segments
    share: float = 0.05
    # (name, value) of labels whose segments are always looked at
    labels: tuple[tuple[str, str], ...] = ()
    # a cheap score under it, 0..100; 0 = never
    below: float = 0.0
    # so many points under the median of the rendition's segments before; 0 = never
    drop: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1 or not 0 <= self.below <= 100 or not 0 <= self.drop <= 100:
            raise ValueError("share must be within 0..1, below and drop within 0..100")


def planned(segment: Segment, policy: Policy) -> tuple[str, ...]:
    """The reasons that are known before a segment is decoded: a replay finds the same ones."""
    reasons = []
    number = int.from_bytes(sha256(segment.key.encode(errors="replace")).digest()[:8], "big")
    if number < policy.share * 2**64:
        reasons.append("sample")
    labels = {**segment.rendition.labels, **segment.labels}
    if any(labels.get(name) == value for name, value in policy.labels):
        reasons.append("label")
    return tuple(reasons)


def suspicious(value: float, before: Sequence[float], policy: Policy) -> tuple[str, ...]:
    """The reasons that a cheap score gives, with those of the segments before it."""
    reasons = []
    if value < policy.below:
        reasons.append("low")
    if policy.drop and len(before) >= LEAST_SEGMENTS and value < median(before) - policy.drop:
        reasons.append("drop")
    return tuple(reasons)


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """Device-seconds that may be spent; in no hour more than `per_hour` comes out of it.

    A sixth of them may be spent at once, the rest flows in evenly: burst + rate x one hour = `per_hour`.
    """

    per_hour: float
    left: float
    # seconds of a clock that only rises
    at: float

    @classmethod
    def full(cls, per_hour: float, at: float) -> "Allowance":
        """At the start."""
        return cls(per_hour=per_hour, left=per_hour * _BURST, at=at)

    @property
    def most(self) -> float:
        """What it holds at most."""
        return self.per_hour * _BURST

    def refilled(self, at: float) -> "Allowance":
        """With what has flown in since."""
        rate = self.per_hour * (1 - _BURST) / SECONDS_PER_HOUR
        return replace(self, left=min(self.most, self.left + rate * max(0.0, at - self.at)), at=at)

    def spent(self, seconds: float) -> "Allowance":
        """Less what a run took; may fall under 0, which is paid back before the next."""
        return replace(self, left=self.left - seconds)


def disagreement(scores: Sequence[Score]) -> float | None:
    """The largest difference between two verdicts on quality, 0..100; None with less than two of them.

    Tasks that ask for something else, such as aesthetics, are left out.
    """
    values = [score.value for score in scores if not any(f".{task}@" in score.scorer for task in _APART)]
    return round(max(values) - min(values), 4) if len(values) > 1 else None
