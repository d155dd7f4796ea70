"""Power analysis: how many clusters an experiment needs to detect a difference that matters."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vqmon.core.experiments.definition import MIN_SEQUENTIAL_CLUSTERS
from vqmon.core.experiments.stats.bounded_loss import STAKE_WEIGHTS, STAKES
from vqmon.core.experiments.stats.distributions import normal_cdf, normal_quantile, t_quantile
from vqmon.core.experiments.stats.sequential import CONSTANT_SHARE, confidence_sequence_half_width, mixture_rho

MAX_CLUSTERS = 1_000_000
"""The search ends here: a plan with this many clusters means "at least so many"."""

_TYPICAL_STANDARD_ERRORS = 3.0
"""A confidence sequence leaves 0 about here, near its planned number of clusters."""

_MIN_GUARDRAIL_CLUSTERS = 29
"""A guardrail that does not change at all is shown to hold with this many clusters, at alpha 5 % (`bounded_loss`)."""

_MIDPOINTS = tuple((k + 0.5) / 200 for k in range(200))
"""Probabilities whose quantiles stand for a distribution."""


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
    # standard deviation of the number of segments of a cluster over its mean; 0 when all have as many
    segments_cv: float = 0.0
    # correlation of neighbouring segments of one cluster beyond the icc, 0..1 (AR(1)); 0 when only the icc relates them
    autocorrelation: float = 0.0
    # clusters of the pilot that `sd` comes from; 0 when it is given
    pilot_clusters: int = 0
    # blocks of a stream that are worth one independent cluster; 1 for clusters that are independent
    blocks_per_cluster: float = 1.0
    alpha: float = 0.05
    power: float = 0.8
    # primary hypotheses: arms other than the control x scorers
    hypotheses: int = 1
    guardrails: int = 0
    # of the experiment: the most that a rare cluster may lie away from the mean, points
    largest_loss: float = 10.0

    def __post_init__(self) -> None:
        for name, is_allowed, words in (
            ("difference", self.difference > 0, "more than 0"),
            ("sd", self.sd > 0, "more than 0"),
            ("icc", 0 <= self.icc <= 1, "0 to 1"),
            ("segments_per_cluster", self.segments_per_cluster >= 1, "1 or more"),
            ("segments_cv", self.segments_cv >= 0, "0 or more"),
            ("autocorrelation", 0 <= self.autocorrelation < 1, "0 or more and less than 1"),
            ("pilot_clusters", self.pilot_clusters >= 0, "0 or more"),
            ("blocks_per_cluster", self.blocks_per_cluster >= 1, "1 or more"),
            ("alpha", 0 < self.alpha < 0.5, "more than 0 and less than 0.5"),
            ("power", 0.5 < self.power < 1, "more than 0.5 and less than 1"),
            ("hypotheses", self.hypotheses >= 1, "1 or more"),
            ("guardrails", self.guardrails >= 0, "0 or more"),
            ("largest_loss", self.largest_loss > 0, "more than 0"),
        ):
            value = getattr(self, name)
            if not (is_allowed and math.isfinite(value)):
                raise ValueError(f"a plan needs {name} as a number that is {words}, got {value}")
        if self.cluster_sd <= CONSTANT_SHARE * self.difference:
            raise ValueError(
                f"a plan needs differences that vary: clusters with s.d. {self.cluster_sd:.2g} around a difference of "
                f"{self.difference:g} are taken for no measurement, and have no verdict"
            )

    @property
    def cluster_sd(self) -> float:
        """Standard deviation of one cluster's mean, points.

        Segments of a cluster share its mean (icc) and may follow each other as AR(1); the mean of 1/m of uneven
        clusters is (1 + cv^2) / mean(m), to second order.
        """
        inflation = (1 + self.autocorrelation) / (1 - self.autocorrelation) * (1 + self.segments_cv**2)
        within = min(1.0, inflation / self.segments_per_cluster)
        return self.sd * math.sqrt(self.icc + (1 - self.icc) * within)


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSizePlan:
    """How many clusters an experiment needs."""

    # standard deviation of one cluster's mean, points; of a pilot, as measured
    cluster_sd: float
    # by how much the plan takes the deviation of a pilot to be larger: a small pilot may have measured too little
    pilot_inflation: float = 1.0
    # 1 + (m - 1) icc for even clusters: the variance inflation because segments of one cluster are correlated (Kish)
    design_effect: float
    # for one look at the end, by the t interval
    clusters_final: int
    # for analyses at any time: with the same power when this many clusters are complete
    clusters_anytime: int
    # the power that each test needs so that all guardrails pass too
    power: float


def plan_sample_size(assumptions: PowerAssumptions) -> SampleSizePlan:
    """The clusters of a paired comparison; unpaired traffic needs this many in each arm, with sd * sqrt(2)."""
    # Every guardrail must pass too, so the guardrails share the type II error 1 - power (as Spotify's platform does).
    power = 1 - (1 - assumptions.power) / max(1, assumptions.guardrails)
    alpha, difference, loss = (
        assumptions.alpha / assumptions.hypotheses,
        assumptions.difference,
        assumptions.largest_loss,
    )
    inflation = pilot_inflation(assumptions.pilot_clusters, power) if assumptions.pilot_clusters else 1.0
    sd = assumptions.cluster_sd * inflation
    final = _smallest_n(3, lambda n: fixed_horizon_power(difference, sd, n, alpha=alpha) >= power)
    anytime = _smallest_n(
        _MIN_GUARDRAIL_CLUSTERS if assumptions.guardrails else MIN_SEQUENTIAL_CLUSTERS,
        lambda n: sequential_power(difference, sd, n, alpha=alpha, largest_loss=loss) >= power,
    )
    variance_of_independent = assumptions.sd**2 / assumptions.segments_per_cluster
    return SampleSizePlan(
        cluster_sd=assumptions.cluster_sd,
        pilot_inflation=inflation,
        design_effect=assumptions.cluster_sd**2 / variance_of_independent,
        clusters_final=_in_blocks(final, assumptions.blocks_per_cluster),
        clusters_anytime=_in_blocks(anytime, assumptions.blocks_per_cluster),
        power=power,
    )


def pilot_inflation(clusters: int, power: float) -> float:
    """The factor for the standard deviation of a pilot of so many clusters, so that plans have `power` on average.

    The deviation of few clusters is uncertain, and a plan loses more power by one that is too small than it gains by
    one that is too large: with 5 clusters and no factor, plans for 80 % had 62 %. The average is over the chi-square
    distribution of the pilot's variance, for a test that needs about _TYPICAL_STANDARD_ERRORS.
    """
    freedom = max(1, clusters - 1)
    z = np.array([normal_quantile(p) for p in _MIDPOINTS])
    # Quantiles of the chi-square distribution (Wilson and Hilferty 1931).
    ratios = np.maximum(0.0, 1 - 2 / (9 * freedom) + z * math.sqrt(2 / (9 * freedom))) ** 1.5
    needed = _TYPICAL_STANDARD_ERRORS + normal_quantile(power)
    low, high = 1.0, 20.0
    for _ in range(40):
        middle = (low + high) / 2
        powers = [normal_cdf(needed * middle * float(ratio) - _TYPICAL_STANDARD_ERRORS) for ratio in ratios]
        low, high = (low, middle) if sum(powers) / len(powers) >= power else (middle, high)
    return high


def fixed_horizon_power(difference: float, sd: float, n: int, *, alpha: float) -> float:
    """The power of the two-sided t-test over n clusters.

    The noncentral t by its normal approximation (Johnson and Welch 1940), to about 0.5 %.
    """
    t = t_quantile(1 - alpha / 2, n - 1)
    noncentrality = difference * math.sqrt(n) / sd
    return normal_cdf((noncentrality - t * (1 - 1 / (4 * (n - 1)))) / math.sqrt(1 + t * t / (2 * (n - 1))))


def sequential_power(difference: float, sd: float, n: int, *, alpha: float, largest_loss: float = math.inf) -> float:
    """The probability that a winner is declared at any look up to n clusters, which are the planned ones.

    The sum of differences must cross the boundary of the confidence sequence, here its tangent at n, and the capital of
    the bounded-loss bet must reach 1 / alpha. For both the probability that a Brownian motion with drift crosses a
    line in time (Siegmund, "Sequential Analysis", 1985, 3.13).
    """
    rho = mixture_rho(alpha=alpha, planned_clusters=n)
    boundary, before = (k * confidence_sequence_half_width(sd, k, rho=rho, alpha=alpha) for k in (n, 0.99 * n))
    slope = (boundary - before) / (0.01 * n)
    crossing = _crossing_probability(boundary - slope * n, drift=difference - slope, sd=sd, n=n)
    return min(crossing, _bet_power(difference, sd, n, alpha=alpha, largest_loss=largest_loss))


def _bet_power(difference: float, sd: float, n: int, *, alpha: float, largest_loss: float) -> float:
    """The probability that the best bet of the mixture reaches 1 / alpha within n clusters."""
    if math.isinf(largest_loss):
        return 1.0
    values = difference + sd * np.array([normal_quantile(p) for p in _MIDPOINTS])
    gains = np.maximum(values, -largest_loss) / largest_loss
    logs = np.log1p(STAKES[:, None] * gains)
    return max(
        _crossing_probability(
            -math.log(alpha * weight), drift=float(growth.mean()), sd=max(1e-12, float(growth.std())), n=n
        )
        for growth, weight in zip(logs, STAKE_WEIGHTS, strict=True)
    )


def _crossing_probability(level: float, *, drift: float, sd: float, n: int) -> float:
    """The probability that a Brownian motion from 0 with this drift and deviation per step exceeds `level` within n."""
    scale = sd * math.sqrt(n)
    exponent = 2 * level * drift / sd**2
    reflected = math.exp(min(700.0, exponent)) * normal_cdf((-level - drift * n) / scale) if exponent < 700 else 0.0
    return min(1.0, normal_cdf((drift * n - level) / scale) + reflected)


def _in_blocks(clusters: int, blocks_per_cluster: float) -> int:
    return min(MAX_CLUSTERS, math.ceil(clusters * blocks_per_cluster))


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
