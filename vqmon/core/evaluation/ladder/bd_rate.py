"""Bjøntegaard's delta rate between two rate-quality curves, and the convex hull of several curves.

Bjøntegaard, "Calculation of average PSNR differences between RD-curves", VCEG-M33, 2001: the difference of log10(rate),
averaged over the quality that both curves reach, as a change of the rate. His cubic polynomial overshoots between
distant points; the curves are interpolated by piecewise cubic Hermite polynomials, as in Bjøntegaard, "Improvements of
the BD-PSNR model", VCEG-AI11, 2008, and the common test conditions of HEVC and VVC. The slopes are those of Fritsch and
Butland, "A method for constructing local monotone piecewise cubic interpolants", SIAM J. Sci. Stat. Comput. 5, 1984,
with the one-sided three-point slopes at the ends that MATLAB's and SciPy's `pchip` have.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class RatePoint:
    """A point of a rate-quality curve; quality is higher where the picture is better, on any scale."""

    rate_kbps: float
    quality: float


def bd_rate_percent(anchor: Sequence[RatePoint], test: Sequence[RatePoint]) -> float:
    """How much more rate `test` needs than `anchor` for the same quality, in percent; below 0 it saves rate.

    Raises ValueError when a curve has fewer than two points, when its quality does not rise with the rate throughout,
    or when no quality is reached by both curves.
    """
    curves = [_log_rate_over_quality(points) for points in (anchor, test)]
    low = max(float(quality[0]) for quality, _ in curves)
    high = min(float(quality[-1]) for quality, _ in curves)
    if high <= low:
        raise ValueError("there is no quality that both curves reach")
    mean_anchor, mean_test = (_integral(*curve, low, high) / (high - low) for curve in curves)
    return float((10 ** (mean_test - mean_anchor) - 1) * 100)


def convex_hull(points: Sequence[RatePoint]) -> list[RatePoint]:
    """The upper convex hull in the plane of rate and quality, by rising rate, up to the best quality.

    Of several renditions these points are the ones worth to be streamed: De Cock et al., "Complexity-based
    consistent-quality encoding in the cloud", ICIP 2016.
    """
    hull: list[RatePoint] = []
    for point in sorted(points, key=lambda each: (each.rate_kbps, -each.quality)):
        if hull and point.quality <= hull[-1].quality:
            continue
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) <= _slope(hull[-1], point):
            hull.pop()
        hull.append(point)
    return hull


def _slope(first: RatePoint, second: RatePoint) -> float:
    return (second.quality - first.quality) / (second.rate_kbps - first.rate_kbps)


def _log_rate_over_quality(points: Sequence[RatePoint]) -> tuple[_Floats, _Floats]:
    """(quality, log10 of the rate), both rising."""
    ordered = sorted(points, key=lambda point: point.rate_kbps)
    quality = np.array([point.quality for point in ordered])
    rates = np.array([point.rate_kbps for point in ordered])
    if len(ordered) < 2:
        raise ValueError("a curve needs two points or more")
    if (rates <= 0).any() or (np.diff(quality) <= 0).any() or (np.diff(rates) <= 0).any():
        raise ValueError("the quality does not rise with the rate throughout")
    return quality, np.log10(rates)


def _integral(x: _Floats, y: _Floats, low: float, high: float) -> float:
    """The integral of the interpolation of y over x, from `low` to `high` within the range of x."""
    widths, slopes = np.diff(x), _hermite_slopes(x, y)
    secants = np.diff(y) / widths
    squares = (3 * secants - 2 * slopes[:-1] - slopes[1:]) / widths
    cubes = (slopes[:-1] + slopes[1:] - 2 * secants) / widths**2

    def antiderivative(t: _Floats) -> _Floats:
        result: _Floats = t * (y[:-1] + t * (slopes[:-1] / 2 + t * (squares / 3 + t * cubes / 4)))
        return result

    begins = np.clip(low - x[:-1], 0, widths)
    ends = np.clip(high - x[:-1], 0, widths)
    return float((antiderivative(ends) - antiderivative(begins)).sum())


def _hermite_slopes(x: _Floats, y: _Floats) -> _Floats:
    widths = np.diff(x)
    secants = np.diff(y) / widths
    if len(x) == 2:
        return np.repeat(secants, 2)
    left, right = 2 * widths[1:] + widths[:-1], widths[1:] + 2 * widths[:-1]
    slopes = np.zeros(len(x))
    # secants of one sign everywhere: y rises with x
    is_inner = (secants[:-1] > 0) & (secants[1:] > 0)
    inverse = left / np.where(is_inner, secants[:-1], 1) + right / np.where(is_inner, secants[1:], 1)
    slopes[1:-1] = np.where(is_inner, (left + right) / inverse, 0.0)
    slopes[0] = _end_slope(widths[0], widths[1], secants[0], secants[1])
    slopes[-1] = _end_slope(widths[-1], widths[-2], secants[-1], secants[-2])
    return slopes


def _end_slope(width: float, next_width: float, secant: float, next_secant: float) -> float:
    """Three-point formula at an end, limited so that the interpolation stays monotone."""
    slope = ((2 * width + next_width) * secant - width * next_secant) / (width + next_width)
    if slope * secant <= 0:
        return 0.0
    return 3 * secant if secant * next_secant <= 0 and abs(slope) > 3 * abs(secant) else slope
