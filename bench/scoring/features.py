"""Measures feature networks and composites on this machine's CPU: milliseconds per unit beside torch eager, and sizes.

python -m bench.scoring.features [--networks fast_vqa,liqe] [--trained best.pt ...] [--forms fp32]
    [--threads 2] [--rounds 5]

Full sizes, random weights; of scorers that `python -m models train` made, their own. Torch and ONNX Runtime take turns
on the same rows, so that other work on the machine meets both; on a busy machine read cores' time with one thread
rather than the clock. A graph that several scorers share is measured with its own network, and given as features to the
others. In the first form every graph is also checked.
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

from models.commands.trained import assembly_of  # noqa: E402
from models.export.assembly import published  # noqa: E402
from models.export.assembly.assembly import Array, Assembly, Given, Interchange, inputs_of, run_torch  # noqa: E402
from models.export.assembly.writer import write_assembly  # noqa: E402
from models.train.checkpoint import read_trained  # noqa: E402
from models.verify import assembly as parts_verify  # noqa: E402

# Features that composites borrow; their graphs are measured with their own networks.
BORROWED = {
    "slowfast-fast": (256,),
    "liqe-logits": (495,),
    "fast-vqa-features": (768, 16, 7, 7),
    "dover-technical-features": (768, 16, 7, 7),
    "llm": (4096,),
}
USUAL = "slowfast,slowfast_fast,fast_vqa,dover,liqe,rq_vqa,sr_vqa_lean,align_iqa"


@dataclass(frozen=True, slots=True, kw_only=True)
class Took:
    """Median milliseconds of a run: by the clock, and of all cores' time."""

    wall_ms: float
    cpu_ms: float


def in_turns(runs: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Took]:
    """What each takes, taking turns, after a warm-up."""
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for at in range(rounds + 1):
        for name, run in runs.items():
            start, used = time.perf_counter(), time.process_time()
            run()
            if at:
                took[name].append(((time.perf_counter() - start) * 1000, (time.process_time() - used) * 1000))
    medians = {name: np.median(times, axis=0) for name, times in took.items()}
    return {name: Took(wall_ms=float(both[0]), cpu_ms=float(both[1])) for name, both in medians.items()}


def resident_mib() -> float:
    """Memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def measure(assembly: Assembly, folder: Path, options: argparse.Namespace, done: set[str]) -> None:
    """Write an assembly in every form and print a row per part that was not measured before."""
    values = run_torch(assembly, assembly.golden(1, seed=1))
    runners, names = {}, options.forms.split(",")
    for form in names:
        sheet = write_assembly(assembly, published.facts_of("sr_vqa_lean"), form=form, folder=folder)
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
        took = in_turns(runs, options.rounds)
        size = runners[names[0]].steps[at].graph.size_bytes / 2**20
        each = "   ".join(f"{name} {one.wall_ms:8.1f} ms (cpu {one.cpu_ms:8.1f})" for name, one in took.items())
        ratio = took["torch"].cpu_ms / max(took[names[0]].cpu_ms, 1e-3)
        print(f"{part.name:26} {size:7.1f} MiB   {each}   cpu, torch / {names[0]} = {ratio:.2f}", flush=True)


def without_borrowed(assembly: Assembly) -> Assembly:
    """A composite whose shared graphs are left out and given as features."""
    parts = tuple(part for part in assembly.parts if part.name not in BORROWED)
    if len({part.name for part in assembly.parts} - BORROWED.keys()) == 0 or assembly.name in ("fast-vqa", "liqe"):
        return assembly
    taken = {name for part in parts for name in part.takes}
    given = [Given(name=name, shape=shape) for name, shape in BORROWED.items() if name in taken]
    sources = (*(each for each in assembly.sources if each.name in taken and each.name not in BORROWED), *given)
    return Assembly(name=assembly.name, version=assembly.version, sources=sources, parts=parts)


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
    parser.add_argument("--trained", nargs="*", type=Path, default=[], help="checkpoints of trained scorers")
    parser.add_argument("--forms", default="fp32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{options.threads} threads, one row (a second, a picture, a clip) at a time")
    done: set[str] = set()
    for assembly in assemblies(options):
        print(f"{assembly.name}:", flush=True)
        with tempfile.TemporaryDirectory() as place:
            measure(assembly, Path(place), options, done)


def assemblies(options: argparse.Namespace) -> Iterator[Assembly]:
    """What is to be measured, one after the other: each may fill the memory."""
    for name in filter(None, options.networks.split(",")):
        yield without_borrowed(published.KITS[name].build(published.random_networks(name), 1))
    for file in options.trained:
        trained = read_trained(file)
        yield assembly_of(trained, trained.learner.replace("_", "-"), version=1)


if __name__ == "__main__":
    main()
