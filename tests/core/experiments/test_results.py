"""The results of an experiment: what an interval accepts, when a signal needs a look, and how results are found."""

import math
from dataclasses import replace

import pytest

from tests import factories
from tests.factories import START
from vqmon.core.experiments.human_review import PairExample
from vqmon.core.experiments.results import HISTOGRAM_BINS, ConfidenceInterval, SignalDifference, interval_decimals

PAIR = PairExample(
    id="c:a",
    role="worst",
    cluster="film-001",
    starts_at=START,
    control_event_id="c",
    arm_event_id="a",
    control_key="film-001/v1",
    arm_key="film-001/v2",
    control_score=60.0,
    arm_score=52.5,
)


@pytest.mark.parametrize(("low", "mean", "high"), [(1.0, 1.0, 1.0), (-2.0, -2.0, 3.0), (-math.inf, 0.0, math.inf)])
def test_an_interval_may_touch_its_mean_or_be_unbounded(low: float, mean: float, high: float) -> None:
    interval = ConfidenceInterval(mean=mean, low=low, high=high, level=0.95, kind="final")
    assert (interval.low, interval.mean, interval.high) == (low, mean, high)


@pytest.mark.parametrize(
    ("low", "mean", "high"),
    [(1.1, 1.0, 2.0), (0.0, 2.1, 2.0), (2.0, 1.0, 0.0), (0.0, math.nan, 1.0), (math.nan, 0.0, 1.0)],
)
def test_an_interval_that_does_not_hold_its_mean_is_refused(low: float, mean: float, high: float) -> None:
    with pytest.raises(ValueError, match="not an interval"):
        ConfidenceInterval(mean=mean, low=low, high=high, level=0.95, kind="any-time")


@pytest.mark.parametrize(
    ("low", "high", "decimals"),
    [(-1.0, 3.0, 2), (0.29, 0.31, 3), (0.2985, 0.3012, 4), (-3e-6, 4e-6, 7), (1.0, 1.0 + 1e-15, 9), (1.0, 1.0, 2)],
)
def test_the_ends_of_an_interval_are_written_so_that_they_differ(low: float, high: float, decimals: int) -> None:
    assert interval_decimals(low, high) == decimals
    assert interval_decimals(low, high, least=4) == max(4, decimals)


@pytest.mark.parametrize(
    ("control", "arm", "exceeds"),
    [(0.25, 0.5, False), (0.5, 0.25, False), (0.25, 0.501, True), (0.501, 0.25, True), (0.3, 0.3, False)],
)
def test_a_signal_needs_a_look_when_it_differs_by_more_than_its_limit(
    control: float, arm: float, *, exceeds: bool
) -> None:
    signal = SignalDifference(signal="grain", control_mean=control, arm_mean=arm, limit=0.25)
    assert signal.exceeds_limit is exceeds
    assert signal.difference == pytest.approx(arm - control)


def test_the_difference_of_a_pair_is_negative_when_the_arm_is_worse() -> None:
    assert PAIR.difference == -7.5


def test_pairs_of_a_role_keep_their_order() -> None:
    pairs = (PAIR, replace(PAIR, id="r", role="review"), replace(PAIR, id="second"), replace(PAIR, id="b", role="best"))
    trial = factories.comparison(experiment=factories.experiment(), outcomes=[])
    result = replace(factories.first_result(trial), pairs=pairs)
    assert [pair.id for pair in result.pairs_with_role("worst")] == ["c:a", "second"]
    assert [pair.id for pair in result.pairs_with_role("best")] == ["b"]
    assert [pair.id for pair in result.pairs_with_role("review")] == ["r"]
    assert replace(result, pairs=()).pairs_with_role("worst") == ()


def test_a_result_is_found_by_the_name_of_a_treatment_only() -> None:
    trial = factories.comparison(experiment=factories.experiment(), outcomes=[])
    assert trial.result_of("v2") is trial.answers[0]
    assert trial.result_of("v1") is None
    assert trial.result_of("") is None


def test_without_outcomes_there_is_no_span_and_no_effect() -> None:
    trial = factories.comparison(experiment=factories.experiment(), outcomes=[])
    assert (trial.begins_at, trial.ends_at, trial.outcomes) == (None, None, 0)
    assert trial.answers[0].verdict.kind == "undecided"
    assert [effect.reading for effect in trial.answers[0].effects] == [None]


def test_the_histogram_of_an_arm_counts_every_scored_segment_also_at_both_ends() -> None:
    events = [
        factories.arm_event(arm="v1", sequence=number, score=score)
        for number, score in enumerate((0.0, 1.9, 2.1, 100.0))
    ]
    trial = factories.comparison(experiment=factories.experiment(), outcomes=events)
    histogram = trial.arms[0].histogram["lite@1"]
    assert len(histogram) == HISTOGRAM_BINS
    assert (histogram[0], histogram[1], histogram[-1]) == (2, 1, 1)
    assert sum(histogram) == trial.arms[0].scored == 4
