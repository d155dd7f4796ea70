"""Metrics: values, attributes and clusters as an experiment names them."""

import numpy as np
import pytest

from tests import factories


def test_blocks_of_a_live_stream_are_clusters_with_gaps_between() -> None:
    """Ten-minute blocks of one stream; the last minute of each is left out."""
    outcomes = []
    rng = np.random.default_rng(3)
    for number in range(30 * 30):
        content = 60 + rng.normal(0, 3)
        for arm, gain in (("v1", 0.0), ("v2", 1.5)):
            outcomes.append(
                factories.arm_event(
                    stream=0,
                    arm=arm,
                    sequence=number,
                    score=content + gain + rng.normal(0, 0.5),
                    at_seconds=number * 20.0,
                )
            )
    comparison = factories.comparison(experiment=factories.experiment(cluster="block"), outcomes=outcomes)
    effect = factories.first_result(comparison).effects[0]

    assert factories.first_result(comparison).verdict.kind == "better"
    assert (effect.clusters, effect.segments) == (30, 30 * 27)
    assert len(effect.over_time) > 100
    looks = [point for point in effect.over_time if point.low is not None]
    assert min(point.clusters for point in looks) == 20
    assert [point.at for point in effect.over_time] == sorted(point.at for point in effect.over_time)
    assert (looks[-1].low, looks[-1].high) == (
        pytest.approx(effect.anytime.low if effect.anytime else None),
        pytest.approx(effect.anytime.high if effect.anytime else None),
    )
