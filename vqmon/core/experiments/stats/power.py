"""Power analysis: how many clusters an experiment needs to detect a difference that matters."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from vqmon.core.experiments.definition import MIN_SEQUENTIAL_CLUSTERS
from vqmon.core.experiments.stats.distributions import normal_cdf, t_quantile
from vqmon.core.experiments.stats.sequential import confidence_sequence_half_width, mixture_rho

MAX_CLUSTERS = 1_000_000
"""The search ends here: a plan with this many clusters means "at least so many"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerAssumptions:
    """What a plan assumes, from a pilot or from an earlier comparison."""

    # the difference to detect, points of 0..100 (minimum detectable effect, MDE)
    difference: float
    # standard deviation of one segment's paired difference (unpaired: of one segment's score), points
    sd: float
    # intraclass correlation: the share of that variance which lies between clusters, 0..1
    icc: float = 0.3
    segments_per_cluster: int = 30
    alpha: float = 0.05
    power: float = 0.8
    # primary hypotheses: arms other than the control x scorers
    hypotheses: int = 1
    guardrails: int = 0

    def __post_init__(self) -> None:
        if not (self.difference > 0 and self.sd >= 0 and 0 <= self.icc <= 1 and self.segments_per_cluster >= 1):
            raise ValueError("a plan needs difference > 0, sd >= 0, 0 <= icc <= 1, segments_per_cluster >= 1")
        if not (0 < self.alpha < 0.5 < self.power < 1 and self.hypotheses >= 1 and self.guardrails >= 0):
            raise ValueError("a plan needs 0 < alpha < 0.5 < power < 1, hypotheses >= 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSizePlan:
    """How many clusters an experiment needs."""

    # standard deviation of one cluster's mean, points
    cluster_sd: float
    # 1 + (m - 1) icc: the variance inflation because segments of one cluster are correlated (Kish)
    design_effect: float
    # for one look at the end, by the t interval
    clusters_final: int
    # for analyses at any time: with the same power when this many clusters are complete
    clusters_anytime: int
    # the power that each test needs so that all guardrails pass too
    power: float


def plan_sample_size(assumptions: PowerAssumptions) -> SampleSizePlan:
    """The clusters of a paired comparison; unpaired traffic needs this many in each arm, with sd * sqrt(2)."""
    segments = assumptions.segments_per_cluster
    design_effect = 1 + (segments - 1) * assumptions.icc
    cluster_sd = assumptions.sd * math.sqrt(design_effect / segments)
    # Every guardrail must pass too, so the guardrails share the type II error 1 - power (as Spotify's platform does).
    power = 1 - (1 - assumptions.power) / max(1, assumptions.guardrails)
    alpha = assumptions.alpha / assumptions.hypotheses
    difference = assumptions.difference
    return SampleSizePlan(
        cluster_sd=cluster_sd,
        design_effect=design_effect,
        clusters_final=_smallest_n(3, lambda n: fixed_horizon_power(difference, cluster_sd, n, alpha=alpha) >= power),
        clusters_anytime=_smallest_n(
            MIN_SEQUENTIAL_CLUSTERS, lambda n: sequential_power(difference, cluster_sd, n, alpha=alpha) >= power
        ),
        power=power,
    )


def fixed_horizon_power(difference: float, sd: float, n: int, *, alpha: float) -> float:
    """The power of the two-sided t-test over n clusters.

    The noncentral t by its normal approximation (Johnson and Welch 1940), to about 0.5 %.
    """
    if sd == 0:
        return 1.0
    t = t_quantile(1 - alpha / 2, n - 1)
    noncentrality = difference * math.sqrt(n) / sd
    return normal_cdf((noncentrality - t * (1 - 1 / (4 * (n - 1)))) / math.sqrt(1 + t * t / (2 * (n - 1))))


def sequential_power(difference: float, sd: float, n: int, *, alpha: float) -> float:
    """The probability that the confidence sequence tuned to n clusters excludes 0 at n; earlier looks add to it."""
    if sd == 0:
        return 1.0
    rho = mixture_rho(alpha=alpha, planned_clusters=n)
    half_width = confidence_sequence_half_width(sd, n, rho=rho, alpha=alpha)
    return normal_cdf((difference - half_width) * math.sqrt(n) / sd)


def _smallest_n(low: int, is_enough: Callable[[int], bool]) -> int:
    """The smallest n from `low` on with `is_enough(n)`, by bisection; MAX_CLUSTERS when none is enough."""
    high = low
    while not is_enough(high):
        if high >= MAX_CLUSTERS:
            return MAX_CLUSTERS
        low, high = high + 1, high * 2
    while low < high:
        middle = (low + high) // 2
        if is_enough(middle):
            high = middle
        else:
            low = middle + 1
    return high
