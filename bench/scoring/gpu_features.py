"""Measures a composite such as SR-VQA on a GPU: segments a second and memory, and a step of its training.

python bench/scoring/gpu_features.py [--scorer sr_vqa] [--forms fp32,fp16] [--units 6] [--batch 8]
    [--rounds 10] [--device cuda]

Full size, random weights (right for speed, the scores mean nothing); what the language model says is given. A segment
is so many units (seconds), each with its picture, clip and windows. Torch eager and ONNX Runtime see the same rows, the
latter fed from the host at every graph, so that it is the worst case of serving; both are held against torch in float32
on the CPU. Without a GPU `--device cpu --scorer sr_vqa_lean --units 1 --batch 2 --rounds 1` shows that it runs.
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
from models.export.assembly.assembly import Array, Assembly, Interchange, run_torch  # noqa: E402
from models.export.assembly.writer import DTYPES, write_assembly  # noqa: E402
from models.networks import sr_vqa  # noqa: E402
from models.train.losses import plcc, rank_hinge  # noqa: E402
from models.verify.assembly import PartsRunner  # noqa: E402

PROVIDERS = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is measured where."""

    device: str
    # seconds per segment
    units: int
    rounds: int

    def wait(self) -> None:
        """Until the device has done what was asked of it."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def used_mib(self) -> float:
        """Memory of the whole device that is taken now."""
        if self.device != "cuda":
            return 0.0
        free, whole = torch.cuda.mem_get_info()
        return (whole - free) / 2**20


def seconds_of(setting: Setting, run: Callable[[], object]) -> float:
    """Of one run: the median, after a warm-up."""
    took = []
    for at in range(setting.rounds + 1):
        setting.wait()
        began = time.perf_counter()
        run()
        setting.wait()
        if at:
            took.append(time.perf_counter() - began)
    return float(np.median(took))


def report(assembly: Assembly, setting: Setting, *, forms: list[str]) -> None:
    """Print a row for torch and one for ONNX Runtime per form."""
    given = assembly.golden(setting.units, seed=1)
    last = assembly.parts[-1].name
    plain = run_torch(assembly, given)[last]
    for form in forms:
        parts = on_device(assembly, setting, form=form)
        rows = {name: torch.from_numpy(value).to(setting.device) for name, value in given.items()}
        before = setting.used_mib()
        said = eager(assembly, parts, rows)[last].cpu().numpy()
        seconds = seconds_of(setting, lambda parts=parts, rows=rows: eager(assembly, parts, rows))  # type: ignore[misc]
        show(f"torch eager {form}", seconds, setting.used_mib() - before, said, plain)
        del parts, rows
        if setting.device == "cuda":
            torch.cuda.empty_cache()
        with tempfile.TemporaryDirectory() as place:
            sheet = write_assembly(assembly, published.facts_of("sr_vqa"), form=form, folder=Path(place))
            before = setting.used_mib()
            runner = PartsRunner(sheet, provider=PROVIDERS[setting.device])
            said = runner.run(given)[last]
            seconds = seconds_of(setting, lambda runner=runner: runner.run(given))  # type: ignore[misc]
            show(f"ORT {form}", seconds, setting.used_mib() - before, said, plain)


def on_device(assembly: Assembly, setting: Setting, *, form: str) -> dict[str, Interchange]:
    """Every part's network where it is measured, in the form's type."""
    dtype = DTYPES[form]
    return {
        part.name: Interchange(copy.deepcopy(part.network).eval().to(setting.device, dtype), dtype=dtype)
        for part in assembly.parts
    }


@torch.inference_mode()
def eager(assembly: Assembly, parts: Mapping[str, Interchange], rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What every part says, without leaving the device."""
    known = dict(rows)
    for part in assembly.parts:
        taken = (known[name][None] if part.each == "segment" else known[name] for name in part.takes)
        known[part.name] = parts[part.name](*taken)
    return known


def show(name: str, seconds: float, mib: float, said: Array, plain: Array) -> None:
    """One row; how far the answer is from torch in float32, as a share of the largest."""
    apart = float(np.abs(said.astype(np.float64) - plain).max() / np.abs(plain).max())
    print(
        f"{name:18} {1 / seconds:8.2f} segments/s  {1000 * seconds:9.1f} ms  {mib:7.0f} MiB   {apart:.1e} apart",
        flush=True,
    )


def train_step(network: sr_vqa.SrVqa, setting: Setting, *, batch: int) -> float:
    """Seconds of one step of the fine-tuned branch and the regression, bfloat16 where there is a GPU."""
    network = network.to(setting.device).train().requires_grad_()
    side = network.config.swin.side
    draw = torch.Generator().manual_seed(1)
    pictures = torch.randint(0, 256, (batch, 3, side, side), dtype=torch.uint8, generator=draw).to(setting.device)
    widths = [width for name, width in network.config.features.items() if name != "spatial"]
    features = [torch.randn(batch, width, generator=draw).to(setting.device) for width in widths]
    wanted = torch.rand(batch, generator=draw).to(setting.device)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-5)

    def step() -> None:
        with torch.autocast(setting.device, torch.bfloat16, enabled=setting.device == "cuda"):
            predicted = network(pictures, *features)
        loss = plcc(predicted.float(), wanted) + rank_hinge(predicted.float(), wanted)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    return seconds_of(setting, step)


def main(arguments: list[str] | None = None) -> None:
    """Print a table."""
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
    setting = Setting(device=options.device, units=options.units, rounds=options.rounds)
    networks = published.random_networks(options.scorer)
    print(f"{options.scorer}, full size, random weights, segments of {options.units} units, on {options.device}")
    report(published.KITS[options.scorer].build(networks, 1), setting, forms=options.forms.split(","))
    network = networks[options.scorer]
    assert isinstance(network, sr_vqa.SrVqa)
    took = train_step(network, setting, batch=options.batch)
    print(f"training step       {1000 * took:.1f} ms for {options.batch} pictures")


if __name__ == "__main__":
    main()
