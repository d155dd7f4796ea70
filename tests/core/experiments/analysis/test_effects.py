"""Effects and guardrails: which interval decides, at which level, and when a guardrail holds or breaks."""

import math
from dataclasses import replace
from datetime import timedelta
from typing import Literal

import numpy as np
import pytest

from tests import factories
from tests.factories import START
from vqmon.core.experiments.analysis.effects import clusters_needed, evaluate_guardrail, significance_levels
from vqmon.core.experiments.definition import Arm, Guardrail
from vqmon.core.experiments.results import Effect
from vqmon.core.experiments.stats.sequential import MeanDifference
from vqmon.core.types import Outcome, ReferenceScore


def test_two_arms_share_alpha_by_holm_and_each_has_its_result() -> None:
    """Two arms against the control: the first is tested at 97.5 %, the other at 95 % once the first is decided."""
    arms = tuple(Arm(name=name, label=name) for name in ("v1", "v2", "v3"))
    comparison = factories.comparison(
        experiment=factories.experiment(arms=arms), outcomes=factories.paired_events(gain=1.6, arms=("v1", "v2", "v3"))
    )
    levels = [event.effects[0].reading.level for event in comparison.answers if event.effects[0].reading]

    assert [event.arm for event in comparison.answers] == ["v2", "v3"]
    assert [event.verdict.kind for event in comparison.answers] == ["better", "better"]
    assert sorted(levels) == [0.95, 0.975]
    nothing = factories.comparison(
        experiment=factories.experiment(arms=arms), outcomes=factories.paired_events(gain=0, arms=("v1", "v2", "v3"))
    )
    assert {event.effects[0].reading.level for event in nothing.answers if event.effects[0].reading} == {0.975}


@pytest.mark.parametrize(
    ("flicker", "margin", "state", "kind"),
    [(0.0, 0.02, "held", "better"), (0.1, 0.02, "broken", "needs human look"), (0.005, 0.0051, "open", "undecided")],
)
def test_guardrails_hold_break_or_stay_open(flicker: float, margin: float, state: str, kind: str) -> None:
    """The arm is better only when its guardrail is shown to hold; a broken guardrail needs a human look."""
    rng = np.random.default_rng(5)
    guardrail = Guardrail(name="flicker", of="signal:flicker", margin=margin)
    outcomes = []
    for event in factories.paired_events(gain=2):
        extra = flicker * (event.segment.rendition.name == "v2") + 0.01 * float(rng.random())
        signal = event.signals["flicker"]
        outcomes.append(replace(event, signals={**event.signals, "flicker": replace(signal, mean=extra, max=extra)}))
    experiment = factories.experiment(guardrails=(guardrail,), look_limits={"noise": 0.01})
    result = factories.first_result(factories.comparison(experiment=experiment, outcomes=outcomes))

    assert result.guardrails[0].state == state
    assert result.verdict.kind == kind


@pytest.mark.parametrize(("measure", "higher_is_better"), [("ssim", True), ("gmsd", False)])
def test_a_reference_measure_can_be_the_main_metric(measure: str, higher_is_better: bool) -> None:
    """Differences are on its scale, above 0 when the arm is better; the score may be a guardrail."""
    outcomes = []
    for event in factories.paired_events(gain=2):
        value = 0.5 + (1 if higher_is_better else -1) * event.scores[0].value / 1000
        reference = ReferenceScore(
            measure=measure, value=value, frame_values=(value,), unit="", higher_is_better=higher_is_better
        )
        outcomes.append(replace(event, references=(reference,)))
    experiment = factories.experiment(
        scorers=(f"reference:{measure}",),
        margin=0.001,
        delta_min=0.0002,
        largest_loss=0.01,
        guardrails=(Guardrail(name="score", of="score:lite", margin=1.0, worse="lower"),),
    )
    comparison = factories.comparison(experiment=experiment, outcomes=outcomes)
    result = factories.first_result(comparison)

    assert (result.verdict.kind, result.guardrails[0].state) == ("better", "held")
    assert f"by reference:{measure} (+0.00" in result.verdict.sentence
    assert result.effects[0].reading is not None
    assert result.effects[0].reading.mean == pytest.approx(0.002, abs=0.0005)
    means = [arm.mean[f"reference:{measure}"] for arm in comparison.arms]
    assert (means[1] > means[0]) == higher_is_better


