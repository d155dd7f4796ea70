"""When a change began, how large the drop is, and which signals and scores moved with it."""

import pytest

from tests.core.alerts.regression.noise import ar1, run
from vqmon.core.alerts.regression.change_point import (
    LOW_DEVIATIONS,
    count_since_change,
    detected_drop,
    estimate_drop,
    moved_companions,
    update_companions,
)
from vqmon.core.alerts.regression.control_chart import EMPTY_CHART


@pytest.mark.parametrize("phi", [0.0, 0.6])
def test_the_interval_of_a_drop_holds_the_true_drop(phi: float) -> None:
    """Of 60 planted drops at least 54 lie inside, whatever the correlation of the noise."""
    inside = 0
    chart = run(EMPTY_CHART, ar1(9, 3000, phi))[-1]
    for seed in range(60):
        at = chart.last_end_at
        quiet = run(chart, ar1(100 + seed, 20, phi), start=at)[-1]
        fault = run(quiet, ar1(200 + seed, 200, phi) - 12, start=at + 80)
        drops = (detected_drop(state, delta_min=2.5, min_impact_minutes=0.0) for state in fault)
        drop = next(drop for drop in drops if drop is not None)
        inside += drop.low <= 12 <= drop.high
        assert drop.points == drop.baseline_level - drop.mean
    assert inside >= 54


def test_a_drop_begins_where_it_began() -> None:
    chart = run(EMPTY_CHART, ar1(9, 3000, 0.0))[-1]
    fault = run(chart, ar1(10, 40, 0.0) - 10, start=chart.last_end_at)
    drops = [detected_drop(state, delta_min=2.5, min_impact_minutes=0.0) for state in fault]
    first = next(drop for drop in drops if drop is not None)
    assert first.began_at == pytest.approx(chart.last_end_at, abs=4)


def test_a_drop_that_is_small_or_short_is_not_yet_one() -> None:
    """`delta_min`, and minutes affected."""
    chart = run(EMPTY_CHART, ar1(9, 3000, 0.0))[-1]
    low = run(chart, ar1(10, 40, 0.0) - 10, start=chart.last_end_at)[-1]
    assert detected_drop(low, delta_min=2.5, min_impact_minutes=3.9) is not None
    assert detected_drop(low, delta_min=2.5, min_impact_minutes=4.2) is None
    assert detected_drop(low, delta_min=12.0, min_impact_minutes=0.0) is None


def test_the_error_of_a_drop_follows_the_correlation_of_the_noise() -> None:
    """Of a mean of 12 values: one over the root of 12 for independent ones, twice that at a correlation of 0.6."""
    margins = []
    for phi in (0.0, 0.6):
        chart = run(EMPTY_CHART, ar1(9, 8000, phi))[-1]
        averages = tuple(average._replace(value_count=12.0, total=12 * 62.0) for average in chart.averages)
        drop = estimate_drop(chart._replace(averages=averages), 1)
        margins.append((drop.points - drop.low) / LOW_DEVIATIONS)
    assert margins[0] == pytest.approx(3 / 12**0.5, rel=0.15)
    assert margins[1] == pytest.approx(2 * margins[0], rel=0.25)


def test_companions_follow_the_changes_of_one_average() -> None:
    chart = run(EMPTY_CHART, ar1(9, 3000, 0.0))[-1]
    assert count_since_change(EMPTY_CHART) == 0.0
    assert count_since_change(run(chart, [55.0] * 9, start=chart.last_end_at)[-1]) == pytest.approx(9, abs=1)


def test_companions_learn_at_the_baseline_and_add_up_after_a_change() -> None:
    companions = None
    for n in range(200):
        companions = update_companions(companions, {"blur": 0.1, "noise": 0.2 + 0.02 * (n % 2)}, count_since_change=0)
    assert companions is not None
    assert companions.names == ("blur", "noise")
    assert companions.means == pytest.approx((0.1, 0.21), abs=0.001)
    assert companions.variances == pytest.approx((0.0, 0.0001), abs=2e-5)
    assert moved_companions(companions) == ()
    for count in (1.0, 2.0):
        companions = update_companions(companions, {"blur": 0.4, "noise": 0.215}, count_since_change=count)
    assert companions.count_since_change == 2.0
    assert companions.sums_since_change == pytest.approx((0.8, 0.43))
    (moved,) = moved_companions(companions)
    assert (moved.name, moved.before, moved.after) == ("blur", pytest.approx(0.1), pytest.approx(0.4))


def test_the_largest_move_in_own_deviations_comes_first() -> None:
    companions = update_companions(None, {"blur": 0.1, "liqe@1": 70.0}, count_since_change=0)
    companions = update_companions(companions, {"blur": 0.15, "liqe@1": 40.0}, count_since_change=1)
    assert [moved.name for moved in moved_companions(companions)] == ["liqe@1", "blur"]


def test_a_move_below_a_hundredth_of_the_scale_is_left_out() -> None:
    companions = update_companions(None, {"blur": 0.1, "liqe@1": 70.0}, count_since_change=0)
    companions = update_companions(companions, {"blur": 0.109, "liqe@1": 69.1}, count_since_change=1)
    assert moved_companions(companions) == ()


def test_other_names_start_the_statistics_anew() -> None:
    companions = update_companions(None, {"blur": 0.1}, count_since_change=0)
    companions = update_companions(companions, {"blur": 0.5, "noise": 0.2}, count_since_change=0)
    assert (companions.count, companions.means) == (1.0, (0.5, 0.2))
