"""Scores: pooling of frame values, signal summaries, calibration to 0..100, promotions, and heat maps."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import factories
from vqmon.core.scores import (
    POOLINGS,
    HeatMap,
    Promotion,
    describe_losses,
    pack_heat_map,
    pool,
    region_means,
    score_band,
    summarize_signal,
)

values = st.lists(st.floats(0, 100), min_size=1, max_size=50)


@given(values, st.sampled_from(sorted(POOLINGS)))
def test_a_pooled_value_lies_within_its_frames(frames: list[float], name: str) -> None:
    """No pooling leaves the range of what it pools."""
    assert min(frames) - 1e-9 <= pool(name, frames) <= max(frames) + 1e-9


@given(values)
def test_min_p5_harmonic_mean_come_in_this_order(frames: list[float]) -> None:
    """The lowest frame bounds all, and the harmonic mean is never above the mean."""
    assert pool("min", frames) <= pool("p5", frames) + 1e-9
    assert pool("harmonic", frames) <= pool("mean", frames) + 1e-9
    assert pool("p5", frames) == pytest.approx(np.percentile(frames, 5))


def test_the_standard_error_is_that_of_a_mean() -> None:
    """One frame tells nothing about it, and the lowest frame has none."""
    assert factories.score(frame_values=(40.0, 44.0, 48.0, 52.0)).standard_error == pytest.approx(2.58, abs=0.01)
    assert factories.score(frame_values=(40.0,)).standard_error == 0
    assert replace(factories.score(frame_values=(40.0, 50.0)), pooling="min").standard_error == 0


def test_known_values() -> None:
    """The harmonic mean is that of VMAF: on a scale shifted by one."""
    assert pool("harmonic", [0.0, 100.0]) == pytest.approx(2 / (1 + 1 / 101) - 1)
    assert pool("mean", [10.0, 20.0]) == 15.0


@pytest.mark.parametrize(
    ("name", "frames"), [("median", [1.0]), ("mean", []), ("mean", [math.nan]), ("min", [1.0, math.inf])]
)
def test_what_cannot_be_pooled_is_refused(name: str, frames: list[float]) -> None:
    """An unknown name, no value or one that is not finite is an error, never a guess."""
    with pytest.raises(ValueError, match=r"unknown pooling|cannot pool"):
        pool(name, frames)


def test_a_signal_keeps_its_frames() -> None:
    """Mean and maximum go with the frame values, four decimals."""
    summary = summarize_signal([0.0, 0.123456, 1.0])
    assert (summary.mean, summary.max, summary.frame_values) == (0.3745, 1.0, (0.0, 0.1235, 1.0))


@pytest.mark.parametrize(
    ("reasons", "left_out", "message"),
    [(("sampled",), "", "unknown reasons"), (("low",), "busy", "left_out is unknown"), ((), "budget", "no promotion")],
)
def test_a_promotion_with_unknown_or_missing_reasons_is_refused(
    reasons: tuple[str, ...], left_out: str, message: str
) -> None:
    """Reasons come from one list, and only a segment with a reason can be skipped."""
    with pytest.raises(ValueError, match=message):
        Promotion(reasons=reasons, left_out=left_out)
    assert Promotion(reasons=("low", "drop"), left_out="budget").left_out == "budget"


def left_half(loss: float) -> np.ndarray:
    losses = np.zeros((9, 16), np.float32)
    losses[:, :8] = loss
    return losses


def test_losses_survive_packing_to_a_step_of_a_255th() -> None:
    """A frame without a comparison, and one that loses too little, has no map."""
    heat_map = pack_heat_map("detail", [None, left_half(0.6), left_half(0.05)])
    assert heat_map is not None
    assert heat_map.losses(0) is None
    assert heat_map.losses(2) is None
    restored = heat_map.losses(1)
    assert restored is not None
    assert np.abs(restored - left_half(0.6)).max() <= 0.5 / 255 + 1e-6
    assert heat_map.means == pytest.approx((0.0, 0.3, 0.0), abs=0.002)


def test_there_is_no_map_where_nothing_is_lost() -> None:
    """So clean video costs no byte in an event."""
    assert pack_heat_map("detail", [None, left_half(0.02)]) is None
    assert pack_heat_map("detail", [left_half(0.29)], min_peak=0.3) is None


@pytest.mark.parametrize("frame", ["AAAA", "no base64!", "A" * 196])
def test_a_frame_of_another_size_is_refused(frame: str) -> None:
    """Readers may rely on rows and columns."""
    with pytest.raises(ValueError, match="frame of"):
        HeatMap(measure="detail", frames=(frame,))


def test_a_loss_is_described_by_sides_and_regions() -> None:
    """For those who cannot see the picture."""
    assert describe_losses(left_half(0.5)) == "mostly left; mean 0.25, largest 0.50"
    corner = np.zeros((9, 16), np.float32)
    corner[:4, 10:] = 1
    assert describe_losses(corner).startswith("mostly top right;")
    assert describe_losses(np.full((9, 16), 0.5, np.float32)).startswith("on no side in particular;")
    regions = dict(region_means(left_half(0.6)))
    assert len(regions) == 9
    assert regions["middle left"] == pytest.approx(0.6)
    assert regions["middle right"] == 0
    assert dict(region_means(np.ones((3, 4), np.float32)))["bottom right"] == 1


@pytest.mark.parametrize(
    ("score", "band"),
    [
        (100.0, "very high"),
        (80.0, "very high"),
        (79.96, "very high"),
        (79.9, "high"),
        (40.0, "medium"),
        (0.0, "very low"),
    ],
)
def test_a_band_belongs_to_the_score_as_it_is_shown(score: float, band: str) -> None:
    """79.96 is shown as 80.0, so its band is that of 80."""
    assert score_band(score) == band
