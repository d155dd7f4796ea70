"""Unpaired totals: sessions and blocks per arm, and who was seen in both arms."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from tests import factories
from vqmon.core.experiments.data.metrics import ExperimentMetrics
from vqmon.core.experiments.data.sessions import UnpairedTotals
from vqmon.core.experiments.definition import Arm, Experiment, ShareChange
from vqmon.core.types import Outcome, QualityEvent


def session_events(count: int, *, gain: float, share: float = 0.5, seed: int = 1) -> Iterator[QualityEvent]:
    """Each session sees one arm, for 1 to 20 segments."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        arm = "v2" if rng.random() < share else "v1"
        quality = rng.normal(60, 6) + gain * (arm == "v2")
        for part in range(int(rng.integers(1, 21))):
            value = quality + rng.normal(0, 3)
            yield factories.arm_event(
                stream="live",
                arm=arm,
                sequence=part,
                score=value,
                at_seconds=number * 7.0 + part * 4,
                session=f"s{number}",
                si=str(quality - gain * (arm == "v2")),
            )


UNPAIRED = factories.experiment(design="unpaired", cluster="label:session", planned_clusters=400, delta_min=0.0)


def test_sessions_are_the_clusters_of_unpaired_traffic() -> None:
    """A gain of 4 points in 400 sessions is significant; a covariate halves the interval; there are no pairs."""
    outcomes = list(session_events(400, gain=4))
    plain = factories.comparison(experiment=UNPAIRED, outcomes=outcomes)
    adjusted = factories.first_result(
        factories.comparison(experiment=replace(UNPAIRED, covariates=("label:si",)), outcomes=outcomes)
    ).effects[0]
    effect = factories.first_result(plain).effects[0]

    assert factories.first_result(plain).verdict.kind == "better"
    assert effect.clusters == 400
    assert effect.segments == len(outcomes)
    assert (factories.first_result(plain).pairs, effect.by_cluster) == ((), ())
    assert factories.first_result(plain).missing_in_arm == 0
    assert factories.health_check(plain, "sample ratio").is_good
    assert adjusted.reading is not None
    assert effect.reading is not None
    assert (adjusted.variance_saved or 0) > 0.8
    assert adjusted.reading.mean == pytest.approx(4, abs=0.5)
    assert adjusted.reading.high - adjusted.reading.low < (effect.reading.high - effect.reading.low) / 2


def test_an_unplanned_split_of_sessions_blocks_the_verdict() -> None:
    """Thirty percent of the sessions are in v2: that blocks the verdict unless 30 % were planned."""
    outcomes = list(session_events(500, gain=4, share=0.3))
    comparison = factories.comparison(experiment=UNPAIRED, outcomes=outcomes)
    planned = replace(UNPAIRED, arms=(Arm(name="v1", label="v1", share=7), Arm(name="v2", label="v2", share=3)))

    assert not factories.health_check(comparison, "sample ratio").is_good
    assert factories.first_result(comparison).verdict.kind == "undecided"
    assert "sample ratio" in factories.first_result(comparison).verdict.sentence
    assert factories.first_result(factories.comparison(experiment=planned, outcomes=outcomes)).verdict.kind == "better"


def test_sessions_without_a_score_count_in_no_effect_and_no_slice() -> None:
    """A slice in which nothing was scored is not listed."""
    failures: list[Outcome] = []
    for number in range(40):
        failure = factories.arm_failure(
            stream="live", arm=("v1", "v2")[number % 2], sequence=number, at_seconds=9000.0 + number
        )
        labels = {**failure.segment.rendition.labels, "session": f"f{number}", "genre": "news"}
        rendition = replace(failure.segment.rendition, labels=labels)
        failures.append(replace(failure, segment=replace(failure.segment, rendition=rendition)))
    scored = list(session_events(60, gain=0))
    experiment = replace(UNPAIRED, slices=("label:genre",))
    plain, more = (
        factories.comparison(experiment=experiment, outcomes=scored),
        factories.comparison(experiment=experiment, outcomes=[*scored, *failures]),
    )

    assert factories.first_result(more).effects[0].final == factories.first_result(plain).effects[0].final
    assert [part.value for part in factories.first_result(more).effects[0].slices] == [""]


