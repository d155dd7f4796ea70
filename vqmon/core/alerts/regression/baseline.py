"""Baseline of a series: level, spread and autocorrelation of its noise, learned from blocks that are old enough.

The figures are those of a batch over the whole baseline - median, lag-1 correlation of clipped deviations, MAD of the
residuals, mean and variance of the clipped residuals - but no values are stored. The first `FIRST_VALUES` values give
the figures exactly; every later block moves each figure by its share. Median and MAD move as quantiles do under
stochastic approximation (Robbins and Monro 1951), with the density of a normal at its median as the gain, which gives
them the precision of the sample quantile; sums and means are exact.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import NamedTuple

FIRST_VALUES = 120
"""So many values are stored as they are, and ranked, before the baseline takes over."""

CLIP_SPREADS = 3.0
"""Residuals beyond so many spreads count as that many, so that heavy tails do no harm."""

_MAX_AUTOCORRELATION = 0.95

MIN_SPREAD = 0.05
"""In points. A constant series must not turn a rounding difference into an alarm."""

QUARTILE = 0.6745
"""Upper quartile of the standard normal distribution."""

_MAD_TO_DEVIATION = 1.4826
_MEDIAN_GAIN = 1.2533
"""sqrt(2 pi) / 2: deviations per unit of mean sign."""
_SPREAD_GAIN = 2.3326
"""1 / (4 x 0.6745 x the normal density there) x 2: relative change of a spread per share of values beyond it."""


class Baseline(NamedTuple):
    """The usual level and noise of a series, in points."""

    # how many values the figures rest on, at most the length of the baseline
    value_count: float = 0.0
    # median
    level: float = 0.0
    # of the values, by MAD
    spread: float = MIN_SPREAD
    # mean square, and mean product of neighbours, of the clipped deviations from the level
    mean_square: float = 1.0
    mean_lag_product: float = 0.0
    # of the residuals, by MAD; then their mean and variance once clipped
    residual_spread: float = MIN_SPREAD
    residual_mean: float = 0.0
    residual_variance: float = MIN_SPREAD**2

    @property
    def autocorrelation(self) -> float:
        """Lag-1 correlation of the noise, 0..MAX_AUTOCORRELATION."""
        if self.mean_square <= 0:
            return 0.0
        return min(max(self.mean_lag_product / self.mean_square, 0.0), _MAX_AUTOCORRELATION)

    @property
    def residual_deviation(self) -> float:
        """Standard deviation of the clipped residuals, in points."""
        return math.sqrt(self.residual_variance)


class Block(NamedTuple):
    """Sums over consecutive values that wait to enter the baseline; moments are seconds since the epoch."""

    began_at: float
    ended_at: float = 0.0
    value_count: float = 0.0
    # values above the level, less those below it
    sign_sum: float = 0.0
    # values beyond the quartile of the spread
    beyond_quartile: float = 0.0
    # squares and products of neighbours of clipped deviations from the level
    square_sum: float = 0.0
    lag_product_sum: float = 0.0
    # residuals beyond the quartile of their spread, and sums of the clipped ones and their squares
    residuals_beyond_quartile: float = 0.0
    residual_sum: float = 0.0
    residual_square_sum: float = 0.0


def baseline_of(values: Sequence[float]) -> Baseline:
    """The baseline of consecutive values; at least three."""
    level = median(values)
    deviations = [value - level for value in values]
    spread = max(_MAD_TO_DEVIATION * median(map(abs, deviations)), MIN_SPREAD)
    clipped = [max(-CLIP_SPREADS * spread, min(CLIP_SPREADS * spread, deviation)) for deviation in deviations]
    baseline = Baseline(
        value_count=len(values),
        level=level,
        spread=spread,
        mean_square=sum(deviation * deviation for deviation in clipped) / len(clipped),
        mean_lag_product=sum(first * second for first, second in pairwise(clipped)) / (len(clipped) - 1),
    )
    phi = baseline.autocorrelation
    residuals = [second - phi * first for first, second in pairwise(deviations)]
    center = median(residuals)
    residual_spread = max(_MAD_TO_DEVIATION * median(abs(residual - center) for residual in residuals), MIN_SPREAD)
    bound = CLIP_SPREADS * residual_spread
    bounded = [max(-bound, min(bound, residual)) for residual in residuals]
    mean = sum(bounded) / len(bounded)
    variance = max(sum((residual - mean) ** 2 for residual in bounded) / len(bounded), MIN_SPREAD**2)
    return baseline._replace(residual_spread=residual_spread, residual_mean=mean, residual_variance=variance)


def with_block(baseline: Baseline, block: Block, *, max_count: float) -> Baseline:
    """The baseline after one more block; it rests on `max_count` values at most, then old ones fade."""
    count = block.value_count
    count_after = min(baseline.value_count + count, max_count)
    share = min(count / count_after, 1.0)
    level = baseline.level + _MEDIAN_GAIN * baseline.spread * share * block.sign_sum / count
    residual_spread = baseline.residual_spread * (
        1 + _SPREAD_GAIN * share * (block.residuals_beyond_quartile / count - 0.5)
    )
    spread = baseline.spread * (1 + _SPREAD_GAIN * share * (block.beyond_quartile / count - 0.5))
    mean = baseline.residual_mean
    mean_square = block.residual_square_sum / count - 2 * mean * block.residual_sum / count + mean**2
    variance = baseline.residual_variance + share * (mean_square - baseline.residual_variance)
    # The residuals were taken from the old level.
    shifted = mean - (1 - baseline.autocorrelation) * (level - baseline.level)
    return Baseline(
        value_count=count_after,
        level=level,
        spread=max(spread, MIN_SPREAD),
        mean_square=baseline.mean_square + share * (block.square_sum / count - baseline.mean_square),
        mean_lag_product=baseline.mean_lag_product
        + share * (block.lag_product_sum / count - baseline.mean_lag_product),
        residual_spread=max(residual_spread, MIN_SPREAD),
        residual_mean=shifted + share * (block.residual_sum / count - mean),
        residual_variance=max(variance, MIN_SPREAD**2),
    )
