"""Planes of frames as arrays."""

import av
import numpy as np
import pytest

from vqmon.media.images.frames import count_dark_ends, luma_plane


@pytest.mark.parametrize(
    ("is_lit", "ends"),
    [("00110", (2, 1)), ("1", (0, 0)), ("101", (0, 0)), ("000", (3, 0)), ("0001", (3, 0)), ("1000", (0, 3))],
)
def test_dark_lines_are_counted_at_both_ends(is_lit: str, ends: tuple[int, int]) -> None:
    assert count_dark_ends(np.array([each == "1" for each in is_lit])) == ends


def test_deep_luma_is_brought_to_eight_bits() -> None:
    levels = np.arange(32 * 32, dtype=np.uint16).reshape(32, 32)
    frame = av.VideoFrame.from_ndarray(levels, format="gray10le")
    np.testing.assert_array_equal(luma_plane(frame), levels >> 2)
