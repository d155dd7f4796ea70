"""Intervals of statistics: by the bootstrap of items or contents, and from normal items where there are few.

RMSE has an interval of its own, for any number of items, as the bootstrap refits the logistic to fewer different items
and sees few of a long tail. The mean squared residual is taken for chi-squared with as many degrees of freedom as its
variance tells (Box, Biometrika 1953), by the cube root of Wilson and Hilferty (PNAS 1931), around the error without the
bias of a fit of four parameters. Its variance comes from the kurtosis k of the residuals, times 1 + 1.5 (k + 1) / n, as
that of few is too low. Of 500 to 800 samples of 40 to 400 items 95 to 96 % of the intervals hold the true one where the
residuals are normal, and where they scatter most in the middle of a bounded scale; 92 to 94 % with the tails of a t
distribution of 5 degrees of freedom, whose own kurtosis is 9.

With fewer than 30 items, resamples near a perfect correlation say little: many are perfect, others have a handful of
different items. There the items are taken for bivariate normal, and as many as units (items, or contents that are
resampled as a whole):

- Rank statistics do not change when predictions or human scores are mapped by a rising function, so only the
  correlation of the normal items is unknown. The interval holds every correlation under which the statistic of so many
  items lies in neither tail of 2.5 %, by simulation; equal values count half (mid-p, Lancaster, JASA 1961).
- PLCC: Fisher's z around the correlation r that is adjusted (Ezekiel 1930) for the parameters that bend the logistic.
  The half width is t(n - 4) / sqrt(n - 5) at r = 0, and goes with r^2 to the mean of that and 1.96 / sqrt(n - 3), which
  is Fisher's without a logistic. Of 900 samples of 12 to 28 items (r from 0.3 to 0.95; normal, skewed and bounded) 92
  to 98 % of the intervals hold the true one, 96.5 % in the mean; where the noise differs by a factor of several from
  item to item, 86 to 95 %.
- A mean over groups: Zou and Donner, Statistics in Medicine 2008 (MOVER).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vqmon.core.evaluation.correlations import count_pairs, mid_ranks, pearson
from vqmon.core.evaluation.results import STATISTICS, Estimate
from vqmon.core.experiments.stats.distributions import normal_cdf, normal_quantile, t_quantile

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

_MAX_CHUNK_ITEMS = 400_000
"""Items that are resampled at a time: bounds the memory."""
_MIN_CONTENTS = 10
"""With fewer contents, items are resampled: intervals from so few contents cover too little."""
_MIN_BOOTSTRAP_ITEMS = 30
_MIN_UNITS = 5
_LOGISTIC_PARAMETERS = 4
_BENDING_PARAMETERS = 2
"""Of the logistic: centre and width. The other two are a scale and an offset, which a correlation does not see."""
_TAIL_SHARE = 1.5
"""How much the kurtosis k of n residuals is raised: k times this, times (k + 1) / n."""
_MIN_CUBE_ROOT = 0.2
"""Bounds the interval of the RMSE of a handful of items: the error is at most 11 times as large."""
_EDGE = 1e-12
_MIN_DRAWS = 20
_TAIL = 0.1
_SIMULATED_SAMPLES = 1000
_MAX_FISHER_Z, _FISHER_Z_STEP = 6.0, 0.125


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scale:
    forward: Callable[[Floats], Floats]
    backward: Callable[[Floats], Floats]


def _fisher_z(correlation: Floats) -> Floats:
    return np.asarray(np.arctanh(np.clip(correlation, _EDGE - 1, 1 - _EDGE)))


_CORRELATION = _Scale(forward=_fisher_z, backward=np.tanh)
_SCALES: Mapping[str, _Scale] = {
    "srcc": _CORRELATION,
    "plcc": _CORRELATION,
    "krcc": _CORRELATION,
    "rmse": _Scale(forward=lambda error: np.log(np.maximum(error, _EDGE)), backward=np.exp),
    # as Kendall's tau of pairs without ties
    "pairwise_accuracy": _Scale(
        forward=lambda share: _fisher_z(2 * share - 1), backward=lambda z: np.asarray((np.tanh(z) + 1) / 2)
    ),
}
assert set(_SCALES) == set(STATISTICS)


def estimate(statistic: str, value: float, draws: Floats, *, items: int, units: int, level: float = 0.95) -> Estimate:
    """A statistic but RMSE of one sample with its interval; `units` is the number of items or contents resampled.

    From 30 items on by the bootstrap. Without an interval where units or finite draws are too few.
    """
    if not np.isfinite(value) or items >= _MIN_BOOTSTRAP_ITEMS:
        return bootstrap_estimate(statistic, value, draws, units=units, level=level)
    if units < _MIN_UNITS:
        return Estimate(value=float(value), low=None, high=None)
    if statistic == "plcc":
        return _estimate(value, *_linear_bounds(value, units=units, level=level))
    return _estimate(value, *_rank_bounds(statistic, value, units=units, level=level))


def error_estimate(value: float, residuals: Floats, *, contents: Sequence[str] = (), level: float = 0.95) -> Estimate:
    """RMSE after the logistic with its interval, from the residuals (items,); without one where units are too few.

    With `contents` of which whole ones are resampled, these are the units, else the items.
    """
    if not np.isfinite(value):
        return Estimate(value=None, low=None, high=None)
    items, mean = len(residuals), float((residuals**2).mean())
    units = resampled_contents(contents) or items
    if units < _MIN_UNITS or mean == 0:
        return Estimate(value=float(value), low=None, high=None)
    sums, sums_of_squares = residuals, residuals**2 - mean
    if units < items:
        members = _members(contents)
        sums, sums_of_squares = (np.array([each[rows].sum() for rows in members]) for each in (sums, sums_of_squares))
    # of the mean squared residual, relative, times the units: kurtosis - 1 where these are items
    spread = float((sums_of_squares**2).sum()) * units / (items * mean) ** 2
    spread += _TAIL_SHARE * (spread + 1) * (spread + 2) / units
    variance = spread / (units - _LOGISTIC_PARAMETERS) / 9
    reach = t_quantile(0.5 + level / 2, units - _LOGISTIC_PARAMETERS) * np.sqrt(variance)
    # the fit takes more from residuals that are alike within contents: at most as if each content were one item
    alike = min(max(1.0, float((sums**2).sum()) / (items * mean)), items / units)
    unbiased = value / np.sqrt(1 - _LOGISTIC_PARAMETERS * alike / items)
    low, high = (unbiased * max(1 - variance + side * reach, _MIN_CUBE_ROOT) ** -1.5 for side in (1, -1))
    return _estimate(value, low, high)


def bootstrap_estimate(statistic: str, value: float, draws: Floats, *, units: int, level: float = 0.95) -> Estimate:
    """A statistic with the interval of its draws; without an interval when too few draws are finite.

    Wider by the t distribution with `units` - 4 degrees of freedom, for the four parameters of the logistic.
    """
    if not np.isfinite(value):
        return Estimate(value=None, low=None, high=None)
    finite = draws[np.isfinite(draws)]
    if len(finite) < _MIN_DRAWS:
        return Estimate(value=float(value), low=None, high=None)
    scale = _SCALES[statistic]
    at, resampled = scale.forward(np.asarray(value)), scale.forward(finite)
    # From quantiles: on these scales a few resamples with a perfect correlation would spoil mean and deviation.
    low_tail, median, high_tail = np.quantile(resampled, [_TAIL, 0.5, 1 - _TAIL])
    deviation = (high_tail - low_tail) / (2 * normal_quantile(1 - _TAIL))
    half_width = t_quantile(0.5 + level / 2, max(1, units - _LOGISTIC_PARAMETERS)) * deviation
    middle = 2 * at - median
    low, high = (float(scale.backward(np.asarray(bound))) for bound in (middle - half_width, middle + half_width))
    return _estimate(value, low, high)


def mean_estimate(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of a statistic over independent groups; without an interval when a group has none."""
    values = np.array([each.value for each in estimates if each.value is not None])
    if not len(values):
        return Estimate(value=None, low=None, high=None)
    mean = float(values.mean())
    lows, highs = ([getattr(each, side) for each in estimates if each.value is not None] for side in ("low", "high"))
    if None in lows or None in highs:
        return Estimate(value=mean, low=None, high=None)
    below, above = (float(np.sqrt(((values - np.array(bounds)) ** 2).sum())) / len(values) for bounds in (lows, highs))
    return Estimate(value=mean, low=mean - below, high=mean + above)