def test_sessions_seen_in_both_arms_block_the_verdict() -> None:
    """Their segments were not assigned by session, so sessions are no independent clusters."""
    outcomes = [
        factories.arm_event(stream="live", arm=arm, sequence=part, score=60, at_seconds=n * 9.0 + part, session=f"s{n}")
        for n in range(60)
        for part, arm in enumerate(("v1", "v2") * 2)
    ]
    comparison = factories.comparison(experiment=UNPAIRED, outcomes=outcomes)

    assert not factories.health_check(comparison, "crossed sessions").is_good
    assert factories.first_result(comparison).verdict.kind == "undecided"


def totals_of(outcomes: Sequence[Outcome], *, experiment: Experiment = UNPAIRED) -> UnpairedTotals:
    totals = UnpairedTotals(experiment, ExperimentMetrics(experiment))
    for outcome in outcomes:
        totals.add(outcome.segment.rendition.name, outcome)
    return totals


def session_event(arm: str, session: str, *, score: float = 60.0, sequence: int = 0) -> QualityEvent:
    return factories.arm_event(arm=arm, stream="live", sequence=sequence, score=score, session=session)


def test_without_outcomes_every_arm_has_no_sessions() -> None:
    """And there is no evidence against the planned shares."""
    totals = totals_of([])

    assert dict(totals.sessions) == {"v1": 0, "v2": 0}
    assert totals.crossover_counts() == totals.mixed_block_counts() == (0, 0)
    assert totals.max_log_e_value() == pytest.approx(0.0, abs=1e-9)
    assert totals.included_mask("v1", 0).tolist() == []


def test_a_session_counts_once_and_sums_up_its_segments() -> None:
    """Three segments of two sessions; the input arm is not counted."""
    arms = (*factories.ARMS, Arm(name="in", label="in"))
    totals = totals_of(
        [
            session_event("v1", "a", score=50),
            session_event("v1", "a", score=60, sequence=1),
            session_event("v2", "b", score=70),
            session_event("in", "c"),
        ],
        experiment=replace(UNPAIRED, arms=arms, input_arm="in"),
    )

    assert dict(totals.sessions) == {"v1": 1, "v2": 1}
    assert (totals.tables["v1"].sums(0).tolist(), totals.tables["v1"].counts(0).tolist()) == ([110.0], [2.0])
    assert set(totals.tables) == set(totals.planned_counts()) == {"v1", "v2"}


def test_sessions_in_both_arms_are_counted_as_crossovers() -> None:
    """One of three sessions saw both arms."""
    totals = totals_of(
        [session_event(arm, session) for arm, session in (("v1", "a"), ("v2", "a"), ("v1", "b"), ("v2", "c"))]
    )
    assert totals.crossover_counts() == (1, 3)


def test_a_session_is_included_once_it_is_complete_and_scored() -> None:
    """With two segments per session: a third is ignored, a single one is too few, a failure is no value."""
    failure = factories.arm_failure(arm="v1", stream="live", session="c")
    totals = totals_of(
        [
            *(session_event("v1", "a", score=score) for score in (50, 60, 99)),
            session_event("v1", "b"),
            failure,
            replace(failure, id="other"),
        ],
        experiment=replace(UNPAIRED, segments_per_cluster=2),
    )

    assert totals.tables["v1"].names == ("a", "b", "c")
    assert totals.included_mask("v1", 0).tolist() == [True, False, False]
    assert totals.tables["v1"].means(0)[0] == 55.0


def sessions_in_order(arms: str) -> list[QualityEvent]:
    """One session of one segment per digit, in arm v1 or v2."""
    return [session_event(f"v{digit}", f"s{number}") for number, digit in enumerate(arms)]


def test_unequal_shares_are_compared_with_the_planned_ones() -> None:
    """Three to one is evidence against equal shares, and none against three to one."""
    outcomes = sessions_in_order("1112" * 64)
    unequal = replace(UNPAIRED, arms=(Arm(name="v1", label="v1", share=3.0), Arm(name="v2", label="v2")))

    assert totals_of(outcomes).max_log_e_value() > math.log(1000)
    assert totals_of(outcomes, experiment=unequal).max_log_e_value() < math.log(2)
    assert totals_of(outcomes, experiment=unequal).planned_counts() == {"v1": 192.0, "v2": 64.0}


def test_evidence_against_the_shares_stays_when_the_counts_become_even() -> None:
    """Sixty-four sessions of v1, then as many of v2: the test had failed at the earlier look."""
    alarm = totals_of(sessions_in_order("1" * 64)).max_log_e_value()
    later = totals_of(sessions_in_order("1" * 64 + "2" * 64))

    assert alarm > math.log(1000)
    assert dict(later.sessions) == {"v1": 64, "v2": 64}
    assert later.max_log_e_value() >= alarm


