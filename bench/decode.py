"""Benchmark of decoding against ffmpeg, PyAV and decord on the same files; also memory, signals and live capacity.

    python -m bench.decode [--segments 12] [--soak 1000] [--peer-python .venv-models/bin/python]

Prints one table per question. Every contender samples one frame per second and returns it as RGB of the coded size. CPU
time stands next to wall-clock time: on a machine that is otherwise busy only CPU time can be compared. "limit" is the
time that libav needs on one thread for decoding alone; that of the key pictures bounds the gain of keyframe sampling.
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import numpy as np
from skimage import data, transform

from vqmon.core.types import SIGNALS, Sampling, View
from vqmon.errors import DecodeError
from vqmon.media.decode.pool import DecodeLimits, DecoderPool
from vqmon.media.images.resampling import YuvPlanes
from vqmon.media.images.signals.meter import SignalMeter

WIDTH, HEIGHT, RATE, SECONDS, GOP = 1920, 1080, 25, 6, 50
NATIVE = View(kind="stretch", width=WIDTH, height=HEIGHT)
TILES = View(kind="tiles", width=512, height=288, short_side=512, columns=4, rows=3)
FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
CORES = len(os.sched_getaffinity(0))

# a machine that is busy with something else is slow, and not wrong
BUSY = DecodeLimits(deadline_seconds=120, wait_seconds=600)

CODECS = {
    "h264": ("-c:v", "libx264", "-preset", "medium", "-crf", "21", "-g", str(GOP), "-sc_threshold", "0"),
    "hevc": (
        *("-c:v", "libx265", "-preset", "fast", "-crf", "24"),
        *("-x265-params", f"keyint={GOP}:min-keyint={GOP}:scenecut=0:log-level=0"),
    ),
    "av1": ("-c:v", "libsvtav1", "-preset", "9", "-crf", "32", "-g", str(GOP)),
}

PYAV_SCRIPT = """
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

DECORD_SCRIPT = """
import sys, time, decord
start, before = time.perf_counter(), time.process_time()
for path in sys.argv[1:]:
    reader = decord.VideoReader(path)
    reader.get_batch(range(0, len(reader), round(reader.get_avg_fps()))).asnumpy()
print(time.perf_counter() - start, time.process_time() - before)
"""


def make_segments(folder: Path) -> dict[str, list[Path]]:
    """Write two 6-second segments per codec: a camera that pans over photos, with a little grain."""
    photos = [getattr(data, name)()[..., :3] for name in ("astronaut", "coffee", "chelsea", "rocket")]
    quarters = [transform.resize(photo, (1080, 1920), anti_aliasing=True) for photo in photos]
    mosaic = np.concatenate([np.concatenate(quarters[:2], axis=1), np.concatenate(quarters[2:], axis=1)])
    picture = folder / "mosaic.ppm"
    picture.write_bytes(b"P6 3840 2160 255\n" + np.rint(mosaic * 255).astype(np.uint8).tobytes())
    segments = {}
    for codec, options in CODECS.items():
        pan = "crop=1920:1080:x='960+900*sin(t/2)':y='540+500*cos(t/3)',noise=alls=4:allf=t,format=yuv420p"
        whole = folder / f"{codec}.mp4"
        source = ("-loop", "1", "-framerate", str(RATE), "-i", str(picture), "-t", str(2 * SECONDS))
        run_command(FFMPEG, "-v", "error", *source, "-vf", pan, *options, "-y", str(whole))
        segment_options = ("-f", "segment", "-segment_time", str(SECONDS), "-reset_timestamps", "1")
        run_command(
            FFMPEG,
            "-v",
            "error",
            "-i",
            str(whole),
            "-c",
            "copy",
            *segment_options,
            "-y",
            str(folder / f"{codec}-%d.mp4"),
        )
        segments[codec] = sorted(folder.glob(f"{codec}-*.mp4"))
    return segments


