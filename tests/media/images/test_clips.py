"""Clips, fragments, windows and centres come out of the same decode, bit for bit from the frames that ffmpeg shows."""

from dataclasses import replace
from pathlib import Path

import av.filter
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.media.clips import clip, pictures_by_ffmpeg, times_by_ffmpeg, x264
from vqmon.core.frames import clip_indices, fragment_origins, sample_indices, window_corners
from vqmon.core.types import ClipSampling, DecodedSegment, Pixels, View
from vqmon.errors import DecodeError
from vqmon.media.decode.pool import DecoderPool
from vqmon.media.decode.protocol import DecodeLimits, DecodeRequest, parse_answer
from vqmon.media.decode.worker import decode_segment
from vqmon.media.images.resampling import FrameResampler

SEED = 7
DROP = "select='lt(n\\,20)+gt(n\\,70)'"
MEDIA = {
    "h264": clip(*x264(), seconds=2.4),
    "open-gop": clip(*x264("-x264-params", "open-gop=1:b-adapt=0", bframes=3, gop=20), seconds=2.4),
    "decoded-in-full": clip(*x264("-x264-params", "intra-refresh=1", gop=20, bframes=0), seconds=2.4),
    "variable-rate": clip(
        *x264("-vf", "select='not(mod(n\\,7))+lt(n\\,20)'", "-fps_mode", "vfr"), seconds=4, container="mp4"
    ),
    "gap": clip(*x264("-vf", DROP, "-fps_mode", "vfr"), seconds=4, container="mp4"),
    "odd-size": clip(
        *x264(), "-vf", "scale=321:241,setsar=1,format=yuv444p", "-pix_fmt", "yuv444p", seconds=1.5, container="mp4"
    ),
    "short": clip(*x264(), seconds=0.2),
    "one-frame": clip(*x264(), seconds=0.04),
    "60-fps": clip(*x264(gop=60), rate="60", seconds=1.5),
}


def looked(
    media: bytes, *views: View, memory_bytes: int = 200_000_000, signals: tuple[str, ...] = ()
) -> DecodedSegment:
    """Decode in this very process, through the message that would cross the border."""
    request = DecodeRequest(views=views, signals=signals, seed=SEED)
    request = DecodeRequest.from_dict(request.to_dict())
    shared_memory = np.full(memory_bytes, 99, np.uint8)
    collector, facts = decode_segment(media, request, shared_memory, FrameResampler(av.filter.Graph))
    return parse_answer(collector.answer(facts), b"", shared_memory, request)


def shown(media: bytes, folder: Path) -> tuple[list[float], Pixels]:
    """Times and pictures of all frames that ffmpeg shows."""
    path = folder / "media.bin"
    path.write_bytes(media)
    times = times_by_ffmpeg(path)
    return times, np.stack(pictures_by_ffmpeg(path, range(len(times))))


def pieces_of(picture: Pixels, places: NDArray[np.int64], side: int) -> Pixels:
    rows = [np.concatenate([picture[top : top + side, left : left + side] for top, left in line], 1) for line in places]
    return np.concatenate(rows, 0)


@pytest.mark.parametrize("name", MEDIA)
@pytest.mark.parametrize("sampling", [ClipSampling(frames=32), ClipSampling(frames=8, stride=2)], ids=str)
def test_clips_are_the_frames_of_the_rule(name: str, sampling: ClipSampling, tmp_path: Path) -> None:
    """Whole frames and fragments of them, short segments, gaps and all: the rule's frames, and nothing black."""
    times, pictures = shown(MEDIA[name], tmp_path)
    height, width = pictures.shape[1:3]
    whole = View(kind="stretch", width=width, height=height, clip=sampling)
    grid = View(kind="fragments", width=56, height=56, columns=7, rows=7, clip=sampling)
    decoded = looked(MEDIA[name], whole, grid)
    starts = sample_indices(times)
    assert decoded.times_seconds == pytest.approx([times[at] - times[0] for at in starts], abs=1e-4)
    expected = clip_indices(times, starts, sampling)
    for row, indices in enumerate(expected):
        places = fragment_origins(height, width, rows=7, columns=7, side=(8, 8), seed=SEED + row)
        for slot, index in enumerate(indices):
            np.testing.assert_array_equal(decoded.views[whole][row, slot], pictures[index])
            np.testing.assert_array_equal(decoded.views[grid][row, slot], pieces_of(pictures[index], places, 8))


