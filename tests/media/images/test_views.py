"""Windows, centres and fragments are cut from the frames that ffmpeg outputs."""

from pathlib import Path

import numpy as np
import pytest

from tests.media.clips import clip, x264
from tests.media.images.rig import MEDIA, decode_in_process, frames_by_ffmpeg
from vqmon.core.frames import sample_indices, window_corners
from vqmon.core.types import ClipSampling, View
from vqmon.media.decode.pool import DecoderPool
from vqmon.media.decode.protocol import DecodeLimits


@pytest.mark.parametrize("name", ["h264", "odd-size"])
def test_windows_and_centres_are_cut_out_of_the_frame(name: str, tmp_path: Path) -> None:
    """At the frame's own size, where no scaling comes between."""
    times, pictures = frames_by_ffmpeg(MEDIA[name], tmp_path)
    height, width = pictures.shape[1:3]
    side = min(height, width)
    windows = View(kind="windows", width=96, height=96, windows=15)
    centre = View(kind="centre", width=side - 20, height=side - 20, short_side=side)
    decoded = decode_in_process(MEDIA[name], windows, centre)
    top, left = (height - side + 20) // 2, (width - side + 20) // 2
    for row, at in enumerate(sample_indices(times)):
        for number, (y, x) in enumerate(window_corners(height, width, size=(96, 96), count=15)):
            np.testing.assert_array_equal(decoded.views[windows][row, number], pictures[at, y : y + 96, x : x + 96])
        cut = pictures[at, top : top + side - 20, left : left + side - 20]
        np.testing.assert_array_equal(decoded.views[centre][row], cut)


def test_a_frame_smaller_than_the_view_is_enlarged() -> None:
    """Fragments and windows of more pixels than the frame has: its lower right corner is among what is seen."""
    media = clip(*x264(), size="96x64", seconds=0.2, source="color=black:size={size}:rate={rate}:duration={seconds},"
        "drawbox=x=48:y=32:w=48:h=32:color=white:t=fill")  # fmt: skip
    grid = View(kind="fragments", width=112, height=112, columns=7, rows=7, clip=ClipSampling(frames=2))
    windows = View(kind="windows", width=128, height=128, windows=3)
    decoded = decode_in_process(media, grid, windows)
    assert decoded.views[grid].shape == (1, 2, 112, 112, 3)
    assert decoded.views[grid][0, 0, -16:, -16:].min() > 200
    assert decoded.views[grid][0, 0, :16, :16].max() < 50
    assert decoded.views[windows][0, 1, 64:, 96:].mean() > 200


async def test_fragments_depend_on_the_bytes_of_the_segment_only() -> None:
    """In other processes too; and other bytes otherwise."""
    view = View(kind="fragments", width=56, height=56, columns=7, rows=7, clip=ClipSampling(frames=8, stride=2))
    results = []
    for media in (MEDIA["h264"], MEDIA["h264"], MEDIA["h264"] + bytes(188)):
        async with DecoderPool(1, limits=DecodeLimits(max_view_bytes=4_000_000)) as pool:
            results.append((await pool.decode(media, views=[view])).views[view])
    np.testing.assert_array_equal(results[0], results[1])
    assert (results[0] != results[2]).any()
