"""The main job on one machine in two minutes: a live stream degrades and heals, and vqmon says so."""

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from pipelines import live
from pipelines.parts import watching
from pipelines.words import alert_line, outcome_line
from vqmon.core.types import Alert, Outcome, QualityEvent
from vqmon.logs import set_up_logs
from vqmon.settings import Settings
from vqmon.transport.store import open_history

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
SIZES = {"720p": (1280, 720, 3000), "360p": (640, 360, 900)}
"""Rendition -> width, height, kbit/s."""

SICK = "720p"
SICK_KBPS = 90
GOP_SECONDS = 2
FPS = 25

console = Console(highlight=False, soft_wrap=True)


@dataclass
class Diary:
    """What happened when, by the wall clock, for the summary."""

    began: float = field(default_factory=time.time)
    sick_at: float = 0.0
    healed_at: float = 0.0
    alert_delay: float | None = None
    resolve_delay: float | None = None
    scored: list[tuple[float, str, float]] = field(default_factory=list)
    unscored: int = 0

    def told(self, outcomes: Sequence[Outcome], alerts: Sequence[Alert]) -> None:
        """Print and remember what the daemon has just published."""
        for outcome in outcomes:
            console.print(outcome_line(outcome))
            if isinstance(outcome, QualityEvent):
                moment = outcome.segment.ends_at.timestamp()
                self.scored.append((moment, outcome.segment.rendition.name, outcome.scores[0].value))
            else:
                self.unscored += 1
        for alert in alerts:
            self._tell_alert(alert)

    def _tell_alert(self, alert: Alert) -> None:
        now = time.time()
        since = ""
        if alert.rendition == SICK and self.sick_at and alert.state == "open":
            self.alert_delay = self.alert_delay or now - self.sick_at
            since = f" ({now - self.sick_at:.1f} s after the encoder went wrong)"
        elif alert.rendition == SICK and self.healed_at and alert.state == "resolved":
            self.resolve_delay = now - self.healed_at
            since = f" ({now - self.healed_at:.1f} s after it was mended)"
        console.print(alert_line(alert) + since)

    def mean(self, rendition: str, since: float, until: float) -> str:
        """Mean score of the segments that ended in this span."""
        values = [value for moment, name, value in self.scored if name == rendition and since <= moment < until]
        return f"{np.mean(values):5.1f}" if values else "    –"


def main() -> None:
    """Run the demo from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", default=os.environ.get("INPUT", ""), help="a clip to use instead of the photos")
    parser.add_argument("--seconds", type=float, default=float(os.environ.get("DEMO_SECONDS") or 105))
    parser.add_argument("--keep", action="store_true", help="leave stream and pages up until Ctrl-C")
    parser.add_argument("--port", type=int, default=0, help="of the pages; 0 = any free one")
    chosen = parser.parse_args()
    if chosen.seconds < 60:
        parser.error("--seconds: the story needs 60 seconds or more")
    if chosen.input and not Path(chosen.input).is_file():
        parser.error(f"--input: no such file: {chosen.input}")
    set_up_logs("error", "text")
    with ExitStack() as stack:
        _show(chosen, Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vqmon-demo-"))), stack)


def _show(chosen: argparse.Namespace, folder: Path, stack: ExitStack) -> None:
    clip = Path(chosen.input).resolve() if chosen.input else _moving_picture(folder / "clip.mp4")
    stream = folder / "stream"
    stream.mkdir()
    diary = Diary()
    packager = stack.enter_context(_packager(clip, stream))
    origin = stack.enter_context(_origin(stream))
    history = Path(os.environ.get("DEMO_HISTORY") or folder / "demo.db")
    with open_history(history, mode="write"):
        pass
    pages = stack.enter_context(_pages(history, chosen.port))
    url = f"{origin}/master.m3u8"
    console.print(f"\n[bold]stream[/bold] {url}\n[bold]pages[/bold]  {pages}\n")
    turn_sick, heal = 0.3 * chosen.seconds, 0.6 * chosen.seconds
    timers = [
        threading.Timer(turn_sick, partial(_turn_sick, packager, diary)),
        threading.Timer(heal, partial(_heal, packager, diary)),
    ]
    for timer in timers:
        timer.daemon = True
        timer.start()
    settings = watching(Settings(), url, stream_id="demo", history=history)
    asyncio.run(live.run(settings, for_seconds=chosen.seconds, told=diary.told))
    _summarize(diary)
    if chosen.keep:
        console.print(f"\nstill up: {pages} (Ctrl-C ends)")
        signal.sigwait({signal.SIGINT, signal.SIGTERM})


def _summarize(diary: Diary) -> None:
    end = time.time() + 60
    console.print(f"\n[bold]{len(diary.scored)} segments scored, {diary.unscored} unscored[/bold]")
    console.print("mean score       before   while wrong   after")
    for name in SIZES:
        before = diary.mean(name, 0, diary.sick_at)
        during = diary.mean(name, diary.sick_at + GOP_SECONDS, diary.healed_at)
        after = diary.mean(name, diary.healed_at + GOP_SECONDS, end)
        console.print(f"{name:>16} {before:>8} {during:>10} {after:>10}")
    for what, delay in (("alert", diary.alert_delay), ("resolve", diary.resolve_delay)):
        console.print(f"{what:>8}: " + (f"after {delay:.1f} s" if delay is not None else "[red]none[/red]"))


def _turn_sick(packager: "Packager", diary: Diary) -> None:
    packager.restart(SICK, SICK_KBPS)
    diary.sick_at = time.time()
    console.print(f"\n[bold yellow]the {SICK} encoder restarts with {SICK_KBPS} kbit/s by mistake[/bold yellow]\n")


def _heal(packager: "Packager", diary: Diary) -> None:
    packager.restart(SICK, SIZES[SICK][2])
    diary.healed_at = time.time()
    console.print(f"\n[bold yellow]the {SICK} encoder is set right again[/bold yellow]\n")


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

    def restart(self, name: str, kbps: int) -> None:
        """Start a rendition's encoder, in place of the one that runs."""
        self.stop(name)
        width, height, _ = SIZES[name]
        options = (
            f"-an -sn -dn -map 0:v:0 -r {FPS} -c:v libx264 -preset superfast -g {GOP_SECONDS * FPS} -sc_threshold 0 "
            f"-vf scale={width}:{height}:force_original_aspect_ratio=decrease:force_divisible_by=2,format=yuv420p "
            f"-b:v {kbps}k -maxrate {kbps}k -bufsize {kbps}k "
            f"-f hls -hls_time {GOP_SECONDS} -hls_list_size 8 -hls_delete_threshold 8 "
            "-hls_flags append_list+omit_endlist+delete_segments+program_date_time+temp_file "
            f"-hls_segment_filename {name}-%05d.ts {name}.m3u8"
        )
        self._encoders[name] = subprocess.Popen(
            [
                FFMPEG,
                *["-v", "error", "-nostdin", "-re", "-stream_loop", "-1", "-i"],
                str(self._clip),
                *options.split(),
            ],
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
        )

    def stop(self, name: str) -> None:
        """End a rendition's encoder; it finishes its last segment."""
        if encoder := self._encoders.pop(name, None):
            encoder.send_signal(signal.SIGINT)
            try:
                encoder.wait(timeout=5)
            except subprocess.TimeoutExpired:
                encoder.kill()
                encoder.wait()


