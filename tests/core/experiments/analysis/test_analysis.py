"""The analysis of an experiment as a whole: from outcomes and votes to a verdict."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from tests import factories
from tests.factories import START
from vqmon.core.experiments.definition import Design
from vqmon.core.experiments.human_review import Vote
from vqmon.core.experiments.results import ArmResult


@pytest.mark.parametrize(("gain", "kind"), [(2.0, "better"), (-2.0, "worse"), (0.0, "equivalent")])
def test_thirty_clusters_decide_between_better_worse_and_equivalent(gain: float, kind: str) -> None:
    """Streams differ by 50 points, the arms by 2: pairs show it, and the sentence names both arms."""
    result = factories.first_result(
        factories.comparison(
            experiment=factories.experiment(largest_loss=5.0), outcomes=factories.paired_events(gain=gain)
        )
    )

    assert result.verdict.kind == kind
    assert "v2" in result.verdict.sentence
    assert "v1" in result.verdict.sentence
    effect = result.effects[0]
    assert (effect.scorer, effect.clusters, effect.segments) == ("lite@1", 30, 360)
    assert effect.reading is not None
    assert effect.reading.mean == pytest.approx(gain, abs=0.6)
    assert effect.bootstrap is None
    assert [row.difference for row in effect.by_cluster] == sorted(row.difference for row in effect.by_cluster)


def test_a_change_of_scorer_weights_needs_a_human_look() -> None:
    """Half of the events come from other weights of the same scorer; an additional scorer is no change."""
    outcomes = []
    for event in factories.paired_events(gain=2):
        provenance = event.provenance
        if event.segment.sequence >= 6:
            provenance = replace(provenance, scorers=(replace(provenance.scorers[0], sha256="ff" * 32),))
        outcomes.append(replace(event, provenance=provenance))
    comparison = factories.comparison(experiment=factories.experiment(), outcomes=outcomes)

    assert not factories.health_check(comparison, "versions").is_good
    assert "changed during the experiment" in factories.health_check(comparison, "versions").text
    assert factories.first_result(comparison).verdict.kind == "needs human look"
    second = [
        replace(
            event,
            provenance=replace(
                event.provenance,
                scorers=(
                    *event.provenance.scorers,
                    replace(event.provenance.scorers[0], scorer=f"extra@{event.segment.sequence}"),
                ),
            ),
        )
        for event in factories.paired_events(gain=2)
    ]
    assert factories.health_check(
        factories.comparison(experiment=factories.experiment(), outcomes=second), "versions"
    ).is_good


def votes(result: ArmResult, choices: str) -> list[Vote]:
    """One vote per review pair: `a` for the arm, `c` for the control, `t` for a tie."""
    names = {"a": result.arm, "c": result.control, "t": "tie"}
    pairs = result.pairs_with_role("review")
    return [
        Vote(pair_id=pair.id, choice=names[choice], voter="ann", at=START)
        for pair, choice in zip(pairs, choices, strict=False)
    ]


@pytest.mark.parametrize(
    ("choices", "kind", "settled"),
    [
        ("a" * 8, "better", True),
        ("c" * 8, "worse", True),
        ("aaaaaaa", "needs human look", False),
        ("ac" * 10, "needs human look", False),
    ],
)
def test_votes_settle_a_verdict_that_needs_a_human_look(choices: str, kind: str, settled: bool) -> None:
    """An over-sharpened winner: enough votes decide, and with too few the next step asks for more."""
    outcomes = list(factories.paired_events(gain=2, signals={"v2": {"over_sharpness": 0.3}}))
    unsettled = factories.first_result(factories.comparison(experiment=factories.experiment(), outcomes=outcomes))
    result = factories.first_result(
        factories.comparison(experiment=factories.experiment(), outcomes=outcomes, votes=votes(unsettled, choices))
    )

    assert unsettled.verdict.kind == "needs human look"
    assert "at least 8 more clusters" in unsettled.verdict.next_step
    assert (result.verdict.kind, result.verdict.is_settled_by_people) == (kind, settled)
    assert result.people is not None
    assert result.people.votes == len(choices)


def test_many_ties_decide_that_there_is_no_difference() -> None:
    """Ties in 60 clusters exclude a difference."""
    outcomes = list(factories.paired_events(gain=2, streams=60, segments=3, signals={"v2": {"over_sharpness": 0.3}}))
    unsettled = factories.first_result(factories.comparison(experiment=factories.experiment(), outcomes=outcomes))
    result = factories.first_result(
        factories.comparison(experiment=factories.experiment(), outcomes=outcomes, votes=votes(unsettled, "t" * 60))
    )

    assert result.people is not None
    assert result.people.says == "no difference"
    assert (result.verdict.kind, result.verdict.is_settled_by_people) == ("equivalent", True)


def test_votes_for_the_opposite_are_not_overruled() -> None:
    """A winner by the scorers that people's votes reject needs a human look."""
    outcomes = list(factories.paired_events(gain=2))
    result = factories.first_result(
        factories.comparison(
            experiment=factories.experiment(),
            outcomes=outcomes,
            votes=votes(
                factories.first_result(factories.comparison(experiment=factories.experiment(), outcomes=outcomes)),
                "c" * 10,
            ),
        )
    )

    assert result.verdict.kind == "needs human look"
    assert "people say the opposite" in result.verdict.sentence


