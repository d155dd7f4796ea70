"""Contrasts: the plain, weighted and adjusted difference of an arm from the control."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from tests import factories
from vqmon.core.experiments.definition import Arm
from vqmon.core.types import QualityEvent


def switchback_events(*, gain: float, blocks: int = 120, mixed: int = 0) -> Iterator[QualityEvent]:
    """Two live streams of very different quality whose encoder changes arm by lot every ten minutes."""
    rng = np.random.default_rng(11)
    for stream, base in ((0, 40.0), (1, 75.0)):
        for block in range(blocks):
            arm = str(rng.choice(["v1", "v2"]))
            before = "v1" if arm == "v2" else "v2"
            likes = rng.normal(0, 1)
            for part in range(20):
                at = block * 600 + part * 30.0
                # The first segments of a block still come from the arm before.
                worn = 10 if part == 0 else 0
                label = before if block < mixed and part == 10 else arm
                value = base + likes + gain * (arm == "v2") - worn + rng.normal(0, 2)
                yield factories.arm_event(
                    stream=stream, arm=label, sequence=block * 20 + part, score=value, at_seconds=at
                )


def test_paired_covariates_adjust_only_with_their_mean_over_all_traffic() -> None:
    """The gain hangs on the input's score; told its usual mean, the answer is adjusted to it and is surer."""
    rng = np.random.default_rng(6)
    outcomes = []
    for stream in range(40):
        quality = rng.normal(50, 10)
        for number in range(5):
            outcomes.append(factories.arm_event(stream=stream, arm="in", sequence=number, score=quality))
            for arm, gain in (("v1", 0.0), ("v2", 1.0 + 0.2 * (quality - 50))):
                outcomes.append(
                    factories.arm_event(
                        stream=stream, arm=arm, sequence=number, score=quality + gain + rng.normal(0, 0.5)
                    )
                )
    arms = (*factories.experiment().arms, Arm(name="in", label="in"))
    experiment = factories.experiment(arms=arms, input_arm="in", covariates=("input_score",))
    plain = factories.first_result(factories.comparison(experiment=experiment, outcomes=outcomes)).effects[0]
    adjusted = factories.first_result(
        factories.comparison(experiment=replace(experiment, covariate_means={"input_score": 50.0}), outcomes=outcomes)
    ).effects[0]

    assert plain.adjusted is None
    assert plain.reading is not None
    assert adjusted.reading is not None
    assert adjusted.reading == adjusted.adjusted
    assert (adjusted.variance_saved or 0) > 0.9
    assert adjusted.reading.high - adjusted.reading.low < (plain.reading.high - plain.reading.low) / 3
    assert adjusted.reading.mean == pytest.approx(1.0, abs=0.15)
    assert [arm.role for arm in factories.comparison(experiment=experiment, outcomes=outcomes).arms] == [
        "control",
        "arm",
        "input",
    ]


def test_a_switchback_compares_blocks_within_streams() -> None:
    """The wash-in is dropped; the difference is found although streams differ by 35 points."""
    experiment = factories.experiment(design="switchback", cluster="block", planned_clusters=200, wash_in_seconds=30.0)
    comparison = factories.comparison(experiment=experiment, outcomes=switchback_events(gain=1.5))
    effect = factories.first_result(comparison).effects[0]

    assert factories.first_result(comparison).verdict.kind == "better"
    assert effect.clusters == 240
    assert effect.segments == 240 * 17
    assert effect.reading is not None
    assert effect.reading.mean == pytest.approx(1.5, abs=0.5)
    mixed = factories.comparison(experiment=experiment, outcomes=switchback_events(gain=1.5, mixed=30))
    assert not factories.health_check(mixed, "mixed blocks").is_good
    assert factories.first_result(mixed).effects[0].clusters == 240 - 60
