"""How large an experiment must be to see a difference that matters."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from vqmon.core.experiments.definition import FIRST_LOOK
from vqmon.core.experiments.stats.distributions import normal_cdf, normal_quantile, t_quantile
from vqmon.core.experiments.stats.sequential import half_width, mixture_rho

MOST_CLUSTERS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumed:
    """What is known or guessed before: from an earlier comparison, or a pilot."""

    # points of 0..100 to be seen
    difference: float
    # standard deviation of one segment's paired difference (unpaired: of one segment's score), points
    sd: float
    # share of its variance that whole clusters have in common, 0..1
    icc: float = 0.3
    segments_per_cluster: int = 30
    alpha: float = 0.05
    power: float = 0.8
    # primary hypotheses: arms beside the control x scorers
    hypotheses: int = 1
    guardrails: int = 0

    def __post_init__(self) -> None:
        if not (self.difference > 0 and self.sd >= 0 and 0 <= self.icc <= 1 and self.segments_per_cluster >= 1):
            raise ValueError("a plan needs difference > 0, sd >= 0, 0 <= icc <= 1, segments_per_cluster >= 1")
        if not (0 < self.alpha < 0.5 < self.power < 1 and self.hypotheses >= 1 and self.guardrails >= 0):
            raise ValueError("a plan needs 0 < alpha < 0.5 < power < 1, hypotheses >= 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How many clusters, and what for."""

    # s.d. of one cluster's mean, points
    cluster_sd: float
    # 1 + (m - 1) icc: how much less segments of one cluster say than independent ones
    design_effect: float
    # for one look at the end (t), and for looks at any time with the same power when so many are there
    clusters_final: int
    clusters_anytime: int
    # the difference that `clusters_anytime` sees with that power, one-sided, for guardrails
    power: float


def plan(assumed: Assumed) -> Plan:
    """Clusters for a paired comparison; unpaired traffic needs this many in each arm with sd * sqrt(2)."""
    m = assumed.segments_per_cluster
    effect = 1 + (m - 1) * assumed.icc
    sd = assumed.sd * math.sqrt(effect / m)
    # Every guardrail must pass too: their misses share 1 - power (Spotify's rule).
    power = 1 - (1 - assumed.power) / max(1, assumed.guardrails)
    alpha = assumed.alpha / assumed.hypotheses
    return Plan(
        cluster_sd=sd,
        design_effect=effect,
        clusters_final=_least(3, lambda n: power_final(assumed.difference, sd, n, alpha=alpha) >= power),
        clusters_anytime=_least(FIRST_LOOK, lambda n: power_anytime(assumed.difference, sd, n, alpha=alpha) >= power),
        power=power,
    )


def power_final(difference: float, sd: float, n: int, *, alpha: float) -> float:
    """Of the t interval over n clusters; the noncentral t by its normal form (Johnson and Welch), to about 0.5 %."""
    if sd == 0:
        return 1.0
    t = t_quantile(1 - alpha / 2, n - 1)
    shift = difference * math.sqrt(n) / sd
    return normal_cdf((shift - t * (1 - 1 / (4 * (n - 1)))) / math.sqrt(1 + t * t / (2 * (n - 1))))


def power_anytime(difference: float, sd: float, n: int, *, alpha: float) -> float:
    """That the sequence has left 0 when n clusters are there, n being the planned number; earlier looks only add."""
    if sd == 0:
        return 1.0
    half = half_width(sd, n, rho=mixture_rho(alpha=alpha, planned=n), alpha=alpha)
    return normal_cdf((difference - half) * math.sqrt(n) / sd)


def smallest_difference(sd: float, n: int, *, alpha: float, power: float) -> float:
    """What n clusters see at any time with this power, in the unit of sd."""
    half = half_width(sd, n, rho=mixture_rho(alpha=alpha, planned=n), alpha=alpha)
    return half + normal_quantile(power) * sd / math.sqrt(n)


def _least(low: int, is_enough: Callable[[int], bool]) -> int:
    """The least n from `low` on for which it holds; MOST_CLUSTERS when none does."""
    high = low
    while not is_enough(high):
        if high >= MOST_CLUSTERS:
            return MOST_CLUSTERS
        low, high = high + 1, high * 2
    while low < high:
        middle = (low + high) // 2
        if is_enough(middle):
            high = middle
        else:
            low = middle + 1
    return high
