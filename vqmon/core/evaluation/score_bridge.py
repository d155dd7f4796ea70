"""Score bridges: maps from the scores of an old scorer to those of a new one, fitted to segments that both scored."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]
BridgeKind = Literal["linear", "monotone"]
"""A least-squares line, or isotonic regression."""

_MIN_PAIRS = 30
_FOLDS = 5
_DECIMALS = 4
_MIN_DISTANCE = 0.001
"""Old scores that are closer than this count as one value, because points have four decimals."""
_MAX_KNOTS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreBridge:
    """A rising, piecewise linear map from the old scorer's 0..100 to the new scorer's; constant beyond its ends.

    Errors are cross-validated, in points of 0..100.
    """

    # name@version
    old: str
    new: str
    kind: BridgeKind
    points: tuple[tuple[float, float], ...]
    # segments that both scored
    count: int
    error_rms: float
    # 95th percentile of the absolute error
    error_p95: float
    # mean of new - bridged
    bias: float
    # Spearman's rank correlation of old and new scores
    correlation: float
    # range of the old scores that the bridge was fitted to
    old_score_min: float
    old_score_max: float

    def __post_init__(self) -> None:
        olds = [old for old, _ in self.points]
        news = [new for _, new in self.points]
        if len(olds) < 2 or sorted(set(olds)) != olds or sorted(news) != news:
            raise ValueError("a bridge needs two or more rising points")

    def apply(self, old: float) -> float:
        """The new scorer's 0..100 for an old score."""
        olds, news = zip(*self.points, strict=True)
        return float(np.interp(old, olds, news))


def fit_score_bridge(pairs: Sequence[tuple[float, float]], *, old: str, new: str) -> ScoreBridge:
    """Fit both kinds of bridge to (old, new) scores in segment order, and return the one with the lower held-out error.

    Folds of the cross-validation are runs of consecutive segments, because neighbours are correlated. Raises ValueError
    with fewer than MIN_PAIRS pairs, or when all old scores are equal.
    """
    table = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    if len(table) < _MIN_PAIRS:
        raise ValueError(f"{len(table)} segments were scored by both {old} and {new}; a bridge needs {_MIN_PAIRS}")
    if np.ptp(table[:, 0]) < _MIN_DISTANCE:
        raise ValueError(f"{old} scored {table[0, 0]:g} for every segment; a bridge needs different values")
    kinds: tuple[BridgeKind, ...] = ("linear", "monotone")
    errors_by_kind = {kind: _held_out_errors(table, kind) for kind in kinds}
    # Isotonic regression overfits noise, so it must be clearly better.
    kind: BridgeKind = (
        "monotone" if _rms(errors_by_kind["monotone"]) < 0.98 * _rms(errors_by_kind["linear"]) else "linear"
    )
    errors = errors_by_kind[kind]
    return ScoreBridge(
        old=old,
        new=new,
        kind=kind,
        points=tuple((round(float(a), _DECIMALS), round(float(b), _DECIMALS)) for a, b in _points(table, kind)),
        count=len(table),
        error_rms=round(_rms(errors), _DECIMALS),
        error_p95=round(float(np.percentile(np.abs(errors), 95)), _DECIMALS),
        bias=round(float(errors.mean()), _DECIMALS),
        correlation=round(_spearman(table), _DECIMALS),
        old_score_min=float(table[:, 0].min()),
        old_score_max=float(table[:, 0].max()),
    )


def _held_out_errors(table: _Floats, kind: BridgeKind) -> _Floats:
    """(segments,) new - bridged, where each fold is bridged by the fit to the other folds."""
    errors = []
    for held_out in np.array_split(np.arange(len(table)), _FOLDS):
        training = np.delete(table, held_out, axis=0)
        points = _points(training if np.ptp(training[:, 0]) >= _MIN_DISTANCE else table, kind)
        errors.append(table[held_out, 1] - np.interp(table[held_out, 0], points[:, 0], points[:, 1]))
    return np.concatenate(errors)


def _points(table: _Floats, kind: BridgeKind) -> _Floats:
    return _linear(table) if kind == "linear" else _monotone(table)


def _linear(table: _Floats) -> _Floats:
    """Points of the least-squares line with a slope of at least 0, cut to 0..100."""
    x, y = table.T
    slope = max(0.0, float(((x - x.mean()) * (y - y.mean())).mean() / x.var()))
    level = y.mean() - slope * x.mean()
    ends = {0.0, 100.0}
    if slope > 0:
        edges = (round(float((end - level) / slope), _DECIMALS) for end in (0, 100))
        ends |= {edge for edge in edges if 0 < edge < 100}
    olds = np.array(sorted(ends))
    return np.stack([olds, np.clip(level + slope * olds, 0, 100)], axis=1)


def _monotone(table: _Floats) -> _Floats:
    """Means of groups of equal size by old score, pooled where they fall (pool adjacent violators)."""
    ordered = table[np.argsort(table[:, 0], kind="stable")]
    groups = np.array_split(ordered, min(_MAX_KNOTS, max(2, len(table) // 10)))
    blocks: list[tuple[float, float, int]] = []
    for group in groups:
        blocks.append((float(group[:, 0].mean()), float(group[:, 1].mean()), len(group)))
        while len(blocks) > 1 and (blocks[-1][1] < blocks[-2][1] or blocks[-1][0] < blocks[-2][0] + _MIN_DISTANCE):
            right, left = blocks.pop(), blocks.pop()
            count = left[2] + right[2]
            means = [(left[at] * left[2] + right[at] * right[2]) / count for at in (0, 1)]
            blocks.append((means[0], means[1], count))
    if len(blocks) < 2:
        return _linear(table)
    return np.array([(old, new) for old, new, _ in blocks])


def _rms(values: _Floats) -> float:
    return float(np.sqrt((values**2).mean()))


def _spearman(table: _Floats) -> float:
    ranks = np.stack([_ranks(column) for column in table.T])
    if ranks.std(axis=1).min() == 0:
        return 0.0
    return float(np.atleast_2d(np.corrcoef(ranks))[0, 1])


def _ranks(values: _Floats) -> _Floats:
    """Ranks from 1 on; ties share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: _Floats = ((last - counts + 1 + last) / 2)[inverse]
    return ranks
