"""The trajectory of effects: which moments are recorded, how they thin out, and when there are bounds."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from tests import factories
from tests.factories import START
from vqmon.core.experiments.analysis.intervals import conservative_interval
from vqmon.core.experiments.analysis.trajectory import EffectTrajectory
from vqmon.core.experiments.stats.estimators import paired_difference
from vqmon.core.experiments.stats.sequential import MeanDifference, anytime_valid_interval, e_value

HYPOTHESIS = ("v2", "lite")


def estimate(mean: float, *, n: int = 20) -> MeanDifference:
    return MeanDifference(n=n, mean=mean, sd=1.0, degrees_of_freedom=n - 1)


def trajectory() -> EffectTrajectory:
    return EffectTrajectory(experiment=factories.experiment())


def advance(trajectory: EffectTrajectory, seconds: float, difference: MeanDifference | None) -> bool:
    """Reach this moment after START; whether an estimate was asked for."""
    calls = []
    trajectory.advance_to(START + timedelta(seconds=seconds), lambda: calls.append(seconds) or {HYPOTHESIS: difference})
    return bool(calls)


def test_points_are_recorded_once_a_minute_of_the_media_timeline() -> None:
    """The first moment is recorded, then the first moment of each later minute."""
    effects = trajectory()
    for seconds in (0, 4, 59, 60, 64, 190, 191, 240):
        advance(effects, seconds, estimate(1.0))

    assert [point.at for point in effects.points(HYPOTHESIS, alpha=0.05)] == [
        START + timedelta(seconds=seconds) for seconds in (0, 60, 190, 240)
    ]


def test_between_points_estimates_are_made_when_the_data_have_grown_by_one_percent() -> None:
    """Each of the first hundred outcomes, later ever fewer of them."""
    effects = trajectory()
    asked = [advance(effects, 0.01 * number, estimate(1.0)) for number in range(1000)]

    assert all(asked[:100])
    assert 200 < sum(asked) < 400


def test_the_step_doubles_when_there_are_too_many_points() -> None:
    """The 201st record drops every other one, and from then on only every second minute is recorded."""
    effects = trajectory()
    for minute in range(201):
        assert advance(effects, 60.0 * minute, estimate(float(minute)))
    points = effects.points(HYPOTHESIS, alpha=0.05)

    assert [point.mean for point in points] == [float(minute) for minute in range(1, 200, 2)]
    advance(effects, 60.0 * 201, estimate(0.0))
    assert len(effects.points(HYPOTHESIS, alpha=0.05)) == 100
    advance(effects, 60.0 * 202, estimate(0.0))
    assert len(effects.points(HYPOTHESIS, alpha=0.05)) == 101


def test_the_final_estimate_replaces_a_record_of_the_same_moment() -> None:
    """A later final estimate is one point more."""
    same, later = trajectory(), trajectory()
    for effects, seconds in ((same, 60.0), (later, 61.0)):
        advance(effects, 0.0, estimate(1.0))
        advance(effects, 60.0, estimate(2.0))
        effects.finish(START + timedelta(seconds=seconds), {HYPOTHESIS: estimate(3.0)})

    assert [point.mean for point in same.points(HYPOTHESIS, alpha=0.05)] == [1.0, 3.0]
    assert [point.mean for point in later.points(HYPOTHESIS, alpha=0.05)] == [1.0, 2.0, 3.0]


def test_points_have_bounds_from_twenty_clusters_on() -> None:
    """The bounds are those of the confidence sequence at that moment and level."""
    effects = trajectory()
    advance(effects, 0.0, None)
    advance(effects, 60.0, estimate(1.0, n=19))
    advance(effects, 120.0, estimate(1.0, n=20))
    few, enough = effects.points(HYPOTHESIS, alpha=0.01)
    interval = anytime_valid_interval(estimate(1.0), rho=effects.rho, alpha=0.01)

    assert (few.clusters, few.mean, few.low, few.high) == (19, 1.0, None, None)
    assert (enough.clusters, enough.low, enough.high) == (20, interval.low, interval.high)


def test_the_largest_e_value_of_any_record_stays() -> None:
    """Evidence that fades later still counts; records with fewer than 20 clusters never do."""
    effects = trajectory()
    advance(effects, 0.0, estimate(90.0, n=19))
    assert effects.max_e_values == {}
    advance(effects, 60.0, estimate(2.0))
    advance(effects, 120.0, estimate(0.0, n=21))

    assert effects.max_e_values == {HYPOTHESIS: pytest.approx(e_value(estimate(2.0), rho=effects.rho))}


def test_an_unknown_hypothesis_has_no_points() -> None:
    """Another arm, or nothing recorded at all."""
    effects = trajectory()
    assert effects.points(HYPOTHESIS, alpha=0.05) == []
    advance(effects, 0.0, estimate(1.0))
    assert effects.points(("v3", "lite"), alpha=0.05) == []


def test_a_winner_stays_one_when_the_effect_fades_but_keeps_its_sign() -> None:
    """The interval in common of all moments is what counts; a mean that leaves it ends the conclusion."""
    effects = trajectory()
    advance(effects, 0.0, estimate(0.9, n=30))
    advance(effects, 60.0, estimate(0.4, n=31))
    strong, now = (anytime_valid_interval(estimate(mean, n=31), rho=effects.rho, alpha=0.05) for mean in (0.9, 0.4))
    common, _ = effects.common_intervals(HYPOTHESIS, now)
    turned = anytime_valid_interval(estimate(-0.1, n=31), rho=effects.rho, alpha=0.05)

    assert strong.low > 0 > now.low
    assert 0 < common.low <= common.mean <= common.high
    assert effects.common_intervals(HYPOTHESIS, turned)[0] == turned


@pytest.mark.parametrize("seed", range(6))
def test_what_intervals_have_in_common_is_exact_where_bounds_are_not_searched_for(seed: int) -> None:
    """Gains with rare losses: the same as the common part of all conservative intervals, each computed in full."""
    chance, effects = np.random.default_rng(seed), trajectory()
    values = np.where(chance.random(60) < 0.08, -4.0, 0.9) + chance.normal(0, 0.3, 60)
    low, high = -np.inf, np.inf
    for n in range(20, 61):
        current = paired_difference(values[:n])
        assert current is not None
        advance(effects, 60.0 * n, current)
        current = effects.with_information(HYPOTHESIS, current)
        interval = anytime_valid_interval(current, rho=effects.rho, alpha=0.05)
        full = conservative_interval(factories.experiment(), current, interval)
        low, high = max(low, full.low), min(high, full.high)
    common = effects.common_intervals(HYPOTHESIS, interval)[1]

    assert (common.low, common.high) == pytest.approx((low, high), abs=1e-7)


def test_an_effect_that_has_changed_is_no_certain_one() -> None:
    """A gain of 3 that fades to 1: intervals that exclude each other leave that of the last moment, not a point."""
    effects = trajectory()
    advance(effects, 0.0, estimate(3.0, n=30))
    advance(effects, 60.0, estimate(1.0, n=90))
    effects.finish(START + timedelta(seconds=120), {HYPOTHESIS: estimate(1.9, n=91)})
    now = anytime_valid_interval(estimate(1.9, n=91), rho=effects.rho, alpha=0.05)
    common, conservative = effects.common_intervals(HYPOTHESIS, now)

    assert common == now
    assert conservative.low <= now.low < now.mean < now.high <= conservative.high


def test_streams_that_become_more_precise_have_more_information() -> None:
    """A tenth of the deviation is worth a hundred times the clusters; sessions only count."""
    effects = trajectory()
    advance(effects, 0.0, estimate(1.0))
    precise = replace(estimate(1.0), sd=0.1)

    assert effects.with_information(HYPOTHESIS, precise).information == pytest.approx(2000)
    assert effects.with_information(HYPOTHESIS, replace(precise, sd=3.0)).information == 20
    assert effects.with_information(("v3", "lite"), precise).information is None
