"""Hit and false rates of the rules about signals of consecutive frames, on planted and on natural material.

    python -m bench.signals FOLDER

FOLDER holds natural clips, at any depth. Prints for each rule how many clips it would report and the longest time that
its signal stays above the threshold in any clip; then, for the first ten clips (`--clips`), how often each rule sees
the faults of `planted_faults` in segments of four seconds, and how often it reports the same segment without; then the
signal of planted shimmer of five kinds and six amplitudes, encoded by x264 at CRF 23, with the rank correlation
(Spearman) of both per clip.
"""

import argparse
import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice, pairwise
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np

from bench.planted_faults import FAULTS, X264
from vqmon.core.alerts.conditions.signal import Signal
from vqmon.core.types import DecodedSegment
from vqmon.errors import DecodeError
from vqmon.media.decode.pool import DecoderPool
from vqmon.media.decode.protocol import DecodeLimits
from vqmon.settings.rules_file import parse_rules

_MEDIA = {".mp4", ".mkv", ".webm", ".ts"}
_LIMITS = DecodeLimits(deadline_seconds=300)
_RULES = Path(__file__).parents[1] / "config" / "rules.toml"
_AMPLITUDES = (0, 4, 8, 12, 18, 25)
_FRAMES, _WIDTH = 50, 640
_CLIPS = 10
_FAULT_FRAMES, _FAULT_FPS = 100, 25
_FIRST_SAMPLE_SECONDS = 1.2

Picture = np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clips", type=int, default=_CLIPS, help="plant faults into so many clips")
    parser.add_argument("--faults-only", action="store_true", help="print hits of planted faults, and nothing else")
    arguments = parser.parse_args()
    if arguments.faults_only:
        asyncio.run(_measure_faults(arguments.folder, arguments.clips))
    else:
        asyncio.run(_measure(arguments.folder, arguments.clips))


async def _measure_faults(folder: Path, clips: int) -> None:
    async with DecoderPool(1, limits=_LIMITS) as pool:
        await print_faults(_media_files(folder), pool, clips=clips)


async def _measure(folder: Path, clips: int) -> None:
    async with DecoderPool(1, limits=_LIMITS) as pool:
        decoded = await decode_folder(folder, pool)
        print_natural(decoded)
        await print_faults(_media_files(folder), pool, clips=clips)
        moving = [path for path, segment in decoded.items() if segment.media.frame_count >= _FRAMES]
        for kind, pattern in PATTERNS.items():
            await print_planted(kind, pattern, [folder / path for path in moving[:clips]], pool)


# ---- natural material


async def decode_folder(folder: Path, pool: DecoderPool) -> Mapping[str, DecodedSegment]:
    """Every file below a folder that can be decoded, by its path."""
    decoded: dict[str, DecodedSegment] = {}
    for path in _media_files(folder):
        try:
            decoded[str(path.relative_to(folder))] = await pool.decode(path.read_bytes(), views=())
        except DecodeError as error:
            print(f"{path.name}: {error.reason}", file=sys.stderr)
    return decoded


def _media_files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.suffix in _MEDIA and path.is_file())


def print_natural(decoded: Mapping[str, DecodedSegment]) -> None:
    """One line per rule of the kind `signal`."""
    seconds = sum(segment.media.duration_seconds for segment in decoded.values())
    print(f"natural: {len(decoded)} clips, {seconds:.0f} s")
    for rule in parse_rules(_RULES.read_text()):
        if isinstance(condition := rule.condition, Signal):
            runs = {path: longest_run_seconds(segment, condition) for path, segment in decoded.items()}
            reported = [path for path, run in runs.items() if run >= condition.for_seconds and run > 0]
            print(f"  {rule.name:20s} {len(reported):3d} reported, longest run {max(runs.values(), default=0):5.1f} s")
            for path in reported:
                print(f"      {path}")


def longest_run_seconds(decoded: DecodedSegment, condition: Signal) -> float:
    """The longest time for which a rule counts its signal as bad; each sample stands until the next one.

    Samples between `recover_below` and `above` neither count nor cancel.
    """
    recover_below = condition.above if condition.recover_below is None else condition.recover_below
    times = [*decoded.times_seconds, decoded.media.duration_seconds]
    longest = run = 0.0
    for index, (start, end) in enumerate(pairwise(times)):
        is_excused = any(decoded.signals[name][index] >= limit for name, limit in condition.unless.items())
        value = decoded.signals[condition.signal][index]
        if is_excused or value < recover_below:
            run = 0.0
        elif value >= condition.above:
            run += max(end - start, 0.0)
        longest = max(longest, run)
    return longest


# ---- planted faults


async def print_faults(paths: Iterable[Path], pool: DecoderPool, *, clips: int) -> None:
    """One line per fault: in how many segments the rules about its signal hold; and of the same without the fault."""
    segments = list(islice(_segments(paths), clips))
    conditions = {rule.name: rule.condition for rule in parse_rules(_RULES.read_text())}
    signals = {name: condition for name, condition in conditions.items() if isinstance(condition, Signal)}
    plain = [await pool.decode(_encoded(frames, X264), views=()) for frames in segments]
    print(f"\nplanted faults: {len(segments)} segments of {_FAULT_FRAMES / _FAULT_FPS:g} s")
    for fault in FAULTS:
        planted = []
        for frames in segments:
            media = fault.damage(_encoded(fault.plant(frames), fault.encoding))
            with suppress(DecodeError):
                planted.append(await pool.decode(media, views=()))
        values = [float(np.max(each.signals[fault.signal])) for each in planted]
        middle = f"{min(values, default=0):.2f}, {np.median(values or [0]):.2f}"
        natural = max(float(np.max(each.signals[fault.signal])) for each in plain)
        print(f"  {fault.signal}: {fault.name}: lowest, median {middle}; without it at most {natural:.2f}")
        for name, condition in signals.items():
            if condition.signal == fault.signal and condition.for_seconds <= _FAULT_FRAMES / _FAULT_FPS:
                hits, false = (sum(_holds(each, condition) for each in decoded) for decoded in (planted, plain))
                print(f"      {name}: {hits} of {len(segments)}, without it {false} of {len(plain)}")


