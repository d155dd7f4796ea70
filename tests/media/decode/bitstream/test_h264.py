"""Whether H.264 parameter sets declare the reordering of pictures, compared with ffmpeg."""

import re

import numpy as np
import pytest

from tests.media.clips import x264
from tests.media.decode.bitstream.rig import first_parameter_set, raw_h264, trace_headers, without_usability_information
from vqmon.media.decode.bitstream import h264

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


@pytest.mark.parametrize("name", STREAMS)
def test_the_restriction_is_found_where_ffmpeg_finds_it(name: str) -> None:
    """Every kind of sequence parameter set is read up to the flag that tells of the order of pictures."""
    units = raw_h264(*STREAMS[name])
    assert re.search(r"bitstream_restriction_flag\s+1 = 1", trace_headers(units))
    assert h264.declares_reordering(b"\0\0\1" + first_parameter_set(units))


@pytest.mark.parametrize("name", STREAMS)
def test_without_usability_information_nothing_is_declared(name: str) -> None:
    """The same set, cut before it, is enough for ffmpeg and does not tell the order."""
    units = without_usability_information(raw_h264(*STREAMS[name]))
    assert "bitstream_restriction_flag" not in trace_headers(units)
    assert not h264.declares_reordering(b"\0\0\1" + first_parameter_set(units))


def test_every_parameter_set_must_declare_the_restriction() -> None:
    """One set that tells nothing is enough for doubt, in start codes and in the record of MP4."""
    declared, undeclared = (
        first_parameter_set(raw_h264(*STREAMS["plain"])),
        first_parameter_set(without_usability_information(raw_h264(*STREAMS["plain"]))),
    )
    record = (
        b"\x01\x64\0\x1f\xff" + bytes([0xE2]) + b"".join(len(s).to_bytes(2, "big") + s for s in (declared, undeclared))
    )
    assert h264.declares_reordering(record[:5] + b"\xe1" + len(declared).to_bytes(2, "big") + declared)
    assert not h264.declares_reordering(record)
    assert not h264.declares_reordering(b"\0\0\1" + declared + b"\0\0\1" + undeclared)


def test_invalid_parameter_sets_declare_nothing() -> None:
    """Nothing, half a record, sets cut anywhere and random bytes are doubts, never errors."""
    parameter_set = first_parameter_set(raw_h264(*STREAMS["plain"]))
    assert not h264.declares_reordering(None)
    assert not h264.declares_reordering(b"\x01\x64")
    assert not any(h264.declares_reordering(b"\0\0\1" + parameter_set[:size]) for size in range(len(parameter_set) - 3))
    chance = np.random.default_rng(5)
    for _ in range(2000):
        size = int(chance.integers(1, 60))
        h264.declares_reordering(b"\0\0\1\x67" + chance.bytes(size))
        h264.declares_reordering(b"\x01" + chance.bytes(size))