def test_the_share_of_unscored_segments_can_be_a_guardrail() -> None:
    """One of twelve segments fails in both arms, so the difference is 0."""
    guardrail = Guardrail(name="failures", of="unscored", margin=0.05)
    outcomes: list[Outcome] = []
    for event in factories.paired_events(gain=0, streams=30):
        fails = event.segment.sequence == 3
        outcomes.append(
            factories.arm_failure(
                stream=event.segment.rendition.stream_id, arm=event.segment.rendition.name, sequence=3
            )
            if fails
            else event
        )
    result = factories.first_result(
        factories.comparison(experiment=factories.experiment(guardrails=(guardrail,)), outcomes=outcomes)
    )

    assert result.guardrails[0].control_mean == pytest.approx(1 / 12)
    assert (result.guardrails[0].state, result.guardrails[0].difference) == ("held", 0.0)


def test_a_fixed_horizon_experiment_ignores_clusters_after_the_planned_ones() -> None:
    """With 10 planned clusters the first 10 complete ones count; five more, 30 points worse, change nothing."""
    experiment = factories.experiment(planned_clusters=10, segments_per_cluster=12)
    good = list(factories.paired_events(gain=2, streams=10))
    bad = [
        replace(event, segment=replace(event.segment, starts_at=event.segment.starts_at + timedelta(days=1)))
        for event in factories.paired_events(gain=-30, streams=15)
        if event.segment.rendition.stream_id >= "film-010"
    ]
    alone, later = (
        factories.first_result(factories.comparison(experiment=experiment, outcomes=outcomes))
        for outcomes in (good, good + bad)
    )

    assert alone.verdict.kind == "better"
    assert later.effects[0].reading == alone.effects[0].reading
    assert later.effects[0].p_sign_flip is not None
    fewer = factories.first_result(
        factories.comparison(
            experiment=experiment, outcomes=[event for event in good if event.segment.rendition.stream_id != "film-003"]
        )
    )
    assert (fewer.verdict.kind, fewer.effects[0].reading) == ("undecided", None)


def mean_difference(mean: float, *, sd: float = 1.0, n: int = 30) -> MeanDifference:
    return MeanDifference(n=n, mean=mean, sd=sd, degrees_of_freedom=n - 1, control_mean=10.0, arm_mean=10.0 + mean)


FLICKER_GUARDRAIL = Guardrail(name="flicker", of="signal:flicker", margin=0.25)


@pytest.mark.parametrize(
    ("planned", "clusters", "is_tested"), [(40, 19, False), (40, 20, True), (10, 9, False), (10, 10, True)]
)
def test_a_fixed_horizon_needs_all_planned_clusters_and_a_sequence_twenty(
    planned: int, clusters: int, *, is_tested: bool
) -> None:
    """An experiment with fewer than 20 planned clusters has a fixed horizon."""
    experiment = factories.experiment(planned_clusters=planned)
    result = evaluate_guardrail(
        experiment, FLICKER_GUARDRAIL, mean_difference(0.0, sd=0.0, n=clusters), needed=min(planned, 20)
    )

    assert result.state == ("held" if is_tested else "open")
    assert (result.bound is not None) is is_tested


def test_one_hypothesis_gets_the_whole_alpha_and_two_share_it() -> None:
    """Once the first is rejected, the second gets all (Holm); one without an estimate is counted with p = 1."""
    strong, weak = mean_difference(5.0), mean_difference(0.0)
    experiment = factories.experiment()

    assert significance_levels(experiment, {("v2", "lite"): weak}) == {("v2", "lite"): 0.05}
    assert significance_levels(experiment, {("v2", "lite"): weak, ("v3", "lite"): strong}) == {
        ("v2", "lite"): 0.05,
        ("v3", "lite"): 0.025,
    }
    assert significance_levels(experiment, {("v2", "lite"): None, ("v3", "lite"): weak}) == {
        ("v2", "lite"): 0.025,
        ("v3", "lite"): 0.025,
    }


