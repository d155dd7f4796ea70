"""Measures a composite such as SR-VQA on a GPU: segments per second, memory, and a training step.

python bench/scoring/gpu_features.py [--scorer sr_vqa] [--forms fp32,fp16] [--units 6] [--batch 8] [--rounds 10]
[--device cuda]

Full size, random weights: right for speed, while the scores mean nothing; the language model's features are given. A
segment has some units (seconds), each with its picture, clip and windows. Torch eager and ONNX Runtime get the same
rows; ONNX Runtime gets them from the host at every graph, the worst case of serving. Both are compared with torch in
float32 on the CPU. Without a GPU `--device cpu --scorer sr_vqa_lean --units 1 --batch 2 --rounds 1` shows that it runs.
"""

import argparse
import copy
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from models.export.assembly import published  # noqa: E402
from models.export.assembly.assembly import Array, Float32Interface, GraphAssembly, run_in_torch  # noqa: E402
from models.export.assembly.writer import DTYPES, RELATIVE_TOLERANCE, write_assembly  # noqa: E402
from models.networks import sr_vqa  # noqa: E402
from models.train.losses import plcc_loss, rank_hinge_loss  # noqa: E402
from models.verify.assembly import AssemblyRunner  # noqa: E402

PROVIDERS = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Device, length of a segment and number of rounds."""

    device: str
    # seconds per segment
    units: int
    rounds: int

    def wait(self) -> None:
        """Wait until the device has finished all work."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def used_mib(self) -> float:
        """Used memory of the whole device in MiB."""
        if self.device != "cuda":
            return 0.0
        free, whole = torch.cuda.mem_get_info()
        return (whole - free) / 2**20


def seconds_of(setting: Setting, run: Callable[[], object]) -> float:
    """Median seconds of a run, after a warm-up."""
    seconds = []
    for round_number in range(setting.rounds + 1):
        setting.wait()
        start = time.perf_counter()
        run()
        setting.wait()
        if round_number:
            seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def report(assembly: GraphAssembly, setting: Setting, *, forms: list[str]) -> list[str]:
    """Print a row for torch and one for ONNX Runtime at each precision; returns the rows that are too far apart."""
    failures = []
    inputs = assembly.golden(setting.units, seed=1)
    last = assembly.parts[-1].name
    reference = run_in_torch(assembly, inputs)[last]
    for precision in forms:
        parts = on_device(assembly, setting, precision=precision)
        rows = {name: torch.from_numpy(value).to(setting.device) for name, value in inputs.items()}
        before = setting.used_mib()
        output = eager(assembly, parts, rows)[last].cpu().numpy()
        seconds = seconds_of(setting, lambda parts=parts, rows=rows: eager(assembly, parts, rows))  # type: ignore[misc]
        failures += show(f"torch eager {precision}", seconds, setting.used_mib() - before, output, reference)
        del parts, rows
        if setting.device == "cuda":
            torch.cuda.empty_cache()
        with tempfile.TemporaryDirectory() as folder:
            sheet = write_assembly(
                assembly, published.read_scorer_facts("sr_vqa"), precision=precision, folder=Path(folder)
            )
            before = setting.used_mib()
            runner = AssemblyRunner(sheet, provider=PROVIDERS[setting.device])
            output = runner.run(inputs)[last]
            seconds = seconds_of(setting, lambda runner=runner: runner.run(inputs))  # type: ignore[misc]
            failures += show(f"ORT {precision}", seconds, setting.used_mib() - before, output, reference)
    return failures


def on_device(assembly: GraphAssembly, setting: Setting, *, precision: str) -> dict[str, Float32Interface]:
    """Every part's network on the measured device, at the precision's type."""
    dtype = DTYPES[precision]
    return {
        part.name: Float32Interface(copy.deepcopy(part.network).eval().to(setting.device, dtype), dtype=dtype)
        for part in assembly.parts
    }


@torch.inference_mode()
def eager(
    assembly: GraphAssembly, parts: Mapping[str, Float32Interface], rows: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The outputs of all parts, without leaving the device."""
    values = dict(rows)
    for part in assembly.parts:
        arguments = (values[name][None] if part.each == "segment" else values[name] for name in part.takes)
        values[part.name] = parts[part.name](*arguments)
    return values


def show(name: str, seconds: float, mib: float, output: Array, reference: Array) -> list[str]:
    """Print a row; the difference from torch in float32 is a share of the largest value. Returns a row too far apart.

    The limits are those of `models verify`.
    """
    difference = float(np.abs(output.astype(np.float64) - reference).max() / np.abs(reference).max())
    print(
        f"{name:18} {1 / seconds:8.2f} segments/s  {1000 * seconds:9.1f} ms  {mib:7.0f} MiB   {difference:.1e} apart",
        flush=True,
    )
    return [] if difference <= RELATIVE_TOLERANCE[name.split()[-1]] else [f"{name} is {difference:.1e} apart"]


def train_step(network: sr_vqa.SrVqa, setting: Setting, *, batch: int) -> float:
    """Seconds of one training step of the fine-tuned branch and the regression; bfloat16 on a GPU."""
    network = network.to(setting.device).train().requires_grad_()
    side = network.config.swin.side
    generator = torch.Generator().manual_seed(1)
    pictures = torch.randint(0, 256, (batch, 3, side, side), dtype=torch.uint8, generator=generator).to(setting.device)
    widths = [width for name, width in network.config.features.items() if name != "spatial"]
    features = [torch.randn(batch, width, generator=generator).to(setting.device) for width in widths]
    target = torch.rand(batch, generator=generator).to(setting.device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5)

    def step() -> None:
        with torch.autocast(setting.device, torch.bfloat16, enabled=setting.device == "cuda"):
            predicted = network(pictures, *features)
        loss = plcc_loss(predicted.float(), target) + rank_hinge_loss(predicted.float(), target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return seconds_of(setting, step)


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scorer", choices=("sr_vqa", "sr_vqa_lean"), default="sr_vqa")
    parser.add_argument("--forms", default="fp32,fp16")
    parser.add_argument("--units", type=int, default=6)
    parser.add_argument("--batch", type=int, default=8, help="pictures of a training step")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--device", choices=tuple(PROVIDERS), default="cuda")
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.exit(
            2, "no GPU here: --device cpu --scorer sr_vqa_lean --units 1 --batch 2 --rounds 1 shows that it runs\n"
        )
    # float32 is float32, as in the daemon's sessions
    torch.backends.cudnn.allow_tf32 = False
    setting = Setting(device=options.device, units=options.units, rounds=options.rounds)
    networks = published.random_networks(options.scorer)
    print(f"{options.scorer}, full size, random weights, segments of {options.units} units, on {options.device}")
    assembly = published.PUBLISHED_SCORERS[options.scorer].assemble(networks, 1)
    failures = report(assembly, setting, forms=options.forms.split(","))
    network = networks[options.scorer]
    assert isinstance(network, sr_vqa.SrVqa)
    seconds = train_step(network, setting, batch=options.batch)
    print(f"training step       {1000 * seconds:.1f} ms for {options.batch} pictures")
    if failures:
        raise SystemExit(f"error: {'; '.join(failures)} from torch in float32")


if __name__ == "__main__":
    main()
