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
    experiment: Experiment, estimate: MeanDifference, interval: ConfidenceInterval
) -> ConfidenceInterval:
    """The smallest interval that holds the interval, its correction for skewness and the bounded-loss bounds.

    The latter only where there is one difference for each cluster, and from 20 planned clusters on: with fewer no
    bound for rare losses is of use.
    """
    corrected = skewness_corrected_interval(estimate, interval)
    low, high = min(interval.low, corrected.low), max(interval.high, corrected.high)
    if estimate.values is not None and not experiment.is_fixed_horizon:
        alpha = 1 - interval.level
        low = bounded_loss_bound(estimate, low, largest_loss=experiment.largest_loss, alpha=alpha, sign=1)
        high = bounded_loss_bound(estimate, high, largest_loss=experiment.largest_loss, alpha=alpha, sign=-1)
    return replace(interval, low=low, high=high)


def bounded_loss_bound(
    estimate: MeanDifference, bound: float, *, largest_loss: float, alpha: float, sign: int
) -> float:
    """`bound`, or the bounded-loss bound where that is further from the mean; lower with sign 1, upper with sign -1."""
    if estimate.values is None:
        return bound
    values, independence = sign * estimate.values, estimate.independent_n / estimate.n
    capital = log_capital(values, sign * bound, largest_loss=largest_loss) * independence
    if capital >= -math.log(alpha):
        return bound
    return sign * lower_bound(values, largest_loss=largest_loss, alpha=alpha, independence=independence)
