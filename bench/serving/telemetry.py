"""What telemetry costs: processor time of the daemon and its decoders with everything switched on, beside none of it.

`python -m bench.serving.telemetry [--rounds 4] [--segments 300]`. A daemon follows a finished playlist until its end,
in turns without telemetry and with all of it: traces of every segment, metrics and logs over OTLP to a real receiver,
series of the stream, and `/metrics` read every 15 s, as by Prometheus. Starting is left out: each turn runs a long and
a short playlist, and counts their difference. Tiny segments and a scorer of one node show what a segment costs in
telemetry, as the rest costs little. That rest still varies by more than telemetry costs, so each span is opened 20
times, and scrapes and exports of metrics are 20 times as frequent: a twentieth of the difference is the cost. Its share
is that of a segment of 1080 lines of which `lite` scores two frames.
Exit code 1 when even the low end of that share is over 2 %.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from scipy import stats

from tests.media.clips import clip, x264
from tests.otlp_receiver import otlp_receiver
from tests.ports import free_port
from tests.scoring.tiny_onnx import write_bundle

ALLOWED_SHARE = 0.02
SHORT = 10
TIMES = 20
"""How often everything is done, to be divided by."""

SCRAPE_SECONDS = 15.0 / TIMES
EXPORT_SECONDS = 60.0 / TIMES
DAEMON = f"""
from contextlib import contextmanager
from vqmon.telemetry import otlp

span = otlp.span

@contextmanager
def repeated_span(*arguments, **attributes):
    for _ in range({TIMES - 1}):
        with span(*arguments, **attributes):
            pass
    with span(*arguments, **attributes) as context:
        yield context

otlp.span = repeated_span

from vqmon.cli.main import main
main(["run"])
"""
LARGE = 30
SETTINGS = """
[source]
streams = [{{ id = "news", url = "{folder}/{segments}.m3u8" }}]
[fetch]
file_roots = ["{folder}"]
[scoring]
scorers = ["{scorer}"]
folders = ["{folder}"]
threads = 1
standard_error_points = 0
[log]
level = "warning"
"""
ALL_METRICS = """
[daemon]
health_port = {port}
[metrics]
streams = ["*"]
"""


def write_playlist(folder: Path, segments: int) -> None:
    """`segments` times the same segment."""
    entries = "#EXT-X-DISCONTINUITY\n#EXTINF:2,\nsegment.ts\n" * segments
    text = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-PLAYLIST-TYPE:VOD\n{entries}#EXT-X-ENDLIST\n"
    (folder / f"{segments}.m3u8").write_text(text, encoding="utf-8")


@contextmanager
def scraped(port: int) -> Iterator[None]:
    """Read `/metrics` again and again, as Prometheus does."""
    is_over = threading.Event()

    def scrape() -> None:
        while not is_over.wait(SCRAPE_SECONDS):
            with suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).close()

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def run_seconds(folder: Path, segments: int, *, scorer: str, receiver: str, port: int) -> float:
    """Processor time of one run with its decoders; `receiver` = the address for OTLP, "" for no telemetry."""
    work = Path(tempfile.mkdtemp(dir=folder))
    text = SETTINGS.format(folder=folder, segments=segments, scorer=scorer) + (
        ALL_METRICS.format(port=port) if receiver else ""
    )
    (work / "vqmon.toml").write_text(text, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "VQMON_"))}
    if receiver:
        environment |= {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver,
            "OTEL_METRIC_EXPORT_INTERVAL": f"{1000 * EXPORT_SECONDS:.0f}",
            "OTEL_BSP_MAX_QUEUE_SIZE": "1000000",
        }
    daemon = subprocess.Popen([sys.executable, "-c", DAEMON], cwd=work, env=environment)
    _, status, usage = os.wait4(daemon.pid, 0)
    daemon.returncode = os.waitstatus_to_exitcode(status)
    if daemon.returncode:
        raise RuntimeError(f"the daemon ended with {daemon.returncode}")
    return usage.ru_utime + usage.ru_stime


def segment_milliseconds(folder: Path, segments: int, *, scorer: str, receiver: str = "", port: int = 0) -> float:
    """Processor time per segment, without that of starting and stopping."""
    long, short = (
        run_seconds(folder, count, scorer=scorer, receiver=receiver, port=port) for count in (segments, SHORT)
    )
    return 1000 * (long - short) / (segments - SHORT)


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and the ends of its 95 % interval, by Student's t."""
    mean = float(np.mean(values))
    margin = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return mean, mean - margin, mean + margin


def main() -> int:
    """Print the cost per segment and its share; returns 1 when the share is over the limit beyond doubt."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--segments", type=int, default=300)
    arguments = parser.parse_args()
    if arguments.rounds < 2:
        parser.error("--rounds: an interval needs 2 or more")
    port = free_port()
    with tempfile.TemporaryDirectory() as name, otlp_receiver() as receiver, scraped(port):
        small, large = Path(name) / "small", Path(name) / "large"
        for folder, size, count in ((small, "96x54", arguments.segments), (large, "1920x1080", LARGE)):
            folder.mkdir()
            (folder / "segment.ts").write_bytes(clip(*x264(), size=size, seconds=2))
            write_bundle(folder)
            write_playlist(folder, SHORT)
            write_playlist(folder, count)
        whole = segment_milliseconds(large, LARGE, scorer="lite")
        costs = []
        for number in range(arguments.rounds):
            turns = ["", receiver.url] if number % 2 == 0 else [receiver.url, ""]
            by_turn = {
                turn: segment_milliseconds(small, arguments.segments, scorer="tiny", receiver=turn, port=port)
                for turn in turns
            }
            costs.append((by_turn[receiver.url] - by_turn[""]) / TIMES)
            print(
                f"{by_turn['']:7.1f} ms per tiny segment without, {by_turn[receiver.url]:7.1f} ms with {TIMES} times",
                flush=True,
            )
        print(f"{len(receiver.spans)} spans and {len(receiver.log_records)} log lines arrived")
    mean, low, high = interval(costs)
    print(f"telemetry: {mean:.2f} ms per segment ({low:.2f} to {high:.2f})")
    print(f"a segment of 1080 lines and 2 s: {whole:.0f} ms without telemetry")
    print(f"share: {mean / whole:.2%} ({low / whole:.2%} to {high / whole:.2%}), {ALLOWED_SHARE:.0%} allowed")
    return int(low / whole > ALLOWED_SHARE)


if __name__ == "__main__":
    sys.exit(main())