def run_command(*command: str) -> bytes:
    return subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True).stdout


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of wall-clock time, and of CPU time over all cores."""

    wall_seconds: float
    cpu_seconds: float


def measure_cost(work: Callable[[], Any]) -> Cost:
    """The cost of a function call, including child processes that have ended."""
    before, started = os.times(), time.perf_counter()
    work()
    after, elapsed = os.times(), time.perf_counter() - started
    return Cost(elapsed, sum(after[:4]) - sum(before[:4]))


def run_ffmpeg(paths: Sequence[Path], *, threads: str, parallel: int) -> Cost:
    """Run `ffmpeg -vf fps=1` to raw RGB, with this many processes at a time."""

    def sample_file(path: Path) -> None:
        source = ("-threads", threads, "-i", str(path))
        pixels = run_command(FFMPEG, "-v", "error", *source, "-vf", "fps=1", "-pix_fmt", "rgb24", "-f", "rawvideo", "-")
        assert len(pixels) >= SECONDS * WIDTH * HEIGHT * 3

    with ThreadPoolExecutor(parallel) as pool:
        return measure_cost(lambda: list(pool.map(sample_file, paths)))


def run_script(python: str, code: str, paths: Sequence[Path]) -> Cost | None:
    """The cost that a script prints, without the start of Python; None when it cannot run."""
    try:
        wall, cpu = run_command(python, "-c", code, *map(str, paths)).split()
        return Cost(float(wall), float(cpu))
    except (subprocess.CalledProcessError, OSError, ValueError):
        return None


async def run_pool(
    paths: Sequence[Path],
    *,
    sampling: Sampling,
    views: Sequence[View],
    service: "Service | None" = None,
    **options: Any,
) -> Cost:
    """Decode with one worker per core; the start of the workers is not measured, and results are discarded.

    The workers are those of a service behind a socket, or children.
    """
    contents = [path.read_bytes() for path in paths]
    async with DecoderPool(CORES, limits=BUSY, socket_path=service and service.socket) as pool:

        async def decode(content: bytes) -> None:
            await pool.decode(content, views=views, sampling=sampling, **options)

        await asyncio.gather(*(decode(content) for content in contents[:CORES]))
        pids = descendants(service.pid) if service else pool.idle_pids
        started, before = time.perf_counter(), total_cpu_seconds(pids)
        await asyncio.gather(*(decode(content) for content in contents))
        return Cost(time.perf_counter() - started, total_cpu_seconds(pids) - before)


@dataclass(frozen=True, slots=True)
class Service:
    """A socket behind which decoders are started, and the process that starts them."""

    socket: Path
    pid: int


@contextmanager
def socket_service(folder: Path) -> Iterator[Service | None]:
    """What `vqmon-decoder.socket` does, by systemd's own activator; None where it is not installed."""
    activator = shutil.which("systemd-socket-activate")
    if activator is None:
        yield None
        return
    path = folder / "decoder.socket"
    program = [sys.executable, "-s", "-m", "vqmon.media.decode.sandbox.activated"]
    command = [activator, "--accept", "--inetd", "--listen", str(path), *program]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while not path.exists():
            time.sleep(0.02)
        try:
            yield Service(path, process.pid)
        finally:
            process.terminate()


