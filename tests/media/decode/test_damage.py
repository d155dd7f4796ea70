"""Damage is reported: flipped bits, lost packets and cut files raise `decode_errors`, and whole media never does."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import av.filter
import numpy as np
import pytest

from tests.media.clips import clip, x264
from tests.media.damage import cut_off, flip_bits, lose_packets
from vqmon.errors import DecodeError
from vqmon.media.decode.protocol import DecodeRequest
from vqmon.media.decode.worker import decode_segment
from vqmon.media.images.resampling import FrameResampler

NOISY = "mandelbrot=size={size}:rate={rate}:end_scale=0.01,trim=duration={seconds}"
X265 = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params")
MEDIA = {
    "h264": (x264(gop=50), "mpegts"),
    "h264-mp4": (x264(gop=50), "mp4"),
    "hevc": ((*X265, "keyint=50:log-level=0"), "mpegts"),
    "hevc-hash": ((*X265, "keyint=50:hash=1:log-level=0"), "mpegts"),
    "mpeg2": (("-c:v", "mpeg2video", "-q:v", "6", "-g", "25", "-bf", "2"), "mpegts"),
    "vp9": (("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-g", "50", "-b:v", "400k"), "webm"),
    "av1": (("-c:v", "libsvtav1", "-preset", "12", "-crf", "40", "-g", "50"), "webm"),
}
SEEDS = range(6)


def encoded(name: str) -> bytes:
    options, container = MEDIA[name]
    return clip(*options, container=container, source=NOISY, seconds=4)


def decode_errors(media: bytes) -> tuple[float, ...]:
    """The signal, frame by frame; a refused segment counts as 1, since it becomes a failure with its own alert."""
    request = DecodeRequest(views=(), signals=("decode_errors",))
    try:
        collector, facts = decode_segment(media, request, np.empty(0, np.uint8), FrameResampler(av.filter.Graph))
    except DecodeError:
        return (1.0,)
    return tuple(collector.answer(facts)["signals"]["decode_errors"])


@pytest.mark.parametrize("name", MEDIA)
def test_whole_media_has_no_decode_errors(name: str) -> None:
    assert set(decode_errors(encoded(name))) == {0.0}


@pytest.mark.parametrize(
    ("name", "damage", "found"),
    [
        *((name, partial(flip_bits, count=20), 6) for name in ("h264", "h264-mp4", "hevc-hash", "mpeg2", "av1")),
        # libav tells of a damaged HEVC or VP9 picture only if its parsing ends in a contradiction
        ("hevc", partial(flip_bits, count=20), 2),
        ("vp9", partial(flip_bits, count=100), 1),
        *((name, partial(flip_bits, count=500), 4 if name == "vp9" else 6) for name in MEDIA),
        *((name, partial(lose_packets, count=7), 6) for name in ("h264", "hevc", "mpeg2")),
    ],
    ids=lambda value: getattr(value, "func", value).__name__ if callable(value) else str(value),
)
def test_damage_raises_decode_errors(name: str, damage: Callable[..., bytes], found: int) -> None:
    """In so many of six damaged segments at least."""
    media = encoded(name)
    assert sum(max(decode_errors(damage(media, seed=seed))) > 0 for seed in SEEDS) >= found


@pytest.mark.parametrize("name", MEDIA)
@pytest.mark.parametrize("share", [0.6, 0.95])
def test_a_file_that_was_cut_off_ends_with_decode_errors(name: str, share: float) -> None:
    """Also when its last pictures are none of those that are decoded; the frames before are whole."""
    values = decode_errors(cut_off(encoded(name), share))
    assert values[-1] > 0
    assert set(values[:-1]) == {0.0}


def test_an_index_tells_how_many_pictures_are_missing() -> None:
    """100 pictures, of which those behind three quarters of the bytes are missing: about half of the last second."""
    whole = clip(*x264(gop=50), container="mp4", source=NOISY, seconds=4)
    assert decode_errors(cut_off(whole, 0.95))[-1] > 0.1


def test_a_damaged_hevc_segment_shows_the_pictures_that_a_player_shows() -> None:
    """The strict decoder that finds the damage shows fewer; as many frames are sampled as without damage."""
    media = encoded("hevc")
    for seed in SEEDS:
        values = decode_errors(flip_bits(media, 20, seed=seed))
        assert len(values) == 4


@pytest.mark.fixtures
def test_real_media_has_no_decode_errors(shared: Path) -> None:
    """None of the clips and streams of others, whole as they are."""
    files = [file for folder in ("clips", "streams") for file in sorted((shared / folder).rglob("*.*"))]
    media = [file for file in files if file.suffix in (".mp4", ".mkv", ".webm", ".ts")]
    values = {file.name: decode_errors(file.read_bytes()) for file in media if "init" not in file.name}
    audio_only = {
        "audio_es_2c_64k_opus.webm", "audio_en_2c_128k_aac.mp4", "low_pitch_128k.ts", "original_128k.ts",
        "high_pitch_128k.ts",
    }  # fmt: skip
    assert {name for name, found in values.items() if any(found)} <= audio_only
    assert len(values) > 40
