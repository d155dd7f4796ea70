"""The training loop that all scorers share: seeded and resumable, keeps the averaged weights with the best SRCC."""

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
_INK_COLOUR, _ACCENT_COLOUR, _SECOND_COLOUR = "#1f2933", "#0b7285", "#c2410c"
_MAX_GRADIENT_NORM = 5.0

Report = Callable[[str], None]
"""Receives one line of progress per validation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """Length, learning rate, weight averaging and device of a training run.

    `average` is the decay of the exponential moving average of the weights; 0 uses the weights of the last step.
    """

    seed: int = 1
    steps: int = 1000
    validate_every: int = 100
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    warm_up: int = 20
    average: float = 0.995
    # bf16 is mixed precision: weights and their average stay in float32
    precision: Literal["fp32", "bf16"] = "fp32"
    device: str = "cpu"

    def __post_init__(self) -> None:
        if not 0 < self.warm_up < self.steps:
            raise ValueError(f"warm_up {self.warm_up} does not fit into {self.steps} steps")
        if not 0 <= self.average < 1:
            raise ValueError(f"average must be at least 0 and below 1, got {self.average}")
        if self.precision not in ("fp32", "bf16"):
            raise ValueError(f"precision must be fp32 or bf16, got {self.precision!r}")


@dataclass(frozen=True)
class ValidationResult:
    """Predicted scores and human scores of the validation rows, both [rows]."""

    predicted: Tensor
    target: Tensor

    @cached_property
    def srcc(self) -> float:
        """Spearman's rank correlation."""
        return losses.spearman(self.predicted, self.target)

    @cached_property
    def plcc(self) -> float:
        """Pearson's linear correlation, without a fitted curve."""
        return 1 - 2 * float(losses.plcc_loss(self.predicted.double(), self.target.double()))


class TrainingTask(Protocol):
    """A network with its training loss and its validation."""

    network: nn.Module

    def parameter_groups(self) -> Iterable[dict[str, Any]]:
        """Groups for the optimizer, each with `params`, `weight_decay` and its `share` of the learning rate."""

    def loss(self, random: np.random.Generator) -> Tensor:
        """The loss of one batch; the batch depends on `random` alone."""

    def validate(self) -> ValidationResult:
        """Predictions for rows that are never trained on."""


