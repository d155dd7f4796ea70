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
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
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
from vqmon.scoring.scorers.registry import FrameScorer, ScorerOptions, builtin_folder, open_scorers

_MEASURES = ("ssim", "xpsnr", "gmsd")
_SLOW = ("mad",)
# of the additional frames, as in the daemon
_DENSITY = 4


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What all runs share."""

    pool: DecoderPool
    scorer: FrameScorer
    segment: bytes
    mezzanine: bytes

    async def seconds(self, measures: Sequence[str] = (), *, with_additional: bool = False) -> float:
        """Processor time of one segment: decoding, signals, scoring, and the comparison if there are measures.

        `with_additional`: and the additional frames that the daemon scores where the sampled ones disagree.
        """
        request = ReferenceRequest(measures=tuple(measures)) if measures else None
        before = total_cpu_seconds(self.pool.idle_pids)
        decoded = await self.pool.decode(
            self.segment,
            views=self.scorer.views,
            thumbnail_width=416,
            reference=None if request is None else ReferenceMedia(media=self.mezzanine, request=request),
        )
        score = await self.scorer.score(decoded)
        if with_additional:
            more = await self.pool.decode(self.segment, views=self.scorer.views, density=_DENSITY, signals=())
            await self.scorer.add_frames(score, more, weight=1.0)
        spent = total_cpu_seconds(self.pool.idle_pids) - before
        if decoded.reference is not None and decoded.reference.unscored:
            raise SystemExit(f"not compared: {decoded.reference.unscored}: {decoded.reference.detail}")
        return spent


async def compare_costs(segment: bytes, mezzanine: bytes, *, folder: Path, runs: int) -> None:
    """Print the cost with and without the reference, measure by measure, beside the limit.

    All forms take turns, so that what else the machine does meets them alike.
    """
    options = ScorerOptions(placement=Placement(device="cpu", threads=1))
    limits = DecodeLimits(deadline_seconds=300.0)
    forms = ((), *((name,) for name in _MEASURES), _MEASURES)
    times: dict[tuple[str, ...] | str, list[float]] = defaultdict(list)
    async with DecoderPool(1, limits=limits) as pool, open_scorers(["lite"], [builtin_folder()], options) as (scorer,):
        assert isinstance(scorer, FrameScorer)
        bench = Bench(pool=pool, scorer=scorer, segment=segment, mezzanine=mezzanine)
        for _ in range(runs + 1):
            for form in forms:
                times[form].append(await bench.seconds(form))
            times["additional"].append(await bench.seconds(with_additional=True))
            times["decode"].append(decode_seconds(mezzanine, folder))
    best = {form: min(values[1:]) for form, values in times.items()}
    additional = best["additional"] - best[()]
    print(f"\n  {'the segment alone: decode, signals, lite':58s} {best[()]:7.2f} s")
    print(f"  {'additional frames, where the sampled ones disagree':58s} {additional:7.2f} s")
    print(f"  {'decoding the reference, libav on one thread':58s} {best['decode']:7.2f} s")
    for form in forms[1:]:
        print(f"  {'with ' + ', '.join(form):58s} {best[form]:7.2f} s")
    for name, extra in (("", 0.0), (", with additional frames", additional)):
        limit = 1.5 * (best[()] + extra) + best["decode"]
        cost = best[_MEASURES] + extra
        print(f"  {'all of them' + name + ', of the limit':58s} {cost / limit:7.3f}   ({cost:.2f} of {limit:.2f} s)")


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
        asyncio.run(compare_costs(segment, mezzanine, folder=folder, runs=arguments.runs))
    print_measure_costs(list(MEASURES))


if __name__ == "__main__":
    main()
