"""H.264 streams and their parameter sets, as ffmpeg reads them."""

import re
import subprocess

import imageio_ffmpeg

from tests.media.clips import clip


def trace_headers(units: bytes) -> str:
    """What ffmpeg reads in the headers of a raw H.264 stream, with the bit at which each field stands."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "verbose", "-f", "h264", "-i", "-", "-c", "copy"]
    command += ["-bsf:v", "trace_headers", "-f", "null", "-"]
    return subprocess.run(command, input=units, check=True, capture_output=True).stderr.decode(errors="replace")


def raw_h264(*options: str, seconds: float = 0.4) -> bytes:
    return clip(*options, container="h264", seconds=seconds)


def first_parameter_set(units: bytes) -> bytes:
    """The first sequence parameter set of a raw stream, with its one-byte head."""
    start = re.search(rb"\x00\x00\x01[\x67\x27\x47]", units)
    assert start is not None
    return units[start.start() + 3 : units.index(b"\0\0\1", start.end())].rstrip(b"\0")


def without_usability_information(units: bytes) -> bytes:
    """The same stream whose sequence parameter sets end before their usability information."""
    parameter_set = first_parameter_set(units)
    at = re.search(r"(\d+)\s+vui_parameters_present_flag\s+1 = 1", trace_headers(units))
    assert at is not None
    bits = "".join(f"{byte:08b}" for byte in parameter_set.replace(b"\0\0\3", b"\0\0"))[: int(at[1])] + "01"
    bits += "0" * (-len(bits) % 8)
    short = bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))
    assert b"\0\0\0" not in short
    return units.replace(parameter_set, short)
