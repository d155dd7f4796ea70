"""The daemon over many small segments: its memory and open handles, and those of its decoders, must stay flat.

    python -m bench.serving.soak        (or `make soak`; SOAK_SEGMENTS=50000 SOAK_STREAMS=8)

A daemon follows playlists of small segments, one in fifty of them damaged, which costs a decoder each. Its health port
tells how many outcomes it wrote; at ten points of the run the resident memory and the open handles of the daemon and of
its decoders are read from /proc. The slope of the daemon's memory is fitted over the second half, past warm-up, with
its 95 % interval; exit code 1 when even its low end would add more than 5 % over the whole run, or when handles grow.
"""

import math
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from tests.media.clips import clip, x264
from tests.ports import free_port
from vqmon.transport.history.history import open_history

POINTS = 10
MAX_GROWTH_SHARE = 0.05
MAX_MORE_HANDLES = 4
"""Connections to the health port, and a decoder that is being replaced."""

_COUNT = re.compile(r"^vqmon_segment_count\S*\{[^}]*\} ([\d.e+]+)", re.MULTILINE)
_SETTINGS = """
[source]
streams = [{streams}]
[fetch]
file_roots = ["{folder}"]
[scoring]
scorers = ["lite_fast"]
[history]
keep_frames_of_segments = 10
[daemon]
health_port = {port}
[log]
level = "error"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One reading of the daemon and of its decoders, which are one value each: the sum of all."""

    segments: int
    daemon_mb: float
    daemon_handles: int
    decoders_mb: float
    decoder_handles: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Slope:
    """Growth per 1,000 segments, in MB, with the ends of its 95 % interval."""

    mean: float
    low: float
    high: float


def write_streams(folder: Path, *, segments: int, streams: int) -> None:
    """Playlists that list `segments` segments together, out of twelve files, one damaged for every fifty."""
    kinds = [(x264(), "mpegts"), (x264(bframes=0), "mpegts"), (("-c:v", "mpeg2video"), "mpegts")]
    names = []
    for number in range(12):
        options, container = kinds[number % len(kinds)]
        rate = str(10 + number)
        names.append(f"{number}.ts")
        (folder / names[-1]).write_bytes(clip(*options, size="96x54", seconds=1, rate=rate, container=container))
    (folder / "damaged.ts").write_bytes(bytes(range(256)) * 20)
    for stream in range(streams):
        count = segments // streams + (stream < segments % streams)
        lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:1", "#EXT-X-PLAYLIST-TYPE:VOD"]
        for number in range(count):
            name = "damaged.ts" if number % 50 == 49 else names[number % len(names)]
            lines += ["#EXT-X-DISCONTINUITY", "#EXTINF:1,", name]
        (folder / f"{stream}.m3u8").write_text("\n".join([*lines, "#EXT-X-ENDLIST", ""]))


def read_point(pid: int, segments: int) -> Point:
    """Read memory and handles of the daemon and of the processes that it started."""
    children = [int(text) for file in Path(f"/proc/{pid}/task").glob("*/children") for text in file.read_text().split()]
    readings = [reading for child in _descendants(children) if (reading := _read_process(child)) is not None]
    memory, handles = _read_process(pid) or (0.0, 0)
    return Point(
        segments=segments,
        daemon_mb=memory,
        daemon_handles=handles,
        decoders_mb=sum(megabytes for megabytes, _ in readings),
        decoder_handles=sum(count for _, count in readings),
    )


def _descendants(pids: Sequence[int]) -> list[int]:
    found = []
    for pid in pids:
        files = Path(f"/proc/{pid}/task").glob("*/children")
        try:
            own = [int(text) for file in files for text in file.read_text().split()]
        except OSError:
            continue
        found += [pid, *_descendants(own)]
    return found


