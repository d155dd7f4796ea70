"""Two renditions on one timeline: which segments show the same moment, and how far their scores are apart."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from vqmon.core.timeline import TimeBucket, TimelinePoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The same moment in both; `a` and `b` are scores 0..100, ids are empty where a pair stands for many segments."""

    at: datetime
    a: float
    b: float
    a_id: str = ""
    b_id: str = ""

    @property
    def difference(self) -> float:
        """Above 0: b is better."""
        return self.b - self.a


@dataclass(frozen=True, slots=True, kw_only=True)
class Aligned:
    """Pairs in time order, and what found no partner or no score."""

    pairs: Sequence[Pair]
    # segments of either side with no segment of the other at their moment
    alone_a: int = 0
    alone_b: int = 0
    # moments at which a side is unscored
    unscored_a: int = 0
    unscored_b: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The pairs in a few numbers; a description, not a test."""

    count: int
    mean_a: float
    mean_b: float
    mean: float
    median: float
    # from here to there lie 9 of 10 differences
    low: float
    high: float
    # share of pairs in which b is ahead; ties count half
    ahead: float


def align(
    a: Sequence[TimelinePoint], b: Sequence[TimelinePoint], scorer: str, *, shift: timedelta, tolerance: timedelta
) -> Aligned:
    """Pair segments that start at most `tolerance` apart once `b` is moved by `shift`; both come in time order.

    The nearest start wins, and nothing is used twice: media time is compared, never arrival.
    """
    pairs: list[Pair] = []
    alone_a = unscored_a = unscored_b = used = place = 0
    for point in a:
        while place < len(b) and b[place].starts_at + shift < point.starts_at - tolerance:
            place += 1
        near = place
        while near + 1 < len(b) and _apart(point, b[near + 1], shift) < _apart(point, b[near], shift):
            near += 1
        if near >= len(b) or _apart(point, b[near], shift) > tolerance:
            alone_a += 1
            continue
        other, place = b[near], near + 1
        used += 1
        unscored_a += scorer not in point.scores
        unscored_b += scorer not in other.scores
        if scorer in point.scores and scorer in other.scores:
            ids = {"a_id": point.event_id, "b_id": other.event_id}
            pairs.append(Pair(at=point.starts_at, a=point.scores[scorer], b=other.scores[scorer], **ids))
    return Aligned(pairs=pairs, alone_a=alone_a, alone_b=len(b) - used, unscored_a=unscored_a, unscored_b=unscored_b)


def align_buckets(
    a: Sequence[TimeBucket], b: Sequence[TimeBucket], *, begins_a: datetime, begins_b: datetime
) -> Aligned:
    """The same for long ranges: parts of equal length counted from each side's beginning, each with its mean."""
    length = (a or b)[0].seconds if a or b else 1.0

    def number(bucket: TimeBucket, begins_at: datetime) -> int:
        return round((bucket.starts_at - begins_at).total_seconds() / length)

    others = {number(it, begins_b): it for it in b if it.mean is not None}
    mine = {number(it, begins_a): it for it in a if it.mean is not None}
    pairs = [
        Pair(at=it.starts_at, a=it.mean or 0.0, b=others[place].mean or 0.0)
        for place, it in sorted(mine.items())
        if place in others
    ]
    return Aligned(
        pairs=pairs,
        alone_a=sum(it.scored for place, it in mine.items() if place not in others),
        alone_b=sum(it.scored for place, it in others.items() if place not in mine),
        unscored_a=sum(it.unscored for it in a),
        unscored_b=sum(it.unscored for it in b),
    )


def summary_of(pairs: Sequence[Pair]) -> Summary | None:
    """None when there is no pair."""
    if not pairs:
        return None
    differences = sorted(pair.difference for pair in pairs)
    last = len(differences) - 1
    return Summary(
        count=len(pairs),
        mean_a=statistics.fmean(pair.a for pair in pairs),
        mean_b=statistics.fmean(pair.b for pair in pairs),
        mean=statistics.fmean(differences),
        median=statistics.median(differences),
        low=differences[round(0.05 * last)],
        high=differences[round(0.95 * last)],
        ahead=sum((it > 0) + 0.5 * (it == 0) for it in differences) / len(differences),
    )


def _apart(one: TimelinePoint, other: TimelinePoint, shift: timedelta) -> timedelta:
    return abs(other.starts_at + shift - one.starts_at)