@contextmanager
def _packager(clip: Path, folder: Path) -> Iterator[Packager]:
    packager = Packager(clip, folder)
    try:
        yield packager
    finally:
        for name in SIZES:
            packager.stop(name)


@contextmanager
def _origin(folder: Path) -> Iterator[str]:
    """An HTTP server on a free loopback port."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@contextmanager
def _pages(history: Path, port: int) -> Iterator[str]:
    """`vqmon web` on its own, as in real life."""
    port = port or _free_port()
    command = [sys.executable, "-m", "vqmon", "web", "--history", str(history), "--port", str(port)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            yield f"http://127.0.0.1:{port}/"
        finally:
            process.terminate()


def _free_port() -> int:
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:
        return int(server.server_address[1])


def _moving_picture(target: Path) -> Path:
    """The camera wanders over a wall of real photos: 24 s of 1280x720 that end where they began."""
    console.print("making a moving picture from photos ...")
    wall = _wall()
    command = [FFMPEG, "-v", "error", "-nostdin", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "1280x720"]
    command += ["-r", str(FPS), "-i", "-", "-c:v", "libx264", "-preset", "ultrafast", "-crf", "14"]
    with subprocess.Popen([*command, "-pix_fmt", "yuv420p", "-y", str(target)], stdin=subprocess.PIPE) as encoder:
        assert encoder.stdin is not None
        for turn in np.linspace(0, 2 * np.pi, 24 * FPS, endpoint=False):
            x = round((wall.shape[1] - 1280) * (0.5 - 0.5 * np.cos(turn)))
            y = round((wall.shape[0] - 720) * (0.5 - 0.5 * np.cos(2 * turn)))
            encoder.stdin.write(wall[y : y + 720, x : x + 1280].tobytes())
        encoder.stdin.close()
    return target


def _wall() -> NDArray[np.uint8]:
    """Photos near their own size, side by side: (1200, about 2200, 3)."""
    data, resize = import_module("skimage.data"), import_module("skimage.transform").resize
    photos = []
    for photo in (data.astronaut(), data.coffee(), data.stereo_motorcycle()[0], data.rocket()):
        shape = (400, round(photo.shape[1] * 400 / photo.shape[0]))
        photos.append((resize(photo, shape, anti_aliasing=True) * 255).clip(0, 255).astype(np.uint8))
    rows = [np.concatenate(photos[turn:] + photos[:turn], axis=1) for turn in (0, 2, 1)]
    return np.concatenate(rows, axis=0)


if __name__ == "__main__":
    main()
