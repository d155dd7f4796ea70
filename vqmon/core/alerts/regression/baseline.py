"""The usual level of a series and its spread, and limits of its averages from the lowest that they have been.

Level and spread are those of a batch - median, and MAD as a deviation - but no values are stored: each value moves both
by its share, as quantiles do under stochastic approximation (Robbins and Monro 1951), with the density of a normal as
the gain, which gives them the precision of the sample quantile. Both learn from every value, faults included, as a
median hardly moves with a fault of an hour; so neither can be locked into what was usual once.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist, median
from typing import NamedTuple

FIRST_VALUES = 30
"""So many values are stored as they are; then the baseline takes over."""

MIN_SPREAD = 0.05
"""In points. A constant series must not turn a rounding difference into an alarm."""

MIN_BLOCKS = 3
"""There is no limit before so many blocks have ended."""

HEAVY_TAILS = 1.1
"""Values have heavy tails when their mean square is more than so many squared spreads; 1 = normal.

Measured on a day of each shape: 0.9 to 1.07 for noise with normal steps and with spikes, 1.13 and more for AR(.8)
with steps of t with 4 degrees of freedom, 1.4 for white noise of such steps.
"""

TAIL_VALUES = 1000.0
"""Of fewer values nothing is known about their tails."""

_MAX_BLOCKS = 48.0
"""The figures of the lows rest on so many blocks; older ones fade."""

_MAD_TO_DEVIATION = 1.4826
_QUARTILE = 0.6745
"""Upper quartile of the standard normal distribution."""
_MEDIAN_GAIN = 1.2533
"""sqrt(2 pi) / 2: deviations per unit of mean sign."""
_SPREAD_GAIN = 2.3326
"""1 / (4 x 0.6745 x the normal density there) x 2: relative change of a spread per share of values beyond it."""

_CLIP_SPREADS = 4.0
"""A value counts in the mean square as if it were at most so many spreads away."""

BEYOND_LIMIT = 0.5
"""A low counts at most so much farther from the usual lows than the limit is, as a share of that distance."""

CHANGE_FACTOR = 0.85
"""The limit from the last low is so many times `limit_factor`, in deviations of the changes from block to block.

