"""When a change began, how large the drop is, and which signals and scores moved with it."""

import pytest

from tests.core.alerts.regression.noise import PARAMETERS, ar1, run
from vqmon.core.alerts.regression.change_point import (
    change_began_at,
    estimate_drop,
    moved_companions,
    update_companions,
)
from vqmon.core.alerts.regression.cusum import EMPTY_CHART, CusumState, is_alarm


@pytest.mark.parametrize("phi", [0.0, 0.6])
def test_the_interval_of_a_drop_holds_the_true_drop(phi: float) -> None:
    """Of 60 planted drops at least 52 lie inside, whatever the correlation of the noise."""
    inside = 0
    chart = run(EMPTY_CHART, ar1(9, 3000, phi))[-1]
    for seed in range(60):
        at = chart.cusum.last_end_at
        quiet = run(chart, ar1(100 + seed, 20, phi), start=at)[-1]
        fault = run(quiet, ar1(200 + seed, 200, phi) - 8, start=at + 80)
        drop = estimate_drop(next(state for state in fault if is_alarm(state.cusum, PARAMETERS)))
        inside += drop.low <= 8 <= drop.high
        assert drop.points == drop.baseline_level - drop.mean
    assert inside >= 52


def test_a_large_drop_begins_where_the_second_sum_left_zero() -> None:
    slow = CusumState(cusum=12.0, change_at=100.0, fast_cusum=3.0, fast_change_at=160.0, fast_count=2.0)
    assert change_began_at(slow) == 100.0
    assert change_began_at(slow._replace(fast_cusum=4.0)) == 160.0
    assert change_began_at(slow._replace(fast_cusum=4.0, fast_count=0.0)) == 100.0


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