def test_a_switchback_block_with_two_arms_is_mixed_and_left_out() -> None:
    """The wash-in at its start and the gap at its end belong to no block."""
    experiment = factories.experiment(design="switchback", cluster="block")
    totals = totals_of(
        [
            factories.arm_event(arm=arm, stream="live", sequence=sequence, at_seconds=at_seconds)
            for sequence, (arm, at_seconds) in enumerate(
                (("v2", 0.0), ("v1", 30.0), ("v1", 536.0), ("v2", 540.0), ("v2", 660.0), ("v1", 700.0), ("v2", 1300.0))
            )
        ],
        experiment=experiment,
    )

    assert totals.mixed_block_counts() == (1, 3)
    assert totals.included_mask("v1", 0).tolist() == [True, False]
    assert totals.included_mask("v2", 0).tolist() == [False, True]
    assert totals.tables["v1"].segment_counts().tolist() == [2, 1]
    assert totals.block_streams("v1").tolist() == ["live", "live"]


def test_a_dead_arm_is_told_by_the_fifteenth_session() -> None:
    """From the first session on, and after 200 sessions of both arms by a run of 18."""
    never = factories.comparison(experiment=UNPAIRED, outcomes=sessions_in_order("1" * 15))
    later = factories.comparison(experiment=UNPAIRED, outcomes=sessions_in_order("12" * 100 + "1" * 18))

    assert not factories.health_check(never, "sample ratio").is_good
    assert "v2 got none of the last 18 sessions" in factories.health_check(later, "silent arm").text
    assert factories.first_result(later).verdict.kind == "undecided"


def ramp(*, first: float, then: float) -> Experiment:
    """v2 gets another share of the sessions after 1,000 seconds."""
    change = ShareChange(since=factories.START + timedelta(seconds=1000), share=then)
    return replace(
        UNPAIRED,
        arms=(Arm(name="v1", label="v1"), Arm(name="v2", label="v2", share=first, share_changes=(change,))),
        planned_clusters=600,
    )


def ramp_events() -> list[QualityEvent]:
    """400 sessions of 1/9 to v2 at a quality of 50, then 400 of 1/2 at 80; the arms never differ."""
    rng = np.random.default_rng(6)
    events = []
    for number in range(800):
        is_late = number >= 400
        arm = "v2" if rng.random() < (0.5 if is_late else 0.1) else "v1"
        events.append(
            factories.arm_event(
                arm=arm,
                stream="live",
                sequence=number,
                score=float(rng.normal(80 if is_late else 50, 3)),
                at_seconds=number * 2.5,
                session=f"s{number}",
            )
        )
    return events


def test_sessions_of_a_ramp_are_compared_within_each_stage() -> None:
    """Without the dates the ramp is a mismatch for ever; with them it is none, and late sessions win nothing."""
    known = factories.comparison(experiment=ramp(first=1 / 9, then=1.0), outcomes=ramp_events())
    unknown = factories.comparison(experiment=ramp(first=1 / 9, then=1 / 9), outcomes=ramp_events())
    known_effect, unknown_effect = (factories.first_result(part).effects[0] for part in (known, unknown))

    assert factories.health_check(known, "sample ratio").is_good
    assert not factories.health_check(unknown, "sample ratio").is_good
    assert known_effect.final is not None
    assert unknown_effect.final is not None
    assert abs(known_effect.final.mean) < 1 < 5 < unknown_effect.final.mean
    assert known_effect.smaller_arm == unknown_effect.smaller_arm


def test_an_unpaired_answer_needs_fifty_sessions_in_each_arm() -> None:
    """Forty sessions of v2 among 400 are too few, however clear; the reason says so."""
    outcomes = [
        session_event(
            "v2" if number % 10 == 0 else "v1", f"s{number}", score=60.0 + 5 * (number % 10 == 0) + number % 3
        )
        for number in range(400)
    ]
    shares = (Arm(name="v1", label="v1", share=9.0), Arm(name="v2", label="v2"))
    result = factories.first_result(factories.comparison(experiment=replace(UNPAIRED, arms=shares), outcomes=outcomes))

    assert (result.effects[0].reading, result.effects[0].smaller_arm) == (None, 40)
    assert "the smaller arm has 40 sessions; each arm needs 50" in result.verdict.reasons[0]
