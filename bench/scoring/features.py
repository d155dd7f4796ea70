"""Measures feature networks and composite scorers on this machine's CPU: time per unit beside torch eager, and sizes.

python -m bench.scoring.features [--networks fast_vqa,liqe] [--trained best.pt ...] [--forms fp32] [--threads 2]
[--rounds 5]

Published networks have their full sizes and random weights; scorers made by `python -m models train` have their own
weights. Torch and ONNX Runtime take turns on the same rows, so that other load on the machine affects both; on a busy
machine read the CPU time with one thread rather than the wall time. A graph that several scorers share is measured with
its own network, and its output is an input of the others. At the first precision every graph is also verified.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from models.commands.trained import build_trained_assembly  # noqa: E402
from models.export.assembly import published  # noqa: E402
from models.export.assembly.assembly import (  # noqa: E402
    Array,
    FeatureInput,
    Float32Interface,
    GraphAssembly,
    part_inputs,
    run_in_torch,
)
from models.export.assembly.writer import write_assembly  # noqa: E402
from models.train.checkpoint import read_trained_scorer  # noqa: E402
from models.verify import assembly as parts_verify  # noqa: E402

# Shapes of the features that composites share; their graphs are measured with their own networks.
SHARED_FEATURES = {
    "slowfast-fast": (256,),
    "liqe-logits": (495,),
    "fast-vqa-features": (768, 16, 7, 7),
    "dover-technical-features": (768, 16, 7, 7),
    "llm": (4096,),
}
DEFAULT_NETWORKS = "slowfast,slowfast_fast,fast_vqa,dover,liqe,rq_vqa,sr_vqa_lean,align_iqa"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Median milliseconds of a run: wall time, and CPU time of all cores."""

    wall_ms: float
    cpu_ms: float


def time_in_turns(runs: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Timing]:
    """Time runs that take turns, after a warm-up of each."""
    timings: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for round_number in range(rounds + 1):
        for name, run in runs.items():
            start, cpu_start = time.perf_counter(), time.process_time()
            run()
            if round_number:
                timings[name].append(((time.perf_counter() - start) * 1000, (time.process_time() - cpu_start) * 1000))
    medians = {name: np.median(times, axis=0) for name, times in timings.items()}
    return {name: Timing(wall_ms=float(median[0]), cpu_ms=float(median[1])) for name, median in medians.items()}


def resident_mib() -> float:
    """Resident memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def measure(assembly: GraphAssembly, folder: Path, options: argparse.Namespace, measured: set[str]) -> None:
    """Write an assembly at every precision and print a row per part that was not measured before."""
    values = run_in_torch(assembly, assembly.golden(1, seed=1))
    runners, precisions = {}, options.forms.split(",")
    for precision in precisions:
        sheet = write_assembly(assembly, published.read_scorer_facts("sr_vqa_lean"), precision=precision, folder=folder)
        if precision == precisions[0]:
            print("\n".join(f"  {line}" for line in parts_verify.verify_assembly(sheet, assembly=assembly)))
        before, start = resident_mib(), time.perf_counter()
        runners[precision] = parts_verify.AssemblyRunner(sheet, threads=options.threads)
        open_seconds = time.perf_counter() - start
        print(f"  {precision}: opened in {open_seconds:.1f} s, {resident_mib() - before:.0f} MiB")
    for index, part in enumerate(assembly.parts):
        if part.name in measured:
            continue
        measured.add(part.name)
        network = Float32Interface(part.network.eval(), dtype=torch.float32)
        tensors = [torch.from_numpy(cells) for cells in part_inputs(part.takes, values, each=part.each)]
        runs = {"torch": torch_run(network, tensors)}
        for precision, runner in runners.items():
            runs[precision] = graph_run(runner, index, values)
        timings = time_in_turns(runs, options.rounds)
        size = runners[precisions[0]].steps[index].graph.size_bytes / 2**20
        cells = "   ".join(
            f"{name} {timing.wall_ms:8.1f} ms (cpu {timing.cpu_ms:8.1f})" for name, timing in timings.items()
        )
        ratio = timings["torch"].cpu_ms / max(timings[precisions[0]].cpu_ms, 1e-3)
        print(f"{part.name:26} {size:7.1f} MiB   {cells}   cpu, torch / {precisions[0]} = {ratio:.2f}", flush=True)


def without_shared_parts(assembly: GraphAssembly) -> GraphAssembly:
    """A composite whose shared graphs are replaced by feature inputs."""
    parts = tuple(part for part in assembly.parts if part.name not in SHARED_FEATURES)
    if len({part.name for part in assembly.parts} - SHARED_FEATURES.keys()) == 0 or assembly.name in (
        "fast-vqa",
        "liqe",
    ):
        return assembly
    taken_names = {name for part in parts for name in part.takes}
    features = [FeatureInput(name=name, shape=shape) for name, shape in SHARED_FEATURES.items() if name in taken_names]
    inputs = (
        *(each for each in assembly.inputs if each.name in taken_names and each.name not in SHARED_FEATURES),
        *features,
    )
    return GraphAssembly(name=assembly.name, version=assembly.version, inputs=inputs, parts=parts)


def torch_run(network: torch.nn.Module, tensors: list[torch.Tensor]) -> Callable[[], object]:
    """A run of a part in torch."""

    def run() -> object:
        with torch.inference_mode():
            return network(*tensors)

    return run


def graph_run(runner: parts_verify.AssemblyRunner, index: int, values: Mapping[str, Array]) -> Callable[[], object]:
    """A run of a part's graph."""
    return lambda: runner.run_step(runner.steps[index], values, slice(None))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=DEFAULT_NETWORKS)
    parser.add_argument("--trained", nargs="*", type=Path, default=[], help="checkpoints of trained scorers")
    parser.add_argument("--forms", default="fp32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{options.threads} threads, one row (a second, a picture, a clip) at a time")
    measured: set[str] = set()
    for assembly in assemblies(options):
        print(f"{assembly.name}:", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            measure(assembly, Path(folder), options, measured)


def assemblies(options: argparse.Namespace) -> Iterator[GraphAssembly]:
    """The assemblies to measure, one at a time, as each may fill the memory."""
    for name in filter(None, options.networks.split(",")):
        yield without_shared_parts(published.PUBLISHED_SCORERS[name].assemble(published.random_networks(name), 1))
    for file in options.trained:
        trained = read_trained_scorer(file)
        yield build_trained_assembly(trained, trained.kind.replace("_", "-"), version=1)


if __name__ == "__main__":
    main()
