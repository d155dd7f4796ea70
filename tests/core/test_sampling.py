"""Which frames are looked at: first at or after each second, whatever the frame rate; and which make its clip."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vqmon.core.frames import MAX_CLIP_GAP_SECONDS, clip_indices, sample_indices
from vqmon.core.types import ClipSampling

frame_times = st.lists(st.integers(1, 3_000_000), min_size=1, max_size=200).map(
    lambda gaps: (np.cumsum(gaps) / 1e6).tolist()
)


@given(frame_times, st.sampled_from([0.5, 1.0, 2.0, 10.0]))
def test_each_moment_gets_the_first_frame_at_or_after_it(times: list[float], fps: float) -> None:
    """The choice is what a plain search over all moments finds, once each, in order, from the first frame on."""
    expected = []
    moment = 0
    while times[0] + moment / fps <= times[-1] + 1e-6:
        found = next((i for i, time in enumerate(times) if time >= times[0] + moment / fps - 5e-7), None)
        if found is not None and found not in expected:
            expected.append(found)
        moment += 1

    assert sample_indices(times, fps=fps) == tuple(expected)


@given(frame_times, st.floats(0, 1e5))
def test_the_choice_depends_on_the_segment_alone(times: list[float], shift: float) -> None:
    """Segments that start later on the timeline are looked at in the same way."""
    shift = round(shift)
    assert len(sample_indices([time + shift for time in times])) == len(sample_indices(times))


def test_common_frame_rates() -> None:
    """25 fps gives every 25th frame, NTSC rates every 30th or 24th, a still picture gives itself."""
    assert sample_indices([k / 25 for k in range(100)]) == (0, 25, 50, 75)
    assert sample_indices([k * 1001 / 30000 for k in range(120)]) == (0, 30, 60, 90)
    assert sample_indices([k * 1001 / 24000 for k in range(96)]) == (0, 24, 48, 72)
    assert sample_indices([5.0]) == (0,)
    assert sample_indices([]) == ()


def test_time_base_rounding_does_not_skip_a_frame() -> None:
    """A frame that is a fraction of a tick early still counts for its second."""
    assert sample_indices([0.0, 0.5, 0.9999997, 1.5, 2.0]) == (0, 2, 4)


@given(frame_times, st.integers(2, 40), st.integers(1, 4))
def test_a_clip_is_counted_from_its_frame_and_its_end_repeated(times: list[float], frames: int, stride: int) -> None:
    """Each frame of a clip is the stride-th after the one before it, or the same one where none follows closely."""
    starts = sample_indices(times)
    found = clip_indices(times, starts, ClipSampling(frames=frames, stride=stride))
    assert found.shape == (len(starts), frames)
    assert found[:, 0].tolist() == list(starts)
    for clip in found.tolist():
        for before, here in pairwise(clip):
            after = before + stride
            follows = after < len(times) and times[after] - times[before] <= MAX_CLIP_GAP_SECONDS
            assert here == (after if follows else before)


def test_a_clip_neither_runs_over_a_gap_nor_past_the_end() -> None:
    """What is missing is not made up: the last frame before it stays, and after the gap a new clip begins."""
    times = [k / 10 for k in range(12)] + [5 + k / 10 for k in range(3)]
    starts = sample_indices(times)
    assert starts == (0, 10, 12)
    found = clip_indices(times, starts, ClipSampling(frames=4, stride=2))
    assert found.tolist() == [[0, 2, 4, 6], [10, 10, 10, 10], [12, 14, 14, 14]]
    assert clip_indices([3.0], [0], ClipSampling(frames=3)).tolist() == [[0, 0, 0]]
