"""Unpaired totals: sessions and blocks per arm, and who was seen in both arms."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from tests import factories
from vqmon.core.experiments.definition import Arm
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
    """A gain of 4 points in 400 sessions is found; covariates make it much surer; there are no pairs."""
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
    """Planned half and half, 30 % came: the gain is not believed. Planned so, it is."""
    outcomes = list(session_events(500, gain=4, share=0.3))
    comparison = factories.comparison(experiment=UNPAIRED, outcomes=outcomes)
    planned = replace(UNPAIRED, arms=(Arm(name="v1", label="v1", share=7), Arm(name="v2", label="v2", share=3)))

    assert not factories.health_check(comparison, "sample ratio").is_good
    assert factories.first_result(comparison).verdict.kind == "undecided"
    assert "sample ratio" in factories.first_result(comparison).verdict.sentence
    assert factories.first_result(factories.comparison(experiment=planned, outcomes=outcomes)).verdict.kind == "better"


def test_sessions_without_a_score_count_in_no_effect_and_no_slice() -> None:
    """Also in slices: a part that was never scored is no number."""
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
    """They were not assigned by session."""
    outcomes = [
        factories.arm_event(stream="live", arm=arm, sequence=part, score=60, at_seconds=n * 9.0 + part, session=f"s{n}")
        for n in range(60)
        for part, arm in enumerate(("v1", "v2") * 2)
    ]
    comparison = factories.comparison(experiment=UNPAIRED, outcomes=outcomes)

    assert not factories.health_check(comparison, "crossed sessions").is_good
    assert factories.first_result(comparison).verdict.kind == "undecided"