def parameter_groups(
    network: nn.Module, *, weight_decay: float, share: Callable[[str], float] = lambda _: 1.0
) -> Iterator[dict[str, Any]]:
    """Group trainable parameters by weight decay (none for biases and norms) and by `share(name)` of the rate."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            decay = weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((decay, share(name)), []).append(parameter)
    for (decay, rate_share), parameters in groups.items():
        yield {"params": parameters, "weight_decay": decay, "share": rate_share}


class Trainer:
    """Runs the optimizer steps of a task and keeps the moving average of its weights."""

    def __init__(self, task: TrainingTask, config: TrainingConfig) -> None:
        self.task, self.config = task, config
        self.network = task.network
        self.average = {name: value.detach().clone() for name, value in self._trained_tensors()}
        self.optimizer = torch.optim.AdamW(list(task.parameter_groups()), lr=config.learning_rate)
        # below any correlation
        self.step, self.best_srcc = 0, -2.0
        self.curve: list[dict[str, float]] = []

    def learning_rate(self) -> float:
        """The learning rate of the current step: linear warm-up, then cosine decay to 0."""
        config = self.config
        if self.step < config.warm_up:
            return config.learning_rate * (self.step + 1) / config.warm_up
        progress = (self.step - config.warm_up) / (config.steps - config.warm_up)
        return config.learning_rate * (0.5 + 0.5 * math.cos(math.pi * progress))

    def train_step(self) -> float:
        """Take one step on a batch that depends only on the seed and the step number; returns the loss."""
        config = self.config
        random = np.random.default_rng([config.seed, self.step])
        torch.manual_seed(config.seed * 1_000_003 + self.step)
        self.network.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate() * group["share"]
        device_type = torch.device(config.device).type
        with torch.autocast(device_type, dtype=torch.bfloat16, enabled=config.precision == "bf16"):
            loss = self.task.loss(random)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), _MAX_GRADIENT_NORM)
        self.optimizer.step()
        self._update_average()
        self.step += 1
        return float(loss.detach())

    def validate(self) -> ValidationResult:
        """Validate the averaged weights; the weights in training are put back afterwards."""
        current = {name: value.detach().clone() for name, value in self._trained_tensors()}
        self._load_tensors(self.average)
        self.network.eval()
        with torch.inference_mode():
            result = self.task.validate()
        self._load_tensors(current)
        return result

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs to continue; the content of `last.pt`."""
        return {
            "step": self.step, "best": self.best_srcc, "curve": self.curve, "network": dict(self._trained_tensors()),
            "average": self.average, "optimiser": self.optimizer.state_dict(),
        }  # fmt: skip

    def best_checkpoint(self, result: ValidationResult) -> dict[str, Any]:
        """The averaged weights of this step with their validation result; the content of `best.pt`."""
        return {
            "weights": self.average, "srcc": result.srcc, "step": self.step, "predicted": result.predicted,
            "wanted": result.target,
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`; the following steps are the same as without the interruption."""
        self.step, self.best_srcc, self.curve = state["step"], state["best"], list(state["curve"])
        self._load_tensors(state["network"])
        self.average = {name: value.clone() for name, value in state["average"].items()}
        self.optimizer.load_state_dict(state["optimiser"])

    def _trained_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Trainable parameters and all buffers; frozen parameters are left out of every copy."""
        frozen = {name for name, parameter in self.network.named_parameters() if not parameter.requires_grad}
        return ((name, value) for name, value in self.network.state_dict().items() if name not in frozen)

    def _load_tensors(self, tensors: dict[str, Tensor]) -> None:
        self.network.load_state_dict(tensors, strict=False)

    def _update_average(self) -> None:
        # A smaller decay at first, so that the average forgets the random initial weights.
        decay = min(self.config.average, (1 + self.step) / (10 + self.step))
        for name, value in self._trained_tensors():
            if value.is_floating_point():
                self.average[name].lerp_(value.detach(), 1 - decay)
            else:
                self.average[name].copy_(value)


def train(trainer: Trainer, folder: Path, *, report: Report, facts: Mapping[str, Any] = MappingProxyType({})) -> Path:
    """Train to the last step; returns `best.pt`, the weights with the best validation SRCC.

    Writes into `folder`: `last.pt` (to resume from), `best.pt`, `curve.csv`, `curve.png` and `scatter.png`. `best.pt`
    also holds `facts` and the predicted and human scores of the validation rows.
    """
    config, best_file = trainer.config, folder / "best.pt"
    folder.mkdir(parents=True, exist_ok=True)
    with tqdm(total=config.steps, initial=trainer.step, unit="step", mininterval=5) as bar:
        while trainer.step < config.steps:
            loss = trainer.train_step()
            bar.update()
            if trainer.step % config.validate_every == 0 or trainer.step == config.steps:
                result = trainer.validate()
                trainer.curve.append({"step": trainer.step, "loss": loss, "srcc": result.srcc, "plcc": result.plcc})
                if result.srcc > trainer.best_srcc:
                    trainer.best_srcc = result.srcc
                    torch.save({**facts, **trainer.best_checkpoint(result)}, best_file)
                    _plot_predictions(result, folder / "scatter.png")
                torch.save(trainer.state(), folder / "last.pt")
                _write_training_curve(trainer.curve, folder)
                report(
                    f"step {trainer.step}: loss {loss:.3f}, validation SRCC {result.srcc:.4f}, "
                    f"best {trainer.best_srcc:.4f}"
                )
    return best_file


def _write_training_curve(curve: list[dict[str, float]], folder: Path) -> None:
    with (folder / "curve.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, ["step", "loss", "srcc", "plcc"], lineterminator="\n")
        table.writeheader()
        table.writerows(curve)
    _plot_training_curve(curve, folder / "curve.png")


def _plot_training_curve(rows: Sequence[Mapping[str, float]], file: Path) -> None:
    """Plot loss and correlations against the step as a PNG; `rows` hold step, loss, srcc and plcc."""
    steps = [row["step"] for row in rows]
    figure = Figure(figsize=(7, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(steps, [row["loss"] for row in rows], color=_INK_COLOUR)
    left.set(title="loss of the last step", xlabel="step")
    for name, colour in (("srcc", _ACCENT_COLOUR), ("plcc", _SECOND_COLOUR)):
        right.plot(steps, [row[name] for row in rows], color=colour, marker=".", label=name.upper())
    right.set(title="correlation on validation rows", xlabel="step")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=120)


def _plot_predictions(result: ValidationResult, file: Path) -> None:
    """Plot predicted against human scores as a PNG, one dot per validation row."""
    figure = Figure(figsize=(4, 4), layout="constrained")
    axes = figure.subplots()
    axes.scatter(result.target.cpu(), result.predicted.cpu(), s=8, alpha=0.4, color=_ACCENT_COLOUR, linewidths=0)
    axes.set(xlabel="people", ylabel="network", title=f"{len(result.target)} validation rows")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=120)
