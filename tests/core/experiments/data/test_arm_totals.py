"""Arm totals: counts, means of cluster means, histograms and cost of each arm."""

from dataclasses import replace

import pytest

from tests import factories


def test_cost_comes_from_labels_and_gives_points_per_unit() -> None:
    """Bits from the label `bytes`, GPU-seconds from theirs; points for each, and for each one more."""
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
