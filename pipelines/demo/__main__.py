"""The demo: in two minutes a live stream degrades and recovers, and vqmon alerts and resolves."""

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

from pipelines.console.outcomes import alert_line, outcome_line
from pipelines.daemon import one_host
from pipelines.demo.stream import GOP_SECONDS, SIZES, Packager, make_clip, running_packager, serve_folder
from pipelines.service.wiring import default_file, settings_for_watch
from vqmon.core.types import Alert, Outcome, QualityEvent
from vqmon.plurals import plural
from vqmon.settings.load import Settings
from vqmon.settings.sections import AlertSettings
from vqmon.telemetry.logs import configure_logging
from vqmon.terminal import Console
from vqmon.transport.history.history import open_history

FAULTY_RENDITION = "720p"
FAULTY_KBPS = 90
FAULTY_INPUT_FILTER = "scale=160:-2,"
"""The fault: the encoder gets a thumbnail-sized input and too low a bit rate."""

DEMO_RULE = """
# The demo is short, so this rule has a shorter baseline and a smaller drop than the default one.
[rules.drop]
kind = "collapse"
severity = "page"
scorer = "lite"
drop = 15
baseline_segments = 12
confirm_segments = 2
recover_seconds = 6
"""

console = Console()


@dataclass
class DemoRecord:
    """What happened when, by the wall clock, for the summary."""

    began: float = field(default_factory=time.time)
    fault_at: float = 0.0
    fixed_at: float = 0.0
    alert_delay_seconds: float | None = None
    resolve_delay_seconds: float | None = None
    scored: list[tuple[float, str, float]] = field(default_factory=list)
    unscored: int = 0

    def on_publish(self, outcomes: Sequence[Outcome], alerts: Sequence[Alert]) -> None:
        """Print and remember what the daemon has just published."""
        for outcome in outcomes:
            console.print(outcome_line(outcome))
            if isinstance(outcome, QualityEvent):
                moment = outcome.segment.ends_at.timestamp()
                self.scored.append((moment, outcome.segment.rendition.name, outcome.scores[0].value))
            else:
                self.unscored += 1
        for alert in alerts:
            self._print_alert(alert)

    def _print_alert(self, alert: Alert) -> None:
        now = time.time()
        since = ""
        if alert.rendition == FAULTY_RENDITION and self.fault_at and alert.state == "open":
            self.alert_delay_seconds = self.alert_delay_seconds or now - self.fault_at
            since = f" ({now - self.fault_at:.1f} s after the encoder went wrong)"
        elif alert.rendition == FAULTY_RENDITION and self.fixed_at and alert.state == "resolved":
            self.resolve_delay_seconds = self.resolve_delay_seconds or now - self.fixed_at
            since = f" ({now - self.fixed_at:.1f} s after it was fixed)"
        console.print(alert_line(alert) + since)

    def mean(self, rendition: str, since: float, until: float) -> str:
        """Mean score of the segments that ended in this span."""
        values = [value for moment, name, value in self.scored if name == rendition and since <= moment < until]
        return f"{np.mean(values):5.1f}" if values else "    –"


def main() -> None:
    """Run the demo from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--input", default=os.environ.get("INPUT", ""), help="video file to stream; default: a clip made from photos"
    )
    parser.add_argument("--seconds", type=float, default=float(os.environ.get("DEMO_SECONDS") or 105))
    parser.add_argument("--keep", action="store_true", help="run until Ctrl-C")
    parser.add_argument("--port", type=int, default=0, help="port of the web pages; 0 = any free port")
    arguments = parser.parse_args()
    if arguments.seconds < 60:
        parser.error("--seconds: the demo needs at least 60 seconds")
    if arguments.input and not Path(arguments.input).is_file():
        parser.error(f"--input: no such file: {arguments.input}")
    configure_logging("error", "text")
    with ExitStack() as stack:
        _run_demo(arguments, Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vqmon-demo-"))), stack)


def _run_demo(arguments: argparse.Namespace, folder: Path, stack: ExitStack) -> None:
    console.print("making a moving picture from photos ..." if not arguments.input else "")
    clip = Path(arguments.input).resolve() if arguments.input else make_clip(folder / "clip.mp4")
    stream = folder / "stream"
    stream.mkdir()
    record = DemoRecord()
    encoders = stack.enter_context(running_packager(clip, stream))
    address = stack.enter_context(serve_folder(stream))
    history = Path(os.environ.get("DEMO_HISTORY") or folder / "demo.db")
    with open_history(history, mode="write"):
        pass
    pages = stack.enter_context(_pages(history, arguments.port))
    encoders.wait()
    url = f"{address}/master.m3u8"
    console.print(f"\n[bold]stream[/bold] {url}\n[bold]pages[/bold]  {pages}\n")
    fault_after_seconds, fix_after_seconds = 0.3 * arguments.seconds, 0.6 * arguments.seconds
    timers = [
        threading.Timer(fault_after_seconds, partial(_start_fault, encoders, record)),
        threading.Timer(fix_after_seconds, partial(_end_fault, encoders, record)),
    ]
    for timer in timers:
        timer.daemon = True
        timer.start()
    rules = folder / "rules.toml"
    rules.write_text(default_file("rules.toml").read_text(encoding="utf-8") + DEMO_RULE, encoding="utf-8")
    settings = settings_for_watch(Settings(alerts=AlertSettings(rules=rules)), url, stream_id="demo", history=history)
    asyncio.run(
        one_host.run(settings, for_seconds=None if arguments.keep else arguments.seconds, on_publish=record.on_publish)
    )
    _summarize(record)


def _summarize(record: DemoRecord) -> None:
    end = time.time() + 60
    console.print(f"\n[bold]{plural(len(record.scored), 'segment')} scored, {record.unscored} unscored[/bold]")
    console.print("mean score       before   while wrong   after")
    for name in SIZES:
        before = record.mean(name, 0, record.fault_at)
        during = record.mean(name, record.fault_at + GOP_SECONDS, record.fixed_at)
        after = record.mean(name, record.fixed_at + GOP_SECONDS, end)
        console.print(f"{name:>16} {before:>8} {during:>10} {after:>10}")
    for what, delay in (("alert", record.alert_delay_seconds), ("resolve", record.resolve_delay_seconds)):
        console.print(f"{what:>8}: " + (f"after {delay:.1f} s" if delay is not None else "[red]none[/red]"))


def _start_fault(encoders: Packager, record: DemoRecord) -> None:
    encoders.restart(FAULTY_RENDITION, FAULTY_KBPS, before=FAULTY_INPUT_FILTER)
    record.fault_at = time.time()
    console.print(
        f"\n[bold yellow]the {FAULTY_RENDITION} encoder restarts with a thumbnail as input, "
        f"at {FAULTY_KBPS} kbit/s[/bold yellow]\n"
    )


def _end_fault(encoders: Packager, record: DemoRecord) -> None:
    encoders.restart(FAULTY_RENDITION, SIZES[FAULTY_RENDITION][2])
    record.fixed_at = time.time()
    console.print(f"\n[bold yellow]the {FAULTY_RENDITION} encoder is fixed[/bold yellow]\n")


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
