"""What a GPU host gives: every device against the CPU, segments per second, streams on NVDEC, then the torch benches.

    python -m bench.scoring.gpu       a host with one GPU, vqmon[gpu] and vqmon[models]: ten minutes
    python -m bench.scoring.gpu --device cuda --device tensorrt --gpu 0 --gpu 1 --scorer NAME --folder BUNDLES
    python -m bench.scoring.gpu --device cpu --seconds 1 --without-torch     anywhere: shows that the script works

Prints a line per device; ends with exit code 1 when a device scores more than 0.3 of 100 away from the CPU, when
NVDEC gives other pictures, or when one of the torch benches fails. `gpu_owl.py` and `gpu_features.py` print OneAlign's
pictures per second as a share of the matrix rate that is measured, SR-VQA's segments per second, and torch eager and
torch.compile beside them.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.decode import make_segments
from vqmon.core.types import DecodedSegment, View
from vqmon.errors import VqmonError
from vqmon.media.decode.pool import DecoderPool
from vqmon.scoring.runtime.graph import Placement
from vqmon.scoring.scorers.registry import ScorerOptions, builtin_folder, open_scorers

ROOT = Path(__file__).resolve().parents[2]
CONTRACT = 0.3
WORKERS = len(os.sched_getaffinity(0))
THUMBNAIL = View(kind="stretch", width=256, height=144)


async def decode_all(pool: DecoderPool, paths: Sequence[Path], views: Sequence[View]) -> list[DecodedSegment]:
    """Every file, as many at a time as there are cores."""
    return list(await asyncio.gather(*(pool.decode(path.read_bytes(), views=views) for path in paths)))


async def report_decoding(segments: dict[str, list[Path]], *, seconds: float, hardware: str) -> bool:
    """Segments and live streams per second by codec; whether the GPU gives the CPU's pictures."""
    is_same = True
    expected: dict[str, list[NDArray[np.int_]]] = {}
    for device in ["", hardware] if hardware else [""]:
        async with DecoderPool(WORKERS, isolation="off" if device else "best", hardware=device) as pool:
            if device:
                print(f"nvdec  {pool.versions['nvdec']}")
            for codec, paths in segments.items():
                decoded = await decode_all(pool, paths, [THUMBNAIL])
                pixels = [each.views[THUMBNAIL].astype(int) for each in decoded]
                difference = max(map(_largest_difference, pixels, expected.setdefault(codec, pixels)))
                is_same &= difference == 0
                count, started_at = 0, time.perf_counter()
                while (elapsed := time.perf_counter() - started_at) < seconds or not count:
                    count += len(await decode_all(pool, paths * WORKERS, [THUMBNAIL]))
                on_gpu = sum("decoded on the GPU" in each.media.notes for each in decoded)
                media_seconds = sum(each.media.duration_seconds for each in decoded) / len(decoded)
                print(
                    f"decode {codec:8} {device or 'cpu':10} {count / elapsed:8.2f} segments/s  "
                    f"{media_seconds * count / elapsed:8.1f} live streams  {on_gpu} of {len(decoded)} on the GPU  "
                    f"differs by {difference} levels"
                )
    return is_same


def _largest_difference(one: NDArray[np.int_], other: NDArray[np.int_]) -> int:
    return int(np.abs(one - other).max())


async def report_scoring(
    names: Sequence[str],
    folders: Sequence[Path],
    paths: Sequence[Path],
    placements: Sequence[Placement],
    *,
    seconds: float,
) -> bool:
    """Segments per second of every device, and how far its scores are from the CPU's; whether all keep the contract."""
    keeps = True
    expected: dict[str, list[float]] = {}
    for placement in (Placement(device="cpu"), *placements):
        label = f"{placement.device}{' + graphs' if placement.cuda_graphs else ''}"
        options = ScorerOptions(placement=placement, allow_noncommercial=True, deadline_seconds=600)
        try:
            async with open_scorers(names, folders, options) as scorers:
                views = list(dict.fromkeys(view for scorer in scorers for view in scorer.views))
                async with DecoderPool(WORKERS) as pool:
                    decoded = await decode_all(pool, paths, views)
                for scorer in scorers:
                    values = [(await scorer.score(each)).value for each in decoded]
                    apart = max(map(abs, np.subtract(values, expected.setdefault(scorer.id, values))))
                    count, started_at = 0, time.perf_counter()
                    while (elapsed := time.perf_counter() - started_at) < seconds or not count:
                        await asyncio.gather(*(scorer.score(each) for each in decoded * WORKERS))
                        count += WORKERS * len(decoded)
                    keeps &= bool(apart <= CONTRACT)
                    print(
                        f"score {scorer.id:18} {label:18} {count / elapsed:8.2f} segments/s  {apart:.4f} of 100 apart  "
                        f"{scorer.identity.device}"
                    )
        except VqmonError as error:
            keeps = False
            print(f"score {label:18} refused: {error}")
    return keeps


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; returns 1 when a device does not keep the contract."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", action="append", choices=("cpu", "cuda", "tensorrt"), help="default: cuda")
    parser.add_argument("--gpu", type=int, action="append", default=[], help="number of a GPU; several share batches")
    parser.add_argument("--scorer", action="append", help="default: lite, and lite_fast")
    parser.add_argument("--folder", type=Path, action="append", default=[], help="folder of bundles")
    parser.add_argument("--clips", type=Path, help="segments to decode; default: 1080p segments are encoded first")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each figure is measured")
    parser.add_argument("--without-torch", action="store_true", help="leave out gpu_owl.py and gpu_features.py")
    options = parser.parse_args(arguments)
    devices = options.device or ["cuda"]
    with tempfile.TemporaryDirectory() as scratch:
        segments = {"clips": sorted(options.clips.iterdir())} if options.clips else make_segments(Path(scratch))
        paths = [path for each in segments.values() for path in each]
        placements = [
            Placement(device=device, gpus=tuple(options.gpu), engine_cache=Path(scratch) / "engines")
            for device in devices
        ]
        placements += [replace(each, cuda_graphs=True) for each in placements if each.device != "cpu"]
        names, folders = options.scorer or ["lite", "lite_fast"], [builtin_folder(), *options.folder]
        keeps = asyncio.run(report_scoring(names, folders, paths, placements, seconds=options.seconds))
        hardware = "" if devices == ["cpu"] else f"cuda:{(options.gpu or [0])[0]}"
        keeps &= asyncio.run(report_decoding(segments, seconds=options.seconds, hardware=hardware))
    if not options.without_torch:
        keeps &= run_torch_benches(is_small=devices == ["cpu"])
    return 0 if keeps else 1


def run_torch_benches(*, is_small: bool, folder: Path = ROOT / "bench" / "scoring") -> bool:
    """Both benches, each in a process of its own, as torch holds the memory of the device; whether none failed."""
    codes = {}
    for script, small_form in (
        ("gpu_owl.py", ["--size", "tiny", "--device", "cpu", "--without", "compile"]),
        ("gpu_features.py", ["--device", "cpu", "--units", "1", "--batch", "2", "--rounds", "1"]),
    ):
        command = [sys.executable, str(folder / script), *(small_form if is_small else [])]
        codes[script] = subprocess.run(command, check=False).returncode
    failures = {script: code for script, code in codes.items() if code}
    for script, code in failures.items():
        print(f"torch  {script} failed with exit code {code}", flush=True)
    return not failures


if __name__ == "__main__":
    sys.exit(main())