def _estimate(value: float, low: float, high: float) -> Estimate:
    """The interval holds the value."""
    return Estimate(value=float(value), low=min(low, float(value)), high=max(high, float(value)))


def _rank_bounds(statistic: str, value: float, *, units: int, level: float) -> tuple[float, float]:
    samples = _normal_samples(units)
    observed = 2 * value - 1 if statistic == "pairwise_accuracy" else value
    draws = samples.spearman if statistic == "srcc" else samples.kendall
    at_least = ((draws > observed + _EDGE).mean(axis=1) + (draws >= observed - _EDGE).mean(axis=1)) / 2
    at_least = np.maximum.accumulate(at_least)
    tails = [(1 - level) / 2, (1 + level) / 2]
    correlations = np.tanh(np.interp(tails, at_least, samples.fisher_z, left=-np.inf, right=np.inf))
    if statistic == "srcc":
        low, high = (6 / np.pi * np.arcsin(correlations / 2)).tolist()
    else:
        low, high = (2 / np.pi * np.arcsin(correlations)).tolist()
    return ((low + 1) / 2, (high + 1) / 2) if statistic == "pairwise_accuracy" else (low, high)


@dataclass(frozen=True, slots=True, kw_only=True)
class _NormalSamples:
    """Rank correlations (correlations, samples) of bivariate normal items, by Fisher's z of their correlation."""

    # rising
    fisher_z: Floats
    spearman: Floats
    kendall: Floats


