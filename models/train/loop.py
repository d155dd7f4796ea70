"""The one training loop: seeded and resumable, with averaged weights, the best kept by validation SRCC."""

import csv
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Protocol

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from tqdm import tqdm  # type: ignore[import-untyped]

from models.train import losses

mpl.use("agg")
INK, ACCENT, SECOND = "#1f2933", "#0b7285", "#c2410c"


def plot_curve(rows: Sequence[Mapping[str, float]], file: Path) -> None:
    """Loss and correlations against the step, as a PNG; `rows` hold step, loss, srcc and plcc."""
    steps = [row["step"] for row in rows]
    figure = Figure(figsize=(7, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(steps, [row["loss"] for row in rows], color=INK)
    left.set(title="loss of the last step", xlabel="step")
    for name, colour in (("srcc", ACCENT), ("plcc", SECOND)):
        right.plot(steps, [row[name] for row in rows], color=colour, marker=".", label=name.upper())
    right.set(title="agreement on validation rows", xlabel="step")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=120)


def plot_scatter(predicted: Tensor, wanted: Tensor, file: Path) -> None:
    """What the network says against what people say, one dot per row, as a PNG."""
    figure = Figure(figsize=(4, 4), layout="constrained")
    axes = figure.subplots()
    axes.scatter(wanted.cpu(), predicted.cpu(), s=8, alpha=0.4, color=ACCENT, linewidths=0)
    axes.set(xlabel="people", ylabel="network", title=f"{len(wanted)} validation rows")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=120)


Report = Callable[[str], None]
LARGEST_GRADIENT = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long and how fast; `average` is the decay of the moving average of the weights, 0 keeps the last ones."""

    seed: int = 1
    steps: int = 1000
    validate_every: int = 100
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    warm_up: int = 20
    average: float = 0.995
    # bf16 computes in mixed precision; weights and their average stay in float32
    precision: Literal["fp32", "bf16"] = "fp32"
    device: str = "cpu"

    def __post_init__(self) -> None:
        if not 0 < self.warm_up < self.steps:
            raise ValueError(f"warm_up {self.warm_up} does not fit into {self.steps} steps")
        if not 0 <= self.average < 1:
            raise ValueError(f"average must be within 0..1, got {self.average}")
        if self.precision not in ("fp32", "bf16"):
            raise ValueError(f"precision must be fp32 or bf16, got {self.precision!r}")


@dataclass(frozen=True)
class Agreement:
    """What a network says about validation rows and what people say, both [rows]."""

    predicted: Tensor
    wanted: Tensor

    @cached_property
    def srcc(self) -> float:
        """Spearman's rank correlation."""
        return losses.spearman(self.predicted, self.wanted)

    @cached_property
    def plcc(self) -> float:
        """Pearson's linear correlation, without a curve fitted first."""
        return 1 - 2 * float(losses.plcc(self.predicted.double(), self.wanted.double()))


class Task(Protocol):
    """What is learned: a network, a loss per step, and what it is judged by."""

    network: nn.Module

    def groups(self) -> Iterable[dict[str, Any]]:
        """Parameters for the optimiser, each group with `weight_decay` and its `share` of the learning rate."""

    def loss(self, random: np.random.Generator) -> Tensor:
        """Of one step's batch, which depends on `random` alone."""

    def validate(self) -> Agreement:
        """On rows that are never trained on."""


