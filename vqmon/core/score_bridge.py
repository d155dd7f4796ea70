"""What a score of an old scorer would have been by the new one: fitted where both looked, with its error."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Kind = Literal["linear", "monotone"]
MIN_PAIRS = 30
_FOLDS = 5
_DECIMALS = 4
_ALIKE = 0.001
"""Old scores nearer than this are one value: points are kept to four decimals."""
_MOST_KNOTS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreBridge:
    """A rising map from the old scorer's 0..100 to the new one's, straight between its points.

    Errors are those of segments that the fit had not seen, in points of 0..100.
    """

    # name@version
    old: str
    new: str
    kind: Kind
    points: tuple[tuple[float, float], ...]
    # segments that both scored
    count: int
    error_rms: float
    # 95 % of segments are nearer than this
    error_p95: float
    # new minus bridged, the mean over segments
    bias: float
    # Spearman's rank correlation of old and new
    correlation: float
    # of the old scores that were seen; the map is held at its ends beyond
    old_score_min: float
    old_score_max: float

    def __post_init__(self) -> None:
        olds = [old for old, _ in self.points]
        news = [new for _, new in self.points]
        if len(olds) < 2 or sorted(set(olds)) != olds or sorted(news) != news:
            raise ValueError("a bridge needs two or more points that rise")

    def apply(self, old: float) -> float:
        """The new scorer's 0..100 for the old one's."""
        olds, news = zip(*self.points, strict=True)
        return float(np.interp(old, olds, news))


def fit_score_bridge(pairs: Sequence[tuple[float, float]], *, old: str, new: str) -> ScoreBridge:
    """Fit both kinds to (old, new) in the order in which segments came, and keep the better one on unseen segments.

    Folds are runs of segments, as neighbours are alike. Raises ValueError when there are too few or all are alike.
    """
    table = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    if len(table) < MIN_PAIRS:
        raise ValueError(f"{len(table)} segments were scored by both {old} and {new}; a bridge needs {MIN_PAIRS}")
    if np.ptp(table[:, 0]) < _ALIKE:
        raise ValueError(f"{old} gave {table[0, 0]:g} to every segment; nothing can be fitted to one value")
    kinds: tuple[Kind, ...] = ("linear", "monotone")
    misses = {kind: _unseen(table, kind) for kind in kinds}
    # A monotone fit follows noise; it has to be better by more than a little.
    kind: Kind = "monotone" if _rms(misses["monotone"]) < 0.98 * _rms(misses["linear"]) else "linear"
    missed = misses[kind]
    return ScoreBridge(
        old=old,
        new=new,
        kind=kind,
        points=tuple((round(float(a), _DECIMALS), round(float(b), _DECIMALS)) for a, b in _points(table, kind)),
        count=len(table),
        error_rms=round(_rms(missed), 4),
        error_p95=round(float(np.percentile(np.abs(missed), 95)), 4),
        bias=round(float(missed.mean()), 4),
        correlation=round(_spearman(table), 4),
        old_score_min=float(table[:, 0].min()),
        old_score_max=float(table[:, 0].max()),
    )


def _unseen(table: Floats, kind: Kind) -> Floats:
    """New minus fitted, of each fold by what was fitted to the others."""
    missed = []
    for held in np.array_split(np.arange(len(table)), _FOLDS):
        rest = np.delete(table, held, axis=0)
        points = _points(rest if np.ptp(rest[:, 0]) >= _ALIKE else table, kind)
        missed.append(table[held, 1] - np.interp(table[held, 0], points[:, 0], points[:, 1]))
    return np.concatenate(missed)


def _points(table: Floats, kind: Kind) -> Floats:
    return _linear(table) if kind == "linear" else _monotone(table)


def _linear(table: Floats) -> Floats:
    """Least squares, never falling, over the whole scale and cut to 0..100."""
    x, y = table.T
    slope = max(0.0, float(((x - x.mean()) * (y - y.mean())).mean() / x.var()))
    level = y.mean() - slope * x.mean()
    ends = {0.0, 100.0}
    if slope > 0:
        edges = (round(float((end - level) / slope), _DECIMALS) for end in (0, 100))
        ends |= {edge for edge in edges if 0 < edge < 100}
    olds = np.array(sorted(ends))
    return np.stack([olds, np.clip(level + slope * olds, 0, 100)], axis=1)


def _monotone(table: Floats) -> Floats:
    """Means of groups of equal size by old score, pooled where they fall (pool adjacent violators)."""
    ordered = table[np.argsort(table[:, 0], kind="stable")]
    groups = np.array_split(ordered, min(_MOST_KNOTS, max(2, len(table) // 10)))
    blocks: list[tuple[float, float, int]] = []
    for group in groups:
        blocks.append((float(group[:, 0].mean()), float(group[:, 1].mean()), len(group)))
        while len(blocks) > 1 and (blocks[-1][1] < blocks[-2][1] or blocks[-1][0] < blocks[-2][0] + _ALIKE):
            right, left = blocks.pop(), blocks.pop()
            count = left[2] + right[2]
            means = [(left[at] * left[2] + right[at] * right[2]) / count for at in (0, 1)]
            blocks.append((means[0], means[1], count))
    if len(blocks) < 2:
        return _linear(table)
    return np.array([(old, new) for old, new, _ in blocks])


def _rms(values: Floats) -> float:
    return float(np.sqrt((values**2).mean()))


def _spearman(table: Floats) -> float:
    ranks = np.stack([_ranks(column) for column in table.T])
    if ranks.std(axis=1).min() == 0:
        return 0.0
    return float(np.atleast_2d(np.corrcoef(ranks))[0, 1])


def _ranks(values: Floats) -> Floats:
    """From 1 on, ties share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Floats = ((last - counts + 1 + last) / 2)[inverse]
    return ranks
