"""The demo's live stream: a moving picture from photos, two encoders as a packager has them, and a loopback origin."""

import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

_FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
SIZES = {"720p": (1280, 720, 3000), "360p": (640, 360, 900)}
"""Rendition -> width, height, kbit/s."""

CLIP_SECONDS = 24
GOP_SECONDS = 2
_FPS = 25


class Packager:
    """Two live encoders that write one HLS stream; one process per rendition, as in real life."""

    def __init__(self, clip: Path, folder: Path) -> None:
        self._clip, self._folder = clip, folder
        self._encoders: dict[str, subprocess.Popen[bytes]] = {}
        lines = ["#EXTM3U", "#EXT-X-VERSION:3"]
        for name, (width, height, kbps) in SIZES.items():
            lines.append(f"#EXT-X-STREAM-INF:BANDWIDTH={kbps * 1100},RESOLUTION={width}x{height}")
            lines.append(f"{name}.m3u8")
            self.restart(name, kbps)
        (folder / "master.m3u8").write_text("\n".join(lines) + "\n")

    def restart(self, name: str, kbps: int, *, before: str = "") -> None:
        """Start a rendition's encoder, in place of the one that runs; `before` goes in front of its filters."""
        self.stop(name)
        width, height, _ = SIZES[name]
        command = encoder_command(self._clip, [(name, (width, height, kbps))], before=before)
        self._encoders[name] = subprocess.Popen(command, cwd=self._folder, stdin=subprocess.DEVNULL)

    def wait(self, *, within_seconds: float = 30.0) -> None:
        """Wait until every rendition has a playlist."""
        until = time.monotonic() + within_seconds
        while not all((self._folder / f"{name}.m3u8").is_file() for name in SIZES):
            if time.monotonic() > until or any(encoder.poll() is not None for encoder in self._encoders.values()):
                raise SystemExit("demo: the encoders wrote no stream; can ffmpeg read the input?")
            time.sleep(0.1)

    def stop(self, name: str) -> None:
        """End a rendition's encoder; it finishes its last segment."""
        if encoder := self._encoders.pop(name, None):
            encoder.send_signal(signal.SIGINT)
            try:
                encoder.wait(timeout=5)
            except subprocess.TimeoutExpired:
                encoder.kill()
                encoder.wait()


def encoder_command(
    clip: Path,
    outputs: Sequence[tuple[str, tuple[int, int, int]]],
    *,
    before: str = "",
    start_number_source: str = "generic",
) -> list[str]:
    """The ffmpeg that plays a clip in a loop, in real time, into a live HLS playlist per output.

    An output is a name and its (width, height, kbit/s); `before` goes in front of the filters, `start_number_source` is
    that of ffmpeg's HLS muxer.
    """
    command = [_FFMPEG, *["-v", "error", "-nostdin", "-re", "-stream_loop", "-1", "-i"], str(clip)]
    for name, (width, height, kbps) in outputs:
        fit = f"{width}:{height}:force_original_aspect_ratio=decrease:force_divisible_by=2"
        options = (
            f"-an -sn -dn -map 0:v:0 -r {_FPS} -c:v libx264 -preset superfast -g {GOP_SECONDS * _FPS} -sc_threshold 0 "
            f"-vf {before}scale={fit},format=yuv420p "
            f"-b:v {kbps}k -maxrate {kbps}k -bufsize {kbps}k "
            f"-f hls -hls_time {GOP_SECONDS} -hls_list_size 8 -hls_delete_threshold 8 "
            f"-hls_start_number_source {start_number_source} "
            "-hls_flags append_list+omit_endlist+delete_segments+program_date_time+temp_file "
            f"-hls_segment_filename {name}-%05d.ts {name}.m3u8"
        )
        command += options.split()
    return command


@contextmanager
def running_packager(clip: Path, folder: Path) -> Iterator[Packager]:
    packager = Packager(clip, folder)
    try:
        yield packager
    finally:
        for name in SIZES:
            packager.stop(name)


@contextmanager
def serve_folder(folder: Path, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve a folder over HTTP, by default on a free loopback port; yields its address."""

    class SilentHandler(SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            return

    with ThreadingHTTPServer((host, port), partial(SilentHandler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{host}:{server.server_address[1]}"
        server.shutdown()


def make_clip(target: Path) -> Path:
    """Write a clip that pans over a mosaic of photos: 24 s of 1280x720 that loop seamlessly."""
    mosaic = _photo_mosaic()
    command = [_FFMPEG, "-v", "error", "-nostdin", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "1280x720"]
    command += ["-r", str(_FPS), "-i", "-", "-c:v", "libx264", "-preset", "ultrafast", "-crf", "14"]
    with subprocess.Popen([*command, "-pix_fmt", "yuv420p", "-y", str(target)], stdin=subprocess.PIPE) as encoder:
        assert encoder.stdin is not None
        for turn in np.linspace(0, 2 * np.pi, CLIP_SECONDS * _FPS, endpoint=False):
            x = round((mosaic.shape[1] - 1280) * (0.5 - 0.5 * np.cos(turn)))
            y = round((mosaic.shape[0] - 720) * (0.5 - 0.5 * np.cos(2 * turn)))
            encoder.stdin.write(mosaic[y : y + 720, x : x + 1280].tobytes())
        encoder.stdin.close()
    return target


def _photo_mosaic() -> NDArray[np.uint8]:
    """Photos near their own size, side by side: (1200, about 2200, 3)."""
    data, resize = import_module("skimage.data"), import_module("skimage.transform").resize
    photos = []
    for photo in (data.astronaut(), data.coffee(), data.stereo_motorcycle()[0], data.rocket()):
        shape = (400, round(photo.shape[1] * 400 / photo.shape[0]))
        photos.append((resize(photo, shape, anti_aliasing=True) * 255).clip(0, 255).astype(np.uint8))
    rows = [np.concatenate(photos[turn:] + photos[:turn], axis=1) for turn in (0, 2, 1)]
    return np.concatenate(rows, axis=0)
