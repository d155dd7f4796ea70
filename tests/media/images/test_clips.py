"""Clips hold the frames that the rule names, bit-exact with ffmpeg."""

from dataclasses import replace
from pathlib import Path

import av.filter
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.media.clips import clip, pictures_by_ffmpeg, times_by_ffmpeg, x264
from tests.media.images.rig import MEDIA, SEED, decode_in_process, frames_by_ffmpeg
from vqmon.core.frames import clip_indices, fragment_origins, sample_indices
from vqmon.core.types import ClipSampling, Pixels, View
from vqmon.errors import DecodeError
from vqmon.media.decode.pool import DecoderPool
from vqmon.media.decode.protocol import DecodeLimits, DecodeRequest, parse_answer
from vqmon.media.decode.worker import decode_segment
from vqmon.media.images.clips import ClipBuffer
from vqmon.media.images.resampling import FrameResampler


def mosaic_of(picture: Pixels, origins: NDArray[np.int64], side: int) -> Pixels:
    rows = [
        np.concatenate([picture[top : top + side, left : left + side] for top, left in line], 1) for line in origins
    ]
    return np.concatenate(rows, 0)


@pytest.mark.parametrize("name", MEDIA)
@pytest.mark.parametrize("sampling", [ClipSampling(frames=32), ClipSampling(frames=8, stride=2)], ids=str)
def test_clips_hold_the_frames_of_clip_indices(name: str, sampling: ClipSampling, tmp_path: Path) -> None:
    """Whole frames and fragments of them, short segments, gaps and all: the rule's frames, and nothing black."""
    times, pictures = frames_by_ffmpeg(MEDIA[name], tmp_path)
    height, width = pictures.shape[1:3]
    whole = View(kind="stretch", width=width, height=height, clip=sampling)
    grid = View(kind="fragments", width=56, height=56, columns=7, rows=7, clip=sampling)
    decoded = decode_in_process(MEDIA[name], whole, grid)
    starts = sample_indices(times)
    assert decoded.times_seconds == pytest.approx([times[at] - times[0] for at in starts], abs=1e-4)
    expected = clip_indices(times, starts, sampling)
    for row, indices in enumerate(expected):
        origins = fragment_origins(height, width, rows=7, columns=7, side=(8, 8), seed=SEED + row)
        for slot, index in enumerate(indices):
            np.testing.assert_array_equal(decoded.views[whole][row, slot], pictures[index])
            np.testing.assert_array_equal(decoded.views[grid][row, slot], mosaic_of(pictures[index], origins, 8))


def test_the_test_media_have_the_properties_of_their_names(tmp_path: Path) -> None:
    """A gap of two seconds that no clip runs over, one frame, two rates: or the test above proves little."""
    times, _ = frames_by_ffmpeg(MEDIA["gap"], tmp_path)
    assert max(np.diff(times)) > 1.5
    (first, *_), long = clip_indices(times, sample_indices(times), ClipSampling(frames=32)), 32
    assert len(set(first.tolist())) == 20 < long
    assert len(frames_by_ffmpeg(MEDIA["one-frame"], tmp_path)[0]) == 1
    steps = np.diff(frames_by_ffmpeg(MEDIA["variable-rate"], tmp_path)[0])
    assert max(steps) > 3 * min(steps)


@pytest.mark.parametrize("name", ["h264", "open-gop", "variable-rate"])
def test_requesting_clips_does_not_change_samples_and_signals(name: str) -> None:
    """Beside clips, the pictures of each second, their times and what is measured on them alone are the same."""
    plain = View(kind="stretch", width=64, height=36)
    measured = ("black", "blockiness", "blur", "noise", "freeze", "banding", "over_sharpness", "decode_errors")
    beside = View(kind="stretch", width=32, height=32, clip=ClipSampling(frames=32))
    alone = decode_in_process(MEDIA[name], plain, signals=measured)
    both = decode_in_process(MEDIA[name], beside, plain, signals=measured)
    np.testing.assert_array_equal(both.views[plain], alone.views[plain])
    assert (both.times_seconds, both.signals, both.edges) == (alone.times_seconds, alone.signals, alone.edges)


