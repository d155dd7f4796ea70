"""Verdicts: which conclusion the intervals, guardrails, signals, checks and votes allow."""

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest

from tests import factories
from vqmon.core.experiments.analysis.verdicts import VerdictInputs, classify_interval, decide_verdict
from vqmon.core.experiments.definition import Experiment
from vqmon.core.experiments.human_review import VoteTally
from vqmon.core.experiments.results import (
    ConfidenceInterval,
    Effect,
    GuardrailResult,
    HealthCheck,
    SignalDifference,
    Verdict,
)


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
    """Twenty-nine clusters lose a point, one gains five: the interval excludes 0 only when uncorrected."""
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
    """The second scorer finds no difference, or the opposite one."""
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
    """Only beyond the limit, and only when the verdict is not undecided anyway."""
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
    """A large difference in 19 clusters decides nothing, and the sentence says how many are needed."""
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


def interval(low: float, mean: float, high: float) -> ConfidenceInterval:
    return ConfidenceInterval(low=low, mean=mean, high=high, level=0.95, kind="any-time")


def effect(
    reading: ConfidenceInterval | None,
    *,
    scorer: str = "lite@1",
    clusters: int = 30,
    corrected: ConfidenceInterval | None = None,
) -> Effect:
    return Effect(scorer=scorer, clusters=clusters, segments=360, reading=reading, corrected=corrected)


def verdict_on(*effects: Effect, experiment: Experiment | None = None, **evidence: Any) -> Verdict:
    """The verdict on v2; by default delta_min is 0.5, the margin 1.25, and 40 clusters are planned."""
    return decide_verdict(
        VerdictInputs(experiment=experiment or factories.experiment(), arm="v2", effects=effects, **evidence)
    )


def guardrail_result(state: Literal["held", "broken", "open"], *, bound: float | None = 300.0) -> GuardrailResult:
    return GuardrailResult(
        name="bitrate",
        of="bitrate_kbps",
        margin=200.0,
        worse="higher",
        state=state,
        control_mean=4000.0,
        arm_mean=4250.0,
        difference=250.0,
        bound=bound,
    )


def tally(says: Literal["arm", "control", "no difference", ""]) -> VoteTally:
    return VoteTally(
        votes=12,
        voters=3,
        left_out=0,
        clusters_for_arm=8,
        clusters_for_control=1,
        clusters_tied=3,
        p=0.039,
        share=0.79,
        low=0.5,
        high=0.93,
        says=says,
    )


BETTER = interval(1.0, 2.0, 3.0)
WORSE = interval(-3.0, -2.0, -1.0)
EQUIVALENT = interval(-0.5, 0.0, 0.5)
NOT_WORSE = interval(-1.0, 0.5, 2.0)
UNDECIDED = interval(-2.0, 0.0, 2.0)


def test_a_short_interval_is_not_written_as_one_number() -> None:
    """Thousands of clusters make intervals that two decimals do not show."""
    assert "+0.3000 points (+0.2967 to +0.3033)" in verdict_on(effect(interval(0.2967, 0.3, 0.3033))).sentence


@pytest.mark.parametrize(("difference", "kind"), [(0.0, "equivalent"), (2.0, "better"), (-2.0, "worse")])
def test_an_interval_of_zero_width_is_classified_by_its_mean(difference: float, kind: str) -> None:
    """Clusters without any variance give such an interval."""
    point = interval(difference, difference, difference)
    assert classify_interval(point, delta_min=0.5, margin=1.25) == kind


@pytest.mark.parametrize(
    ("reading", "kind", "next_step"),
    [
        (BETTER, "better", "Take v2, if it is worth its cost."),
        (WORSE, "worse", "Keep v1; the worst pairs show why."),
        (EQUIVALENT, "equivalent", "Take the cheaper one."),
        (NOT_WORSE, "not worse", "Take v2 if it is cheaper; for a winner, wait for more clusters."),
        (UNDECIDED, "undecided", "Wait: 30 of 40 planned clusters are complete."),
    ],
)
def test_each_kind_of_verdict_has_its_next_step(reading: ConfidenceInterval, kind: str, next_step: str) -> None:
    """One scorer, no guardrails, no checks, no votes."""
    verdict = verdict_on(effect(reading))

    assert (verdict.kind, verdict.next_step) == (kind, next_step)
    assert not verdict.is_metric_specific
    assert not verdict.is_settled_by_people