def groups_of(
    network: nn.Module, *, weight_decay: float, share: Callable[[str], float] = lambda _: 1.0
) -> Iterator[dict[str, Any]]:
    """Trainable parameters by weight decay (none for biases and norms) and by `share(name)` of the learning rate."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            decay = weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((decay, share(name)), []).append(parameter)
    for (decay, part), held in groups.items():
        yield {"params": held, "weight_decay": decay, "share": part}


class Trainer:
    """A task, the moving average of its weights and its optimiser, at some step of a schedule."""

    def __init__(self, task: Task, schedule: Schedule) -> None:
        self.task, self.schedule = task, schedule
        self.network = task.network
        self.average = {name: value.detach().clone() for name, value in self._learned()}
        self.optimiser = torch.optim.AdamW(list(task.groups()), lr=schedule.learning_rate)
        self.step, self.best = 0, -2.0
        self.curve: list[dict[str, float]] = []

    def rate(self) -> float:
        """The learning rate of this step: linear warm-up, then half a cosine down to nothing."""
        schedule = self.schedule
        if self.step < schedule.warm_up:
            return schedule.learning_rate * (self.step + 1) / schedule.warm_up
        done = (self.step - schedule.warm_up) / (schedule.steps - schedule.warm_up)
        return schedule.learning_rate * (0.5 + 0.5 * math.cos(math.pi * done))

    def train_step(self) -> float:
        """One step on a batch that depends on the seed and the step's number alone; returns the loss."""
        schedule = self.schedule
        random = np.random.default_rng([schedule.seed, self.step])
        torch.manual_seed(schedule.seed * 1_000_003 + self.step)
        self.network.train()
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate() * group["share"]
        kind = torch.device(schedule.device).type
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=schedule.precision == "bf16"):
            loss = self.task.loss(random)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), LARGEST_GRADIENT)
        self.optimiser.step()
        self._follow()
        self.step += 1
        return float(loss.detach())

    def validate(self) -> Agreement:
        """What the averaged weights say of the validation rows."""
        kept = {name: value.detach().clone() for name, value in self._learned()}
        self._use(self.average)
        self.network.eval()
        with torch.inference_mode():
            found = self.task.validate()
        self._use(kept)
        return found

    def state(self) -> dict[str, Any]:
        return {
            "step": self.step, "best": self.best, "curve": self.curve, "network": dict(self._learned()),
            "average": self.average, "optimiser": self.optimiser.state_dict(),
        }  # fmt: skip

    def kept(self, said: Agreement) -> dict[str, Any]:
        """What is worth keeping of this step: averaged weights, and how they did."""
        return {
            "weights": self.average, "srcc": said.srcc, "step": self.step, "predicted": said.predicted,
            "wanted": said.wanted,
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken; the steps that follow are the same as without the stop."""
        self.step, self.best, self.curve = state["step"], state["best"], list(state["curve"])
        self._use(state["network"])
        self.average = {name: value.clone() for name, value in state["average"].items()}
        self.optimiser.load_state_dict(state["optimiser"])

    def _learned(self) -> Iterator[tuple[str, Tensor]]:
        """What training changes: trainable parameters and all buffers; frozen weights are not kept again and again."""
        frozen = {name for name, parameter in self.network.named_parameters() if not parameter.requires_grad}
        return ((name, value) for name, value in self.network.state_dict().items() if name not in frozen)

    def _use(self, weights: dict[str, Tensor]) -> None:
        self.network.load_state_dict(weights, strict=False)

    def _follow(self) -> None:
        # A short history at first, so that the average forgets the random start.
        decay = min(self.schedule.average, (1 + self.step) / (10 + self.step))
        for name, value in self._learned():
            if value.is_floating_point():
                self.average[name].lerp_(value.detach(), 1 - decay)
            else:
                self.average[name].copy_(value)


def train(trainer: Trainer, folder: Path, *, report: Report, facts: Mapping[str, Any] = MappingProxyType({})) -> Path:
    """Run a schedule to its end; returns the file of the best weights by validation SRCC.

    Keeps in `folder`: `last.pt` (to go on from), `best.pt`, `curve.csv`, `curve.png` and `scatter.png`. `best.pt` has
    `facts` too, and what was predicted and wanted of the rows that chose it.
    """
    schedule, best = trainer.schedule, folder / "best.pt"
    folder.mkdir(parents=True, exist_ok=True)
    with tqdm(total=schedule.steps, initial=trainer.step, unit="step", mininterval=5) as bar:
        while trainer.step < schedule.steps:
            loss = trainer.train_step()
            bar.update()
            if trainer.step % schedule.validate_every == 0 or trainer.step == schedule.steps:
                said = trainer.validate()
                row = {"step": trainer.step, "loss": loss, "srcc": said.srcc, "plcc": said.plcc}
                trainer.curve.append(row)
                if said.srcc > trainer.best:
                    trainer.best = said.srcc
                    torch.save({**facts, **trainer.kept(said)}, best)
                    plot_scatter(said.predicted, said.wanted, folder / "scatter.png")
                torch.save(trainer.state(), folder / "last.pt")
                _write_curve(trainer.curve, folder)
                report(
                    f"step {trainer.step}: loss {loss:.3f}, validation SRCC {said.srcc:.4f}, best {trainer.best:.4f}"
                )
    return best


def _write_curve(curve: list[dict[str, float]], folder: Path) -> None:
    with (folder / "curve.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, ["step", "loss", "srcc", "plcc"], lineterminator="\n")
        table.writeheader()
        table.writerows(curve)
    plot_curve(curve, folder / "curve.png")
