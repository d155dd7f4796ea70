"""What the curves of a ladder say: how steadily each subject rises with the rate, and BD-rates between codecs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from vqmon.core.evaluation.correlations import spearman
from vqmon.core.evaluation.ladder.bd_rate import RatePoint, bd_rate_percent, convex_hull
from vqmon.core.evaluation.ladder.encodes import Encode, Ladder, Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class Inversion:
    """Two items of which the worse one has the higher value, by `amount` in the subject's unit."""

    worse: str
    better: str
    amount: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveResult:
    """How one subject follows the rate on one curve."""

    subject: str
    codec: str
    lines: int
    # of rate and quality, -1..1; None where all values are equal
    rank_correlation: float | None
    # the largest one; None when the quality never falls while the rate rises
    inversion: Inversion | None
    # quality at the highest rate minus quality at the lowest
    span: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BdRate:
    """BD-rate of a codec against another by one subject: at one size, or between the convex hulls of all sizes."""

    subject: str
    anchor: str
    test: str
    # None = the convex hulls
    lines: int | None
    # below 0 the tested codec saves rate; None where it cannot be computed
    percent: float | None
    # why there is none
    reason: str = ""


def curve_results(ladder: Ladder) -> list[CurveResult]:
    """One result per subject and curve."""
    return [
        _curve_result(subject, encodes)
        for subject in ladder.subjects
        for encodes in ladder.curves().values()
        if len(encodes) > 1
    ]


def _curve_result(subject: Subject, encodes: Sequence[Encode]) -> CurveResult:
    quality = np.array([subject.quality(encode.values[subject.name]) for encode in encodes])
    correlation = float(spearman(np.arange(len(encodes), dtype=np.float64), quality))
    falls = [
        Inversion(worse=low.name, better=high.name, amount=fall)
        for low, high in combinations(encodes, 2)
        if (fall := subject.quality(low.values[subject.name]) - subject.quality(high.values[subject.name])) > 0
    ]
    return CurveResult(
        subject=subject.name,
        codec=encodes[0].codec,
        lines=encodes[0].lines,
        rank_correlation=correlation if np.isfinite(correlation) else None,
        inversion=max(falls, key=lambda fall: fall.amount, default=None),
        span=float(quality[-1] - quality[0]),
    )


def hull_encodes(ladder: Ladder, subject: Subject, codec: str) -> list[Encode]:
    """The encodes of a codec on the convex hull of all its sizes, by rising rate."""
    encodes = [encode for encode in ladder.encodes if encode.codec == codec]
    by_point = {_point(subject, encode): encode for encode in encodes}
    return [by_point[point] for point in convex_hull(list(by_point))]


def bd_rates(ladder: Ladder) -> list[BdRate]:
    """Every codec after the first against the first, by every subject: the hulls, then each size that both have."""
    return [result for subject in ladder.subjects for result in _bd_rates(ladder, subject)]


def _bd_rates(ladder: Ladder, subject: Subject) -> Iterator[BdRate]:
    curves = ladder.curves()
    for anchor, test in ((ladder.codecs[0], other) for other in ladder.codecs[1:]):
        hulls = [hull_encodes(ladder, subject, codec) for codec in (anchor, test)]
        yield _bd_rate(subject, hulls, lines=None)
        for codec, lines in curves:
            if codec == anchor and (test, lines) in curves:
                yield _bd_rate(subject, [curves[anchor, lines], curves[test, lines]], lines=lines)


def _bd_rate(subject: Subject, sides: Sequence[Sequence[Encode]], *, lines: int | None) -> BdRate:
    percent, reason = None, ""
    try:
        percent = bd_rate_percent(*([_point(subject, encode) for encode in side] for side in sides))
    except ValueError as error:
        reason = str(error)
    return BdRate(
        subject=subject.name,
        anchor=sides[0][0].codec,
        test=sides[1][0].codec,
        lines=lines,
        percent=percent,
        reason=reason,
    )


def _point(subject: Subject, encode: Encode) -> RatePoint:
    return RatePoint(rate_kbps=encode.rate_kbps, quality=subject.quality(encode.values[subject.name]))