def test_an_undecided_experiment_with_all_planned_clusters_does_not_wait() -> None:
    """More clusters were not planned, so the next step is to stop or to plan anew."""
    assert verdict_on(effect(UNDECIDED, clusters=40)).next_step.startswith("All planned clusters are complete")


def test_without_any_cluster_the_verdict_names_the_label_to_check() -> None:
    """Neither effects without clusters nor no effects at all give a number."""
    for effects in ((), (effect(None, clusters=0),)):
        verdict = verdict_on(*effects)
        assert verdict.kind == "undecided"
        assert "no segment of v2 and v1 can be compared yet" in verdict.sentence
        assert "the label 'arm'" in verdict.next_step


@pytest.mark.parametrize(
    ("planned", "clusters", "sentence", "next_step"),
    [
        (40, 12, "Undecided: 12 of 20 clusters are complete.", "Wait for 8 more."),
        (40, 1, "Undecided: 1 of 20 clusters are complete.", "Wait for 19 more."),
        (10, 7, "Undecided: 7 of 10 clusters are complete.", "Wait for 3 more."),
    ],
)
def test_too_few_clusters_are_counted_up_to_those_needed(
    planned: int, clusters: int, sentence: str, next_step: str
) -> None:
    """A sequential experiment needs 20, a fixed-horizon one all that are planned."""
    verdict = verdict_on(effect(None, clusters=clusters), experiment=factories.experiment(planned_clusters=planned))

    assert (verdict.sentence, verdict.next_step) == (sentence, next_step)
    assert ("analysed once" in verdict.reasons[0]) is (planned == 10)


def test_a_failed_health_check_comes_before_everything() -> None:
    """A winner, a broken guardrail and votes count for nothing when the data cannot be trusted."""
    failed = HealthCheck(name="missing pairs", is_good=False, weight="blocks", text="9 % miss", remedy="find them")
    verdict = verdict_on(
        effect(BETTER), checks=(failed,), guardrails=(guardrail_result("broken"),), votes=tally("control")
    )

    assert verdict.kind == "undecided"
    assert verdict.sentence == "Undecided: the data cannot be trusted (missing pairs)."
    assert verdict.reasons == ("missing pairs: 9 % miss",)
    assert verdict.next_step == "Find them."


def test_a_failed_check_asks_for_a_look_or_only_notes_by_its_weight() -> None:
    """A good check never counts, whatever its weight."""
    human_look = HealthCheck(name="versions", is_good=False, weight="look", text="two versions")

    assert verdict_on(effect(BETTER), checks=(human_look,)).kind == "needs human look"
    assert verdict_on(effect(BETTER), checks=(replace(human_look, weight="notes"),)).kind == "better"
    assert verdict_on(effect(BETTER), checks=(replace(human_look, is_good=True, weight="blocks"),)).kind == "better"


@pytest.mark.parametrize("reading", [BETTER, NOT_WORSE, EQUIVALENT])
def test_a_broken_guardrail_needs_a_human_look_unless_the_arm_is_worse(reading: ConfidenceInterval) -> None:
    """The sentence names the guardrail with its difference and margin; an arm that is worse is rejected anyway."""
    verdict = verdict_on(effect(reading), guardrails=(guardrail_result("broken"),))

    assert verdict.kind == "needs human look"
    assert "guardrail bitrate is broken: +250 (margin 200)" in verdict.sentence
    assert verdict_on(effect(WORSE), guardrails=(guardrail_result("broken"),)).kind == "worse"


def test_an_open_guardrail_leaves_every_favourable_verdict_undecided() -> None:
    """A guardrail without a bound has too few clusters; one that is held stops nothing."""
    for reading in (BETTER, NOT_WORSE, EQUIVALENT):
        verdict = verdict_on(effect(reading), guardrails=(guardrail_result("open"),))
        assert verdict.kind == "undecided"
        assert verdict.reasons[-1] == "guardrail bitrate: the bound is +300 (margin 200)"
    unbounded = verdict_on(effect(BETTER), guardrails=(guardrail_result("open", bound=None),))
    assert unbounded.reasons[-1] == "guardrail bitrate: too few clusters to test it (margin 200)"
    assert verdict_on(effect(WORSE), guardrails=(guardrail_result("open"),)).kind == "worse"
    assert verdict_on(effect(BETTER), guardrails=(guardrail_result("held"),)).kind == "better"


