"""What a scorer learns from human scores: agreement and order, on features or pictures of any shape."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.data.csv_scores import split_by_group
from models.train import losses
from models.train.loop import Agreement, Schedule, groups_of

Inputs = Sequence[NDArray[Any]]
"""One array per argument of the network, each (rows, ...); may be read from disk as needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossWeights:
    """What each loss of `losses` weighs; the default is what SR-VQA's authors name: correlation and order."""

    plcc: float = 1.0
    hinge: float = 1.0
    margin: float = 0.05
    plcc_regression: float = 0.0
    l1: float = 0.0
    l1_rank: float = 0.0
    fidelity: float = 0.0

    def __post_init__(self) -> None:
        weights = (self.plcc, self.hinge, self.plcc_regression, self.l1, self.l1_rank, self.fidelity)
        if min(*weights, self.margin) < 0 or not any(weights):
            raise ValueError("loss weights must not be negative, and one must be above 0")

    def of(self, predicted: Tensor, target: Tensor) -> Tensor:
        """The weighted sum for scores [n]; losses of weight 0 are not computed."""
        total = predicted.new_zeros(())
        for name in ("plcc", "plcc_regression", "l1", "l1_rank", "fidelity"):
            if weight := getattr(self, name):
                total = total + weight * getattr(losses, name)(predicted, target)
        if self.hinge:
            total = total + self.hinge * losses.rank_hinge(predicted, target, margin=self.margin)
        return total


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorePlan(Schedule):
    """How to train on human scores; `share` of the groups are fitted on, the others only choose the checkpoint."""

    batch: int = 32
    share: float = 0.8
    losses: LossWeights = field(default_factory=LossWeights)


class ScoreTask:
    """A network that maps a batch of inputs to scores [n], and rows with human scores in 0..1."""

    def __init__(
        self, network: nn.Module, plan: ScorePlan, *, inputs: Inputs, scores: NDArray[np.float32], groups: Sequence[str]
    ) -> None:
        if not all(len(one) == len(scores) == len(groups) for one in inputs):
            raise ValueError("inputs, scores and groups must have the same number of rows")
        self.network, self.plan, self.inputs, self.scores = network.to(plan.device), plan, inputs, scores
        self.fit, self.held = split_by_group(groups, share=plan.share, seed=plan.seed)

    def groups(self) -> Iterable[dict[str, Any]]:
        """All at one rate."""
        return groups_of(self.network, weight_decay=self.plan.weight_decay)

    def loss(self, random: np.random.Generator) -> Tensor:
        """Of `batch` different rows."""
        rows = np.sort(random.choice(self.fit, min(self.plan.batch, len(self.fit)), replace=False))
        predicted = self.network(*take(self.inputs, rows, device=self.plan.device))
        return self.plan.losses.of(predicted.float(), torch.from_numpy(self.scores[rows]).to(self.plan.device))

    def validate(self) -> Agreement:
        """On the rows of the other groups."""
        predicted = predict(self.network, self.inputs, self.held, batch=self.plan.batch, device=self.plan.device)
        return Agreement(predicted=predicted, wanted=torch.from_numpy(self.scores[self.held]))


def take(inputs: Inputs, rows: NDArray[np.int64], *, device: str) -> list[Tensor]:
    """Rows of every input; uint8 stays uint8, other numbers become float32."""
    found = (np.ascontiguousarray(one[rows]) for one in inputs)
    return [torch.from_numpy(one if one.dtype == np.uint8 else one.astype(np.float32)).to(device) for one in found]


@torch.inference_mode()
def predict(
    network: nn.Module, inputs: Inputs, rows: NDArray[np.int64], *, batch: int = 32, device: str = "cpu"
) -> Tensor:
    """Scores [rows] in evaluation mode, on the CPU."""
    network.eval()
    parts = np.split(rows, range(batch, len(rows), batch))
    return torch.cat([network(*take(inputs, part, device=device)).float().cpu() for part in parts])
