"""Measures feature networks and composites on this machine's CPU: milliseconds per unit beside torch eager, and sizes.

python -m bench.bench_rich [--networks fast_vqa,liqe] [--forms fp32] [--threads 2] [--rounds 5]

Full sizes, random weights. Torch and ONNX Runtime take turns on the same rows, so that other work on the machine meets
both. A graph that several scorers share is measured once. With the first form every graph is also checked.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from models import parts_verify, rich  # noqa: E402
from models.parts import Array, Assembly, Interchange, inputs_of, run_torch  # noqa: E402
from models.parts_export import write_assembly  # noqa: E402

USUAL = "slowfast,slowfast_fast,fast_vqa,dover,liqe,rq_vqa,sr_vqa_lean,align_iqa,align_iqa_generated"


def turns_ms(runs: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median milliseconds of each, taking turns, after a warm-up."""
    took: dict[str, list[float]] = {name: [] for name in runs}
    for at in range(rounds + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if at:
                took[name].append((time.perf_counter() - start) * 1000)
    return {name: float(np.median(times)) for name, times in took.items()}


def resident_mib() -> float:
    """Memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def measure(assembly: Assembly, folder: Path, options: argparse.Namespace, done: set[str]) -> None:
    """Write an assembly in every form and print a row per part that was not measured before."""
    values = run_torch(assembly, assembly.golden(1, seed=1))
    runners, names = {}, options.forms.split(",")
    for form in names:
        sheet = write_assembly(assembly, rich.facts_of("sr_vqa_lean"), form=form, folder=folder)
        if form == names[0]:
            print("\n".join(f"  {line}" for line in parts_verify.verify(sheet, assembly=assembly)))
        before, start = resident_mib(), time.perf_counter()
        runners[form] = parts_verify.PartsRunner(sheet, threads=options.threads)
        opened = time.perf_counter() - start
        print(f"  {form}: opened in {opened:.1f} s, {resident_mib() - before:.0f} MiB")
    for at, part in enumerate(assembly.parts):
        if part.name in done:
            continue
        done.add(part.name)
        network = Interchange(part.network.eval(), dtype=torch.float32)
        tensors = [torch.from_numpy(each) for each in inputs_of(part.takes, values, each=part.each)]
        runs = {"torch": eager(network, tensors)}
        for form, runner in runners.items():
            runs[form] = graph(runner, at, values)
        took = turns_ms(runs, options.rounds)
        size = runners[names[0]].steps[at].graph.size_bytes / 2**20
        each = "   ".join(f"{name} {one:8.1f} ms" for name, one in took.items())
        print(f"{part.name:26} {size:7.1f} MiB   {each}   torch / {names[0]} = {took['torch'] / took[names[0]]:.2f}")


def eager(network: torch.nn.Module, tensors: list[torch.Tensor]) -> Callable[[], object]:
    """One run of a part in torch."""

    def run() -> object:
        with torch.inference_mode():
            return network(*tensors)

    return run


def graph(runner: parts_verify.PartsRunner, at: int, values: Mapping[str, Array]) -> Callable[[], object]:
    """One run of a part's graph."""
    return lambda: runner.run_step(runner.steps[at], values, slice(None))


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=USUAL)
    parser.add_argument("--forms", default="fp32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{options.threads} threads, one row (a second, a picture, a clip) at a time, random weights")
    done: set[str] = set()
    for name in options.networks.split(","):
        print(f"{name}:", flush=True)
        assembly = rich.KITS[name].build(rich.random_networks(name), 1)
        with tempfile.TemporaryDirectory() as place:
            measure(assembly, Path(place), options, done)


if __name__ == "__main__":
    main()
