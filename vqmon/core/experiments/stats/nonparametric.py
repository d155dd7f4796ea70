"""Tests that assume less than t does (sign-flip, Wilcoxon, bootstrap), and corrections for multiple testing."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vqmon.core.experiments.results import ConfidenceInterval
from vqmon.core.experiments.stats.distributions import normal_cdf, normal_quantile, t_two_sided_p, wilson_interval

Floats = NDArray[np.float64]

MAX_SIGN_FLIP_CLUSTERS = 20
"""All 2**20 sign patterns are enumerated; with more clusters, the t-test is as good."""

_MIN_BOOTSTRAP_CLUSTERS = 50
"""Bootstrap intervals cover too little with fewer clusters (89 % instead of 95 % at 10 clusters)."""

_MAX_EXACT_WILCOXON_CLUSTERS = 50
_MAX_BOOTSTRAP_VALUES = 2_000_000
"""Values that are resampled at a time: bounds the memory."""

_MIN_RANK_CORRELATION = 8

_ROUNDING = 1e-12


def sign_flip_test_p(differences: Floats) -> float:
    """The exact two-sided p-value of the sign-flip (randomization) test of cluster differences.

    Raises ValueError with more than MAX_SIGN_FLIP_CLUSTERS.
    """
    if len(differences) > MAX_SIGN_FLIP_CLUSTERS:
        raise ValueError(f"{len(differences)} clusters are too many for an exact sign-flip test")
    sums = np.zeros(1)
    for difference in differences:
        sums = np.concatenate([sums + difference, sums - difference])
    observed = abs(float(differences.sum()))
    return float(np.mean(np.abs(sums) >= observed - _ROUNDING * (1 + observed)))


def wilcoxon_signed_rank_p(differences: Floats) -> float:
    """The two-sided p-value of Wilcoxon's signed-rank test; differences of 0 are left out.

    Exact up to 50 differences without ties or zeros, else the normal approximation with the correction for ties.
    """
    nonzero = differences[differences != 0]
    n = len(nonzero)
    if n == 0:
        return 1.0
    counts = np.unique(np.abs(nonzero), return_counts=True)[1]
    ranks = _mid_ranks(np.abs(nonzero))
    positive_rank_sum = float(ranks[nonzero > 0].sum())
    if n <= _MAX_EXACT_WILCOXON_CLUSTERS and n == len(differences) and counts.max() == 1:
        return _exact_signed_rank_p(n, positive_rank_sum)
    variance = n * (n + 1) * (2 * n + 1) / 24 - float((counts**3 - counts).sum()) / 48
    z = (positive_rank_sum - n * (n + 1) / 4) / np.sqrt(variance)
    return min(1.0, 2 * normal_cdf(-abs(float(z))))


def _exact_signed_rank_p(n: int, positive_rank_sum: float) -> float:
    patterns = np.zeros(n * (n + 1) // 2 + 1)
    patterns[0] = 1
    for rank in range(1, n + 1):
        patterns[rank:] = patterns[rank:] + patterns[:-rank]
    probabilities = patterns / 2.0**n
    smaller_rank_sum = round(min(positive_rank_sum, n * (n + 1) / 2 - positive_rank_sum))
    return min(1.0, 2 * float(probabilities[: smaller_rank_sum + 1].sum()))


def spearman_p(first: Floats, second: Floats) -> float:
    """The two-sided p-value of Spearman's rank correlation (t approximation); 1 below 8 pairs or without spread."""
    n = len(first)
    if n < _MIN_RANK_CORRELATION:
        return 1.0
    ranks = [_mid_ranks(values) for values in (first, second)]
    centred = [values - values.mean() for values in ranks]
    squares = float((centred[0] ** 2).sum() * (centred[1] ** 2).sum())
    if squares == 0:
        return 1.0
    correlation = min(1 - _ROUNDING, abs(float(centred[0] @ centred[1])) / squares**0.5)
    return t_two_sided_p(correlation * ((n - 2) / (1 - correlation**2)) ** 0.5, n - 2)


def _mid_ranks(values: Floats) -> Floats:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Floats = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return ranks


def win_rate(differences: Floats, *, alpha: float = 0.05) -> tuple[float, float, float]:
    """The share of clusters whose difference is above 0 (a tie counts half), with its Wilson interval (low, high)."""
    wins = float((differences > 0).sum() + 0.5 * (differences == 0).sum())
    low, high = wilson_interval(wins, len(differences), alpha=alpha)
    return wins / len(differences), low, high


def bca_bootstrap_interval(
    differences: Floats, *, alpha: float, rng: np.random.Generator, draws: int = 4000
) -> ConfidenceInterval | None:
    """The bias-corrected and accelerated (BCa) bootstrap interval of the mean over clusters.

    Efron, "Better bootstrap confidence intervals", JASA 1987. None up to MIN_BOOTSTRAP_CLUSTERS or without variance.
    """
    n = len(differences)
    deviations = differences - differences.mean()
    squares = float((deviations**2).sum())
    if n <= _MIN_BOOTSTRAP_CLUSTERS or squares == 0:
        return None
    batch = max(1, min(draws, _MAX_BOOTSTRAP_VALUES // n))
    means = np.concatenate(
        [differences[rng.integers(0, n, (min(batch, draws - first), n))].mean(1) for first in range(0, draws, batch)]
    )
    mean = float(differences.mean())
    below = float(np.clip(np.mean(means < mean) + np.mean(means == mean) / 2, 1 / draws, 1 - 1 / draws))
    bias = normal_quantile(below)
    acceleration = float((deviations**3).sum()) / (6 * squares**1.5)
    quantiles = (bias + normal_quantile(alpha / 2), bias + normal_quantile(1 - alpha / 2))
    levels = [normal_cdf(bias + quantile / (1 - acceleration * quantile)) for quantile in quantiles]
    low, high = (float(bound) for bound in np.quantile(means, levels))
    return ConfidenceInterval(mean=mean, low=min(low, mean), high=max(high, mean), level=1 - alpha, kind="final")


def holm_significance_levels(p_values: Sequence[float], *, alpha: float) -> tuple[float, ...]:
    """The level of each test so that all hold together (Holm 1979): a hypothesis is rejected when p <= its level.

    The smallest p gets alpha / m, the next alpha / (m - 1) and so on until one is not rejected; all larger p-values get
    the level of that one.
    """
    levels = [0.0] * len(p_values)
    remaining, all_rejected = len(p_values), True
    for index in sorted(range(len(p_values)), key=lambda index: (p_values[index], index)):
        levels[index] = alpha / remaining
        all_rejected = all_rejected and p_values[index] <= alpha / remaining
        remaining -= all_rejected
    return tuple(levels)


def benjamini_hochberg_q(p_values: Sequence[float]) -> tuple[float, ...]:
    """The q-value (false discovery rate) of each p-value (Benjamini and Hochberg 1995)."""
    m = len(p_values)
    q_values = [1.0] * m
    smallest = 1.0
    descending = sorted(range(m), key=lambda index: -p_values[index])
    for rank, index in zip(range(m, 0, -1), descending, strict=True):
        smallest = min(smallest, p_values[index] * m / rank)
        q_values[index] = smallest
    return tuple(q_values)
