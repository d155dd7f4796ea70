"""Frames: sampling by time, clips, fragments and windows, and what views and decoded segments refuse."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqmon.core.frames import (
    MAX_CLIP_GAP_SECONDS,
    ClipSampling,
    Display,
    TileGrid,
    View,
    additional_indices,
    canvas_size,
    clip_indices,
    fragment_origins,
    grid_corners,
    sample_indices,
    window_corners,
)
from vqmon.testing import make_decoded

frame_times = st.lists(st.integers(1, 3_000_000), min_size=1, max_size=200).map(
    lambda gaps: (np.cumsum(gaps) / 1e6).tolist()
)


@given(frame_times, st.sampled_from([0.5, 1.0, 2.0, 10.0]))
def test_each_moment_gets_the_first_frame_at_or_after_it(times: list[float], fps: float) -> None:
    """The choice is what a plain search over all moments finds, once each, in order, from the first frame on."""
    expected = []
    moment = 0
    while times[0] + moment / fps <= times[-1] + 1e-6:
        first_index = next((i for i, time in enumerate(times) if time >= times[0] + moment / fps - 5e-7), None)
        if first_index is not None and first_index not in expected:
            expected.append(first_index)
        moment += 1

    assert sample_indices(times, fps=fps) == tuple(expected)


@given(frame_times, st.floats(0, 1e5))
def test_the_choice_depends_on_the_segment_alone(times: list[float], shift: float) -> None:
    """Segments that start later on the timeline are looked at in the same way."""
    shift = round(shift)
    assert len(sample_indices([time + shift for time in times])) == len(sample_indices(times))


@given(frame_times, st.sampled_from([1.0, 2.0]), st.sampled_from([2, 4]))
def test_additional_frames_lie_in_cells_without_a_sampled_one(times: list[float], fps: float, density: int) -> None:
    """One of each such cell of the stream's clock, in order."""
    cells = [int(time * fps * density + 1e-6) for time in times]
    sampled, added = sample_indices(times, fps=fps), additional_indices(times, fps=fps, density=density)
    assert [cells[index] for index in added] == sorted(set(cells) - {cells[index] for index in sampled})


def test_additional_frames_do_not_depend_on_where_a_segment_begins() -> None:
    """Apart from the cells of the sampled frames, those of a stream that is cut elsewhere are the same pictures."""
    stream = [100 + k / 25 for k in range(400)]
    whole = {stream[index] for index in additional_indices(stream, density=4)}
    for first in (1, 13, 100, 207):
        cut = stream[first : first + 150]
        added = {cut[index] for index in additional_indices(cut, density=4)}
        both = {int(4 * time + 1e-6) for time in added} & {int(4 * time + 1e-6) for time in whole}
        assert {time for time in added if int(4 * time + 1e-6) in both} <= whole
        assert len(both) >= 12


def test_additional_frames_fall_on_no_period_of_coded_pictures() -> None:
    """At 24 fps every 24th frame has one place in a pattern of four coded pictures; the additional ones have all."""
    times = [k / 24 for k in range(144)]
    assert {index % 4 for index in sample_indices(times)} == {0}
    assert {index % 4 for index in additional_indices(times, density=4)} == {0, 1, 2, 3}
    assert len(additional_indices(times, density=4)) == pytest.approx(18, abs=2)
    assert additional_indices([], density=4) == additional_indices(times, density=1) == ()


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
    indices = clip_indices(times, starts, ClipSampling(frames=frames, stride=stride))
    assert indices.shape == (len(starts), frames)
    assert indices[:, 0].tolist() == list(starts)
    for clip in indices.tolist():
        for before, here in pairwise(clip):
            after = before + stride
            follows = after < len(times) and times[after] - times[before] <= MAX_CLIP_GAP_SECONDS
            assert here == (after if follows else before)


