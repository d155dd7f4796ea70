"""Pairs: which segments are matched, which are missing, and which pairs are shown."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from tests import factories
from tests.factories import START
from vqmon.core.experiments.data.metrics import ExperimentMetrics
from vqmon.core.experiments.data.pairs import ExamplePairs, MissingPairs, PairMatcher
from vqmon.core.experiments.definition import Arm, Experiment
from vqmon.core.experiments.human_review import MissingPair, PairExample
from vqmon.core.experiments.results import Comparison
from vqmon.core.types import Outcome


def test_pairs_share_a_moment_of_the_media_timeline_and_not_of_arrival() -> None:
    """One arm is observed a day later; its segments are paired all the same."""
    experiment = factories.experiment()
    outcomes = list(factories.paired_events(gain=2))
    late = [
        replace(event, observed_at=event.observed_at + timedelta(days=1))
        if event.segment.rendition.name == "v2"
        else event
        for event in outcomes
    ]

    assert (
        factories.first_result(factories.comparison(experiment=experiment, outcomes=late)).effects
        == factories.first_result(factories.comparison(experiment=experiment, outcomes=outcomes)).effects
    )


def test_missing_pairs_are_counted_by_arm_and_an_uneven_loss_blocks_the_verdict() -> None:
    """Each missing pair has its reason; an arm that lacks 5 % of all pairs gets no verdict."""
    outcomes: list[Outcome] = []
    for number, event in enumerate(factories.paired_events(gain=2)):
        is_arm = event.segment.rendition.name == "v2"
        if is_arm and number % 40 == 1:
            outcomes.append(
                factories.arm_failure(
                    stream=event.segment.rendition.stream_id,
                    arm="v2",
                    sequence=event.segment.sequence,
                    reason="timeout",
                )
            )
        elif not (is_arm and number % 40 == 21):
            outcomes.append(event)
    comparison = factories.comparison(experiment=factories.experiment(), outcomes=outcomes)
    result = factories.first_result(comparison)

    assert result.missing_in_control == 0
    assert result.missing_in_arm == 36
    assert {example.reason for example in result.missing} == {"timeout", "absent"}
    assert {example.missing for example in result.missing} == {"v2"}
    assert not factories.health_check(comparison, "missing pairs").is_good
    assert result.verdict.kind == "undecided"
    assert "missing pairs" in result.verdict.sentence


def test_a_segment_that_may_still_come_is_pending_and_not_missing() -> None:
    """An arm that is behind misses nothing yet: its newest 18 segments are pending until it is further."""
    outcomes = [
        factories.arm_event(stream=stream, arm="v1", sequence=number, score=60)
        for stream in range(3)
        for number in range(20)
    ]
    outcomes += [
        factories.arm_event(stream=stream, arm="v2", sequence=number, score=61)
        for stream in range(3)
        for number in range(14)
    ]
    comparison = factories.comparison(experiment=factories.experiment(), outcomes=outcomes)

    assert factories.first_result(comparison).missing_in_arm == 0
    assert "18 newest segments still wait" in factories.health_check(comparison, "missing pairs").text
    more = factories.comparison(
        experiment=factories.experiment(),
        outcomes=[*outcomes, factories.arm_event(stream=0, arm="v2", sequence=19, score=61)],
    )
    assert factories.first_result(more).missing_in_arm == 15


def test_two_renditions_of_an_arm_at_one_moment_are_duplicates_unless_same_names_them() -> None:
    """Two renditions under one label are doubled segments; with `same` each is paired with its own kind."""
    outcomes = []
    for stream in range(20):
        for rung, loss in (("1080p", 0.0), ("480p", 20.0)):
            for number in range(5):
                for arm in ("v1", "v2"):
                    event = factories.arm_event(
                        stream=f"{arm}-{stream}",
                        arm=rung,
                        sequence=number,
                        score=70 + stream / 5 - loss,
                        title=str(stream),
                    )
                    rendition = replace(event.segment.rendition, labels={"arm": arm, "title": str(stream)})
                    outcomes.append(replace(event, segment=replace(event.segment, rendition=rendition)))
    experiment = factories.experiment(same=("label:title",), cluster="label:title", margin=2.5)
    doubled = factories.comparison(experiment=experiment, outcomes=outcomes)
    apart = factories.comparison(
        experiment=replace(experiment, same=("label:title", "rendition"), slices=("rendition",)), outcomes=outcomes
    )

    assert not factories.health_check(doubled, "doubled segments").is_good
    assert factories.first_result(doubled).verdict.kind == "undecided"
    assert factories.first_result(apart).effects[0].segments == 200
    assert "both arms have the same scores" in factories.first_result(apart).verdict.sentence
    assert [(part.value, part.clusters, part.mean) for part in factories.first_result(apart).effects[0].slices] == [
        ("1080p", 20, 0.0),
        ("480p", 20, 0.0),
    ]


def test_a_segment_that_failed_and_was_scored_later_is_scored() -> None:
    """Two outcomes of one segment count as one observation of its arm."""
    outcomes: list[Outcome] = list(factories.paired_events(gain=2, streams=20))
    extra = [factories.arm_failure(stream="film-003", arm="v2", sequence=number) for number in range(5)]
    plain, more = (
        factories.comparison(experiment=factories.experiment(), outcomes=outcomes),
        factories.comparison(experiment=factories.experiment(), outcomes=extra + outcomes),
    )

    assert factories.first_result(more).missing_in_arm == 0
    assert factories.first_result(more).effects[0].reading == factories.first_result(plain).effects[0].reading
    assert factories.health_check(more, "doubled segments").text.startswith("0 ")


def test_segments_that_only_the_first_scorer_skips_are_no_missing_pairs() -> None:
    """Owl scores every third segment, lite scores all of them."""
    outcomes = [
        event if event.segment.sequence % 3 == 0 else replace(event, scores=event.scores[:1])
        for event in factories.paired_events(gain=2, second_gain=2)
    ]
    result = factories.first_result(
        factories.comparison(experiment=factories.experiment(scorers=("owl", "lite")), outcomes=outcomes)
    )

    assert (result.missing_in_arm, result.missing_in_control) == (0, 0)
    assert [effect.segments for effect in result.effects] == [120, 360]
    assert result.verdict.kind == "better"


def test_review_pairs_are_one_per_cluster_and_stay_when_data_comes() -> None:
    """Worst pairs are sorted by difference, at most three per cluster; with less data the review pairs are the same."""
    outcomes = list(factories.paired_events(gain=1, streams=25, segments=20))
    result = factories.first_result(factories.comparison(experiment=factories.experiment(), outcomes=outcomes))
    events = {event.id: event for event in outcomes}

    worst = result.pairs_with_role("worst")
    assert [pair.difference for pair in worst] == sorted(pair.difference for pair in worst)
    assert worst[0].difference == min(
        events[pair.arm_event_id].scores[0].value - events[pair.control_event_id].scores[0].value
        for pair in result.pairs
    )
    assert max(sum(pair.cluster == example.cluster for pair in worst) for example in worst) <= 3
    review = {pair.cluster: pair.id for pair in result.pairs_with_role("review")}
    assert len(review) == 25
    fewer = factories.first_result(
        factories.comparison(
            experiment=factories.experiment(), outcomes=[event for event in outcomes if event.segment.sequence < 9]
        )
    )
    assert {pair.cluster: pair.id for pair in fewer.pairs_with_role("review")} == review


def matched(outcomes: Sequence[Outcome], *, experiment: Experiment | None = None, finish: bool = True) -> PairMatcher:
    """A matcher that has all outcomes, in the order given."""
    experiment = experiment or factories.experiment()
    matcher = PairMatcher(experiment, ExperimentMetrics(experiment))
    for outcome in outcomes:
        matcher.add(outcome.segment.rendition.name, outcome)
    if finish:
        matcher.finish()
    return matcher


def example_pair(difference: float, *, number: int = 0, cluster: str = "film-000") -> PairExample:
    return PairExample(
        id=f"c{number}:a{number}",
        role="review",
        cluster=cluster,
        starts_at=START,
        control_event_id=f"c{number}",
        arm_event_id=f"a{number}",
        control_key=f"{cluster}/v1",
        arm_key=f"{cluster}/v2",
        control_score=50.0,
        arm_score=50.0 + difference,
    )


def test_a_pair_adds_difference_control_and_arm_value_to_its_cluster() -> None:
    """Two pairs of one stream: 3 and 5 points, with their squares and lag-1 product."""
    matcher = matched(
        [
            factories.arm_event(arm=arm, sequence=sequence, score=score)
            for sequence, scores in enumerate(((60.0, 63.0), (50.0, 55.0)))
            for arm, score in zip(("v1", "v2"), scores, strict=True)
        ]
    )
    table, keys = matcher.arms["v2"].table, 4  # the score, and the three signals that fool scorers

    assert table.names == ("film-000",)
    assert [table.means(column)[0] for column in (0, keys, 2 * keys)] == [4.0, 55.0, 59.0]
    assert (table.sums(3 * keys)[0], table.sums(3 * keys + 1)[0]) == (9.0 + 25.0, 15.0)


def test_an_experiment_without_outcomes_has_no_pairs() -> None:
    """Nothing is selected, missing or pending."""
    pairs = matched([]).arms["v2"]

    assert (len(pairs.table), pairs.examples.selected(), pairs.slices) == (0, (), {})
    assert {arm: missing.count for arm, missing in (pairs.missing | pairs.pending).items()} == {"v1": 0, "v2": 0}


@pytest.mark.parametrize(("offset_seconds", "pairs"), [(0.0, 1), (0.5, 1), (-0.5, 1), (0.75, 0), (-0.75, 0)])
def test_starts_that_differ_by_no_more_than_the_tolerance_are_paired(offset_seconds: float, pairs: int) -> None:
    """With a tolerance of half a second, whichever arm starts first."""
    outcomes = [
        factories.arm_event(arm="v1", at_seconds=10.0),
        factories.arm_event(arm="v2", at_seconds=10.0 + offset_seconds),
    ]
    outcomes.sort(key=lambda outcome: outcome.segment.starts_at)
    matcher = matched(outcomes, experiment=factories.experiment(tolerance_seconds=0.5))

    assert matcher.arms["v2"].table.segment_counts().sum() == pairs


def test_segments_of_different_streams_are_never_paired() -> None:
    """Unless another attribute says that they show the same source."""
    outcomes = [factories.arm_event(arm=arm, stream=f"{arm}-film", title="one film") for arm in ("v1", "v2")]

    assert len(matched(outcomes).arms["v2"].table) == 0
    by_title = factories.experiment(same=("label:title",), cluster="label:title")
    assert matched(outcomes, experiment=by_title).arms["v2"].table.names == ("one film",)


@pytest.mark.parametrize(("scored_arm", "absent_arm"), [("v1", "v2"), ("v2", "v1")])
def test_without_any_outcome_of_the_other_arm_all_pairs_are_pending(scored_arm: str, absent_arm: str) -> None:
    """A missing control is treated like a missing treatment: it may still come."""
    pairs = matched([factories.arm_event(arm=scored_arm, sequence=sequence) for sequence in range(3)]).arms["v2"]

    assert len(pairs.table) == 0
    assert (pairs.pending[absent_arm].count, pairs.missing[absent_arm].count) == (3, 0)
    assert (pairs.pending[scored_arm].count, pairs.missing[scored_arm].count) == (0, 0)


def test_pending_pairs_are_missing_once_their_arm_is_further() -> None:
    """The third segment of v2 shows that its first two are absent."""
    outcomes = [factories.arm_event(arm="v1", sequence=sequence) for sequence in range(3)]
    pairs = matched([*outcomes, factories.arm_event(arm="v2", sequence=2)]).arms["v2"]

    assert (pairs.pending["v2"].count, pairs.missing["v2"].count) == (0, 2)
    assert [(pair.reason, pair.starts_at) for pair in pairs.missing["v2"].newest] == [
        ("absent", outcome.segment.starts_at) for outcome in outcomes[:2]
    ]
    assert pairs.table.segment_counts().tolist() == [1]


def test_a_failure_of_one_arm_is_a_missing_pair_with_its_reason() -> None:
    """When both arms fail, nothing is missing in either."""
    pairs = matched(
        [
            factories.arm_failure(arm="v1", sequence=0, reason="timeout"),
            factories.arm_event(arm="v2", sequence=0),
            factories.arm_failure(arm="v1", sequence=1),
            factories.arm_failure(arm="v2", sequence=1),
        ]
    ).arms["v2"]

    assert [(pair.missing, pair.reason) for pair in pairs.missing["v1"].newest] == [("v1", "timeout")]
    assert pairs.missing["v2"].count == 0
    assert pairs.examples.selected() == ()


def test_another_segment_at_the_same_moment_is_a_duplicate_and_the_first_counts() -> None:
    """The same segment scored twice is no duplicate."""
    first, duplicate = (factories.arm_event(arm="v1", sequence=7, at_seconds=0.0, score=score) for score in (50, 90))
    other = factories.arm_event(arm="v1", sequence=8, at_seconds=0.0, score=90)
    treatment = factories.arm_event(arm="v2", sequence=7, at_seconds=0.0, score=51)

    for second, duplicates in ((duplicate, 0), (other, 1)):
        matcher = matched([first, second, treatment])
        assert matcher.duplicates == duplicates
        assert matcher.arms["v2"].table.means(0).tolist() == [1.0]


def test_every_treatment_is_paired_with_the_control() -> None:
    """v2 and v3 each have their own pairs; the input arm has none."""
    arms = tuple(Arm(name=name, label=name) for name in ("v1", "v2", "v3", "in"))
    matcher = matched(
        [factories.arm_event(arm=arm, score=score) for arm, score in (("v1", 50), ("v2", 51), ("v3", 53), ("in", 40))],
        experiment=factories.experiment(arms=arms, input_arm="in", covariates=("input_score",)),
    )

    assert {arm: pairs.table.means(0).tolist() for arm, pairs in matcher.arms.items()} == {"v2": [1.0], "v3": [3.0]}
    assert matcher.arms["v2"].table.means(12).tolist() == [40.0]


def test_extreme_pairs_are_few_per_cluster_and_the_most_extreme_first() -> None:
    """Of ten pairs in each of six clusters, three per cluster and twelve at most are shown on each end."""
    examples = ExamplePairs()
    for number in range(60):
        examples.add(example_pair(float(number), number=number, cluster=f"film-{number // 10}"))
    selected = examples.selected()
    worst = [pair.difference for pair in selected if pair.role == "worst"]
    best = [pair.difference for pair in selected if pair.role == "best"]

    assert len(worst) == len(best) == 12
    assert worst == [0.0, 1.0, 2.0, 10.0, 11.0, 12.0, 20.0, 21.0, 22.0, 30.0, 31.0, 32.0]
    assert best == [59.0, 58.0, 57.0, 49.0, 48.0, 47.0, 39.0, 38.0, 37.0, 29.0, 28.0, 27.0]


def test_one_pair_is_worst_best_and_review_at_once() -> None:
    """A single pair is all there is to show."""
    examples = ExamplePairs()
    examples.add(example_pair(1.0))
    assert [pair.role for pair in examples.selected()] == ["worst", "best", "review"]


def test_the_review_pair_does_not_depend_on_scores_or_on_later_pairs() -> None:
    """It is chosen by its id from the first eight pairs of its cluster."""
    small, large, long = ExamplePairs(), ExamplePairs(), ExamplePairs()
    for number in range(100):
        if number < 8:
            small.add(example_pair(0.0, number=number))
            large.add(example_pair(float(number), number=number))
        long.add(example_pair(0.0, number=number))
    ids = [[pair.id for pair in examples.selected() if pair.role == "review"] for examples in (small, large, long)]

    assert ids[0] == ids[1] == ids[2]
    assert len(ids[0]) == 1


def test_only_the_first_clusters_get_a_review_pair() -> None:
    """Votes on them stay valid whatever comes later."""
    examples = ExamplePairs()
    for number in range(205):
        examples.add(example_pair(0.0, number=number, cluster=f"film-{number:03}"))
    clusters = {pair.cluster for pair in examples.selected() if pair.role == "review"}

    assert clusters == {f"film-{number:03}" for number in range(200)}


def test_all_missing_pairs_are_counted_and_the_newest_are_listed() -> None:
    """Moving them empties the other list."""
    pending, missing = MissingPairs(), MissingPairs()
    for number in range(60):
        pair = MissingPair(cluster="film", starts_at=START, missing="v2", event_id=str(number), reason="absent")
        pending.add(pair, score=float(number), observed_at_seconds=float(number))
    missing.move_from(pending)

    assert (missing.count, pending.count, len(pending.newest)) == (60, 0, 0)
    assert [pair.event_id for pair in missing.newest] == [str(n) for n in range(10, 60)]
    assert (missing.scores.counts(0).tolist(), missing.scores.means(0).tolist()) == ([60.0], [29.5])
    assert len(pending.scores) == 0


def ended_arm(*, segments_missing: int, delay_seconds: float = 0.0) -> Comparison:
    """24 streams at once; v2 is scored `delay_seconds` after v1 and ends after 20 segments."""
    outcomes = []
    for event in factories.paired_events(streams=24, segments=20 + segments_missing):
        is_arm = event.segment.rendition.name == "v2"
        if is_arm and event.segment.sequence >= 20:
            continue
        delay = timedelta(seconds=delay_seconds if is_arm else 0.0)
        outcomes.append(replace(event, observed_at=event.observed_at + delay))
    return factories.comparison(experiment=factories.experiment(), outcomes=outcomes)


def test_an_arm_that_ends_while_the_other_goes_on_blocks_the_verdict() -> None:
    """By the first segment that all streams lack: they count as missing, and the sentence never takes v2."""
    comparison = ended_arm(segments_missing=1)
    result = factories.first_result(comparison)

    assert result.missing_in_arm == 24
    assert (
        "v2 is silent: the other arm went on for 24 segments"
        in factories.health_check(comparison, "missing pairs").text
    )
    assert result.verdict.kind == "undecided"


def test_an_arm_that_is_scored_later_is_waited_for_as_long_as_usual() -> None:
    """v2 always comes 30 seconds after v1: with four segments of four seconds it is late, with ten it is silent."""
    late, silent = (ended_arm(segments_missing=count, delay_seconds=30.0) for count in (4, 10))

    assert factories.health_check(late, "missing pairs").is_good
    assert "96 newest segments still wait" in factories.health_check(late, "missing pairs").text
    assert not factories.health_check(silent, "missing pairs").is_good


def test_nineteen_waiting_segments_are_no_silence() -> None:
    """One stream of which the last segments are still to come."""
    outcomes = [
        event
        for event in factories.paired_events(streams=1, segments=60)
        if event.segment.rendition.name == "v1" or event.segment.sequence < 41
    ]
    waiting = factories.comparison(experiment=factories.experiment(), outcomes=outcomes)
    silent = factories.comparison(
        experiment=factories.experiment(),
        outcomes=[event for event in outcomes if event.segment.rendition.name == "v1" or event.segment.sequence < 40],
    )
    assert factories.health_check(waiting, "missing pairs").is_good
    assert not factories.health_check(silent, "missing pairs").is_good


def test_a_score_that_is_lost_because_its_scorer_failed_makes_a_missing_pair() -> None:
    """With the reason of the failure; pairs of the other scorer stay."""
    owl = factories.scorer_failure(scorer="owl@1", reason="out_of_memory")
    outcomes = [
        replace(event, scores=event.scores[:1], scorer_failures=(owl,))
        if event.segment.rendition.name == "v2" and event.segment.sequence % 3 == 0
        else event
        for event in factories.paired_events(gain=2, second_gain=2)
    ]
    comparison = factories.comparison(experiment=factories.experiment(scorers=("lite", "owl")), outcomes=outcomes)
    result = factories.first_result(comparison)

    assert (result.missing_in_arm, result.missing_in_control) == (120, 0)
    assert {pair.reason for pair in result.missing} == {"out_of_memory"}
    assert [effect.segments for effect in result.effects] == [360, 240]
    assert not factories.health_check(comparison, "missing pairs").is_good
    assert [arm.lost_scores for arm in comparison.arms] == [{}, {"owl@1": 120}]
