"""Fits the calibration of a scorer to human scores: the map to 0..100, percentiles, and intervals with their coverage.

The map is the 4-parameter logistic as a piecewise linear function. Intervals are split-conformal (Vovk, Gammerman and
Shafer, "Algorithmic learning in a random world", 2005) on residuals of items that were held out of the fit: whole
contents are held out where they are known.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vqmon.core.calibration import Calibration, IntervalTable, PercentileTable
from vqmon.core.evaluation.logistic import fit_logistic

Floats = NDArray[np.float64]

_MIN_ITEMS = 50
"""With fewer items, neither the map nor the interval is worth stating."""
_FOLDS = 5
_KNOTS = 12
_PERCENTILES = (0.0, 1.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 95.0, 99.0, 100.0)
_ITEMS_PER_BIN = 100
_MAX_BINS = 5
_COVERAGE_SPLITS = 20
_DECIMALS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationSample:
    """Items with human scores on 0..100; arrays (items,)."""

    natives: Floats
    scores: Floats
    # items of one content are held out together; empty = unknown
    contents: Sequence[str] = ()

    def folds(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        """The fold 0..count - 1 of each item; the items of a content share one."""
        _, inverse = np.unique(np.asarray(self.contents or range(len(self.natives))), return_inverse=True)
        units = int(inverse.max()) + 1
        return np.asarray((rng.permutation(units) % count)[inverse])

    def select(self, rows: NDArray[np.bool_]) -> "CalibrationSample":
        contents = tuple(np.asarray(self.contents)[rows].tolist()) if self.contents else ()
        return CalibrationSample(natives=self.natives[rows], scores=self.scores[rows], contents=contents)


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedCalibration:
    """A calibration with its error on held-out items, in points of 0..100."""

    calibration: Calibration
    percentiles: PercentileTable
    interval: IntervalTable
    items: int
    # of the held-out value against the human score
    error_rms: float
    error_p95: float
    # mean of human score - value
    bias: float
    # share of held-out items within their interval, in resplits of the residuals into one half that sets the widths
    # and another that is counted
    coverage: float
    # the value of each item by a fit that did not see it
    held_out_values: tuple[float, ...]


_Revalue = Callable[[Calibration, NDArray[np.intp]], Floats]
"""The 0..100 values of the items at these indices under a calibration."""


def fit_calibration(
    sample: CalibrationSample,
    revalue: _Revalue,
    *,
    version: int,
    higher_is_better: bool,
    coverage: float,
    population: str,
    seed: int = 1,
) -> FittedCalibration:
    """Fit the map, the percentiles and the intervals to a sample.

    Raises ValueError for too few items, and for native values that do not rise (or fall) with the human scores.
    """
    if len(sample.natives) < _MIN_ITEMS:
        raise ValueError(f"{len(sample.natives)} items; a calibration needs at least {_MIN_ITEMS}")
    rng = np.random.default_rng(seed)
    calibration = _fit_map(sample, version=version, higher_is_better=higher_is_better)
    folds = sample.folds(rng, _FOLDS)
    values = np.empty(len(sample.natives))
    for fold in range(_FOLDS):
        held_out = folds == fold
        fitted = _fit_map(sample.select(~held_out), version=version, higher_is_better=higher_is_better)
        values[held_out] = revalue(fitted, np.flatnonzero(held_out))
    errors = sample.scores - values
    return FittedCalibration(
        calibration=calibration,
        percentiles=_percentiles(sample.natives, higher_is_better=higher_is_better, population=population),
        interval=_intervals(values, errors, coverage=coverage, population=population),
        items=len(errors),
        error_rms=float(np.sqrt((errors**2).mean())),
        error_p95=float(np.percentile(np.abs(errors), 95)),
        bias=float(errors.mean()),
        coverage=_measured_coverage(sample, values, coverage=coverage, population=population, rng=rng),
        held_out_values=tuple(values.tolist()),
    )


def _fit_map(sample: CalibrationSample, *, version: int, higher_is_better: bool) -> Calibration:
    logistic = fit_logistic(sample.natives, sample.scores)
    low, high = np.quantile(sample.natives, [0.002, 0.998])
    natives: Floats = np.unique(np.round(np.linspace(float(low), float(high), _KNOTS), _DECIMALS))
    scores = np.clip(logistic(natives), 0, 100)
    if len(natives) < 2 or scores[0] == scores[-1] or (scores[0] < scores[-1]) != higher_is_better:
        direction = "rise" if higher_is_better else "fall"
        raise ValueError(f"the scorer's native values do not {direction} with the human scores")
    points = zip(natives.tolist(), np.round(scores, 4).tolist(), strict=True)
    return Calibration(version=version, points=tuple(points))


def _percentiles(natives: Floats, *, higher_is_better: bool, population: str) -> PercentileTable:
    quantiles = np.round(np.quantile(natives, [percent / 100 for percent in _PERCENTILES]), _DECIMALS)
    points: dict[float, float] = {}
    for native, percent in zip(quantiles.tolist(), _PERCENTILES, strict=True):
        points[native] = max(percent, points.get(native, 0.0))
    ranked = tuple((native, percent if higher_is_better else 100 - percent) for native, percent in points.items())
    return PercentileTable(population=population, points=ranked)


def _intervals(values: Floats, errors: Floats, *, coverage: float, population: str) -> IntervalTable:
    """Widths below and above in bins of about equal size by value; one bin for a small sample."""
    order = np.argsort(values, kind="stable")
    points: dict[float, tuple[float, float]] = {}
    for rows in np.array_split(order, min(_MAX_BINS, max(1, len(order) // _ITEMS_PER_BIN))):
        centre = round(float(np.clip(np.median(values[rows]), 0, 100)), 4)
        widths = [_conformal_quantile(side * errors[rows], 0.5 + coverage / 2) for side in (-1, 1)]
        below, above = (round(float(np.clip(width, 0, 100)), 4) for width in widths)
        points[centre] = (below, above)
    return IntervalTable(
        coverage=coverage,
        population=population,
        points=tuple((centre, below, above) for centre, (below, above) in sorted(points.items())),
    )


def _conformal_quantile(errors: Floats, level: float) -> float:
    """The smallest error that is not exceeded with probability `level` by another item of the same distribution."""
    rank = math.ceil((len(errors) + 1) * level)
    ordered = np.sort(errors)
    return float(ordered[rank - 1]) if rank <= len(ordered) else float(ordered[-1]) + float(np.ptp(ordered)) / 2


def _measured_coverage(
    sample: CalibrationSample, values: Floats, *, coverage: float, population: str, rng: np.random.Generator
) -> float:
    errors, covered = sample.scores - values, []
    for _ in range(_COVERAGE_SPLITS):
        half = sample.folds(rng, 2) == 0
        table = _intervals(values[half], errors[half], coverage=coverage, population=population)
        intervals = [table.at(float(np.clip(value, 0, 100))) for value in values[~half]]
        within = [
            interval.low <= score <= interval.high
            for interval, score in zip(intervals, sample.scores[~half].tolist(), strict=True)
        ]
        covered.append(float(np.mean(within)))
    return float(np.mean(covered))
