"""The main job on one machine in two minutes: a live stream degrades and heals, and vqmon says so."""

import argparse
import asyncio
import os
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
from pathlib import Path

import numpy as np
from rich.console import Console

from pipelines.console.outcomes import alert_line, outcome_line
from pipelines.daemon import one_host
from pipelines.demo.stream import GOP_SECONDS, SIZES, Packager, moving_picture, origin, packager
from pipelines.service.wiring import default_file, settings_for_watch
from vqmon.core.types import Alert, Outcome, QualityEvent
from vqmon.settings.load import Settings
from vqmon.settings.sections import AlertSettings
from vqmon.telemetry.logs import configure_logging
from vqmon.transport.history.history import open_history

SICK = "720p"
SICK_KBPS = 90
SICK_INPUT = "scale=160:-2,"
"""What goes wrong: the encoder gets a thumbnail-sized preview as its input, and too few bits."""

DEMO_RULE = """
# A short story has a short usual: shorter baseline and smaller drop than the rule that comes with vqmon.
[rules.drop]
kind = "collapse"
severity = "page"
scorer = "lite"
drop = 15
baseline_segments = 12
confirm_segments = 2
recover_seconds = 6
"""

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
            self.resolve_delay = self.resolve_delay or now - self.healed_at
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
    parser.add_argument("--keep", action="store_true", help="go on until Ctrl-C")
    parser.add_argument("--port", type=int, default=0, help="of the pages; 0 = any free one")
    chosen = parser.parse_args()
    if chosen.seconds < 60:
        parser.error("--seconds: the story needs 60 seconds or more")
    if chosen.input and not Path(chosen.input).is_file():
        parser.error(f"--input: no such file: {chosen.input}")
    configure_logging("error", "text")
    with ExitStack() as stack:
        _show(chosen, Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vqmon-demo-"))), stack)


def _show(chosen: argparse.Namespace, folder: Path, stack: ExitStack) -> None:
    console.print("making a moving picture from photos ..." if not chosen.input else "")
    clip = Path(chosen.input).resolve() if chosen.input else moving_picture(folder / "clip.mp4")
    stream = folder / "stream"
    stream.mkdir()
    diary = Diary()
    encoders = stack.enter_context(packager(clip, stream))
    address = stack.enter_context(origin(stream))
    history = Path(os.environ.get("DEMO_HISTORY") or folder / "demo.db")
    with open_history(history, mode="write"):
        pass
    pages = stack.enter_context(_pages(history, chosen.port))
    encoders.wait()
    url = f"{address}/master.m3u8"
    console.print(f"\n[bold]stream[/bold] {url}\n[bold]pages[/bold]  {pages}\n")
    turn_sick, heal = 0.3 * chosen.seconds, 0.6 * chosen.seconds
    timers = [
        threading.Timer(turn_sick, partial(_turn_sick, encoders, diary)),
        threading.Timer(heal, partial(_heal, encoders, diary)),
    ]
    for timer in timers:
        timer.daemon = True
        timer.start()
    rules = folder / "rules.toml"
    rules.write_text(default_file("rules.toml").read_text(encoding="utf-8") + DEMO_RULE, encoding="utf-8")
    settings = settings_for_watch(Settings(alerts=AlertSettings(rules=rules)), url, stream_id="demo", history=history)
    asyncio.run(one_host.run(settings, for_seconds=None if chosen.keep else chosen.seconds, on_publish=diary.told))
    _summarize(diary)


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


def _turn_sick(encoders: Packager, diary: Diary) -> None:
    encoders.restart(SICK, SICK_KBPS, before=SICK_INPUT)
    diary.sick_at = time.time()
    console.print(
        f"\n[bold yellow]the {SICK} encoder restarts, fed with a thumbnail, at {SICK_KBPS} kbit/s[/bold yellow]\n"
    )


def _heal(encoders: Packager, diary: Diary) -> None:
    encoders.restart(SICK, SIZES[SICK][2])
    diary.healed_at = time.time()
    console.print(f"\n[bold yellow]the {SICK} encoder is set right again[/bold yellow]\n")


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


if __name__ == "__main__":
    main()
