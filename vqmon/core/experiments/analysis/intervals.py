"""The interval that decides: the confidence sequence, or one t interval, made safe for skewness and for rare losses."""

import math
from dataclasses import replace

from vqmon.core.experiments.definition import Experiment
from vqmon.core.experiments.results import ConfidenceInterval
from vqmon.core.experiments.stats.bounded_loss import log_capital, lower_bound
from vqmon.core.experiments.stats.sequential import (
    MeanDifference,
    anytime_valid_interval,
    skewness_corrected_interval,
    t_interval,
)


def decisive_interval(
    experiment: Experiment, estimate: MeanDifference, *, rho: float, alpha: float
) -> ConfidenceInterval:
    """The any-time interval of this moment; the t interval of an experiment that is analysed once."""
    if experiment.is_fixed_horizon:
        return t_interval(estimate, alpha=alpha)
    return anytime_valid_interval(estimate, rho=rho, alpha=alpha)


def conservative_interval(
    experiment: Experiment,
    estimate: MeanDifference,
    interval: ConfidenceInterval,
    *,
    within: tuple[float, float] = (-math.inf, math.inf),
) -> ConfidenceInterval:
    """The smallest interval that holds the interval, its correction for skewness and the bounded-loss bounds.

    The latter only where there is one difference for each cluster, and from 20 planned clusters on: with fewer no
    bound for rare losses is of use. Only what it has in common with `within` (low, high) is exact: a bounded-loss bound
    beyond is not searched for.
    """
    corrected = skewness_corrected_interval(estimate, interval)
    low, high = min(interval.low, corrected.low), max(interval.high, corrected.high)
    if estimate.values is not None and not experiment.is_fixed_horizon:
        alpha, largest_loss = 1 - interval.level, experiment.largest_loss
        low = bounded_loss_bound(estimate, low, largest_loss=largest_loss, alpha=alpha, sign=1, limit=within[0])
        high = bounded_loss_bound(estimate, high, largest_loss=largest_loss, alpha=alpha, sign=-1, limit=within[1])
    return replace(interval, low=low, high=high)


def bounded_loss_bound(
    estimate: MeanDifference, bound: float, *, largest_loss: float, alpha: float, sign: int, limit: float | None = None
) -> float:
    """`bound`, or the bounded-loss bound where that is further from the mean; lower with sign 1, upper with sign -1.

    One that is further away than `limit` is not searched for: then it is `limit`.
    """
    nearest = -math.inf if limit is None else sign * limit
    if estimate.values is None or sign * bound <= nearest:
        return bound
    values, independence = sign * estimate.values, estimate.independent_n / estimate.n
    capital = log_capital(values, sign * bound, largest_loss=largest_loss) * independence
    if capital >= -math.log(alpha):
        return bound
    return sign * lower_bound(
        values, largest_loss=largest_loss, alpha=alpha, independence=independence, at_least=nearest
    )
