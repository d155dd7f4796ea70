"""What a series' usual is: level, spread and memory of its noise, learned from summaries of blocks that are old enough.

The figures are those of a batch over the whole baseline - median, lag-1 correlation of clipped deviations, MAD of the
residuals, mean and deviation of the clipped residuals - but no value is kept: the first `COLD` values give them
exactly, and every block after that moves each figure by its share. Median and MAD move as quantiles do under stochastic
approximation (Robbins and Monro 1951), with the density of a normal at its median as the gain, so that they have the
precision of the sample quantile; sums and means are exact.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import NamedTuple

COLD = 120
"""So many values are kept as they are, and ranked, before summaries take over."""

CLIP = 3.0
"""Residuals beyond so many spreads count as that many: tails do no harm then."""

MAX_MEMORY = 0.95
"""Of the noise; more than that is no noise."""

MIN_SPREAD = 0.05
"""In points. A series that stands still must not turn a rounding difference into an alarm."""

MAD_TO_DEVIATION = 1.4826
QUARTILE = 0.6745
MEDIAN_GAIN = 1.2533
"""sqrt(2 pi) / 2: what a mean sign of 1 is worth in deviations."""
SPREAD_GAIN = 2.3326
"""1 / (4 x 0.6745 x the normal density there) x 2: what a share of 1 beyond the quartile is worth, relative."""

BLOCK = 10
"""Numbers of a block: its begin, its end, how many values, and seven sums over them; see `learned`."""


class Usual(NamedTuple):
    """The figures that a value is held against, in points."""

    # how many values they rest on, at most the length of the baseline
    number: float = 0.0
    level: float = 0.0
    # marginal, by MAD
    spread: float = MIN_SPREAD
    # means of squares and of lag-1 products of clipped deviations
    square: float = 1.0
    product: float = 0.0
    # of the residuals: by MAD, then mean and variance once clipped
    scale: float = MIN_SPREAD
    mean: float = 0.0
    variance: float = MIN_SPREAD**2

    @property
    def memory(self) -> float:
        """Lag-1 correlation of the noise, 0..MAX_MEMORY."""
        return min(max(self.product / self.square, 0.0), MAX_MEMORY) if self.square > 0 else 0.0

    @property
    def deviation(self) -> float:
        """Of clipped residuals, in points."""
        return math.sqrt(self.variance)


def usual_of(values: Sequence[float]) -> Usual:
    """The figures of values that follow each other; at least three."""
    level = median(values)
    away = [value - level for value in values]
    spread = max(MAD_TO_DEVIATION * median(map(abs, away)), MIN_SPREAD)
    clipped = [max(-CLIP * spread, min(CLIP * spread, one)) for one in away]
    square = sum(one * one for one in clipped) / len(clipped)
    product = sum(one * after for one, after in pairwise(clipped)) / (len(clipped) - 1)
    first = Usual(number=len(values), level=level, spread=spread, square=square, product=product)
    memory = first.memory
    residuals = [one - memory * before for before, one in pairwise(away)]
    middle = median(residuals)
    scale = max(MAD_TO_DEVIATION * median(abs(one - middle) for one in residuals), MIN_SPREAD)
    bounded = [max(-CLIP * scale, min(CLIP * scale, one)) for one in residuals]
    mean = sum(bounded) / len(bounded)
    variance = max(sum((one - mean) ** 2 for one in bounded) / len(bounded), MIN_SPREAD**2)
    return first._replace(scale=scale, mean=mean, variance=variance)


def learned(usual: Usual, block: Sequence[float], *, longest: float) -> Usual:
    """The figures after a block more; `longest` is how many values they may rest on, then old ones fade."""
    _, _, count, signs, beyond, square, product, residuals_beyond, bounded, squares = block
    count_after = min(usual.number + count, longest)
    share = min(count / count_after, 1.0)
    level = usual.level + MEDIAN_GAIN * usual.spread * share * signs / count
    scale = usual.scale * (1 + SPREAD_GAIN * share * (residuals_beyond / count - 0.5))
    spread = usual.spread * (1 + SPREAD_GAIN * share * (beyond / count - 0.5))
    mean_square = squares / count - 2 * usual.mean * bounded / count + usual.mean**2
    variance = usual.variance + share * (mean_square - usual.variance)
    # The residuals were held against the old level.
    shifted = usual.mean - (1 - usual.memory) * (level - usual.level)
    return Usual(
        number=count_after,
        level=level,
        spread=max(spread, MIN_SPREAD),
        square=usual.square + share * (square / count - usual.square),
        product=usual.product + share * (product / count - usual.product),
        scale=max(scale, MIN_SPREAD),
        mean=shifted + share * (bounded / count - usual.mean),
        variance=max(variance, MIN_SPREAD**2),
    )
