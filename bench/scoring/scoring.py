"""Milliseconds per picture: onnxruntime by batch, threads and spinning; then the overhead of the batcher.

python -m bench.scoring.scoring [--bundle models/built/lite@1.json] [--rounds 3] [--pictures 16] [--folder BUNDLES]
"""

import argparse
import asyncio
import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped]

from vqmon.core.types import Pixels
from vqmon.errors import VqmonError
from vqmon.scoring.manifests.frame_scorer import ScorerSpec, find_bundles, golden_frames, load_frame_spec
from vqmon.scoring.runtime.batcher import Batcher, Engine
from vqmon.scoring.runtime.devices import open_frame_engine
from vqmon.scoring.runtime.graph import Array, Placement
from vqmon.scoring.runtime.tensors import to_tensor
from vqmon.scoring.scorers.registry import Scorer, ScorerOptions, builtin_folder, open_scorers, resolve_manifests
from vqmon.testing import make_decoded

Run = Callable[[], object]
Cost = tuple[float, float]
"""Wall and CPU milliseconds per picture."""

SEGMENT = 6
"""Pictures in one call: a segment of six seconds."""


def measure(runs: dict[str, Run], *, pictures: int, rounds: int) -> dict[str, Cost]:
    """Median cost per picture; the runs take turns, so that other load on the machine affects all of them."""
    costs: dict[str, list[Cost]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            cost = (time.perf_counter() - wall) * 1e3 / pictures, (time.process_time() - cpu) * 1e3 / pictures
            if turn:  # the first turn warms up
                costs[name].append(cost)
    return {
        name: (statistics.median(wall for wall, _ in pairs), statistics.median(cpu for _, cpu in pairs))
        for name, pairs in costs.items()
    }


def open_bare_session(model: bytes, *, threads: int, spin: str) -> ort.InferenceSession:
    """A plain onnxruntime session."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    if spin == "off":
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    elif spin != "default":
        options.add_session_config_entry("session.intra_op.spin_duration_us", spin)
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def bare_runs(spec: ScorerSpec, model: bytes, frames: Pixels) -> dict[str, Run]:
    """Every combination of threads, spinning and batch, with tensors prepared beforehand."""
    tensor = to_tensor(frames, spec.input)
    runs: dict[str, Run] = {}
    for threads, spin in ((1, "default"), (2, "default"), (2, "1000"), (2, "off")):
        session = open_bare_session(model, threads=threads, spin=spin)
        for batch in (1, 2, 4, 8):

            def run(session: ort.InferenceSession = session, batch: int = batch) -> None:
                for start in range(0, len(tensor), batch):
                    session.run(None, {spec.input.name: tensor[start : start + batch]})

            runs[f"{threads} threads, spin {spin}, batch {batch}"] = run
    return runs


def callers_run(spec: ScorerSpec, model: bytes, frames: Pixels, callers: int) -> Run:
    """Single-threaded runs of one picture from several threads, tensors included: the target for the batcher."""
    session, pool = open_bare_session(model, threads=1, spin="default"), ThreadPoolExecutor(callers)

    def score_picture(index: int) -> None:
        session.run(None, {spec.input.name: to_tensor(frames[index : index + 1], spec.input)})

    return lambda: list(pool.map(score_picture, range(len(frames))))


def batcher_run(engine: Engine, frames: Pixels) -> Run:
    """All pictures through the batcher, as segments that arrive together."""

    async def score() -> None:
        async with Batcher(engine) as batcher:
            segments = [frames[start : start + SEGMENT] for start in range(0, len(frames), SEGMENT)]
            await asyncio.gather(*(batcher.infer(cut, deadline_seconds=600) for cut in segments))

    return lambda: asyncio.run(score())


class NoOpEngine:
    """An engine that costs nothing, to measure the batcher alone."""

    device, fallback, workers, buckets = "cpu", "", 2, (1,)

    def run(self, *rows: Array) -> Array:
        return np.zeros(len(rows[0]))

    def fall_back(self, reason: str) -> Engine:
        raise AssertionError(reason)


def served_runs(
    stack: AsyncExitStack, names: Sequence[str], folders: Sequence[Path], runner: asyncio.Runner
) -> dict[str, Run]:
    """Scorers as vqmon serves them, one segment after the other, on each runtime; prints those that cannot be
    loaded."""
    runs: dict[str, Run] = {}
    for name in names:
        for device in ("cpu", "openvino"):
            terms = ScorerOptions(
                placement=Placement(device=device, threads=1), allow_noncommercial=True, deadline_seconds=600
            )
            try:
                (scorer,) = runner.run(stack.enter_async_context(open_scorers([name], folders, terms)))
            except VqmonError as error:
                print(f"  {name} on {device}: {error}")
                continue
            runs[f"{scorer.id} on {device}"] = segment_run(scorer, runner)
    return runs


def segment_run(scorer: Scorer, runner: asyncio.Runner) -> Run:
    """A segment of pictures that were not scored before."""
    frames = {
        view: golden_frames(view, seed=3, frames=SEGMENT * view.picture_count).reshape(SEGMENT, *view.row_shape)
        for view in scorer.views
    }
    counter = count(1)

    def run() -> None:
        fresh = {view: pixels + np.uint8(next(counter) % 251) for view, pixels in frames.items()}
        runner.run(scorer.score(replace(make_decoded(frames=SEGMENT, views=()), views=fresh)))

    return run


def print_sizes(folders: Sequence[Path], names: Sequence[str]) -> None:
    """Print the size of each bundle on disk."""
    bundles = find_bundles(folders)
    for name in names:
        (manifest,) = resolve_manifests([name.split(".")[0] if name not in bundles else name], bundles).values()
        files = [path for path in manifest.parent.glob(f"{manifest.stem}*") if path.suffix != ".json"]
        print(f"  {manifest.stem:40} {sum(path.stat().st_size for path in files) / 2**20:10.1f} MiB")


def bench_served(folder: Path | None, *, rounds: int) -> None:
    """Print the bundles' sizes and the cost of a picture on one thread, through the whole serving path."""
    folders = [builtin_folder(), *([folder] if folder else [])]
    names = [name if name == "lite" else f"{name}.quality" for name in ["lite", *_level_names(folder)]]
    print("\nbundles on disk")
    print_sizes(folders, names)
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        try:
            runs = served_runs(stack, names, folders, runner)
            show("served, 1 thread, one segment at a time", measure(runs, pictures=SEGMENT, rounds=rounds))
        finally:
            runner.run(stack.aclose())


def _level_names(folder: Path | None) -> list[str]:
    return sorted(name.split("@")[0] for name in find_bundles([folder])) if folder else []


def show(title: str, costs: dict[str, Cost]) -> None:
    print(f"\n{title}\n  {'':40} {'ms/picture':>10} {'CPU ms':>8}")
    for name, (wall, cpu) in costs.items():
        print(f"  {name:40} {wall:10.3f} {cpu:8.3f}")


def bench(manifest: Path, *, pictures: int, rounds: int) -> None:
    """Print the tables of one bundle."""
    spec, onnx, cores = load_frame_spec(manifest), manifest.with_suffix(".onnx"), len(os.sched_getaffinity(0))
    model = onnx.read_bytes()
    frames = np.concatenate([golden_frames(spec.input.view, seed=seed, frames=1) for seed in range(pictures)])
    print(f"{spec.id}, {spec.input.view.width}x{spec.input.view.height}, {cores} cores, onnxruntime {ort.__version__}")
    print(f"load average {os.getloadavg()[0]:.1f} before the start; other work on these cores makes all of it slower")

    costs = measure(bare_runs(spec, model, frames), pictures=pictures, rounds=rounds)
    show("onnxruntime alone, tensors ready", costs)
    callers, batcher = f"{cores} callers, 1 thread each, batch 1", "the batcher, as vqmon runs it"
    runs: dict[str, Run] = {
        callers: callers_run(spec, model, frames, cores),
        batcher: batcher_run(open_frame_engine(spec, onnx, Placement(device="cpu")), frames),
        "  of that: pixels to tensor": lambda: [to_tensor(frame[None], spec.input) for frame in frames],
        "  of that: the batcher itself": batcher_run(NoOpEngine(), frames),
    }
    costs = measure(runs, pictures=pictures, rounds=2 * rounds)
    show("from pixels to values", costs)
    ratio = [ours / bare for ours, bare in zip(costs[batcher], costs[callers], strict=True)]
    print(f"\nthe batcher takes {ratio[0]:.3f} of the time and {ratio[1]:.3f} of the CPU of the bare callers")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="a manifest; default: the newest built-in lite")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument(
        "--folder", type=Path, help="more bundles of level scorers, as bench.scoring.owl_bundles writes them"
    )
    options = parser.parse_args()
    manifest = options.bundle or next(iter(resolve_manifests(["lite"], find_bundles([builtin_folder()])).values()))
    bench(manifest, pictures=options.pictures, rounds=options.rounds)
    bench_served(options.folder, rounds=options.rounds)


if __name__ == "__main__":
    main()