@pytest.mark.parametrize(
    ("arm_mean", "kind"),
    [(0.75, "better"), (0.25, "better"), (0.76, "needs human look"), (0.24, "needs human look")],
)
def test_over_sharpness_beyond_its_limit_in_either_direction_needs_a_human_look(arm_mean: float, kind: str) -> None:
    """A difference of exactly the limit is allowed; an undecided arm asks nobody."""
    signals = (SignalDifference(signal="over_sharpness", control_mean=0.5, arm_mean=arm_mean, limit=0.25),)

    assert verdict_on(effect(BETTER), signals=signals).kind == kind
    assert verdict_on(effect(UNDECIDED), signals=signals).kind == "undecided"


def test_the_weakest_conclusion_of_two_scorers_counts_without_a_winner() -> None:
    """Undecided is weaker than not worse, which is weaker than equivalent."""
    for readings, kind in (
        ((EQUIVALENT, NOT_WORSE), "not worse"),
        ((EQUIVALENT, UNDECIDED), "undecided"),
        ((EQUIVALENT, EQUIVALENT), "equivalent"),
    ):
        first, second = readings
        assert verdict_on(effect(first), effect(second, scorer="owl@1")).kind == kind


def test_a_winner_by_one_of_two_scorers_is_metric_specific_and_names_it() -> None:
    """A scorer with too few clusters does not confirm it either."""
    for second in (EQUIVALENT, None):
        verdict = verdict_on(effect(BETTER), effect(second, scorer="owl@1"))
        assert (verdict.kind, verdict.is_metric_specific) == ("better", True)
        assert verdict.sentence.endswith("Only lite@1 finds this: metric-specific.")
    both = verdict_on(effect(BETTER), effect(BETTER, scorer="owl@1"))
    assert (both.kind, both.is_metric_specific) == ("better", False)


def test_scorers_with_opposite_means_disagree_when_one_excludes_zero() -> None:
    """Two intervals that both include 0 do not disagree."""
    against = effect(interval(-2.0, -0.5, 1.0), scorer="owl@1")

    assert verdict_on(effect(BETTER), against).kind == "needs human look"
    assert verdict_on(effect(NOT_WORSE), against).kind == "undecided"


def test_a_winner_must_survive_the_correction_for_skewness() -> None:
    """The wider of the two intervals decides, and the reason gives both."""
    verdict = verdict_on(effect(BETTER, corrected=interval(-0.2, 2.0, 3.0)))

    assert verdict.kind == "not worse"
    assert "rare losses of up to 10 points, -0.20 to +3.00" in verdict.reasons[0]


@pytest.mark.parametrize(("says", "kind"), [("arm", "better"), ("control", "worse"), ("no difference", "equivalent")])
def test_votes_that_decide_settle_a_doubt(says: Literal["arm", "control", "no difference"], kind: str) -> None:
    """They decide either way; votes that decide nothing leave the doubt and are quoted in the next step."""
    doubt = (SignalDifference(signal="flicker", control_mean=0.0, arm_mean=0.2, limit=0.03),)
    verdict = verdict_on(effect(BETTER), signals=doubt, votes=tally(says))
    unsettled = verdict_on(effect(BETTER), signals=doubt, votes=tally(""))

    assert (verdict.kind, verdict.is_settled_by_people) == (kind, True)
    assert (unsettled.kind, unsettled.is_settled_by_people) == ("needs human look", False)
    assert "8 clusters for, 1 against, 3 tied" in unsettled.next_step


@pytest.mark.parametrize(
    ("reading", "says", "kind"),
    [
        (BETTER, "arm", "better"),
        (BETTER, "control", "needs human look"),
        (WORSE, "arm", "needs human look"),
        (WORSE, "control", "worse"),
        (EQUIVALENT, "arm", "equivalent"),
    ],
)
def test_votes_reopen_only_the_opposite_verdict(
    reading: ConfidenceInterval, says: Literal["arm", "control"], kind: str
) -> None:
    """Without a doubt, agreeing votes are one reason more."""
    verdict = verdict_on(effect(reading), votes=tally(says))

    assert verdict.kind == kind
    assert (verdict.reasons[-1].startswith("people: ")) is (kind != "needs human look")
