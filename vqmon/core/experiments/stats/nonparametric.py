"""Tests that ask less of the data than t does, and how several tests are read together."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vqmon.core.experiments.results import Interval
from vqmon.core.experiments.stats.distributions import normal_cdf, normal_quantile, wilson

Floats = NDArray[np.float64]

SIGN_FLIP_MOST = 20
"""2**20 sign patterns are tried one by one; above, t is as good."""

BOOTSTRAP_LEAST = 50
"""Percentile intervals cover too little below (89 % instead of 95 at 10 clusters)."""

EXACT_RANKS_MOST = 50
_ROUNDING = 1e-12


def sign_flip_p(differences: Floats) -> float:
    """Exact two-sided p of "the signs are as likely one way as the other"; raises ValueError above SIGN_FLIP_MOST."""
    if len(differences) > SIGN_FLIP_MOST:
        raise ValueError(f"{len(differences)} clusters are too many to flip one by one")
    sums = np.zeros(1)
    for value in differences:
        sums = np.concatenate([sums + value, sums - value])
    reach = abs(float(differences.sum()))
    return float(np.mean(np.abs(sums) >= reach - _ROUNDING * (1 + reach)))


def wilcoxon_p(differences: Floats) -> float:
    """Signed-rank test, two-sided: exact up to 50 without ties, else normal with ties corrected; zeros are left out."""
    kept = differences[differences != 0]
    n = len(kept)
    if n == 0:
        return 1.0
    sizes = np.abs(kept)
    _, inverse, counts = np.unique(sizes, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    plus = float(ranks[kept > 0].sum())
    if n <= EXACT_RANKS_MOST and n == len(differences) and counts.max() == 1:
        return _exact_rank_p(n, plus)
    variance = n * (n + 1) * (2 * n + 1) / 24 - float((counts**3 - counts).sum()) / 48
    z = (plus - n * (n + 1) / 4) / np.sqrt(variance)
    return min(1.0, 2 * normal_cdf(-abs(float(z))))


def _exact_rank_p(n: int, plus: float) -> float:
    ways = np.zeros(n * (n + 1) // 2 + 1)
    ways[0] = 1
    for rank in range(1, n + 1):
        ways[rank:] = ways[rank:] + ways[:-rank]
    shares = ways / 2.0**n
    least = round(min(plus, n * (n + 1) / 2 - plus))
    return min(1.0, 2 * float(shares[: least + 1].sum()))


def win_rate(differences: Floats, *, alpha: float = 0.05) -> tuple[float, float, float]:
    """Share of the clusters that are above 0 (a 0 is half) and its Wilson interval."""
    wins = float((differences > 0).sum() + 0.5 * (differences == 0).sum())
    low, high = wilson(wins, len(differences), alpha=alpha)
    return wins / len(differences), low, high


def bootstrap_interval(
    differences: Floats, *, alpha: float, rng: np.random.Generator, draws: int = 4000
) -> Interval | None:
    """Bias-corrected and accelerated (Efron 1987), over clusters; None below BOOTSTRAP_LEAST or without spread."""
    n = len(differences)
    spread = differences - differences.mean()
    squares = float((spread**2).sum())
    if n <= BOOTSTRAP_LEAST or squares == 0:
        return None
    rows = max(1, min(draws, 2_000_000 // n))
    means = np.concatenate(
        [differences[rng.integers(0, n, (min(rows, draws - at), n))].mean(1) for at in range(0, draws, rows)]
    )
    mean = float(differences.mean())
    below = float(np.clip(np.mean(means < mean) + np.mean(means == mean) / 2, 1 / draws, 1 - 1 / draws))
    bias = normal_quantile(below)
    acceleration = float((spread**3).sum()) / (6 * squares**1.5)
    sides = (bias + normal_quantile(alpha / 2), bias + normal_quantile(1 - alpha / 2))
    edges = [normal_cdf(bias + side / (1 - acceleration * side)) for side in sides]
    low, high = (float(it) for it in np.quantile(means, edges))
    return Interval(mean=mean, low=min(low, mean), high=max(high, mean), level=1 - alpha, kind="final")


def holm_levels(p_values: Sequence[float], *, alpha: float) -> tuple[float, ...]:
    """The level at which each p is read, so that all hold together (Holm 1979): rejected means p <= its level.

    The smallest gets alpha / m, the next alpha / (m - 1) and so on, until one is not rejected; the rest gets its level.
    """
    levels = [0.0] * len(p_values)
    left, goes_on = len(p_values), True
    for place in sorted(range(len(p_values)), key=lambda it: (p_values[it], it)):
        levels[place] = alpha / left
        goes_on = goes_on and p_values[place] <= alpha / left
        left -= goes_on
    return tuple(levels)


def benjamini_hochberg(p_values: Sequence[float]) -> tuple[float, ...]:
    """The share of false discoveries among all that are as small (Benjamini and Hochberg 1995)."""
    m = len(p_values)
    found = [1.0] * m
    least = 1.0
    for rank, place in zip(range(m, 0, -1), sorted(range(m), key=lambda it: -p_values[it]), strict=True):
        least = min(least, p_values[place] * m / rank)
        found[place] = least
    return tuple(found)