def test_the_media_hold_what_their_names_say(tmp_path: Path) -> None:
    """A gap of two seconds that no clip runs over, one frame, two rates: or the test above proves little."""
    times, _ = shown(MEDIA["gap"], tmp_path)
    assert max(np.diff(times)) > 1.5
    (first, *_), long = clip_indices(times, sample_indices(times), ClipSampling(frames=32)), 32
    assert len(set(first.tolist())) == 20 < long
    assert len(shown(MEDIA["one-frame"], tmp_path)[0]) == 1
    steps = np.diff(shown(MEDIA["variable-rate"], tmp_path)[0])
    assert max(steps) > 3 * min(steps)


@pytest.mark.parametrize("name", ["h264", "odd-size"])
def test_windows_and_centres_are_cut_out_of_the_frame(name: str, tmp_path: Path) -> None:
    """At the frame's own size, where no scaling comes between."""
    times, pictures = shown(MEDIA[name], tmp_path)
    height, width = pictures.shape[1:3]
    side = min(height, width)
    windows = View(kind="windows", width=96, height=96, windows=15)
    centre = View(kind="centre", width=side - 20, height=side - 20, short_side=side)
    decoded = looked(MEDIA[name], windows, centre)
    top, left = (height - side + 20) // 2, (width - side + 20) // 2
    for row, at in enumerate(sample_indices(times)):
        for number, (y, x) in enumerate(window_corners(height, width, size=(96, 96), count=15)):
            np.testing.assert_array_equal(decoded.views[windows][row, number], pictures[at, y : y + 96, x : x + 96])
        cut = pictures[at, top : top + side - 20, left : left + side - 20]
        np.testing.assert_array_equal(decoded.views[centre][row], cut)


def test_a_frame_that_is_too_small_is_enlarged_and_seen_whole() -> None:
    """Fragments and windows of more pixels than the frame has: its lower right corner is among what is seen."""
    media = clip(*x264(), size="96x64", seconds=0.2, source="color=black:size={size}:rate={rate}:duration={seconds},"
        "drawbox=x=48:y=32:w=48:h=32:color=white:t=fill")  # fmt: skip
    grid = View(kind="fragments", width=112, height=112, columns=7, rows=7, clip=ClipSampling(frames=2))
    windows = View(kind="windows", width=128, height=128, windows=3)
    decoded = looked(media, grid, windows)
    assert decoded.views[grid].shape == (1, 2, 112, 112, 3)
    assert decoded.views[grid][0, 0, -16:, -16:].min() > 200
    assert decoded.views[grid][0, 0, :16, :16].max() < 50
    assert decoded.views[windows][0, 1, 64:, 96:].mean() > 200


@pytest.mark.parametrize("name", ["h264", "open-gop", "variable-rate"])
def test_what_is_seen_without_clips_stays_as_it_is(name: str) -> None:
    """Beside clips, the pictures of each second, their times and what is measured on them alone are the same."""
    plain = View(kind="stretch", width=64, height=36)
    measured = ("black", "blockiness", "blur", "noise", "freeze", "banding", "over_sharpness", "decode_errors")
    beside = View(kind="stretch", width=32, height=32, clip=ClipSampling(frames=32))
    alone = looked(MEDIA[name], plain, signals=measured)
    both = looked(MEDIA[name], beside, plain, signals=measured)
    np.testing.assert_array_equal(both.views[plain], alone.views[plain])
    assert (both.times_seconds, both.signals, both.edges) == (alone.times_seconds, alone.signals, alone.edges)


def test_flicker_does_not_depend_on_who_else_looks() -> None:
    """A flash on the way to a sampled frame counts; a brighter one, in frames that only clips need, does not."""
    flashes = "lutyuv=y=val+16:enable='eq(n\\,45)',lutyuv=y=val+48:enable='eq(n\\,32)'"
    media = clip(*x264("-vf", flashes, gop=20, bframes=0), seconds=3.5)
    view = View(kind="stretch", width=32, height=32, clip=ClipSampling(frames=32))
    plain = View(kind="stretch", width=32, height=32)
    alone, both = (looked(media, each, signals=("flicker",)).signals["flicker"] for each in (plain, view))
    assert max(alone) == max(both)
    assert 0.3 < max(both) < 0.7


