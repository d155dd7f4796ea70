"""Calibration: monotone maps from native values to 0..100 and to percentiles, and intervals around a score."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqmon.core.calibration import Calibration, IntervalTable, PercentileTable, ScoreInterval

RISING = Calibration(version=1, points=((1.0, 0.0), (2.0, 50.0), (5.0, 100.0)))
FALLING = Calibration(version=1, points=((0.0, 100.0), (10.0, 0.0)))


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_order_is_kept_and_the_range_is_never_left(one: float, other: float) -> None:
    """A better native value never gets a lower score, whichever direction is better."""
    low, high = sorted((one, other))
    assert 0 <= RISING.apply(low) <= RISING.apply(high) <= 100
    assert 100 >= FALLING.apply(low) >= FALLING.apply(high) >= 0


def test_points_are_met_exactly_and_ends_are_held() -> None:
    """The map goes through its points and stays flat beyond them."""
    assert [RISING.apply(native) for native in (0.0, 1.0, 1.5, 2.0, 3.5, 5.0, 9.0)] == [0, 0, 25, 50, 75, 100, 100]


@pytest.mark.parametrize(
    "points",
    [
        ((1.0, 0.0),),
        ((2.0, 0.0), (1.0, 100.0)),
        ((1.0, 0.0), (1.0, 100.0)),
        ((1.0, 0.0), (2.0, 101.0)),
        ((1.0, 0.0), (2.0, 50.0), (3.0, 20.0)),
    ],
)
def test_a_map_that_is_none_is_refused(points: tuple[tuple[float, float], ...]) -> None:
    """Too few points, natives that do not rise, scores out of range or not monotone are refused."""
    with pytest.raises(ValueError, match="calibrat"):
        Calibration(version=1, points=points)


def test_a_percentile_is_the_share_of_the_population_that_is_worse() -> None:
    """Linear between the points, 0 and 100 beyond them, also on a scale where lower is better."""
    rising = PercentileTable(population="photos", points=((0.0, 0.0), (2.0, 50.0), (3.0, 100.0)))
    falling = PercentileTable(population="photos", points=((0.0, 100.0), (10.0, 0.0)))
    assert [rising.apply(native) for native in (-1.0, 1.0, 2.5, 9.0)] == [0, 25, 75, 100]
    assert falling.apply(2.5) == 75


def test_an_interval_follows_the_score_and_ends_at_the_scale() -> None:
    """Widths are interpolated between points; the interval never leaves 0..100."""
    intervals = IntervalTable(coverage=0.8, population="photos", points=((20.0, 10.0, 30.0), (60.0, 20.0, 10.0)))
    assert intervals.at(40.0) == ScoreInterval(low=25.0, high=60.0, coverage=0.8)
    assert intervals.at(4.0) == ScoreInterval(low=0.0, high=34.0, coverage=0.8)
    assert intervals.at(95.0) == ScoreInterval(low=75.0, high=100.0, coverage=0.8)


@pytest.mark.parametrize(
    ("coverage", "points", "message"),
    [
        (0.9, (), "one or more points"),
        (0.9, ((50.0, 1.0, 1.0), (40.0, 1.0, 1.0)), "rise within 0..100"),
        (0.9, ((101.0, 1.0, 1.0),), "rise within 0..100"),
        (0.9, ((50.0, -1.0, 1.0),), "widths"),
        (90.0, ((50.0, 1.0, 1.0),), "coverage must be above 0 and below 1"),
    ],
)
def test_a_table_of_intervals_with_a_mistake_is_refused(
    coverage: float, points: tuple[tuple[float, float, float], ...], message: str
) -> None:
    """One case per rule."""
    with pytest.raises(ValueError, match=message):
        IntervalTable(coverage=coverage, population="photos", points=points)