def test_votes_count_once_per_person_and_cluster_and_only_on_review_pairs() -> None:
    """The last vote of a person counts; a cluster counts once; votes on worst pairs do not count."""
    outcomes = list(factories.paired_events(gain=2))
    result = factories.first_result(factories.comparison(experiment=factories.experiment(), outcomes=outcomes))
    pair = result.pairs_with_role("review")[0]
    other = next(
        example
        for example in result.pairs_with_role("worst")
        if example.id not in {review.id for review in result.pairs_with_role("review")}
    )
    cast = [
        Vote(pair_id=pair.id, choice="v1", voter="ann", at=START),
        Vote(pair_id=pair.id, choice="v2", voter="ann", at=START + timedelta(seconds=9)),
        Vote(pair_id=pair.id, choice="v2", voter="bob", at=START),
        Vote(pair_id=other.id, choice="v2", voter="bob", at=START),
    ]
    people = factories.first_result(
        factories.comparison(experiment=factories.experiment(), outcomes=outcomes, votes=cast)
    ).people

    assert people is not None
    assert (people.votes, people.voters, people.left_out) == (2, 2, 1)
    assert (people.clusters_for_arm, people.clusters_for_control, people.clusters_tied) == (1, 0, 0)


def test_outcomes_outside_period_streams_and_arms_are_ignored() -> None:
    """`since` is part of the period, `until` is not."""
    experiment = factories.experiment(since=START, until=START + timedelta(seconds=40), streams=("film-*",))
    outcomes = list(factories.paired_events(gain=2, streams=25))
    outsiders = [
        factories.arm_event(stream="other", arm="v2", sequence=0, score=10),
        factories.arm_event(stream=1, arm="v9", sequence=0, score=10),
        factories.arm_event(stream=1, arm="v2", sequence=0, score=1, at_seconds=40.0),
        factories.arm_event(stream=1, arm="v1", sequence=0, score=1, at_seconds=-4.0),
    ]
    included = [event for event in outcomes if event.segment.starts_at < START + timedelta(seconds=40)]

    assert factories.comparison(experiment=experiment, outcomes=outcomes + outsiders) == factories.comparison(
        experiment=experiment, outcomes=included
    )
    assert factories.comparison(experiment=experiment, outcomes=outcomes).outcomes == len(included) == 500


@pytest.mark.parametrize("rounding", [0.0, 1e-5])
@pytest.mark.parametrize("planned", [10, 40])
def test_arms_that_are_the_same_are_called_so_without_an_interval(planned: int, rounding: float) -> None:
    """Every text of the result is free of intervals, also when both were scored in other batches."""
    rng = np.random.default_rng(3)
    outcomes = []
    for stream in range(30):
        for sequence in range(4):
            value = float(rng.uniform(30, 80))
            other = value + rng.normal(0, rounding)
            outcomes += [
                factories.arm_event(arm=arm, stream=stream, sequence=sequence, score=score)
                for arm, score in (("v1", value), ("v2", other))
            ]
    comparison = factories.comparison(
        experiment=factories.experiment(planned_clusters=planned, segments_per_cluster=4), outcomes=outcomes
    )
    result = factories.first_result(comparison)
    effect = result.effects[0]

    assert result.verdict.kind == "undecided"
    assert "both arms have the same scores in all" in result.verdict.sentence
    assert "no variance" in result.verdict.sentence
    intervals = (effect.reading, effect.anytime, effect.final, effect.weighted, effect.bootstrap, effect.corrected)
    assert intervals == (None,) * 6
    assert {(row.low, row.high) for row in effect.by_cluster} == {(None, None)}
    assert {point.low for point in effect.over_time} == {None}


@pytest.mark.parametrize("design", ["paired", "unpaired"])
def test_a_title_that_makes_the_whole_difference_of_sessions_is_no_winner(design: Design) -> None:
    """One of ten titles gains 60 points, the others .03: sessions agree with each other, titles do not."""
    rng = np.random.default_rng(5)
    outcomes = []
    for session in range(400):
        title, score = session % 10, float(rng.uniform(20, 38))
        gain = 60.0 if title == 0 else 0.03
        arms = ("v1", "v2") if design == "paired" else (("v1", "v2")[rng.integers(2)],)
        outcomes += [
            factories.arm_event(
                arm=arm, stream=session, score=score + gain * (arm == "v2"), session=str(session), title=f"t{title}"
            )
            for arm in arms
        ]
    comparison = factories.comparison(
        experiment=factories.experiment(design=design, cluster="label:session"), outcomes=outcomes
    )
    result = factories.first_result(comparison)

    assert result.effects[0].reading is not None
    assert result.effects[0].reading.low > 0
    assert result.verdict.kind == "undecided"
    assert "title t0 alone, with 10% of the segments," in result.verdict.sentence
    assert not factories.health_check(comparison, "concentration").is_good
