"""Tiny videos made at test time with the ffmpeg binary of imageio-ffmpeg, and ffmpeg's own view of them."""

import re
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

MOTION = "testsrc2=size={size}:rate={rate}:duration={seconds}"

Pixels = NDArray[np.uint8]


def ffmpeg(*arguments: str, source: bytes | None = None) -> bytes:
    """Run ffmpeg and give what it writes to its standard output."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-threads", "1", *arguments]
    if source is not None:
        command.remove("-nostdin")
    return subprocess.run(command, input=source, check=True, capture_output=True).stdout


@cache
def clip(
    *options: str,
    size: str = "320x180",
    rate: str = "25",
    seconds: float = 3,
    container: str = "mpegts",
    source: str = MOTION,
) -> bytes:
    """A moving test picture, encoded with `options` (ffmpeg's, for the output)."""
    pattern = source.format(size=size, rate=rate, seconds=seconds)
    movflags = ["-movflags", "frag_keyframe+empty_moov"] if container == "mp4" else []
    return ffmpeg("-f", "lavfi", "-i", pattern, *options, *movflags, "-f", container, "-")


def x264(*options: str, gop: int = 25, bframes: int = 2) -> tuple[str, ...]:
    """Options for H.264 with a fixed group of pictures."""
    fixed = ("-preset", "veryfast", "-g", str(gop), "-bf", str(bframes), "-sc_threshold", "0", "-pix_fmt", "yuv420p")
    return ("-c:v", "libx264", *fixed, *options)


def times_by_ffmpeg(path: Path, *, filters: str = "null") -> list[float]:
    """The time of every frame that ffmpeg shows, in seconds, as it stands in the file."""
    return [float(time) for time in re.findall(r" pts_time:\s*([-\d.]+)", _showinfo(path, filters))]


def pictures_by_ffmpeg(path: Path, indices: Sequence[int], *, filters: str = "null") -> list[Pixels]:
    """The RGB pictures of some of the frames that ffmpeg shows, at the size and turned as ffmpeg shows them."""
    wanted = "+".join(f"eq(n\\,{index})" for index in indices)
    chain = f"{filters},select={wanted},format=rgb24"
    width, height = re.findall(r" s:(\d+)x(\d+)", _showinfo(path, chain))[0]
    raw = ffmpeg(*_input_options(path), "-vf", chain, "-fps_mode", "passthrough", "-f", "rawvideo", "-")
    return list(np.frombuffer(raw, np.uint8).reshape(-1, int(height), int(width), 3))


def _input_options(path: Path) -> tuple[str, ...]:
    return ("-i", str(path), "-an", "-sn", "-dn")


def _showinfo(path: Path, filters: str) -> str:
    """What ffmpeg's `showinfo` says about each frame."""
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-nostdin",
        "-hide_banner",
        "-v",
        "info",
        "-copyts",
        *_input_options(path),
    ]
    command += ["-vf", f"{filters},showinfo=checksum=0", "-fps_mode", "passthrough", "-f", "null", "-"]
    return subprocess.run(command, check=True, capture_output=True).stderr.decode(errors="replace")
