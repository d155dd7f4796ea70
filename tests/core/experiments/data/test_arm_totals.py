"""Arm totals: counts, means of cluster means, histograms and cost of each arm."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests import factories
from vqmon.core.experiments.data.arm_totals import ArmTotals, points_per_extra
from vqmon.core.experiments.definition import Arm, Experiment
from vqmon.core.experiments.results import ArmSummary
from vqmon.core.scores import ReferenceScore
from vqmon.core.types import Outcome


def test_cost_comes_from_labels_and_gives_points_per_unit() -> None:
    """Bitrate comes from the label `bytes`, GPU time from `gpu_seconds`; points are per unit and per extra unit."""
    outcomes = []
    for event in factories.paired_events(gain=2):
        is_arm = event.segment.rendition.name == "v2"
        labels = {"bytes": "1000000" if is_arm else "500000", "gpu_seconds": "2" if is_arm else "1"}
        outcomes.append(replace(event, segment=replace(event.segment, labels=labels)))
    comparison = factories.comparison(experiment=factories.experiment(), outcomes=outcomes)
    control, arm = comparison.arms

    assert (control.bitrate_kbps, arm.bitrate_kbps) == (1000.0, 2000.0)
    assert (control.gpu_seconds_per_second, arm.gpu_seconds_per_second) == (0.25, 0.5)
    assert control.points_per_mbps == pytest.approx(control.mean["lite@1"])
    gain = arm.mean["lite@1"] - control.mean["lite@1"]
    assert factories.first_result(comparison).points_per_extra_mbps == pytest.approx(gain)
    assert factories.first_result(comparison).points_per_extra_gpu_second == pytest.approx(gain * 4)
    assert sum(arm.histogram["lite@1"]) == arm.scored == 360


def summary_of(arm: str, outcomes: Sequence[Outcome], *, experiment: Experiment | None = None) -> ArmSummary:
    return totals_of(outcomes, experiment=experiment).summary(arm)


def totals_of(outcomes: Sequence[Outcome], *, experiment: Experiment | None = None) -> ArmTotals:
    totals = ArmTotals(experiment or factories.experiment())
    for outcome in outcomes:
        totals.add(outcome.segment.rendition.name, outcome)
    return totals


def test_an_arm_without_outcomes_has_no_means_and_no_cost() -> None:
    """Its numbers are 0 or None, never nan."""
    assert summary_of("v2", []) == ArmSummary(arm="v2", role="arm", scored=0, unscored=0, clusters=0)


def test_the_mean_of_an_arm_is_the_mean_of_its_cluster_means() -> None:
    """A film with two segments (50 and 70) counts as much as one with a single segment (90)."""
    summary = summary_of(
        "v1",
        [
            factories.arm_event(stream=0, sequence=0, score=50),
            factories.arm_event(stream=0, sequence=1, score=70),
            factories.arm_event(stream=1, sequence=2, score=90),
        ],
    )

    assert (summary.scored, summary.clusters, summary.mean) == (3, 2, {"lite@1": 75.0})
    # 75 points at the declared 4000 kbit/s
    assert (summary.bitrate_kbps, summary.points_per_mbps) == (4000.0, 18.75)
    assert (summary.gpu_seconds_per_second, summary.points_per_gpu_second) == (None, None)


def test_the_first_mean_is_that_of_what_the_experiment_compares() -> None:
    """Here a measure without a reference, also where a scorer scored the same segments."""
    niqe = ReferenceScore(
        measure="niqe", value=4.5, frame_values=(4.5,), unit="", higher_is_better=False, is_compared=False
    )
    experiment = replace(factories.experiment(), scorers=("reference:niqe",))
    event = replace(factories.arm_event(stream=0, sequence=0, score=50), references=(niqe,))

    assert list(summary_of("v1", [event], experiment=experiment).mean.items()) == [
        ("reference:niqe", 4.5),
        ("lite@1", 50.0),
    ]


def test_failures_are_counted_by_reason() -> None:
    """They have a bitrate, but no score."""
    summary = summary_of(
        "v2",
        [
            factories.arm_failure(arm="v2", sequence=sequence, reason=reason)
            for sequence, reason in enumerate(("timeout", "not_found", "timeout"))
        ],
    )

    assert (summary.scored, summary.unscored, summary.clusters) == (0, 3, 0)
    assert summary.unscored_by_reason == {"timeout": 2, "not_found": 1}
    assert (summary.bitrate_kbps, summary.points_per_mbps) == (4000.0, None)


@pytest.mark.parametrize(("score", "index"), [(0.0, 0), (1.99, 0), (2.0, 1), (50.0, 25), (99.9, 49), (100.0, 49)])
def test_a_score_falls_into_its_bin_of_two_points(score: float, index: int) -> None:
    """The highest score belongs to the last bin."""
    histogram = summary_of("v1", [factories.arm_event(score=score)]).histogram["lite@1"]
    assert [number for number, count in enumerate(histogram) if count] == [index]


def test_signals_are_means_over_scored_segments() -> None:
    """Failures do not dilute them."""
    summary = summary_of(
        "v1",
        [
            factories.arm_event(sequence=0, signals={"flicker": 0.25}),
            factories.arm_event(sequence=1, signals={"flicker": 0.75}),
            factories.arm_failure(sequence=2),
        ],
    )
    assert summary.signals["flicker"] == 0.5


def test_bitrate_and_gpu_time_are_weighted_by_seconds() -> None:
    """4 s at 1000 kbit/s and 12 s at 2000; a segment without the label `gpu_seconds` does not count in GPU time."""
    events = [
        factories.event(
            sequence=number, rendition=factories.arm_rendition(), duration_seconds=seconds, at_seconds=at, labels=labels
        )
        for number, (seconds, at, labels) in enumerate(
            ((4.0, 0.0, {"bytes": "500000", "gpu_seconds": "2"}), (12.0, 4.0, {"bytes": "3000000"}))
        )
    ]
    summary = summary_of("v1", events)

    assert summary.bitrate_kbps == pytest.approx(1750.0)
    assert summary.gpu_seconds_per_second == pytest.approx(0.5)


def test_roles_are_control_input_and_arm() -> None:
    """As the experiment names them."""
    arms = (*factories.ARMS, Arm(name="in", label="in"))
    totals = totals_of([], experiment=factories.experiment(arms=arms, input_arm="in"))
    assert [totals.summary(arm.name).role for arm in arms] == ["control", "arm", "input"]


def test_a_scorer_is_named_by_its_most_frequent_version() -> None:
    """Without events it keeps the experiment's name."""
    events = [
        factories.event(sequence=number, score=70.0, scorer=scorer, rendition=factories.arm_rendition())
        for number, scorer in enumerate(("lite@1", "lite@2", "lite@2"))
    ]
    experiment = factories.experiment(scorers=("lite", "owl"))

    assert totals_of(events, experiment=experiment).scorer_names() == {"lite": "lite@2", "owl": "owl"}


