"""Windows, centres and fragments are cut from the frames that ffmpeg outputs."""

from pathlib import Path

import numpy as np
import pytest

from tests.media.clips import clip, x264
from tests.media.images.rig import MEDIA, decode_in_process, frames_by_ffmpeg
from vqmon.core.frames import grid_corners, sample_indices, window_corners
from vqmon.core.types import ClipSampling, TileGrid, View
from vqmon.media.decode.pool import DecoderPool
from vqmon.media.decode.protocol import DecodeLimits


@pytest.mark.parametrize("name", ["h264", "odd-size"])
def test_windows_grids_and_centres_are_cut_out_of_the_frame(name: str, tmp_path: Path) -> None:
    """At the frame's own size, where no scaling comes between."""
    times, pictures = frames_by_ffmpeg(MEDIA[name], tmp_path)
    height, width = pictures.shape[1:3]
    side = min(height, width)
    windows = View(kind="windows", width=96, height=96, windows=15)
    centre = View(kind="centre", width=side - 20, height=side - 20, short_side=side)
    grid = View(kind="grid", width=96, height=64, columns=3, rows=2)
    scaled = View(kind="grid", width=side, height=side, columns=2, rows=1, short_side=side)
    decoded = decode_in_process(MEDIA[name], windows, centre, grid, scaled)
    top, left = (height - side + 20) // 2, (width - side + 20) // 2
    for row, at in enumerate(sample_indices(times)):
        for number, (y, x) in enumerate(window_corners(height, width, size=(96, 96), count=15)):
            np.testing.assert_array_equal(decoded.views[windows][row, number], pictures[at, y : y + 96, x : x + 96])
        for number, (y, x) in enumerate(grid_corners(height, width, size=(64, 96), columns=3, rows=2)):
            np.testing.assert_array_equal(decoded.views[grid][row, number], pictures[at, y : y + 64, x : x + 96])
        assert decoded.views[scaled].shape[1:] == (2, side, side, 3)
        np.testing.assert_array_equal(decoded.views[scaled][row, 1], pictures[at, -side:, -side:])
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


DISPLAY = View(
    kind="display", width=64, height=48 * 6, short_side=240,
    grids=(TileGrid(reduction=1, columns=2, rows=2), TileGrid(reduction=2, columns=1, rows=1)),
)  # fmt: skip


def _display_tiles(media: bytes, view: View = DISPLAY) -> np.ndarray:
    pixels = decode_in_process(media, view).views[view]
    return pixels.reshape(len(pixels), view.tile_count, -1, view.width, 3)


def test_display_tiles_are_centred_in_the_cells_of_their_grids(tmp_path: Path) -> None:
    """At the canvas of the frame's own size, where only the chroma differs."""
    media = clip(*x264(), size="320x240", seconds=0.2)
    _, pictures = frames_by_ffmpeg(media, tmp_path)
    tiles = _display_tiles(media)[0].astype(int)
    luma = pictures[0].astype(int) @ [2, 7, 1] // 10
    for number, (top, left) in enumerate([(36, 48), (36, 208), (156, 48), (156, 208)]):
        expected = luma[top : top + 48, left : left + 64]
        assert np.abs(tiles[number] @ [2, 7, 1] // 10 - expected).mean() < 6
    # the half canvas of 160 x 120 and the whole show the same picture, small
    assert np.abs(tiles[4].mean((0, 1)) - pictures[0, 72:168, 96:224].mean((0, 1))).max() < 4
    assert np.abs(tiles[5].mean((0, 1)) - pictures[0].mean((0, 1))).max() < 4


def test_a_display_view_shows_the_same_picture_at_any_size_and_pixel_format() -> None:
    """Sizes of the display canvas differ by what scaling loses, 4:2:0 and 4:4:4 by next to nothing."""
    source = "testsrc2=size=640x480:rate={rate}:duration={seconds},scale=s={size}"
    lossless = ("-qp", "0")
    small = _display_tiles(clip(*x264(*lossless), source=source, size="320x240", seconds=0.2))
    large = _display_tiles(clip(*x264(*lossless), source=source, size="640x480", seconds=0.2))
    assert np.abs(small[0, 5].astype(int) - large[0, 5]).mean() < 3
    full_chroma = _display_tiles(
        clip(*x264(*lossless, "-pix_fmt", "yuv444p"), source=source, size="640x480", seconds=0.2)
    )
    assert np.abs(full_chroma[0].astype(int) - large[0]).mean() < 2


def test_a_display_view_leaves_black_bars_out() -> None:
    source = "testsrc2=size=320x180:rate={rate}:duration={seconds}"
    plain = _display_tiles(clip(*x264("-qp", "0"), source=source, size="320x180", seconds=0.2))
    barred = _display_tiles(
        clip(*x264("-qp", "0"), source=source + ",pad=320:240:0:30:black", size="320x240", seconds=0.2)
    )
    assert np.abs(barred[0, 5].astype(int) - plain[0, 5]).mean() < 12
    assert barred[0, 5, :2].max() > 60


def test_a_frame_smaller_than_a_tile_is_enlarged_at_its_own_size() -> None:
    native = View(kind="display", width=64, height=96, short_side=0, grids=(TileGrid(reduction=1, columns=1, rows=1),))
    media = clip(*x264(), size="32x32", seconds=0.2)
    assert _display_tiles(media, native).shape == (1, 2, 48, 64, 3)
