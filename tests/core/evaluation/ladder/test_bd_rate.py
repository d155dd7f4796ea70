"""BD-rate against recorded values of a public implementation and against SciPy; convex hull on known curves."""

import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator

from vqmon.core.evaluation.ladder.bd_rate import RatePoint, bd_rate_percent, convex_hull

PUBLISHED = [
    # (rates, quality) of anchor and test, and what `bd_rate` of bjontegaard 1.3.0 gives with method="pchip"
    (
        [(85.95, 31.42), (157.11, 34.24), (309.58, 37.18), (686.76, 40.28)],
        [(112.75, 31.24), (204.93, 34.17), (407.8, 37.21), (893.34, 40.39)],
        31.379878202397627,
    ),
    (
        [(1358.24, 34.851), (2486.44, 36.845), (4593.6, 38.615), (9487.76, 40.037)],
        [(1356.24, 34.987), (2451.52, 36.97), (4469.0, 38.651), (9787.8, 40.121)],
        -4.417485350589045,
    ),
    (
        [(400, 62.1), (900, 74.9), (2000, 84.2), (4500, 91.0), (9000, 95.3)],
        [(350, 60.0), (700, 73.0), (1600, 85.0), (3000, 90.0), (8000, 96.0)],
        -16.658234479445653,
    ),
    ([(100, 20), (250, 55), (800, 61)], [(120, 25), (300, 54), (700, 60)], 20.07054331580442),
]


def curve(pairs: list[tuple[float, float]]) -> list[RatePoint]:
    return [RatePoint(rate_kbps=rate, quality=quality) for rate, quality in pairs]


@pytest.mark.parametrize(("anchor", "test", "percent"), PUBLISHED)
def test_bd_rate_is_that_of_a_public_implementation(
    anchor: list[tuple[float, float]], test: list[tuple[float, float]], percent: float
) -> None:
    assert bd_rate_percent(curve(anchor), curve(test)) == pytest.approx(percent, abs=1e-6)
    # the order of the points does not matter
    assert bd_rate_percent(curve(anchor[::-1]), curve(test)) == pytest.approx(percent, abs=1e-6)


def test_the_interpolation_is_that_of_scipy() -> None:
    """Random curves of two to seven points, with steep and flat parts."""
    random = np.random.default_rng(1)
    for _ in range(200):
        curves = []
        for _ in range(2):
            count = int(random.integers(2, 8))
            quality = 30 + np.cumsum(random.exponential(2.0, count) + 1e-3)
            curves.append((100 * np.cumprod(1.05 + random.exponential(1.0, count)), quality))
        low = max(quality[0] for _, quality in curves)
        high = min(quality[-1] for _, quality in curves)
        if high <= low:
            continue
        sides = [curve(list(zip(*map(np.ndarray.tolist, side), strict=True))) for side in curves]
        means = []
        for rates, quality in curves:
            if len(rates) == 2:
                logs = np.interp([low, high], quality, np.log10(rates))
                means.append(logs.mean())
            else:
                means.append(PchipInterpolator(quality, np.log10(rates)).integrate(low, high) / (high - low))
        expected = (10 ** (means[1] - means[0]) - 1) * 100
        assert bd_rate_percent(*sides) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_a_curve_of_the_same_quality_at_half_the_rate_saves_half() -> None:
    anchor = curve([(100, 30), (200, 35), (450, 38), (900, 40)])
    half = [RatePoint(rate_kbps=point.rate_kbps / 2, quality=point.quality) for point in anchor]
    assert bd_rate_percent(anchor, half) == pytest.approx(-50)
    assert bd_rate_percent(half, anchor) == pytest.approx(100)
    assert bd_rate_percent(anchor, anchor) == 0


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ([(100, 30)], "two points"),
        ([(100, 30), (200, 29), (400, 35)], "does not rise"),
        ([(100, 30), (200, 30)], "does not rise"),
        ([(100, 50), (200, 60)], "no quality that both curves reach"),
    ],
)
def test_curves_without_a_bd_rate_are_refused(test: list[tuple[float, float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bd_rate_percent(curve([(100, 30), (200, 35)]), curve(test))


def test_the_hull_of_two_sizes_takes_the_small_one_first() -> None:
    """The small size saturates, the large one is poor at low rates; a point under the chord is left out."""
    small = curve([(100, 30), (200, 36), (400, 38)])
    large = curve([(150, 25), (400, 40), (800, 45), (1600, 46)])
    expected = curve([(100, 30), (200, 36), (400, 40), (800, 45), (1600, 46)])
    assert convex_hull([*small, *large]) == expected
    assert convex_hull(curve([(100, 30), (200, 31), (300, 40)])) == curve([(100, 30), (300, 40)])
    # higher rates that give nothing are not on it
    assert convex_hull(curve([(100, 30), (200, 29)])) == curve([(100, 30)])
