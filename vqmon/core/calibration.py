"""Calibration: maps a scorer's native values to 0 to 100, to percentiles of a population, and to intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A monotone, piecewise linear map through (native, 0..100) points; constant beyond its first and last point."""

    version: int
    points: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        _check_points(self.points, what="a calibration", values="calibrated values")

    def apply(self, native: float) -> float:
        """The 0..100 score of a native value.

        >>> Calibration(version=1, points=((1.0, 0.0), (5.0, 100.0))).apply(3.0)
        50.0
        """
        return _interpolate(self.points, native)


@dataclass(frozen=True, slots=True, kw_only=True)
class PercentileTable:
    """The share of a population that is worse than a native value, in percent: piecewise linear as a Calibration."""

    # e.g. "BIQ2021, test split: 2000 photos"
    population: str
    # (native, 0..100), in the direction of the calibration: a better picture has a higher percentile
    points: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        _check_points(self.points, what="a table of percentiles", values="percentiles")
        if not self.population:
            raise ValueError("a table of percentiles names its population")

    def apply(self, native: float) -> float:
        """The percentile of a native value, 0..100."""
        return _interpolate(self.points, native)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreInterval:
    """Where the mean human score of a segment is expected, on 0..100, with probability `coverage`."""

    low: float
    high: float
    coverage: float

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high <= 100:
            raise ValueError(f"not an interval within 0..100: {self.low}..{self.high}")
        _check_coverage(self.coverage)


@dataclass(frozen=True, slots=True, kw_only=True)
class IntervalTable:
    """How far human scores lie below and above a scorer's value, at each value of 0..100.

    `points` are (value, below, above) in points of 0..100, with rising values; linear between them and constant beyond.
    """

    # share of the population whose human score lies in its interval
    coverage: float
    population: str
    points: tuple[tuple[float, float, float], ...]

    def __post_init__(self) -> None:
        values = [value for value, _, _ in self.points]
        if not values or sorted(set(values)) != values or not 0 <= values[0] <= values[-1] <= 100:
            raise ValueError("an interval needs one or more points with values that rise within 0..100")
        if not all(0 <= width <= 100 for _, below, above in self.points for width in (below, above)):
            raise ValueError("the widths of an interval must be within 0..100")
        _check_coverage(self.coverage)
        if not self.population:
            raise ValueError("an interval names its population")

    def at(self, value: float) -> ScoreInterval:
        """The interval of a 0..100 score, cut off at 0 and 100, to four decimals.

        >>> IntervalTable(coverage=0.9, population="photos", points=((0.0, 10.0, 20.0),)).at(95.0)
        ScoreInterval(low=85.0, high=100.0, coverage=0.9)
        """
        values, below, above = zip(*self.points, strict=True)
        low = max(0.0, value - float(np.interp(value, values, below)))
        high = min(100.0, value + float(np.interp(value, values, above)))
        return ScoreInterval(low=round(low, 4), high=round(high, 4), coverage=self.coverage)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreNoise:
    """How far a scorer's values of one segment lie apart for reasons that no viewer sees.

    `deviation` is the standard deviation, in points of 0..100, of the scores of the same content when other pictures of
    it are sampled, or its pixel format is another.
    """

    population: str
    deviation: float

    def __post_init__(self) -> None:
        if not 0 < self.deviation <= 50:
            raise ValueError(f"the deviation of a score's noise must be above 0 and at most 50, got {self.deviation}")
        if not self.population:
            raise ValueError("a score's noise names its population")


def percentile_of(percentiles: PercentileTable | None, native: float) -> float | None:
    """The percentile of a segment's native value, to two decimals; None without a table."""
    return None if percentiles is None else round(percentiles.apply(native), 2)


def interval_at(intervals: IntervalTable | None, value: float) -> ScoreInterval | None:
    """The interval of a segment's 0..100 score; None without a table."""
    return None if intervals is None else intervals.at(value)


def _interpolate(points: Sequence[tuple[float, float]], native: float) -> float:
    natives, values = zip(*points, strict=True)
    return float(np.interp(native, natives, values))


def _check_points(points: Sequence[tuple[float, float]], *, what: str, values: str) -> None:
    natives, mapped = [native for native, _ in points], [value for _, value in points]
    if len(natives) < 2 or sorted(set(natives)) != natives:
        raise ValueError(f"{what} needs two or more points with rising native values")
    if not all(0 <= value <= 100 for value in mapped):
        raise ValueError(f"{values} must be within 0..100")
    if mapped not in (sorted(mapped), sorted(mapped, reverse=True)):
        raise ValueError(f"{values} must be monotone")


def _check_coverage(coverage: float) -> None:
    if not 0 < coverage < 1:
        raise ValueError(f"coverage must be above 0 and below 1, got {coverage}")