def descendants(pid: int) -> list[int]:
    """The processes that a process started, and those that they started."""
    children = [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [*children, *(each for child in children for each in descendants(child))]


def compare_socket(codec: str, paths: Sequence[Path], folder: Path, *, rounds: int = 5) -> None:
    """Print the speed of decoders behind a socket relative to children, in turns: the median and the ends."""
    with socket_service(folder) as service:
        if service is None:
            print("\ndecoders behind a socket: systemd-socket-activate is not installed")
            return
        wall, cpu = [], []
        for _ in range(rounds):
            child, behind = (
                asyncio.run(run_pool(paths, sampling="exact", views=[TILES], thumbnail_width=320, service=each))
                for each in (None, service)
            )
            wall.append(child.wall_seconds / behind.wall_seconds)
            cpu.append(child.cpu_seconds / behind.cpu_seconds)
    ratios = (f"{np.median(each):.2f} ({min(each):.2f} to {max(each):.2f})" for each in (wall, cpu))
    print("\ndecoders behind a socket (decode.socket), {}: {} x by wall clock, {} x by CPU".format(codec, *ratios))


def run_libav_decoder(paths: Sequence[Path], *, wanted: Callable[[Any], bool]) -> Cost:
    """Decode the wanted packets with libav on one thread, demuxing not included.

    The wall-clock time is that of one such thread per core if they do not slow each other down.
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


def total_cpu_seconds(pids: Sequence[int]) -> float:
    """CPU time of this process and of other running processes."""
    own = os.times()
    stats = [Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split() for pid in pids]
    ticks = sum(int(fields[11]) + int(fields[12]) for fields in stats)
    return own.user + own.system + ticks / os.sysconf("SC_CLK_TCK")


def compare_contenders(codec: str, paths: Sequence[Path], peer_python: str) -> None:
    """Print the times of all contenders on the same files."""
    peers = {
        "ffmpeg fps=1, default threads": run_ffmpeg(paths, threads="0", parallel=1),
        f"ffmpeg fps=1, {CORES} at a time": run_ffmpeg(paths, threads="1", parallel=CORES),
        "PyAV loop, all threads": run_script(sys.executable, PYAV_SCRIPT, paths),
        "decord get_batch": run_script(peer_python, DECORD_SCRIPT, paths),
    }
    own = {
        "vqmon exact": asyncio.run(run_pool(paths, sampling="exact", views=[NATIVE], signals=())),
        "vqmon keyframes": asyncio.run(run_pool(paths, sampling="keyframes", views=[NATIVE], signals=())),
    }
    limits = {
        "limit: all pictures, decoder alone": run_libav_decoder(paths, wanted=lambda packet: True),
        "limit: key pictures, decoder alone": run_libav_decoder(paths, wanted=lambda packet: packet.is_keyframe),
    }
    peer_costs = [cost for cost in peers.values() if cost is not None]
    best = Cost(min(cost.wall_seconds for cost in peer_costs), min(cost.cpu_seconds for cost in peer_costs))
    print(f"\n{codec}: {len(paths)} segments of {SECONDS} s, 1080p, {GOP / RATE:g}-s groups of pictures, {CORES} cores")
    print(f"  {'ms per segment, speed relative to the best peer':48s} {'wall clock':>16s} {'CPU':>18s}")
    for name, cost in {**peers, **own, **limits}.items():
        print(f"  {name:48s} {'cannot run here' if cost is None else format_cost(best, cost, count=len(paths))}")


def format_cost(best: Cost, cost: Cost, *, count: int) -> str:
    return (
        f"{1000 * cost.wall_seconds / count:8.0f} {best.wall_seconds / cost.wall_seconds:6.2f} x"
        f" {1000 * cost.cpu_seconds / count:9.0f} {best.cpu_seconds / cost.cpu_seconds:6.2f} x"
    )


def print_live_capacity(codec: str, paths: Sequence[Path]) -> None:
    """Print how many live 1080p streams this machine can decode."""
    cost = asyncio.run(run_pool(paths, sampling="exact", views=[TILES], thumbnail_width=320))
    by_wall_clock, by_cpu = len(paths) / cost.wall_seconds, len(paths) * CORES / cost.cpu_seconds
    print(
        f"  {codec:6s} {1000 * cost.cpu_seconds / len(paths):7.0f} ms of one core per segment,"
        f" {by_wall_clock * SECONDS:6.1f} streams by wall clock, {by_cpu * SECONDS:6.1f} on idle cores"
    )


def print_signal_cost() -> None:
    """Print the milliseconds for all signals of one 1080p frame."""
    picture = transform.resize(data.astronaut()[..., 1], (HEIGHT, WIDTH), preserve_range=True).astype(np.uint8)
    grey = np.full((HEIGHT // 2, WIDTH // 2), 128, np.uint8)
    meter = SignalMeter(SIGNALS)
    planes = YuvPlanes(picture, grey, grey, is_full=False)
    cost = measure_cost(lambda: [meter.measure(planes, damaged_share=0.0) for _ in range(20)])
    print(f"\nsignals: {cost.cpu_seconds / 20 * 1000:.1f} ms of one core per 1080p frame")


async def run_soak_test(paths: Sequence[Path], count: int) -> None:
    """Decode many segments, some of them damaged, with one worker and print its memory, which must not grow."""
    generator = random.Random(1)
    contents = [path.read_bytes() for path in paths]
    resident: list[float] = []
    refused = 0
    async with DecoderPool(1, recycle_after=count + 10) as pool:
        for index in range(count):
            content = bytearray(generator.choice(contents))
            if index % 10 == 9:
                start = generator.randrange(len(content))
                content[start : start + 2000] = bytes(len(content[start : start + 2000]))
            sampling: Sampling = "exact" if index % 5 == 4 else "keyframes"
            try:
                await pool.decode(bytes(content), views=[TILES], thumbnail_width=320, sampling=sampling)
            except DecodeError:
                refused += 1
            if pool.idle_pids and index % max(1, count // 10) == 0:
                resident.append(resident_mb(pool.idle_pids[0]))
        resident.append(resident_mb(pool.idle_pids[0]))
        megabytes = " ".join(f"{value:.0f}" for value in resident)
        print(f"\nresident memory of one worker over {count} segments, MB: {megabytes}")
        print(f"  refused {refused}, replaced workers {json.dumps(dict(pool.replacements))}")


def resident_mb(pid: int) -> float:
    """Resident memory of a process in MB."""
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
            compare_contenders(codec, paths, arguments.peer_python)
        print(f"\nlive capacity with all signals, the built-in scorer's view and thumbnails, {CORES} cores:")
        for codec, paths in work.items():
            print_live_capacity(codec, paths)
        compare_socket("h264", work["h264"], Path(folder))
        print_signal_cost()
        asyncio.run(run_soak_test([path for paths in files.values() for path in paths], arguments.soak))


if __name__ == "__main__":
    main()
