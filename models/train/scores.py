"""Trains a network on human scores, with weighted correlation and ranking losses."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.data.csv_scores import split_by_group
from models.train import losses
from models.train.loop import TrainingConfig, ValidationResult, parameter_groups

NetworkInputs = Sequence[NDArray[Any]]
"""One array (rows, ...) per argument of the network; may be memory-mapped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossWeights:
    """Weight of each loss of `models.train.losses`; `margin` belongs to the rank hinge.

    The defaults are the two losses that SR-VQA's authors name: correlation and ranking.
    """

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

    def weighted_sum(self, predicted: Tensor, target: Tensor) -> Tensor:
        """The weighted sum of the losses for scores [n]; losses of weight 0 are not computed."""
        total = predicted.new_zeros(())
        for weight, loss in (
            (self.plcc, losses.plcc_loss),
            (self.plcc_regression, losses.plcc_regression_loss),
            (self.l1, losses.l1_loss),
            (self.l1_rank, losses.l1_rank_loss),
            (self.fidelity, losses.fidelity_loss),
        ):
            if weight:
                total = total + weight * loss(predicted, target)
        if self.hinge:
            total = total + self.hinge * losses.rank_hinge_loss(predicted, target, margin=self.margin)
        return total


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreTrainingConfig(TrainingConfig):
    """Training on human scores: `share` of the groups are trained on, the others only choose the checkpoint."""

    batch: int = 32
    share: float = 0.8
    losses: LossWeights = field(default_factory=LossWeights)


class ScoreTask:
    """Trains a network that maps a batch of inputs to scores [n], on rows with human scores in 0..1."""

    def __init__(
        self,
        network: nn.Module,
        config: ScoreTrainingConfig,
        *,
        inputs: NetworkInputs,
        scores: NDArray[np.float32],
        groups: Sequence[str],
    ) -> None:
        if not all(len(values) == len(scores) == len(groups) for values in inputs):
            raise ValueError("inputs, scores and groups must have the same number of rows")
        self.network, self.config, self.inputs, self.scores = network.to(config.device), config, inputs, scores
        self.train_rows, self.validation_rows = split_by_group(groups, share=config.share, seed=config.seed)

    def parameter_groups(self) -> Iterable[dict[str, Any]]:
        """All parameters at the full learning rate."""
        return parameter_groups(self.network, weight_decay=self.config.weight_decay)

    def loss(self, random: np.random.Generator) -> Tensor:
        """The weighted loss of `batch` different training rows."""
        rows = np.sort(random.choice(self.train_rows, min(self.config.batch, len(self.train_rows)), replace=False))
        predicted = self.network(*_select_rows(self.inputs, rows, device=self.config.device))
        target = torch.from_numpy(self.scores[rows]).to(self.config.device)
        return self.config.losses.weighted_sum(predicted.float(), target)

    def validate(self) -> ValidationResult:
        """Predictions for the rows of the groups that are not trained on."""
        predicted = predict(
            self.network, self.inputs, self.validation_rows, batch=self.config.batch, device=self.config.device
        )
        return ValidationResult(predicted=predicted, target=torch.from_numpy(self.scores[self.validation_rows]))


@torch.inference_mode()
def predict(
    network: nn.Module, inputs: NetworkInputs, rows: NDArray[np.int64], *, batch: int = 32, device: str = "cpu"
) -> Tensor:
    """Scores [rows] of a network in evaluation mode, on the CPU."""
    network.eval()
    batches = np.split(rows, range(batch, len(rows), batch))
    return torch.cat([network(*_select_rows(inputs, part, device=device)).float().cpu() for part in batches])


def _select_rows(inputs: NetworkInputs, rows: NDArray[np.int64], *, device: str) -> list[Tensor]:
    """These rows of every input: uint8 stays uint8, other types become float32."""
    selected = (np.ascontiguousarray(values[rows]) for values in inputs)
    return [
        torch.from_numpy(values if values.dtype == np.uint8 else values.astype(np.float32)).to(device)
        for values in selected
    ]