def test_a_hypothesis_with_too_few_clusters_rejects_nothing() -> None:
    """Nineteen clusters with a huge difference leave the other hypothesis at half of alpha."""
    levels = significance_levels(
        factories.experiment(),
        {("v2", "lite"): mean_difference(50.0, n=19), ("v3", "lite"): mean_difference(0.0)},
    )
    assert set(levels.values()) == {0.025}


def test_a_fixed_horizon_shares_alpha_by_the_t_test() -> None:
    """Four clusters of mean 10 and deviation 1 have p = 0.0003."""
    levels = significance_levels(
        factories.experiment(planned_clusters=4),
        {("v2", "lite"): mean_difference(10.0, n=4), ("v3", "lite"): mean_difference(0.5, n=4)},
        needed=4,
    )
    assert levels == {("v2", "lite"): 0.025, ("v3", "lite"): 0.05}


@pytest.mark.parametrize(
    ("mean", "worse", "state"),
    [
        (0.0, "higher", "held"),
        (0.2, "higher", "held"),
        (0.25, "higher", "broken"),
        (0.3, "higher", "broken"),
        (-9.0, "higher", "held"),
        (-0.3, "lower", "broken"),
        (-0.2, "lower", "held"),
        (9.0, "lower", "held"),
    ],
)
def test_without_variance_a_guardrail_breaks_exactly_at_its_margin(
    mean: float, worse: Literal["higher", "lower"], state: str
) -> None:
    """Its bound is then the difference itself; a change for the better always holds."""
    result = evaluate_guardrail(
        factories.experiment(), replace(FLICKER_GUARDRAIL, worse=worse), mean_difference(mean, sd=0.0)
    )

    assert (result.state, result.difference, result.bound) == (state, mean, mean)
    assert (result.control_mean, result.arm_mean) == (10.0, 10.0 + mean)


@pytest.mark.parametrize(("mean", "margin", "state"), [(1.0, 4.0, "held"), (1.0, 3.0, "open"), (3.0, 2.0, "broken")])
def test_a_fixed_horizon_guardrail_uses_the_one_sided_t_bound(mean: float, margin: float, state: str) -> None:
    """Four clusters of deviation 2: the bound is 2.3534 (t at 95 %, 3 degrees of freedom) above the mean."""
    result = evaluate_guardrail(
        factories.experiment(planned_clusters=4),
        replace(FLICKER_GUARDRAIL, margin=margin),
        mean_difference(mean, sd=2.0, n=4),
        needed=4,
    )
    assert result.state == state
    assert result.bound == pytest.approx(mean + 2.353363, abs=1e-5)


def test_a_guardrail_that_is_worse_by_less_than_its_margin_is_open_and_not_broken() -> None:
    """The estimate is significantly worse, but the margin is neither reached nor excluded."""
    result = evaluate_guardrail(
        factories.experiment(), replace(FLICKER_GUARDRAIL, margin=1.1), mean_difference(1.0, sd=1.0)
    )
    assert result.state == "open"
    assert result.bound is not None
    assert result.bound > 1.1


def test_a_guardrail_without_enough_clusters_is_open_without_a_bound() -> None:
    """Nineteen clusters give a difference; no estimate gives nothing."""
    few = evaluate_guardrail(factories.experiment(), FLICKER_GUARDRAIL, mean_difference(9.0, n=19))
    nothing = evaluate_guardrail(factories.experiment(), FLICKER_GUARDRAIL, None)

    assert (few.state, few.difference, few.bound) == ("open", 9.0, None)
    assert (nothing.state, nothing.difference, nothing.bound) == ("open", None, None)
    assert (nothing.control_mean, nothing.arm_mean) == (None, None)


def constant_gain_events(*, streams: int, gain: float = 1.0) -> list[Outcome]:
    """Two segments per stream; every pair differs by exactly `gain`."""
    return [
        factories.arm_event(arm=arm, stream=stream, sequence=sequence, score=50.0 + gain * (arm == "v2"))
        for stream in range(streams)
        for sequence in range(2)
        for arm in ("v1", "v2")
    ]


