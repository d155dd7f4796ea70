"""Benchmark of a segment that is compared with its reference, beside one that is only scored.

    python -m bench.scoring.references [--runs 3]

Seconds of processor time, daemon and decoder process together, per 6-second segment of 1080 lines at 25 fps: the
mezzanine is H.264 at CRF 16, the segment at CRF 30. The limit is 1.5 times the cost of the segment alone plus the
decoding of the reference. The second table has the milliseconds of one thread per measure in numpy, for a pair of 1080
lines.
"""

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
from skimage import data, transform

from bench.decode import FFMPEG, HEIGHT, SECONDS, WIDTH, run_command, total_cpu_seconds
from vqmon.media.decode.pool import DecodeLimits, DecoderPool, ReferenceMedia
from vqmon.media.measures.measure import Picture
from vqmon.media.measures.registry import MEASURES
from vqmon.media.reference.comparison import ReferenceRequest
from vqmon.scoring.runtime.graph import Placement
from vqmon.scoring.scorers.registry import Scorer, ScorerOptions, builtin_folder, open_scorers

_MEASURES = ("ssim", "xpsnr", "gmsd")
_SLOW = ("mad",)


def make_sides(folder: Path) -> tuple[bytes, bytes]:
    """The segment and its mezzanine: a camera that pans over photos, with a little grain."""
    photos = [getattr(data, name)()[..., :3] for name in ("astronaut", "coffee", "chelsea", "rocket")]
    quarters = [transform.resize(photo, (HEIGHT, WIDTH), anti_aliasing=True) for photo in photos]
    mosaic = np.concatenate([np.concatenate(quarters[:2], axis=1), np.concatenate(quarters[2:], axis=1)])
    picture = folder / "mosaic.ppm"
    picture.write_bytes(b"P6 3840 2160 255\n" + np.rint(mosaic * 255).astype(np.uint8).tobytes())
    pan = "crop=1920:1080:x='960+900*sin(t/2)':y='540+500*cos(t/3)',noise=alls=4:allf=t,format=yuv420p"
    encoder = ("-c:v", "libx264", "-preset", "veryfast", "-g", "50")
    mezzanine, segment = folder / "mezzanine.ts", folder / "segment.ts"
    source = ("-v", "error", "-loop", "1", "-framerate", "25", "-i", str(picture), "-t", str(SECONDS))
    run_command(FFMPEG, *source, "-vf", pan, *encoder, "-crf", "16", "-y", str(mezzanine))
    run_command(FFMPEG, "-v", "error", "-i", str(mezzanine), *encoder, "-crf", "30", "-y", str(segment))
    return segment.read_bytes(), mezzanine.read_bytes()


def decode_seconds(media: bytes, folder: Path) -> float:
    """Processor time of libav on one thread for decoding every picture, demuxing included."""
    file = folder / "whole.ts"
    file.write_bytes(media)
    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        started = time.process_time()
        for _ in container.decode(stream):
            pass
        return time.process_time() - started


async def look_seconds(
    pool: DecoderPool, scorer: Scorer, segment: bytes, reference: ReferenceMedia | None, *, runs: int
) -> float:
    """Processor time of one segment: decoding, signals, scoring, and the comparison if there is a reference."""
    best = float("inf")
    for _ in range(runs + 1):
        before = total_cpu_seconds(pool.idle_pids)
        decoded = await pool.decode(segment, views=scorer.views, thumbnail_width=416, reference=reference)
        await scorer.score(decoded)
        best = min(best, total_cpu_seconds(pool.idle_pids) - before)
        if decoded.reference is not None and decoded.reference.unscored:
            raise SystemExit(f"not compared: {decoded.reference.unscored}: {decoded.reference.detail}")
    return best


async def compare_costs(segment: bytes, mezzanine: bytes, *, reference_seconds: float, runs: int) -> None:
    """Print the cost with and without the reference, measure by measure, beside the limit."""
    options = ScorerOptions(placement=Placement(device="cpu", threads=1))
    limits = DecodeLimits(deadline_seconds=300.0)
    async with DecoderPool(1, limits=limits) as pool, open_scorers(["lite"], [builtin_folder()], options) as (scorer,):
        alone = await look_seconds(pool, scorer, segment, None, runs=runs)
        print(f"\n  {'the segment alone: decode, signals, lite':52s} {alone:7.2f} s")
        print(f"  {'decoding the reference, libav on one thread':52s} {reference_seconds:7.2f} s")
        limit = 1.5 * alone + reference_seconds
        for measures in (*((name,) for name in _MEASURES), _MEASURES):
            request = ReferenceRequest(measures=measures)
            media = ReferenceMedia(media=mezzanine, request=request)
            cost = await look_seconds(pool, scorer, segment, media, runs=runs)
            verdict = f"limit {limit:.2f}" if measures == _MEASURES else ""
            print(f"  {'with ' + ', '.join(measures):52s} {cost:7.2f} s  {verdict}")


def print_measure_costs(names: Sequence[str]) -> None:
    """Print the milliseconds of each measure in numpy; luma, which all share, is computed before."""
    random = np.random.default_rng(1)
    photo = transform.resize(data.astronaut(), (HEIGHT, WIDTH), anti_aliasing=True) * 255
    pictures = [np.clip(photo + random.normal(0, sigma, photo.shape), 0, 255).astype(np.uint8) for sigma in (0, 6)]
    print(f"\n{'measure':14s} {'ms of one thread':>18s}")
    for name in names:
        times = []
        for _ in range(2 if name in _SLOW else 4):
            reference, picture = (Picture(pixels) for pixels in pictures)
            _ = reference.luma, picture.luma
            started = time.thread_time()
            MEASURES[name].compute(reference, picture)
            times.append(time.thread_time() - started)
        print(f"{name:14s} {1000 * min(times):18.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores; processor time, the best of {arguments.runs} runs after one to warm up")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        segment, mezzanine = make_sides(folder)
        reference_seconds = min(decode_seconds(mezzanine, folder) for _ in range(arguments.runs))
        costs = compare_costs(segment, mezzanine, reference_seconds=reference_seconds, runs=arguments.runs)
        asyncio.run(costs)
    print_measure_costs(list(MEASURES))


if __name__ == "__main__":
    main()
