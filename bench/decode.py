"""Our sampling beside ffmpeg, PyAV and decord on the same files in one run; memory, signals and live capacity.

    python -m bench.decode [--segments 12] [--soak 1000] [--peer-python .venv-models/bin/python]

Prints one table per question. Every contender looks at one frame per second and delivers it as RGB of the coded size.
Beside the time by the clock stands the processor time: on a machine that has other work only that one can be compared.
"limit" is what libav takes on one thread for nothing but decoding: the key pictures alone bound how much faster than a
full decode looking at key pictures can be, whoever looks.
"""

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import numpy as np
from skimage import data, transform

from vqmon.core.types import SIGNALS, Sampling, View
from vqmon.errors import DecodeError
from vqmon.media.decode.pool import DecoderPool
from vqmon.media.images.resampling import YuvPlanes
from vqmon.media.images.signals import SignalMeter

WIDTH, HEIGHT, RATE, SECONDS, GOP = 1920, 1080, 25, 6, 50
NATIVE = View(kind="stretch", width=WIDTH, height=HEIGHT)
TILES = View(kind="tiles", width=512, height=288, short_side=512, columns=4, rows=3)
FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
CORES = len(os.sched_getaffinity(0))

CODECS = {
    "h264": ("-c:v", "libx264", "-preset", "medium", "-crf", "21", "-g", str(GOP), "-sc_threshold", "0"),
    "hevc": (
        *("-c:v", "libx265", "-preset", "fast", "-crf", "24"),
        *("-x265-params", f"keyint={GOP}:min-keyint={GOP}:scenecut=0:log-level=0"),
    ),
    "av1": ("-c:v", "libsvtav1", "-preset", "9", "-crf", "32", "-g", str(GOP)),
}

PYAV_LOOP = """
import sys, time, av
start, before = time.perf_counter(), time.process_time()
for path in sys.argv[1:]:
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        moment = None
        for frame in container.decode(stream):
            moment = frame.time if moment is None else moment
            if frame.time >= moment - 1e-6:
                frame.to_ndarray(format="rgb24")
                moment += 1
print(time.perf_counter() - start, time.process_time() - before)
"""

DECORD = """
import sys, time, decord
start, before = time.perf_counter(), time.process_time()
for path in sys.argv[1:]:
    reader = decord.VideoReader(path)
    reader.get_batch(range(0, len(reader), round(reader.get_avg_fps()))).asnumpy()
print(time.perf_counter() - start, time.process_time() - before)
"""


def make_segments(folder: Path) -> dict[str, list[Path]]:
    """Two 6-second segments per codec: a camera that wanders over photos, with a little grain."""
    photos = [getattr(data, name)()[..., :3] for name in ("astronaut", "coffee", "chelsea", "rocket")]
    quarters = [transform.resize(photo, (1080, 1920), anti_aliasing=True) for photo in photos]
    wall = np.concatenate([np.concatenate(quarters[:2], axis=1), np.concatenate(quarters[2:], axis=1)])
    picture = folder / "wall.ppm"
    picture.write_bytes(b"P6 3840 2160 255\n" + np.rint(wall * 255).astype(np.uint8).tobytes())
    found = {}
    for codec, options in CODECS.items():
        pan = "crop=1920:1080:x='960+900*sin(t/2)':y='540+500*cos(t/3)',noise=alls=4:allf=t,format=yuv420p"
        whole = folder / f"{codec}.mp4"
        source = ("-loop", "1", "-framerate", str(RATE), "-i", str(picture), "-t", str(2 * SECONDS))
        run(FFMPEG, "-v", "error", *source, "-vf", pan, *options, "-y", str(whole))
        pieces = ("-f", "segment", "-segment_time", str(SECONDS), "-reset_timestamps", "1")
        run(FFMPEG, "-v", "error", "-i", str(whole), "-c", "copy", *pieces, "-y", str(folder / f"{codec}-%d.mp4"))
        found[codec] = sorted(folder.glob(f"{codec}-*.mp4"))
    return found