def test_differences_without_any_spread_are_named_and_decide_nothing() -> None:
    """Forty clusters that all gain exactly .3 points are no measurement: no interval, no p, and the check blocks."""
    outcomes = [
        replace(event, scores=tuple(replace(score, value=score.value + stream) for score in event.scores))
        for stream in range(40)
        for event in constant_gain_events(streams=stream + 1, gain=0.3)[-4:]
    ]
    comparison = factories.comparison(experiment=factories.experiment(delta_min=0.0), outcomes=outcomes)
    result = factories.first_result(comparison)
    effect = result.effects[0]

    assert (effect.clusters, effect.reading, effect.anytime, effect.e_value, effect.p_t) == (40, None, None, None, None)
    assert result.verdict.kind == "undecided"
    assert "no variance" in result.verdict.sentence
    assert "differ by +0.3, with s.d. " in result.verdict.reasons[0]


def test_arms_with_the_same_scores_are_named_and_decide_nothing() -> None:
    """No interval of no width, no p, no share of wins; the check says what it may be."""
    comparison = factories.comparison(
        experiment=factories.experiment(),
        outcomes=[
            replace(event, scores=tuple(replace(score, value=score.value + stream) for score in event.scores))
            for stream in range(40)
            for event in constant_gain_events(streams=stream + 1, gain=0.0)[-4:]
        ],
    )
    result = factories.first_result(comparison)

    assert (result.effects[0].final, result.effects[0].p_t, result.effects[0].win_rate) == (None, None, None)
    assert result.verdict.kind == "undecided"
    assert "same scores" in factories.health_check(comparison, "spread").text


def test_copies_of_a_content_block_the_verdict() -> None:
    """Twenty clusters with exactly the same scores are one content."""
    comparison = factories.comparison(experiment=factories.experiment(), outcomes=constant_gain_events(streams=20))

    assert "19 of 20 clusters" in factories.health_check(comparison, "repeated content").text
    assert factories.first_result(comparison).verdict.kind == "undecided"


@pytest.mark.parametrize(
    ("changes", "ends_after_minutes", "needed"),
    [
        ({}, 0, 20),
        ({"planned_clusters": 10}, 0, math.inf),
        ({"planned_clusters": 10, "segments_per_cluster": 5}, 0, 10),
        ({"planned_clusters": 10, "until": START + timedelta(hours=1)}, 58, math.inf),
        ({"planned_clusters": 10, "until": START + timedelta(hours=1)}, 59, 10),
    ],
)
def test_an_experiment_that_is_read_once_is_read_when_it_is_complete(
    changes: dict[str, object], ends_after_minutes: int, needed: float
) -> None:
    """With segments_per_cluster its clusters are complete one by one, else all of it is at `until`."""
    ends_at = START + timedelta(minutes=ends_after_minutes)
    assert clusters_needed(factories.experiment(**changes), ends_at=ends_at) == needed


def test_rare_losses_that_were_not_seen_yet_keep_a_small_gain_undecided() -> None:
    """Thirty contents that gain half a point: one content that loses ten would undo two thirds of it."""
    outcomes = list(factories.paired_events(gain=0.5, streams=30))
    default, small = (
        factories.first_result(
            factories.comparison(
                experiment=factories.experiment(delta_min=0.0, largest_loss=loss, margin=5.0), outcomes=outcomes
            )
        ).effects[0]
        for loss in (10.0, 0.5)
    )

    assert default.reading is not None
    assert default.corrected is not None
    assert small.corrected is not None
    assert default.corrected.low < 0 < default.reading.low
    assert default.corrected.low < small.corrected.low


def test_one_cluster_has_a_forest_row_and_no_interval() -> None:
    """A single cluster has no variance that could be estimated."""
    effect = factories.first_result(
        factories.comparison(experiment=factories.experiment(), outcomes=constant_gain_events(streams=1))
    ).effects[0]

    assert (effect.clusters, effect.segments) == (1, 2)
    assert [row.difference for row in effect.by_cluster] == [1.0]
    assert (effect.reading, effect.final, effect.weighted, effect.e_value, effect.p_t) == (None,) * 5


def test_an_arm_without_pairs_has_an_empty_effect() -> None:
    """Only the control was scored: the scorer keeps its name of the events."""
    control = [outcome for outcome in constant_gain_events(streams=5) if outcome.segment.rendition.name == "v1"]
    effect = factories.first_result(factories.comparison(experiment=factories.experiment(), outcomes=control)).effects[
        0
    ]

    assert effect == Effect(scorer="lite@1", clusters=0, segments=0)
