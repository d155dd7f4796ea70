"""Two renditions aligned by media time: which segments form a pair, and how far their scores differ."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from vqmon.core.timeline import TimeBucket, TimelinePoint


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignedPair:
    """The scores (0..100) of both renditions at one moment; ids are empty where a pair stands for many segments."""

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
class Alignment:
    """Pairs in time order, and how many segments have no partner or no score."""

    pairs: Sequence[AlignedPair]
    # segments of a (b) for which b (a) has no segment at the same time
    unpaired_a: int = 0
    unpaired_b: int = 0
    # paired segments of a (b) without a score
    unscored_a: int = 0
    unscored_b: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DifferenceSummary:
    """The differences b - a of all pairs in a few numbers; a description, not a test."""

    count: int
    mean_a: float
    mean_b: float
    mean: float
    median: float
    # 9 of 10 differences lie between these two
    low: float
    high: float
    # share of pairs in which b is ahead; ties count half
    ahead: float


def align_segments(
    a: Sequence[TimelinePoint], b: Sequence[TimelinePoint], scorer: str, *, shift: timedelta, tolerance: timedelta
) -> Alignment:
    """Pair segments whose start times differ by at most `tolerance` once `shift` is added to those of `b`.

    Both inputs are in time order. Each segment pairs with the nearest one of the other side and is used at most once.
    Media time decides, not the time of arrival.
    """
    pairs: list[AlignedPair] = []
    unpaired_a = unscored_a = unscored_b = paired_count = next_index = 0
    for point in a:
        while next_index < len(b) and b[next_index].starts_at + shift < point.starts_at - tolerance:
            next_index += 1
        nearest = next_index
        while nearest + 1 < len(b) and (
            _start_distance(point, b[nearest + 1], shift) < _start_distance(point, b[nearest], shift)
        ):
            nearest += 1
        if nearest >= len(b) or _start_distance(point, b[nearest], shift) > tolerance:
            unpaired_a += 1
            continue
        partner, next_index = b[nearest], nearest + 1
        paired_count += 1
        unscored_a += scorer not in point.scores
        unscored_b += scorer not in partner.scores
        if scorer in point.scores and scorer in partner.scores:
            pairs.append(
                AlignedPair(
                    at=point.starts_at,
                    a=point.scores[scorer],
                    b=partner.scores[scorer],
                    a_id=point.event_id,
                    b_id=partner.event_id,
                )
            )
    return Alignment(
        pairs=pairs,
        unpaired_a=unpaired_a,
        unpaired_b=len(b) - paired_count,
        unscored_a=unscored_a,
        unscored_b=unscored_b,
    )


def align_buckets(
    a: Sequence[TimeBucket], b: Sequence[TimeBucket], *, begins_a: datetime, begins_b: datetime
) -> Alignment:
    """Pair the mean scores of buckets that have the same index, counted from the beginning of each side's range."""
    length_seconds = (a or b)[0].seconds if a or b else 1.0

    def index_of(bucket: TimeBucket, begins_at: datetime) -> int:
        return round((bucket.starts_at - begins_at).total_seconds() / length_seconds)

    a_buckets = {index_of(bucket, begins_a): bucket for bucket in a if bucket.mean is not None}
    b_buckets = {index_of(bucket, begins_b): bucket for bucket in b if bucket.mean is not None}
    pairs = [
        AlignedPair(at=bucket.starts_at, a=bucket.mean or 0.0, b=b_buckets[index].mean or 0.0)
        for index, bucket in sorted(a_buckets.items())
        if index in b_buckets
    ]
    return Alignment(
        pairs=pairs,
        unpaired_a=sum(bucket.scored for index, bucket in a_buckets.items() if index not in b_buckets),
        unpaired_b=sum(bucket.scored for index, bucket in b_buckets.items() if index not in a_buckets),
        unscored_a=sum(bucket.unscored for bucket in a),
        unscored_b=sum(bucket.unscored for bucket in b),
    )


def summarize_differences(pairs: Sequence[AlignedPair]) -> DifferenceSummary | None:
    """None when there is no pair."""
    if not pairs:
        return None
    differences = sorted(pair.difference for pair in pairs)
    last = len(differences) - 1
    return DifferenceSummary(
        count=len(pairs),
        mean_a=statistics.fmean(pair.a for pair in pairs),
        mean_b=statistics.fmean(pair.b for pair in pairs),
        mean=statistics.fmean(differences),
        median=statistics.median(differences),
        low=differences[round(0.05 * last)],
        high=differences[round(0.95 * last)],
        ahead=sum((value > 0) + 0.5 * (value == 0) for value in differences) / len(differences),
    )


def _start_distance(point: TimelinePoint, other: TimelinePoint, shift: timedelta) -> timedelta:
    return abs(other.starts_at + shift - point.starts_at)