A change is the difference of two Gumbel variables, which is logistic; its quantile at half the probability, as there
are two limits, is 0.83 times as many deviations.
"""

_EULER = 0.5772156649
_AVERAGES_AT_ONCE = 2.0
"""The averages of a series fall together; they cause as many false alarms as so many independent ones."""


class Baseline(NamedTuple):
    """The usual level and spread of a series, in points."""

    # how many values the figures rest on, at most the length of the baseline
    value_count: float = 0.0
    # median
    level: float = 0.0
    # MAD, as the deviation of a normal
    spread: float = MIN_SPREAD
    # mean square of the clipped distances of single values from the level
    mean_square: float = MIN_SPREAD**2

    @property
    def has_heavy_tails(self) -> bool:
        """Whether values far from the level are more frequent than those of a normal distribution."""
        return self.value_count >= TAIL_VALUES and self.mean_square > HEAVY_TAILS * self.spread * self.spread


class BlockLows(NamedTuple):
    """How low an average has been in the blocks so far, in points."""

    # lowest in the block that has not ended
    lowest: float
    # mean and variance of the lowest of each block that has ended
    mean: float = 0.0
    variance: float = 0.0
    # an average below this is unusual; meaningless before MIN_BLOCKS blocks
    limit: float = 0.0
    # the lowest of the last block that has ended, and the mean square of the changes from block to block
    last: float = 0.0
    mean_square_change: float = 0.0

    @classmethod
    def of_independent_blocks(cls, lowest: float, mean: float, variance: float, limit: float) -> "BlockLows":
        """Lows whose changes were not recorded: as if no block had anything to do with the one before."""
        return cls(lowest, mean, variance, limit, mean, 2.0 * variance)


def baseline_of(values: Sequence[float]) -> Baseline:
    """The baseline of some values; at least three."""
    level = median(values)
    spread = max(_MAD_TO_DEVIATION * median(abs(value - level) for value in values), MIN_SPREAD)
    bound = _CLIP_SPREADS * spread
    squares = [min(abs(value - level), bound) ** 2 for value in values]
    return Baseline(value_count=len(values), level=level, spread=spread, mean_square=sum(squares) / len(squares))


def with_value(baseline: Baseline, value: float, *, max_count: float) -> Baseline:
    """The baseline after one more value; it rests on `max_count` values at most, then old ones fade."""
    count, level, spread, mean_square = baseline
    count = min(count + 1.0, max_count)
    share = 1.0 / count
    deviation = value - level
    distance = min(abs(deviation), _CLIP_SPREADS * spread)
    sign = 1.0 if deviation > 0.0 else -1.0 if deviation < 0.0 else 0.0
    beyond = 0.5 if distance > _QUARTILE * spread else -0.5
    return Baseline(
        count,
        level + share * _MEDIAN_GAIN * spread * sign,
        max(spread * (1.0 + _SPREAD_GAIN * share * beyond), MIN_SPREAD),
        mean_square + share * (distance * distance - mean_square),
    )


def with_block(
    lows: BlockLows, average: float, *, block_count: float, highest_limit: float, false_alarms_per_block: float
) -> BlockLows:
    """The lows after a block has ended, the `block_count`-th; the next one begins with the average as it is now.

    There are two limits, and the higher one counts: from the mean of the lows and their deviation, and from the last
    low and the changes from block to block, which are small where a level changes slowly. A low far beyond the limit
    counts as one that is half as far again: so a fault widens the limit by little, and what turns out to be usual is
    learned within hours. `highest_limit` is how near to the usual level the limit may be.
    """
    usual = min(lows.mean, lows.last)
    beyond = lows.limit - BEYOND_LIMIT * (usual - lows.limit)
    lowest = max(lows.lowest, beyond) if block_count > MIN_BLOCKS else lows.lowest
    count = min(block_count, _MAX_BLOCKS)
    share = 1.0 / count
    difference = lowest - lows.mean
    mean = lows.mean + share * difference
    variance = (1.0 - share) * (lows.variance + share * difference * difference)
    mean_square_change = 0.0
    if count > 1.0:
        change = lowest - lows.last
        mean_square_change = lows.mean_square_change + (change * change - lows.mean_square_change) / (count - 1.0)
    limit = 0.0
    if count >= MIN_BLOCKS:
        factor = limit_factor(count, false_alarms_per_block)
        deviation = max(math.sqrt(variance * count / (count - 1.0)), MIN_SPREAD)
        change_deviation = max(math.sqrt(mean_square_change), MIN_SPREAD)
        limit = max(mean - factor * deviation, lowest - CHANGE_FACTOR * factor * change_deviation)
        limit = min(limit, highest_limit)
    # Rounded, as it is written with every segment.
    return BlockLows(
        average,
        round(mean, 4),
        round(variance, 6),
        round(limit, 4),
        round(lowest, 4),
        round(mean_square_change, 6),
    )


def limit_factor(count: float, false_alarms_per_block: float) -> float:
    """How many deviations of the lows of `count` blocks, at least two, a new block's low may be below their mean.

    The lowest of many values has a Gumbel distribution whatever theirs is (Gumbel 1958); this is its quantile, in
    deviations from its mean, for the wanted probability. As mean and deviation are estimates, it grows as the t
    quantile of so many blocks does over the normal one: within a few percent of the exact factor of a Gumbel sample.
    """
    probability = min(false_alarms_per_block / _AVERAGES_AT_ONCE, 0.2)
    quantile = math.sqrt(6.0) / math.pi * (-math.log(probability) - _EULER)
    normal = NormalDist().inv_cdf(1.0 - probability)
    return quantile * _t_quantile(normal, count - 1.0) / normal * math.sqrt(1.0 + 1.0 / count)


def _t_quantile(normal: float, degrees_of_freedom: float) -> float:
    """Student's t quantile of the probability that has this normal quantile (Wallace 1959, inverted).

    Within 2 % for five degrees of freedom and more; too large for fewer, by 30 % for two.
    """
    scaled = normal * (8.0 * degrees_of_freedom + 3.0) / (8.0 * degrees_of_freedom + 1.0)
    return math.sqrt(degrees_of_freedom * math.expm1(scaled * scaled / degrees_of_freedom))