def _read_process(pid: int) -> tuple[float, int] | None:
    """Resident memory in MB and the number of open handles; None when the process has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6, len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return None


def fit_slope(points: Sequence[Point]) -> Slope:
    """Least squares over the second half of the points; the interval is that of Student's t."""
    late = points[len(points) // 2 :]
    x, y = (np.array([getattr(point, name) for point in late], float) for name in ("segments", "daemon_mb"))
    if len(late) < 3 or np.ptp(x) == 0:
        return Slope(mean=math.nan, low=-math.inf, high=math.inf)
    fit = stats.linregress(x / 1000, y)
    margin = float(stats.t.ppf(0.975, len(late) - 2)) * float(fit.stderr)
    return Slope(mean=float(fit.slope), low=float(fit.slope) - margin, high=float(fit.slope) + margin)


def problems_of(points: Sequence[Point], *, segments: int) -> list[str]:
    """What grew: one sentence each; none when memory and handles are flat."""
    slope, problems = fit_slope(points), []
    allowed_mb = MAX_GROWTH_SHARE * float(np.median([point.daemon_mb for point in points]))
    if slope.low * segments / 1000 > allowed_mb:
        problems.append(
            f"the daemon's memory grows by at least {slope.low:.3f} MB per 1,000 segments: "
            f"more than {allowed_mb:.0f} MB over {segments} segments"
        )
    first = max(point.daemon_handles for point in points[: max(1, len(points) // 3)])
    if points[-1].daemon_handles > first + MAX_MORE_HANDLES:
        problems.append(f"the daemon's open handles grew from {first} to {points[-1].daemon_handles}")
    return problems


def _outcome_count(port: int) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            return round(sum(float(value) for value in _COUNT.findall(answer.read().decode())))
    except (urllib.error.URLError, OSError):
        return 0


def run_daemon(folder: Path, *, segments: int, port: int) -> list[Point]:
    """Run the daemon until its playlists have ended; prints and returns the points."""
    points: list[Point] = []
    began = time.monotonic()
    print("segments   daemon MB  handles   decoders MB  handles   segments/s")
    with subprocess.Popen([sys.executable, "-m", "vqmon", "run"], cwd=folder) as daemon:
        while daemon.poll() is None:
            count = _outcome_count(port)
            if count >= (len(points) + 1) * segments / (POINTS + 0.5):
                point = read_point(daemon.pid, count)
                points.append(point)
                print(
                    f"{count:8}   {point.daemon_mb:9.1f}  {point.daemon_handles:7}   {point.decoders_mb:11.1f}  "
                    f"{point.decoder_handles:7}   {count / (time.monotonic() - began):10.1f}",
                    flush=True,
                )
            time.sleep(0.1)
    if daemon.returncode:
        sys.exit(f"the daemon ended with exit code {daemon.returncode}")
    return points


def main() -> int:
    """Run the soak; returns 1 when something grew or an outcome is missing."""
    segments, streams = (
        int(os.environ.get(name, default)) for name, default in (("SOAK_SEGMENTS", "50000"), ("SOAK_STREAMS", "8"))
    )
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        write_streams(folder, segments=segments, streams=streams)
        listed = ", ".join(f'{{ id = "soak-{n}", url = "{(folder / f"{n}.m3u8").as_uri()}" }}' for n in range(streams))
        (folder / "vqmon.toml").write_text(_SETTINGS.format(streams=listed, folder=folder, port=port))
        points = run_daemon(folder, segments=segments, port=port)
        with open_history(folder / "vqmon.db", mode="read") as history:
            stored = sum(1 for _ in history.documents.outcomes_in_write_order())
    problems = (
        problems_of(points, segments=segments) if len(points) >= 4 else ["too few points: set more SOAK_SEGMENTS"]
    )
    if stored != segments:
        problems.append(f"{segments} segments were listed, {stored} outcomes are stored")
    slope = fit_slope(points)
    print(
        f"\ndaemon: {slope.mean:+.3f} MB per 1,000 segments (95 %: {slope.low:+.3f} to {slope.high:+.3f}), second half"
    )
    print("\n".join(problems) if problems else f"flat: {stored} outcomes of {segments} segments")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
