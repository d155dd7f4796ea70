"""Opening a segment: no picture is decoded for it where headers tell enough, and what is seen stays the same."""

import re
import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from tests.media.clips import clip, x264
from tests.media.decode.test_worker import X265, same_as_ffmpeg
from vqmon.media.decode.bitstream import h264
from vqmon.media.decode.bitstream.container import detect_demuxer
from vqmon.media.decode.protocol import DecodeLimits
from vqmon.media.decode.worker import _open_container

STREAMS = {
    "plain": x264(bframes=3),
    "no-b": x264(bframes=0),
    "interlaced": x264("-x264-params", "tff=1", bframes=2),
    "buffers": x264("-b:v", "300k", "-maxrate", "300k", "-bufsize", "600k", "-x264-params", "nal-hrd=vbr:pic-struct=1"),
    "matrices": x264("-x264-params", "cqm=jvt"),
    "four-four-four": ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv444p", "-x264-params", "cqm=jvt"),
    "described": x264("-color_primaries", "bt709", "-colorspace", "bt709", "-vf", "setsar=7/5"),
    "odd-size": x264("-vf", "scale=318:178"),
    "baseline": x264("-profile:v", "baseline", bframes=0),
}


def traced(units: bytes) -> str:
    """What ffmpeg reads in the headers of a raw H.264 stream, with the bit at which each field stands."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "verbose", "-f", "h264", "-i", "-", "-c", "copy"]
    command += ["-bsf:v", "trace_headers", "-f", "null", "-"]
    return subprocess.run(command, input=units, check=True, capture_output=True).stderr.decode(errors="replace")


def raw(*options: str, seconds: float = 0.4) -> bytes:
    return clip(*options, container="h264", seconds=seconds)


def first_set(units: bytes) -> bytes:
    """The first sequence parameter set of a raw stream, with its one-byte head."""
    start = re.search(rb"\x00\x00\x01[\x67\x27\x47]", units)
    assert start is not None
    return units[start.start() + 3 : units.index(b"\0\0\1", start.end())].rstrip(b"\0")


def without_usability(units: bytes) -> bytes:
    """The same stream whose sequence parameter sets end before their usability information."""
    kept = first_set(units)
    at = re.search(r"(\d+)\s+vui_parameters_present_flag\s+1 = 1", traced(units))
    assert at is not None
    bits = "".join(f"{byte:08b}" for byte in kept.replace(b"\0\0\3", b"\0\0"))[: int(at[1])] + "01"
    bits += "0" * (-len(bits) % 8)
    short = bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))
    assert b"\0\0\0" not in short
    return units.replace(kept, short)


@pytest.mark.parametrize("name", STREAMS)
def test_the_restriction_is_found_where_ffmpeg_finds_it(name: str) -> None:
    """Every kind of sequence parameter set is read up to the flag that tells of the order of pictures."""
    units = raw(*STREAMS[name])
    assert re.search(r"bitstream_restriction_flag\s+1 = 1", traced(units))
    assert h264.declares_reordering(b"\0\0\1" + first_set(units))


@pytest.mark.parametrize("name", STREAMS)
def test_without_usability_information_nothing_is_told(name: str) -> None:
    """The same set, cut before it, is enough for ffmpeg and does not tell the order."""
    units = without_usability(raw(*STREAMS[name]))
    assert "bitstream_restriction_flag" not in traced(units)
    assert not h264.declares_reordering(b"\0\0\1" + first_set(units))


def test_every_set_counts() -> None:
    """One set that tells nothing is enough for doubt, in start codes and in the record of MP4."""
    told, untold = first_set(raw(*STREAMS["plain"])), first_set(without_usability(raw(*STREAMS["plain"])))
    record = b"\x01\x64\0\x1f\xff" + bytes([0xE2]) + b"".join(len(s).to_bytes(2, "big") + s for s in (told, untold))
    assert h264.declares_reordering(record[:5] + b"\xe1" + len(told).to_bytes(2, "big") + told)
    assert not h264.declares_reordering(record)
    assert not h264.declares_reordering(b"\0\0\1" + told + b"\0\0\1" + untold)


def test_what_cannot_be_read_tells_nothing() -> None:
    """Nothing, half a record, sets cut anywhere and random bytes are doubts, never errors."""
    told = first_set(raw(*STREAMS["plain"]))
    assert not h264.declares_reordering(None)
    assert not h264.declares_reordering(b"\x01\x64")
    assert not any(h264.declares_reordering(b"\0\0\1" + told[:size]) for size in range(len(told) - 3))
    chance = np.random.default_rng(5)
    for _ in range(2000):
        size = int(chance.integers(1, 60))
        h264.declares_reordering(b"\0\0\1\x67" + chance.bytes(size))
        h264.declares_reordering(b"\x01" + chance.bytes(size))


@pytest.mark.parametrize(
    ("options", "container"),
    [
        (x264(bframes=3), "mpegts"),
        (x264(bframes=3), "mp4"),
        (x264(bframes=0), "mpegts"),
        ((*X265, "keyint=25:log-level=0"), "mpegts"),
    ],
    ids=["h264-ts", "h264-mp4", "h264-no-b", "hevc-ts"],
)
def test_no_picture_is_decoded_to_open(options: tuple[str, ...], container: str) -> None:
    """Where headers tell enough, the pixel format, which only a decoded picture tells, is not known yet."""
    media = clip(*options, container=container)
    with _open_container(media, detect_demuxer(media), DecodeLimits()) as opened:
        context = opened.streams.video[0].codec_context
        assert (context.width, context.height, context.pix_fmt) == (320, 180, None)


def test_doubts_are_settled_by_decoding(tmp_path: Path) -> None:
    """A track that does not tell the order of its pictures is opened as ffmpeg opens it, and looks the same."""
    units = raw(*x264(bframes=3), seconds=2.4)
    told, untold = first_set(units), first_set(without_usability(units))
    media = clip(*x264(bframes=3), container="mp4", seconds=2.4)
    assert media.count(told) == 1
    media = media.replace(told, untold.ljust(len(told), b"\0"))
    with _open_container(media, detect_demuxer(media), DecodeLimits()) as opened:
        assert opened.streams.video[0].codec_context.pix_fmt == "yuv420p"
    same_as_ffmpeg(media, tmp_path, fps=3.0)
