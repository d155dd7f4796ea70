"""Where pieces and windows are taken: inside their cells, inside the frame, the same for the same seed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqmon.core.frames import fragment_origins, window_corners
from vqmon.core.types import ClipSampling, View


@given(st.integers(32, 700), st.integers(32, 700), st.integers(0, 2**32 - 1))
def test_pieces_lie_in_the_frame_and_in_their_cells(height: int, width: int, seed: int) -> None:
    """However small the frame; two calls of one seed agree."""
    found = fragment_origins(height, width, rows=7, columns=7, side=(32, 32), seed=seed)
    assert found.tolist() == fragment_origins(height, width, rows=7, columns=7, side=(32, 32), seed=seed).tolist()
    for axis, size in enumerate((height, width)):
        cells = np.minimum(np.arange(7) * (size // 7), size - 32)
        along = found[..., axis] if axis == 0 else found[..., axis].T
        room = np.maximum(size // 7 - 32, 1)
        assert ((along >= cells[:, None]) & (along < cells[:, None] + room)).all()
        assert found[..., axis].max() + 32 <= size


def test_the_seed_decides() -> None:
    """Other seeds, other places; the first row of seed 384 as it was written down from the published draws."""
    first = fragment_origins(540, 960, rows=7, columns=7, side=(32, 32), seed=384)
    assert (first != fragment_origins(540, 960, rows=7, columns=7, side=(32, 32), seed=385)).any()
    assert first[0].tolist() == [[39, 28], [28, 230], [26, 333], [11, 456], [23, 573], [33, 727], [0, 904]]


@given(st.integers(224, 500), st.integers(224, 500), st.integers(1, 20))
def test_windows_are_as_many_as_asked(height: int, width: int, count: int) -> None:
    """All inside the frame, 32 px apart, the first at the corner."""
    found = window_corners(height, width, size=(224, 224), count=count)
    assert (len(found), found[0]) == (count, (0, 0))
    for top, left in found:
        assert top % 32 == left % 32 == 0
        assert top + 224 <= height
        assert left + 224 <= width


def test_frames_too_small_are_refused() -> None:
    """A piece or window larger than the frame; the decoder enlarges before it asks."""
    with pytest.raises(ValueError, match="hold no piece"):
        fragment_origins(31, 100, rows=7, columns=7, side=(32, 32), seed=0)
    with pytest.raises(ValueError, match="holds no window"):
        window_corners(223, 300, size=(224, 224), count=1)


def test_views_that_make_no_sense() -> None:
    """Refused where they are written."""
    clip = ClipSampling(frames=4)
    with pytest.raises(ValueError, match="needs a short_side"):
        View(kind="centre", width=10, height=10, short_side=9)
    with pytest.raises(ValueError, match="pieces do not fill"):
        View(kind="fragments", width=30, height=28, columns=7, rows=7, clip=clip)
    with pytest.raises(ValueError, match="needs windows"):
        View(kind="windows", width=8, height=8)
    with pytest.raises(ValueError, match="a halves view is square"):
        View(kind="halves", width=8, height=6)
    with pytest.raises(ValueError, match="no clip"):
        View(kind="windows", width=8, height=8, windows=2, clip=clip)
    with pytest.raises(ValueError, match=r"2\.\.256 frames"):
        ClipSampling(frames=1)
    assert View(kind="windows", width=8, height=6, windows=2).row_shape == (2, 6, 8, 3)
    assert View(kind="stretch", width=8, height=6, clip=clip).row_bytes == 4 * 8 * 6 * 3
    assert View(kind="stretch", width=8, height=6).row_shape == (6, 8, 3)