def test_flicker_does_not_depend_on_requested_clips() -> None:
    """A flash on the way to a sampled frame counts; a brighter one, in frames that only clips need, does not."""
    flashes = "lutyuv=y=val+16:enable='eq(n\\,45)',lutyuv=y=val+48:enable='eq(n\\,32)'"
    media = clip(*x264("-vf", flashes, gop=20, bframes=0), seconds=3.5)
    view = View(kind="stretch", width=32, height=32, clip=ClipSampling(frames=32))
    plain = View(kind="stretch", width=32, height=32)
    alone, both = (decode_in_process(media, each, signals=("flicker",)).signals["flicker"] for each in (plain, view))
    assert max(alone) == max(both)
    assert 0.3 < max(both) < 0.7


def test_clips_beyond_the_memory_limit_are_refused() -> None:
    """Clips count for what they hold: two seconds do not fit where one does."""
    view = View(kind="stretch", width=32, height=32, clip=ClipSampling(frames=32))
    room = 3 * view.row_bytes
    assert decode_in_process(MEDIA["h264"], view, memory_bytes=room).views[view].shape == (3, 32, 32, 32, 3)
    with pytest.raises(DecodeError, match="more memory than allowed"):
        decode_in_process(MEDIA["h264"], view, memory_bytes=room - 1)
    request = DecodeRequest(views=(view,), signals=())
    shared_memory = np.zeros(room, np.uint8)
    collector, facts = decode_segment(MEDIA["h264"], request, shared_memory, FrameResampler(av.filter.Graph))
    with pytest.raises(ValueError, match="the views exceed the shared memory"):
        parse_answer(collector.answer(facts), b"", shared_memory[:-1], request)
    with pytest.raises(ValueError, match="seed must be"):
        replace(request, seed=-1)


async def test_clips_begin_at_key_pictures_with_keyframe_sampling(tmp_path: Path) -> None:
    """And hold the frames after them, key or not."""
    times, pictures = frames_by_ffmpeg(MEDIA["h264"], tmp_path)
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
    decoded = decode_in_process(media, view)
    expected = pictures[clip_indices(times, sample_indices(times), ClipSampling(frames=8, stride=2))]
    assert decoded.media.is_interlaced
    assert decoded.views[view].shape == expected.shape
    assert np.abs(decoded.views[view].astype(int) - expected).mean(axis=(2, 3, 4)).max() <= 1.0


async def test_the_deadline_applies_to_clips() -> None:
    """A minute's clips are not made in a twentieth of a second: the worker is killed, and the reason said."""
    view = View(kind="stretch", width=224, height=224, clip=ClipSampling(frames=32))
    long = clip(*x264(), seconds=60, size="640x360")
    async with DecoderPool(1, limits=DecodeLimits(deadline_seconds=0.05)) as pool:
        with pytest.raises(DecodeError) as caught:
            await pool.decode(long, views=[view])
        assert (caught.value.reason, pool.replacements) == ("timeout", {"timeout": 1})


def test_a_clip_buffer_writes_every_frame_into_each_clip_that_contains_it() -> None:
    """Two overlapping clips of three frames, every second one; the second clip is completed with its last frame."""
    view = View(kind="stretch", width=1, height=1, clip=ClipSampling(frames=3, stride=2))
    clips = [np.zeros((3, 1, 1, 3), np.uint8) for _ in range(2)]
    buffer = ClipBuffer()
    for index in range(6):
        if index in (0, 2):
            buffer.start_clip(view, clips[index // 2], sample=index // 2, first_index=index)
        picture = np.full((1, 1, 3), 10 + index, np.uint8)
        buffer.add_frame(index, time_seconds=index / 10, render=lambda _view, _sample, picture=picture: picture)
    buffer.finish()
    assert [clip[:, 0, 0, 0].tolist() for clip in clips] == [[10, 12, 14], [12, 14, 14]]


def test_a_clip_ends_at_a_gap() -> None:
    """More than a second between two frames: the frame before the gap is repeated."""
    view = View(kind="stretch", width=1, height=1, clip=ClipSampling(frames=3))
    clip_pixels = np.zeros((3, 1, 1, 3), np.uint8)
    buffer = ClipBuffer()
    buffer.start_clip(view, clip_pixels, sample=0, first_index=0)
    for index, time_seconds in enumerate((0.0, 1.0, 2.1)):
        picture = np.full((1, 1, 3), 10 + index, np.uint8)
        buffer.add_frame(index, time_seconds=time_seconds, render=lambda _view, _sample, picture=picture: picture)
    assert clip_pixels[:, 0, 0, 0].tolist() == [10, 11, 11]