def _holds(decoded: DecodedSegment, condition: Signal) -> bool:
    # in a stream the segments follow each other; in one alone, the first sample has no frames before it
    seconds = min(condition.for_seconds, decoded.media.duration_seconds - _FIRST_SAMPLE_SECONDS)
    run = longest_run_seconds(decoded, condition)
    return run > 0 and run + 1e-6 >= seconds


def _segments(paths: Iterable[Path]) -> Iterator[list[Picture]]:
    for path in paths:
        try:
            frames = _load(path, count=_FAULT_FRAMES)
        except (av.error.FFmpegError, IndexError):
            continue
        if len(frames) == _FAULT_FRAMES:
            yield frames


def _encoded(pictures: Sequence[Picture], encoding: tuple[str, ...]) -> bytes:
    return _encode(pictures, rate=_FAULT_FPS, encoding=encoding)


# ---- planted shimmer


def _grain(shape: tuple[int, int], number: int) -> Picture:
    return np.random.default_rng(number).choice([-1.0, 1.0], shape)


def _blobs(shape: tuple[int, int], number: int) -> Picture:
    cells = np.random.default_rng(number).normal(0, 1, (shape[0] // 4 + 1, shape[1] // 4 + 1))
    return cells.repeat(4, 0).repeat(4, 1)[: shape[0], : shape[1]]


def _alternating(shape: tuple[int, int], number: int) -> Picture:
    return _grain(shape, 0) * (-1) ** number


def _cells(shape: tuple[int, int], number: int) -> Picture:
    row, column = np.mgrid[: shape[0], : shape[1]]
    return np.where((row // 32 + column // 32 + number) % 2, 1.0, -1.0)


def _waves(shape: tuple[int, int], number: int) -> Picture:
    row, column = np.mgrid[: shape[0], : shape[1]]
    return np.sqrt(2) * np.sin(2 * np.pi * (column / 24 + row / 37 + number / 6))


PATTERNS: Mapping[str, Callable[[tuple[int, int], int], Picture]] = {
    "grain of single pixels": _grain,
    "blobs of 4 x 4 pixels": _blobs,
    "grain that alternates": _alternating,
    "cells of 32 x 32 that alternate": _cells,
    "waves, 6 frames long": _waves,
}
"""Kind of shimmer -> its picture of a shape and number, with a deviation of 1."""


async def print_planted(
    kind: str, pattern: Callable[[tuple[int, int], int], Picture], paths: list[Path], pool: DecoderPool
) -> None:
    """One line per amplitude: lowest, median and highest signal; and the rank correlations."""
    table = []
    for path in paths:
        frames = _load(path)
        table.append([await _shimmer(frames, pattern, amplitude, pool) for amplitude in _AMPLITUDES])
    values = np.array(table)
    print(f"\n{kind}: shimmer of {len(paths)} clips, lowest / median / highest")
    for amplitude, column in zip(_AMPLITUDES, values.T, strict=True):
        print(f"  +-{amplitude:2d} levels  {column.min():.2f} / {np.median(column):.2f} / {column.max():.2f}")
    correlations = [rank_correlation(_AMPLITUDES, row) for row in values]
    print(f"  rank correlation per clip: lowest {min(correlations):.2f}, mean {np.mean(correlations):.3f}")


def rank_correlation(first: object, second: object) -> float:
    """Spearman's rank correlation of two sequences, with mean ranks for ties."""
    return float(np.corrcoef(_ranks(np.asarray(first)), _ranks(np.asarray(second)))[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    order = values.argsort().argsort().astype(float)
    _, inverse = np.unique(values, return_inverse=True)
    return np.array([order[inverse == number].mean() for number in inverse])


def _load(path: Path, *, count: int = _FRAMES) -> list[Picture]:
    """The first frames as luma, at most `_WIDTH` pixels wide."""
    with av.open(str(path)) as container:
        frames = []
        for frame in container.decode(video=0):
            width = min(_WIDTH, frame.width) // 2 * 2
            height = round(frame.height * width / frame.width) // 2 * 2
            frames.append(frame.reformat(width, height, "gray").to_ndarray())
            if len(frames) >= count:
                break
    return frames


async def _shimmer(
    frames: list[Picture],
    pattern: Callable[[tuple[int, int], int], Picture],
    amplitude: float,
    pool: DecoderPool,
) -> float:
    """The highest shimmer of the frames with a pattern on them, at 30 fps."""
    shape = frames[0].shape
    media = _encode([frame + amplitude * pattern(shape, number) for number, frame in enumerate(frames)])
    decoded = await pool.decode(media, views=(), signals=("shimmer",))
    return max(decoded.signals["shimmer"])


def _encode(pictures: Sequence[Picture], *, rate: int = 30, encoding: tuple[str, ...] = X264[:-2]) -> bytes:
    """A transport stream of pictures without colour. They go in as YUV: grey counts as full range and is scaled."""
    height, width = pictures[0].shape
    source = ("-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"{width}x{height}", "-r", str(rate), "-i", "-")
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *source, *encoding, "-f", "mpegts", "-"]
    chroma = bytes([128]) * (height * width // 2)
    raw = b"".join(np.clip(picture, 16, 235).astype(np.uint8).tobytes() + chroma for picture in pictures)
    return subprocess.run(command, input=raw, capture_output=True, check=True).stdout


if __name__ == "__main__":
    main()