def test_more_than_there_is_room_for_is_refused() -> None:
    """Clips count for what they hold: two seconds do not fit where one does."""
    view = View(kind="stretch", width=32, height=32, clip=ClipSampling(frames=32))
    room = 3 * view.row_bytes
    assert looked(MEDIA["h264"], view, memory_bytes=room).views[view].shape == (3, 32, 32, 32, 3)
    with pytest.raises(DecodeError, match="more memory than allowed"):
        looked(MEDIA["h264"], view, memory_bytes=room - 1)
    request = DecodeRequest(views=(view,), signals=())
    shared_memory = np.zeros(room, np.uint8)
    collector, facts = decode_segment(MEDIA["h264"], request, shared_memory, FrameResampler(av.filter.Graph))
    with pytest.raises(ValueError, match="the views exceed the shared memory"):
        parse_answer(collector.answer(facts), b"", shared_memory[:-1], request)
    with pytest.raises(ValueError, match="seed must be"):
        replace(request, seed=-1)


async def test_a_pool_cuts_the_same_bytes_alike() -> None:
    """In other processes too; and other bytes otherwise."""
    view = View(kind="fragments", width=56, height=56, columns=7, rows=7, clip=ClipSampling(frames=8, stride=2))
    found = []
    for media in (MEDIA["h264"], MEDIA["h264"], MEDIA["h264"] + bytes(188)):
        async with DecoderPool(1, limits=DecodeLimits(max_view_bytes=4_000_000)) as pool:
            found.append((await pool.decode(media, views=[view])).views[view])
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[0] != found[2]).any()


async def test_clips_begin_at_key_pictures_where_only_those_are_looked_at(tmp_path: Path) -> None:
    """And hold the frames after them, key or not."""
    times, pictures = shown(MEDIA["h264"], tmp_path)
    view = View(kind="stretch", width=320, height=180, clip=ClipSampling(frames=4))
    async with DecoderPool(1) as pool:
        decoded = await pool.decode(MEDIA["h264"], views=[view], sampling="keyframes", fps=0.5)
    expected = clip_indices(times, [0, 50], ClipSampling(frames=4))
    np.testing.assert_array_equal(decoded.views[view], pictures[expected])


def test_interlaced_frames_of_a_clip_are_deinterlaced_with_their_neighbours(tmp_path: Path) -> None:
    """Each as bwdif makes it, within a level."""
    media = clip(*x264("-x264-params", "tff=1:b-adapt=0", "-vf", "interlace", bframes=3), rate="50", seconds=2.4)
    path = tmp_path / "media.bin"
    path.write_bytes(media)
    bob = "bwdif=mode=send_frame:deint=interlaced"
    times = times_by_ffmpeg(path, filters=bob)
    pictures = np.stack(pictures_by_ffmpeg(path, range(len(times)), filters=bob))
    view = View(kind="stretch", width=320, height=180, clip=ClipSampling(frames=8, stride=2))
    decoded = looked(media, view)
    expected = pictures[clip_indices(times, sample_indices(times), ClipSampling(frames=8, stride=2))]
    assert decoded.media.is_interlaced
    assert decoded.views[view].shape == expected.shape
    assert np.abs(decoded.views[view].astype(int) - expected).mean(axis=(2, 3, 4)).max() <= 1.0


async def test_a_deadline_holds_for_clips_too() -> None:
    """A minute's clips are not made in a twentieth of a second: the worker is killed, and the reason said."""
    view = View(kind="stretch", width=224, height=224, clip=ClipSampling(frames=32))
    long = clip(*x264(), seconds=60, size="640x360")
    async with DecoderPool(1, limits=DecodeLimits(deadline_seconds=0.05)) as pool:
        with pytest.raises(DecodeError) as caught:
            await pool.decode(long, views=[view])
        assert (caught.value.reason, pool.replacements) == ("timeout", {"timeout": 1})
