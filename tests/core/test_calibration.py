"""Calibration: a monotone map from native values to 0..100."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqmon.core.calibration import Calibration

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