def test_versions_are_counted_up_to_a_limit_and_for_the_experiments_scorers_only() -> None:
    """A known version is still counted when there are too many."""
    events = [
        factories.event(
            sequence=number,
            rendition=factories.arm_rendition(),
            provenance=factories.provenance(sha256=f"{number:064x}"[::-1]),
        )
        for number in (*range(25), 0)
    ]
    versions = totals_of(events).versions

    assert set(versions) == {"lite", "sampling", "decoder"}
    assert len(versions["lite"]) == 20
    assert versions["lite"].most_common(1)[0][1] == 2
    assert versions["sampling"] == {"exact": 26}
    assert set(totals_of(events, experiment=factories.experiment(scorers=("owl",))).versions) == {"sampling", "decoder"}


@pytest.mark.parametrize(
    ("gain", "arm_cost", "control_cost", "expected"),
    [
        (2.0, 5.0, 4.0, 2.0),
        (-2.0, 4.5, 4.0, -4.0),
        (2.0, 4.0, 4.0, None),
        (2.0, 3.0, 4.0, None),
        (None, 5.0, 4.0, None),
        (2.0, None, 4.0, None),
        (2.0, 5.0, None, None),
    ],
)
def test_points_per_extra_cost_need_an_arm_that_costs_more(
    gain: float | None, arm_cost: float | None, control_cost: float | None, expected: float | None
) -> None:
    """An arm that is as cheap or cheaper has no price of a point."""
    assert points_per_extra(gain, arm_cost=arm_cost, control_cost=control_cost) == expected