@lru_cache(maxsize=_MIN_BOOTSTRAP_ITEMS)
def _normal_samples(units: int) -> _NormalSamples:
    rng = np.random.default_rng(units)
    first, second = rng.normal(size=(2, _SIMULATED_SAMPLES, units))
    ranks_of_first = mid_ranks(first)
    fisher_z = np.arange(0, _MAX_FISHER_Z + _FISHER_Z_STEP, _FISHER_Z_STEP)
    rank_correlations, pair_correlations = [], []
    for correlation in np.tanh(fisher_z).tolist():
        mixed = correlation * first + np.sqrt(1 - correlation**2) * second
        rank_correlations.append(pearson(ranks_of_first, mid_ranks(mixed)))
        pair_correlations.append(count_pairs(first, mixed).kendall_tau_b)
    # a correlation of the other sign mirrors the statistics
    return _NormalSamples(
        fisher_z=np.concatenate([-fisher_z[:0:-1], fisher_z]),
        spearman=np.concatenate([-np.array(rank_correlations)[:0:-1], rank_correlations]),
        kendall=np.concatenate([-np.array(pair_correlations)[:0:-1], pair_correlations]),
    )


def _linear_bounds(correlation: float, *, units: int, level: float) -> tuple[float, float]:
    degrees = units - 2 - _BENDING_PARAMETERS
    unexplained = (1 - correlation**2) * (units - 2) / degrees
    adjusted = np.sign(correlation) * np.sqrt(max(0.0, 1 - unexplained))
    centre = float(_fisher_z(np.asarray(adjusted)))
    # the logistic adds most to the spread where there is little to fit
    loose = t_quantile(0.5 + level / 2, max(1, degrees)) / np.sqrt(max(1, degrees - 1))
    tight = normal_quantile(0.5 + level / 2) / np.sqrt(max(1, units - 3))
    half_width = loose + (tight - loose) * adjusted**2 / 2
    return float(np.tanh(centre - half_width)), float(np.tanh(centre + half_width))


def difference(value: float, draws: Floats, *, level: float = 0.95) -> tuple[Estimate, float | None]:
    """A difference of two statistics with its bootstrap interval, and the two-sided p-value of no difference."""
    finite = draws[np.isfinite(draws)]
    if not np.isfinite(value) or len(finite) < _MIN_DRAWS:
        return Estimate(value=float(value) if np.isfinite(value) else None, low=None, high=None), None
    deviation = float(finite.std(ddof=1))
    middle = 2 * value - float(finite.mean())
    half_width = normal_quantile(0.5 + level / 2) * deviation
    interval = Estimate(value=float(value), low=min(middle - half_width, value), high=max(middle + half_width, value))
    if deviation == 0:
        return interval, 1.0 if middle == 0 else 0.0
    return interval, min(1.0, 2 * normal_cdf(-abs(middle) / deviation))


# ---- resamples


def resample(count: int, *, contents: Sequence[str], draws: int, rng: np.random.Generator) -> Iterator[Indices]:
    """Chunks (rows, items) of indices of resampled items; `draws` rows in all.

    `contents` names the content of each item, or is empty. With _MIN_CONTENTS contents or more, whole contents are
    resampled, because the items of one content are not independent.
    """
    members = _members(contents)
    if not resampled_contents(contents):
        rows = max(1, _MAX_CHUNK_ITEMS // count)
        for first in range(0, draws, rows):
            yield rng.integers(0, count, (min(rows, draws - first), count))
        return
    sizes = {len(content) for content in members}
    rows = max(1, _MAX_CHUNK_ITEMS // count) if len(sizes) == 1 else 1
    for first in range(0, draws, rows):
        drawn = rng.integers(0, len(members), (min(rows, draws - first), len(members)))
        yield np.stack([np.concatenate([members[content] for content in row]) for row in drawn])


def resampled_contents(contents: Sequence[str]) -> int:
    """How many contents are resampled as a whole; 0 when the items are resampled one by one."""
    count = len(set(contents))
    return count if _MIN_CONTENTS <= count < len(contents) else 0


def _members(contents: Sequence[str]) -> list[Indices]:
    """The indices of the items of each content."""
    if not contents:
        return []
    names, inverse = np.unique(np.asarray(contents), return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    return np.split(order, np.cumsum(np.bincount(inverse, minlength=len(names)))[:-1])
