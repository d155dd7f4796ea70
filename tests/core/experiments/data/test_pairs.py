"""Pairs: which segments are matched, which are missing, and which pairs are shown."""

from dataclasses import replace
from datetime import timedelta

from tests import factories
from vqmon.core.types import Outcome


def test_pairs_share_a_moment_of_the_media_timeline_and_not_of_arrival() -> None:
    """One arm comes a day later in the history's order; its segments find their partners all the same."""
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
    """What one side lacks is told with its reason; a side that loses 5 % of all has no verdict."""
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
    assert {event.reason for event in result.missing} == {"timeout", "absent"}
    assert {event.missing for event in result.missing} == {"v2"}
    assert not factories.health_check(comparison, "missing pairs").is_good
    assert result.verdict.kind == "undecided"
    assert "missing pairs" in result.verdict.sentence


def test_a_segment_that_may_still_come_is_pending_and_not_missing() -> None:
    """An arm that is behind lacks nothing up to where it is; the rest is told apart."""
    outcomes = [
        factories.arm_event(stream=stream, arm="v1", sequence=number, score=60)
        for stream in range(3)
        for number in range(20)
    ]
    outcomes += [
        factories.arm_event(stream=stream, arm="v2", sequence=number, score=61)
        for stream in range(3)
        for number in range(10)
    ]
    comparison = factories.comparison(experiment=factories.experiment(), outcomes=outcomes)

    assert factories.first_result(comparison).missing_in_arm == 0
    assert "30 newest segments still wait" in factories.health_check(comparison, "missing pairs").text
    more = factories.comparison(
        experiment=factories.experiment(),
        outcomes=[*outcomes, factories.arm_event(stream=0, arm="v2", sequence=19, score=61)],
    )
    assert factories.first_result(more).missing_in_arm == 27


def test_two_renditions_of_an_arm_at_one_moment_are_duplicates_unless_same_names_them() -> None:
    """A ladder under one label is doubled; with `same` it is pairs of equal rungs."""
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
    experiment = factories.experiment(same=("label:title",), cluster="label:title")
    doubled = factories.comparison(experiment=experiment, outcomes=outcomes)
    apart = factories.comparison(
        experiment=replace(experiment, same=("label:title", "rendition"), slices=("rendition",)), outcomes=outcomes
    )

    assert not factories.health_check(doubled, "doubled segments").is_good
    assert factories.first_result(doubled).verdict.kind == "undecided"
    assert (factories.first_result(apart).verdict.kind, factories.first_result(apart).effects[0].segments) == (
        "equivalent",
        200,
    )
    assert [(part.value, part.clusters, part.mean) for part in factories.first_result(apart).effects[0].slices] == [
        ("1080p", 20, 0.0),
        ("480p", 20, 0.0),
    ]


def test_a_segment_that_failed_and_was_scored_later_is_scored() -> None:
    """Two outcomes of one segment are one side of one pair."""
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
    """Segments that it did not score are no missing pairs; the other scorer counts them all."""
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
    """Worst and best by difference, at most three of a content; review pairs stay when more data comes."""
    outcomes = list(factories.paired_events(gain=1, streams=25, segments=20))
    result = factories.first_result(factories.comparison(experiment=factories.experiment(), outcomes=outcomes))
    events = {event.id: event for event in outcomes}

    worst = result.pairs_with_role("worst")
    assert [pair.difference for pair in worst] == sorted(pair.difference for pair in worst)
    assert worst[0].difference == min(
        events[pair.arm_event_id].scores[0].value - events[pair.control_event_id].scores[0].value
        for pair in result.pairs
    )
    assert max(sum(pair.cluster == event.cluster for pair in worst) for event in worst) <= 3
    review = {pair.cluster: pair.id for pair in result.pairs_with_role("review")}
    assert len(review) == 25
    fewer = factories.first_result(
        factories.comparison(
            experiment=factories.experiment(), outcomes=[event for event in outcomes if event.segment.sequence < 9]
        )
    )
    assert {pair.cluster: pair.id for pair in fewer.pairs_with_role("review")} == review
