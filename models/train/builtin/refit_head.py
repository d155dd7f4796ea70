"""Refits the linear head of a trained lite network in closed form: ridge regression with ranking constraints."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.data.photos import COLUMNS, ROWS, cut_tiles, split_train_validation
from models.networks.lite import Lite
from models.train.lite import LiteTrainingSet, tiles_to_tensor
from models.train.losses import spearman

_ROUNDS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadRefitConfig:
    """The table `[head]` of `lite.toml`.

    `ladders` and `rungs` per ladder take part; a rung must lead by `margin` per step, up to `furthest` steps; `weight`
    is that of a pair, `ridge` that of the squared norm.
    """

    ladders: int = 1650
    rungs: int = 8
    margin: float = 0.04
    furthest: int = 4
    weight: float = 3.0
    ridge: float = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderConstraints:
    """Pairs of pictures of one content: the better one's head inputs minus the worse one's, and the required lead."""

    # [pairs, width]
    differences: Tensor
    # [pairs], in native score units
    margins: Tensor


def refit_head(
    network: Lite, training_set: LiteTrainingSet, config: HeadRefitConfig, *, seed: int, validation: int
) -> float:
    """Replace a network's head by the closed-form one; returns the SRCC on the validation rows."""
    train_rows, validation_rows = split_train_validation(len(training_set.scores), validation, seed=seed)
    scores = torch.from_numpy(training_set.scores)
    photo_inputs = head_inputs(network, _photo_tiles(training_set))
    rows, steps = draw_rungs(training_set, config, seed=seed)
    rung_inputs = head_inputs(network, (training_set.rungs[row] for row in rows))
    constraints = order_constraints(rung_inputs, steps, config)
    weights, bias = fit_head(photo_inputs[train_rows], scores[train_rows], constraints, config)
    set_head(network, weights, bias)
    return spearman(photo_inputs[validation_rows] @ weights, scores[validation_rows])


@torch.inference_mode()
def head_inputs(network: Lite, pictures: Iterator[NDArray[np.uint8]]) -> Tensor:
    """What the head reads of pictures given as tiles (12, 96, 128, 3): features, then the hidden layer, [n, width]."""
    network.eval()
    features = torch.cat([network.picture_features(tiles_to_tensor(tiles), ROWS * COLUMNS) for tiles in pictures])
    return torch.cat([features, network.hidden(features)], 1)


def draw_rungs(
    training_set: LiteTrainingSet, config: HeadRefitConfig, *, seed: int
) -> tuple[list[int], list[list[int]]]:
    """(rows of `training_set.rungs`, their step numbers per ladder) of randomly drawn ladders and rungs, best first."""
    random = np.random.default_rng(seed)
    count = min(config.ladders, len(training_set.ladders))
    rows: list[int] = []
    steps: list[list[int]] = []
    for number in random.choice(len(training_set.ladders), count, replace=False):
        ladder_rows = training_set.ladders[number].rows
        chosen = np.sort(random.choice(len(ladder_rows), min(config.rungs, len(ladder_rows)), replace=False))
        rows += [ladder_rows[index] for index in chosen]
        steps.append([int(index) for index in chosen])
    return rows, steps


def order_constraints(inputs: Tensor, steps: list[list[int]], config: HeadRefitConfig) -> OrderConstraints:
    """All pairs within each ladder, of head inputs [rungs, width] ladder by ladder, best first.

    `steps` are the step numbers of each ladder's rungs. Pairs never cross ladders.
    """
    better, worse, margins, start = [], [], [], 0
    for ladder in steps:
        for high, low in itertools.combinations(range(len(ladder)), 2):
            better.append(start + high)
            worse.append(start + low)
            margins.append(config.margin * min(ladder[low] - ladder[high], config.furthest))
        start += len(ladder)
    return OrderConstraints(differences=inputs[better] - inputs[worse], margins=torch.tensor(margins))


def fit_head(
    photos: Tensor, scores: Tensor, constraints: OrderConstraints, config: HeadRefitConfig
) -> tuple[Tensor, float]:
    """(weights [width], bias) that minimise the squared error of scores [n] on photos [n, width].

    Pairs that violate their margin add `config.weight` times their squared error; which pairs do is found again in each
    of a few rounds.
    """
    centre, mean = photos.mean(0), scores.mean()
    x = (photos - centre).double()
    gram = x.T @ x + config.ridge * torch.eye(x.shape[1], dtype=torch.float64)
    correlation = x.T @ (scores - mean).double()
    weights = torch.zeros(x.shape[1], dtype=torch.float64)
    for _ in range(_ROUNDS):
        is_violated = constraints.differences @ weights.float() < constraints.margins
        violated = constraints.differences[is_violated].double()
        weighted = config.weight * violated.T
        weights = torch.linalg.solve(
            gram + weighted @ violated, correlation + weighted @ constraints.margins[is_violated].double()
        )
    return weights.float(), float(mean - centre @ weights.float())


def set_head(network: Lite, weights: Tensor, bias: float) -> None:
    """Put weights [features + hidden] and the bias into the network's head."""
    features = network.direct.weight.shape[1]
    with torch.no_grad():
        network.direct.weight.copy_(weights[None, :features])
        network.score.weight.copy_(weights[None, features:])
        network.score.bias.fill_(bias)


def _photo_tiles(training_set: LiteTrainingSet) -> Iterator[NDArray[np.uint8]]:
    return (cut_tiles(canvas) for canvas in training_set.canvases)