def test_a_clip_neither_runs_over_a_gap_nor_past_the_end() -> None:
    """What is missing is not made up: the last frame before it stays, and after the gap a new clip begins."""
    times = [k / 10 for k in range(12)] + [5 + k / 10 for k in range(3)]
    starts = sample_indices(times)
    assert starts == (0, 10, 12)
    indices = clip_indices(times, starts, ClipSampling(frames=4, stride=2))
    assert indices.tolist() == [[0, 2, 4, 6], [10, 10, 10, 10], [12, 14, 14, 14]]
    assert clip_indices([3.0], [0], ClipSampling(frames=3)).tolist() == [[0, 0, 0]]


@given(st.integers(32, 700), st.integers(32, 700), st.integers(0, 2**32 - 1))
def test_pieces_lie_in_the_frame_and_in_their_cells(height: int, width: int, seed: int) -> None:
    """However small the frame; two calls of one seed agree."""
    origins = fragment_origins(height, width, rows=7, columns=7, side=(32, 32), seed=seed)
    assert origins.tolist() == fragment_origins(height, width, rows=7, columns=7, side=(32, 32), seed=seed).tolist()
    for axis, size in enumerate((height, width)):
        cells = np.minimum(np.arange(7) * (size // 7), size - 32)
        along = origins[..., axis] if axis == 0 else origins[..., axis].T
        room = np.maximum(size // 7 - 32, 1)
        assert ((along >= cells[:, None]) & (along < cells[:, None] + room)).all()
        assert origins[..., axis].max() + 32 <= size


def test_the_seed_decides() -> None:
    """Other seeds, other places; the first row of seed 384 as it was written down from the published draws."""
    first = fragment_origins(540, 960, rows=7, columns=7, side=(32, 32), seed=384)
    assert (first != fragment_origins(540, 960, rows=7, columns=7, side=(32, 32), seed=385)).any()
    assert first[0].tolist() == [[39, 28], [28, 230], [26, 333], [11, 456], [23, 573], [33, 727], [0, 904]]


@given(st.integers(224, 500), st.integers(224, 500), st.integers(1, 20))
def test_windows_are_as_many_as_asked(height: int, width: int, count: int) -> None:
    """All inside the frame, 32 px apart, the first at the corner."""
    corners = window_corners(height, width, size=(224, 224), count=count)
    assert (len(corners), corners[0]) == (count, (0, 0))
    for top, left in corners:
        assert top % 32 == left % 32 == 0
        assert top + 224 <= height
        assert left + 224 <= width


@given(st.integers(96, 500), st.integers(96, 500), st.integers(1, 5), st.integers(1, 5))
def test_a_grid_reaches_every_edge(height: int, width: int, columns: int, rows: int) -> None:
    """As many crops as asked, the outer ones at the edges; upright frames have as many rows as others columns."""
    corners = grid_corners(height, width, size=(96, 96), columns=columns, rows=rows)
    assert len(corners) == columns * rows
    down, across = (columns, rows) if height > width else (rows, columns)
    tops, lefts = ([corner[axis] for corner in corners] for axis in (0, 1))
    for starts, count, free in ((tops, down, height - 96), (lefts, across, width - 96)):
        assert (min(starts), max(starts)) == ((0, free) if count > 1 else (free // 2, free // 2))
    assert tops == sorted(tops)


def test_frames_too_small_are_refused() -> None:
    """A piece or window larger than the frame; the decoder enlarges before it asks."""
    with pytest.raises(ValueError, match="hold no fragment"):
        fragment_origins(31, 100, rows=7, columns=7, side=(32, 32), seed=0)
    with pytest.raises(ValueError, match="holds no window"):
        window_corners(223, 300, size=(224, 224), count=1)
    with pytest.raises(ValueError, match="holds no crop"):
        grid_corners(223, 300, size=(224, 224), columns=1, rows=1)


def test_views_that_make_no_sense() -> None:
    """Refused where they are written."""
    clip = ClipSampling(frames=4)
    with pytest.raises(ValueError, match="needs a short_side"):
        View(kind="centre", width=10, height=10, short_side=9)
    with pytest.raises(ValueError, match="fragments do not fill"):
        View(kind="fragments", width=30, height=28, columns=7, rows=7, clip=clip)
    with pytest.raises(ValueError, match="needs windows"):
        View(kind="windows", width=8, height=8)
    for facts in ({"columns": 2}, {"columns": 2, "rows": 1, "short_side": 7}, {"columns": 1, "rows": 1, "clip": clip}):
        with pytest.raises(ValueError, match="a grid view needs"):
            View(kind="grid", width=8, height=8, **facts)
    assert View(kind="grid", width=8, height=6, columns=3, rows=2).row_shape == (6, 6, 8, 3)
    with pytest.raises(ValueError, match="a halves view is square"):
        View(kind="halves", width=8, height=6)
    with pytest.raises(ValueError, match="no clip"):
        View(kind="windows", width=8, height=8, windows=2, clip=clip)
    with pytest.raises(ValueError, match=r"2\.\.256 frames"):
        ClipSampling(frames=1)
    assert View(kind="windows", width=8, height=6, windows=2).row_shape == (2, 6, 8, 3)
    assert View(kind="stretch", width=8, height=6, clip=clip).row_bytes == 4 * 8 * 6 * 3
    assert View(kind="stretch", width=8, height=6).row_shape == (6, 8, 3)


def test_a_decoded_segment_without_frames_or_with_values_that_do_not_match_is_refused() -> None:
    """Every signal has one value per frame, every view has one row per frame."""
    decoded = make_decoded(level=10)
    frames = len(decoded.times_seconds)
    with pytest.raises(ValueError, match="at least one frame"):
        replace(decoded, times_seconds=())
    with pytest.raises(ValueError, match=f"signal blur: {frames + 1} values for {frames} frames"):
        replace(decoded, signals={"blur": (0.0,) * (frames + 1)})
    view = View(kind="stretch", width=8, height=6)
    with pytest.raises(ValueError, match="view stretch 8x6"):
        replace(decoded, views={view: np.zeros((frames, 8, 6, 3), np.uint8)})


def test_a_display_view_counts_its_tiles() -> None:
    grids = (TileGrid(reduction=1, columns=2, rows=2), TileGrid(reduction=2, columns=3, rows=1))
    view = View(kind="display", width=64, height=48 * 8, short_side=1080, grids=grids)
    assert view.tile_count == 8
    assert view.row_shape == (384, 64, 3)
    with pytest.raises(ValueError, match="8 tiles do not fill a height of 385"):
        View(kind="display", width=64, height=385, short_side=1080, grids=grids)
    with pytest.raises(ValueError, match="needs grids"):
        View(kind="display", width=64, height=48, short_side=1080)
    with pytest.raises(ValueError, match="no such grid"):
        TileGrid(reduction=0, columns=1, rows=1)


@pytest.mark.parametrize(
    ("display", "lines"),
    [
        (Display(), 1080),
        (Display(lines=720), 720),
        (Display(lines=2160, distance_heights=3.0), 1080),
        (Display(lines=2160, distance_heights=1.5), 2160),
        (Display(lines=1080, distance_heights=6.0), 540),
        (Display(lines=0), 0),
    ],
)
def test_a_display_has_no_more_lines_than_its_viewer_resolves(display: Display, lines: int) -> None:
    assert display.canvas_lines(resolved_lines=1080) == lines


def test_a_display_that_cannot_be_is_refused() -> None:
    for facts in ({"lines": 100}, {"lines": 9000}, {"distance_heights": 0.0}):
        with pytest.raises(ValueError, match="no such display"):
            Display(**facts)


def test_a_picture_touches_the_edges_of_the_display() -> None:
    assert canvas_size(320, 240, lines=1080) == (1440, 1080)
    assert canvas_size(3840, 1600, lines=1080) == (1920, 800)
    assert canvas_size(1080, 1920, lines=1080) == (1080, 1920)
    assert canvas_size(1, 1000, lines=480) == (1, 853)
