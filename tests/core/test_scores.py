"""Scores: pooling of frame values, signal summaries, calibration to 0..100, and promotions."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqmon.core.scores import POOLINGS, Promotion, pool, summarize_signal

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