def run(*command: str) -> bytes:
    return subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True).stdout


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds by the clock, and of all processors together."""

    clock: float
    processor: float


def cost_of(work: Callable[[], Any]) -> Cost:
    """What some work costs, its finished child processes included."""
    before, clock = os.times(), time.perf_counter()
    work()
    after, elapsed = os.times(), time.perf_counter() - clock
    return Cost(elapsed, sum(after[:4]) - sum(before[:4]))


def ffmpeg_fps(paths: Sequence[Path], *, threads: str, parallel: int) -> Cost:
    """`ffmpeg -vf fps=1` to raw RGB, some processes at a time."""

    def one(path: Path) -> None:
        source = ("-threads", threads, "-i", str(path))
        pixels = run(FFMPEG, "-v", "error", *source, "-vf", "fps=1", "-pix_fmt", "rgb24", "-f", "rawvideo", "-")
        assert len(pixels) >= SECONDS * WIDTH * HEIGHT * 3

    with ThreadPoolExecutor(parallel) as pool:
        return cost_of(lambda: list(pool.map(one, paths)))


def script(python: str, code: str, paths: Sequence[Path]) -> Cost | None:
    """What a script says that its work cost, without the start of Python; None when it cannot run."""
    try:
        clock, processor = run(python, "-c", code, *map(str, paths)).split()
        return Cost(float(clock), float(processor))
    except (subprocess.CalledProcessError, OSError, ValueError):
        return None


async def ours(paths: Sequence[Path], *, sampling: Sampling, views: Sequence[View], **options: Any) -> Cost:
    """A pool with a worker per core; the workers are started before; pictures are dropped once they are here."""
    contents = [path.read_bytes() for path in paths]
    async with DecoderPool(CORES) as pool:

        async def look(content: bytes) -> None:
            await pool.decode(content, views=views, sampling=sampling, **options)

        await asyncio.gather(*(look(content) for content in contents[:CORES]))
        start, before = time.perf_counter(), processor_seconds(pool.idle_pids)
        await asyncio.gather(*(look(content) for content in contents))
        return Cost(time.perf_counter() - start, processor_seconds(pool.idle_pids) - before)


def decoder_alone(paths: Sequence[Path], *, wanted: Callable[[Any], bool]) -> Cost:
    """libav on one thread over some packets that are already demuxed, each run from a key picture; shared by all cores.

    The clock is that of as many such threads as there are cores, if they did not disturb each other.
    """
    seconds = 0.0
    for path in sorted(set(paths)):
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            packets = [packet for packet in container.demux(stream) if packet.size and wanted(packet)]
            before = time.process_time()
            for packet in packets:
                stream.codec_context.decode(packet)
            stream.codec_context.decode(None)
            seconds += (time.process_time() - before) * paths.count(path)
    return Cost(seconds / CORES, seconds)


def processor_seconds(pids: Sequence[int]) -> float:
    """Of this process and of some others that still run."""
    own = os.times()
    fields = [Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split() for pid in pids]
    ticks = sum(int(one[11]) + int(one[12]) for one in fields)
    return own.user + own.system + ticks / os.sysconf("SC_CLK_TCK")


def contest(codec: str, paths: Sequence[Path], peer_python: str) -> None:
    """Print everybody's time on the same files."""
    peers = {
        "ffmpeg fps=1, default threads": ffmpeg_fps(paths, threads="0", parallel=1),
        f"ffmpeg fps=1, {CORES} at a time": ffmpeg_fps(paths, threads="1", parallel=CORES),
        "PyAV loop, all threads": script(sys.executable, PYAV_LOOP, paths),
        "decord get_batch": script(peer_python, DECORD, paths),
    }
    mine = {
        "vqmon exact": asyncio.run(ours(paths, sampling="exact", views=[NATIVE], signals=())),
        "vqmon keyframes": asyncio.run(ours(paths, sampling="keyframes", views=[NATIVE], signals=())),
    }
    limits = {
        "limit: all pictures, decoder alone": decoder_alone(paths, wanted=lambda packet: True),
        "limit: key pictures, decoder alone": decoder_alone(paths, wanted=lambda packet: packet.is_keyframe),
    }
    known = [cost for cost in peers.values() if cost is not None]
    best = Cost(min(cost.clock for cost in known), min(cost.processor for cost in known))
    print(f"\n{codec}: {len(paths)} segments of {SECONDS} s, 1080p, {GOP / RATE:g}-s groups of pictures, {CORES} cores")
    print(f"  {'ms per segment and times the best peer':40s} {'clock':>16s} {'processor':>18s}")
    for name, cost in {**peers, **mine, **limits}.items():
        print(f"  {name:40s} {'cannot run here' if cost is None else beside(best, cost, count=len(paths))}")


