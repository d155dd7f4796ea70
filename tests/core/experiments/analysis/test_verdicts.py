"""Verdicts: which conclusion the intervals, guardrails, signals, checks and votes allow."""

import numpy as np
import pytest

from tests import factories
from vqmon.core.experiments.analysis.verdicts import classify_interval
from vqmon.core.experiments.results import ConfidenceInterval


@pytest.mark.parametrize(
    ("low", "mean", "high", "kind"),
    [
        (0.5, 1.0, 1.5, "better"),
        (0.1, 0.4, 0.7, "equivalent"),
        (0.1, 0.4, 1.7, "not worse"),
        (-1.5, -1.0, -0.5, "worse"),
        (-1.9, -0.4, -0.1, "undecided"),
        (-1.0, 0.0, 1.0, "equivalent"),
        (-1.0, 0.5, 2.0, "not worse"),
        (-3.0, 1.0, 5.0, "undecided"),
        (0.0, 2.0, 4.0, "not worse"),
    ],
)
def test_an_interval_is_classified_by_zero_the_smallest_gain_and_the_margin(
    low: float, mean: float, high: float, kind: str
) -> None:
    """With a margin of 1.25 and a smallest gain of .5 points; a winner never while 0 is inside."""
    interval = ConfidenceInterval(low=low, mean=mean, high=high, level=0.95, kind="any-time")

    assert classify_interval(interval, delta_min=0.5, margin=1.25) == kind


def test_one_outlying_cluster_makes_no_winner() -> None:
    """Twenty-nine contents lose a point, one gains five: the sequence is sure, corrected for that it is not."""
    rng = np.random.default_rng(4)
    outcomes = []
    for stream in range(30):
        for number in range(4):
            base = 50 + rng.normal(0, 3)
            outcomes += [factories.arm_event(stream=stream, arm="v1", sequence=number, score=base)]
            outcomes += [
                factories.arm_event(
                    stream=stream,
                    arm="v2",
                    sequence=number,
                    score=base + (5 if stream == 7 else -1) + rng.normal(0, 0.2),
                )
            ]
    result = factories.first_result(
        factories.comparison(experiment=factories.experiment(delta_min=0.0), outcomes=outcomes)
    )
    effect = result.effects[0]

    assert effect.reading is not None
    assert effect.corrected is not None
    assert effect.reading.high < 0 < effect.corrected.high
    assert result.verdict.kind != "worse"
    assert "a few clusters decide" in result.verdict.reasons[0]


def test_a_win_by_one_scorer_is_metric_specific_and_a_disagreement_needs_a_human_look() -> None:
    """The second scorer sees nothing, or the opposite."""
    experiment = factories.experiment(scorers=("lite", "owl"))
    alone = factories.first_result(
        factories.comparison(experiment=experiment, outcomes=factories.paired_events(gain=2, second_gain=0.05))
    ).verdict
    both = factories.first_result(
        factories.comparison(experiment=experiment, outcomes=factories.paired_events(gain=2, second_gain=2))
    ).verdict
    against = factories.first_result(
        factories.comparison(experiment=experiment, outcomes=factories.paired_events(gain=2, second_gain=-2))
    ).verdict

    assert (alone.kind, alone.is_metric_specific) == ("better", True)
    assert "metric-specific" in alone.sentence
    assert (both.kind, both.is_metric_specific) == ("better", False)
    assert against.kind == "needs human look"
    assert "disagree" in against.sentence


@pytest.mark.parametrize("signal", ["over_sharpness", "flicker", "noise"])
def test_a_winner_whose_signals_fool_scorers_needs_a_human_look(signal: str) -> None:
    """Beyond the limit; within it the winner stands, and without a winner nobody is asked."""
    beyond = {"v2": {signal: 0.2}}

    assert (
        factories.first_result(
            factories.comparison(
                experiment=factories.experiment(), outcomes=factories.paired_events(gain=2, signals=beyond)
            )
        ).verdict.kind
        == "needs human look"
    )
    assert (
        factories.first_result(
            factories.comparison(
                experiment=factories.experiment(),
                outcomes=factories.paired_events(gain=2, signals={"v2": {signal: 0.009}}),
            )
        ).verdict.kind
        == "better"
    )
    assert (
        factories.first_result(
            factories.comparison(
                experiment=factories.experiment(), outcomes=factories.paired_events(gain=9, streams=5, signals=beyond)
            )
        ).verdict.kind
        == "undecided"
    )


def test_before_twenty_clusters_the_verdict_is_undecided() -> None:
    """A huge difference in 19 contents is undecided, and says how many more are needed."""
    comparison = factories.first_result(
        factories.comparison(experiment=factories.experiment(), outcomes=factories.paired_events(gain=9, streams=19))
    )

    assert comparison.verdict.kind == "undecided"
    assert "19 of 20 clusters" in comparison.verdict.sentence
    assert comparison.effects[0].reading is None
    assert comparison.effects[0].final is not None
    assert (
        "no segment"
        in factories.first_result(factories.comparison(experiment=factories.experiment(), outcomes=[])).verdict.sentence
    )
