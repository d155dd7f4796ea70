"""Run lengths against published tables, and delays against reference values."""

import pytest

from vqmon.core.alerts.backtest.run_length import delay_quantiles, limit_for, run_length, siegmund_run_length


@pytest.mark.parametrize(
    ("h", "quiet", "shifted"),
    # Montgomery, Introduction to Statistical Quality Control, table of one-sided CUSUM run lengths for k = 1/2.
    [(4.0, 335.4, 8.38), (5.0, 930.9, 10.38)],
)
def test_run_lengths_are_those_of_the_tables(h: float, quiet: float, shifted: float) -> None:
    """Within one percent, without a shift and with one of a deviation."""
    assert run_length(0.5, h) == pytest.approx(quiet, rel=0.01)
    assert run_length(0.5, h, 1.0) == pytest.approx(shifted, rel=0.01)


@pytest.mark.parametrize(
    ("k", "steps", "h"),
    [(0.25, 21_600, 14.65), (0.5, 21_600, 8.13), (1.0, 21_600, 4.20), (0.5, 648_000, 11.53), (1.0, 648_000, 5.90)],
)
def test_limits_for_a_wanted_false_alarm_rate(k: float, steps: float, h: float) -> None:
    """One false alarm a day, or in thirty days, of 4-second segments; the limit found gives the rate asked for."""
    limit = limit_for(k, steps)
    assert limit == pytest.approx(h, abs=0.02)
    assert run_length(k, limit) == pytest.approx(steps, rel=0.01)
    assert siegmund_run_length(k, limit) == pytest.approx(steps, rel=0.12 * k)


@pytest.mark.parametrize(
    ("k", "h", "shift", "expected"),
    [(0.5, 8.13, 1, (14, 30)), (0.5, 11.53, 1, (21, 40)), (0.25, 14.65, 0.5, (46, 102)), (1.0, 5.9, 2, (6, 11))],
)
def test_delays_are_those_of_the_steady_state(k: float, h: float, shift: float, expected: tuple[float, float]) -> None:
    """Median and 95th percentile of the steps to the alarm."""
    assert delay_quantiles(k, h, shift) == expected


def test_a_shift_that_is_never_detected_is_refused() -> None:
    """Far below k no evidence gathers."""
    with pytest.raises(ValueError, match="not detected"):
        delay_quantiles(1.0, 20.0, 0.1)


def test_ten_times_fewer_false_alarms_cost_the_logarithm() -> None:
    """ln(10) / (2 k (shift - k)) segments more at one deviation."""
    later = run_length(0.5, limit_for(0.5, 216_000), 1.0) - run_length(0.5, limit_for(0.5, 21_600), 1.0)
    assert later == pytest.approx(4.6, abs=0.1)
