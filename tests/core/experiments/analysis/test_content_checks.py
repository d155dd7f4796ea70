"""Checks of what was compared: the limits at which each fails."""

import numpy as np
import pytest

from vqmon.core.experiments.analysis.content_checks import (
    check_dependence,
    check_long_sessions,
    check_lost_content,
    check_repeated_content,
    check_ruling_cluster,
    check_ruling_unit,
    check_spread,
)
from vqmon.core.experiments.data.losses import LossEvidence
from vqmon.core.experiments.data.units import Unit
from vqmon.core.experiments.results import ConfidenceInterval
from vqmon.core.experiments.stats.sequential import MeanDifference


def estimate(*, mean: float = 1.0, sd: float = 1.0, effective_n: float | None = None) -> MeanDifference:
    return MeanDifference(
        n=40, mean=mean, sd=sd, degrees_of_freedom=39, effective_n=effective_n, control_mean=60.0, arm_mean=60.0 + mean
    )


@pytest.mark.parametrize(
    ("mean", "sd", "is_good", "weight"),
    [
        (0.3, 0.0, False, "blocks"),
        (0.3, 1e-13, False, "blocks"),
        (0.3, 0.002, False, "blocks"),
        (0.0, 0.0, False, "blocks"),
        (0.0, 1e-4, False, "blocks"),
        (0.0, 0.01, True, "blocks"),
        (0.3, 0.01, True, "blocks"),
    ],
)
def test_differences_without_spread_block(mean: float, sd: float, weight: str, *, is_good: bool) -> None:
    """Rounding is no spread; scores are about 60."""
    check = check_spread(estimate(mean=mean, sd=sd))
    assert (check.is_good, check.weight) == (is_good, weight)
    assert bool(check.remedy) is not is_good


def evidence(*, p_within: float = 1.0, p_score: float = 1.0, p_difference: float = 1.0) -> LossEvidence:
    return LossEvidence(
        arm="v2", lost=20, points_higher=-3.0, p_within=p_within, p_score=p_score, p_difference=p_difference
    )


def test_each_way_in_which_losses_depend_on_content_is_named() -> None:
    """At p < .001; and more than a tenth of the segments, lost by one arm, is too many without any."""
    assert check_lost_content([evidence(p_within=0.002)], pairs=1000).is_good
    assert "3.0 points lower" in check_lost_content([evidence(p_within=1e-4)], pairs=1000).text
    assert "score otherwise" in check_lost_content([evidence(p_score=1e-4)], pairs=1000).text
    assert "differ otherwise" in check_lost_content([evidence(p_difference=1e-4)], pairs=1000).text
    assert check_lost_content([evidence()], pairs=180).is_good
    assert check_lost_content([evidence(), evidence()], pairs=180).is_good
    assert not check_lost_content([evidence()], pairs=170).is_good


def test_repeated_contents_block_beyond_five_percent() -> None:
    """Rows are number of pairs and both means; one difference is enough to be another content."""
    values = np.column_stack([np.full(40, 12.0), np.arange(40.0), np.arange(40.0) + 1])
    assert check_repeated_content(values).is_good
    values[1:4] = values[0]
    assert not check_repeated_content(values).is_good
    values[1:4, 2] += (0.1, 0.2, 0.3)
    assert check_repeated_content(values).is_good
    assert check_repeated_content(np.empty((0, 3))).is_good


def test_one_content_that_makes_most_of_the_spread_is_named() -> None:
    values = np.random.default_rng(1).normal(0, 1, 30)
    even = check_ruling_cluster(values, [f"film-{k}" for k in range(30)])
    values[7] = 30.0
    ruled = check_ruling_cluster(values, [f"film-{k}" for k in range(30)])

    assert even is not None
    assert even.is_good
    assert ruled is not None
    assert not ruled.is_good
    assert "film-7 differs by +30.00" in ruled.text
    assert check_ruling_cluster(values[:7], ["x"] * 7) is None
    assert check_ruling_cluster(np.ones(30), ["x"] * 30) is None


def unit(difference: float, without: float) -> Unit:
    return Unit(attribute="title", value="t0", share=0.1, difference=difference, difference_without=without)


def interval(low: float, high: float) -> ConfidenceInterval:
    return ConfidenceInterval(mean=(low + high) / 2, low=low, high=high, level=0.95, kind="any-time")


def test_a_winner_needs_a_third_of_its_difference_without_any_title() -> None:
    better, worse = interval(1.0, 11.0), interval(-11.0, -1.0)
    check = check_ruling_unit([unit(6.0, 5.9), unit(6.0, 1.9)], better, margin=1.25)

    assert check is not None
    assert (check.name, check.weight) == ("concentration", "blocks")
    assert "title t0 alone, with 10% of the segments, makes the difference: +6 with it, +1.9 without" in check.text
    assert check_ruling_unit([unit(6.0, 2.1)], better, margin=1.25) is None
    assert check_ruling_unit([unit(6.0, 9.0)], better, margin=1.25) is None
    assert check_ruling_unit([unit(-6.0, 0.1)], worse, margin=1.25) is not None


def test_without_a_winner_no_title_may_move_the_mean_by_the_margin() -> None:
    """ "Not worse" and "equivalent" are conclusions too; what is undecided is not blocked."""
    assert check_ruling_unit([unit(4.0, -2.0)], interval(-1.0, 9.0), margin=1.25) is not None
    assert check_ruling_unit([unit(0.1, -0.5)], interval(-1.0, 1.0), margin=1.25) is None
    assert check_ruling_unit([unit(4.0, -2.0)], interval(-3.0, 9.0), margin=1.25) is None


def test_sessions_beyond_the_limit_are_named_when_they_hold_a_fifth() -> None:
    """One of a hundred sessions has a hundred times the segments of the others."""
    counts = np.full(100, 20.0)
    even = check_long_sessions([counts[:50], counts[50:]], limit_medians=10)
    counts[3] = 2000.0
    robots = check_long_sessions([counts[:50], counts[50:]], limit_medians=10)

    assert even is not None
    assert even.is_good
    assert robots is not None
    assert not robots.is_good
    assert "1 of 100 sessions" in robots.text
    assert check_long_sessions([counts[:3], counts[:3]], limit_medians=10) is None


def test_dependence_is_stated_for_blocks_only() -> None:
    assert check_dependence(estimate()) is None
    weak, strong = check_dependence(estimate(effective_n=30.0)), check_dependence(estimate(effective_n=9.0))
    assert weak is not None
    assert strong is not None
    assert (weak.is_good, strong.is_good) == (True, False)
    assert "40 blocks are worth 9 independent ones" in strong.text