def beside(best: Cost, cost: Cost, *, count: int) -> str:
    return (
        f"{1000 * cost.clock / count:8.0f} {best.clock / cost.clock:6.2f} x"
        f" {1000 * cost.processor / count:9.0f} {best.processor / cost.processor:6.2f} x"
    )


def live_capacity(codec: str, paths: Sequence[Path]) -> None:
    """1080p streams that the decoding part of this machine keeps up with."""
    cost = asyncio.run(ours(paths, sampling="exact", views=[TILES], thumbnail_width=320))
    by_clock, by_processor = len(paths) / cost.clock, len(paths) * CORES / cost.processor
    print(
        f"  {codec:6s} {1000 * cost.processor / len(paths):7.0f} ms of one core per segment,"
        f" {by_clock * SECONDS:6.1f} streams by the clock, {by_processor * SECONDS:6.1f} on idle cores"
    )


def signal_cost() -> None:
    """Milliseconds for all signals of one 1080p frame."""
    picture = transform.resize(data.astronaut()[..., 1], (HEIGHT, WIDTH), preserve_range=True).astype(np.uint8)
    grey = np.full((HEIGHT // 2, WIDTH // 2), 128, np.uint8)
    meter = SignalMeter(SIGNALS)
    planes = YuvPlanes(picture, grey, grey, is_full=False)
    cost = cost_of(lambda: [meter.measure(planes, damaged_share=0.0) for _ in range(20)])
    print(f"\nsignals: {cost.processor / 20 * 1000:.1f} ms of one core per 1080p frame")


async def soak(paths: Sequence[Path], count: int) -> None:
    """One worker, many segments, some damaged: memory must not grow."""
    chance = random.Random(1)
    contents = [path.read_bytes() for path in paths]
    readings: list[float] = []
    refused = 0
    async with DecoderPool(1, recycle_after=count + 10) as pool:
        for index in range(count):
            content = bytearray(chance.choice(contents))
            if index % 10 == 9:
                at = chance.randrange(len(content))
                content[at : at + 2000] = bytes(len(content[at : at + 2000]))
            sampling: Sampling = "exact" if index % 5 == 4 else "keyframes"
            try:
                await pool.decode(bytes(content), views=[TILES], thumbnail_width=320, sampling=sampling)
            except DecodeError:
                refused += 1
            if pool.idle_pids and index % max(1, count // 10) == 0:
                readings.append(resident_mb(pool.idle_pids[0]))
        readings.append(resident_mb(pool.idle_pids[0]))
        print(
            f"\nresident memory of one worker over {count} segments, MB: {' '.join(f'{one:.0f}' for one in readings)}"
        )
        print(f"  refused {refused}, replaced workers {json.dumps(dict(pool.replacements))}")


def resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--segments", type=int, default=12)
    parser.add_argument("--soak", type=int, default=1000)
    parser.add_argument("--peer-python", default=".venv-models/bin/python", help="a Python that has decord")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = make_segments(Path(folder))
        work = {codec: (paths * arguments.segments)[: arguments.segments] for codec, paths in files.items()}
        for codec, paths in work.items():
            contest(codec, paths, arguments.peer_python)
        print(f"\nlive capacity, all signals, the built-in scorer's view and thumbnails, {CORES} cores:")
        for codec, paths in work.items():
            live_capacity(codec, paths)
        signal_cost()
        asyncio.run(soak([path for paths in files.values() for path in paths], arguments.soak))


if __name__ == "__main__":
    main()
