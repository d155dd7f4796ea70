"""Fits the linear part of a trained head once more, in closed form and on whole pictures: least squares with order."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.data.photos import COLUMNS, ROWS, cut_tiles, split_validation
from models.networks.lite import Lite
from models.train.lite import Material, to_tensor
from models.train.losses import spearman

ROUNDS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadPlan:
    """Ladders and rungs of each that take part, the lead per step (counted up to `furthest`), a pair's weight."""

    ladders: int = 1650
    rungs: int = 8
    margin: float = 0.04
    furthest: int = 4
    weight: float = 3.0
    ridge: float = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """What the head reads of the better picture of a content minus the worse one's [n, width], and the lead due [n]."""

    apart: Tensor
    lead: Tensor


@torch.inference_mode()
def look(network: Lite, pictures: Iterator[NDArray[np.uint8]]) -> Tensor:
    """What the head reads of pictures given as tiles (12, 96, 128, 3): facts, then the hidden layer, [n, width]."""
    network.eval()
    facts = torch.cat([network.facts(to_tensor(tiles), ROWS * COLUMNS) for tiles in pictures])
    return torch.cat([facts, network.hidden(facts)], 1)


def photo_tiles(material: Material) -> Iterator[NDArray[np.uint8]]:
    """The tiles of every photo with a score, in order."""
    return (cut_tiles(canvas) for canvas in material.canvases)


def neighbours(seen: Tensor, steps: list[list[int]], plan: HeadPlan) -> Pairs:
    """Pairs from rungs looked at ladder by ladder; `steps` are the rungs' numbers, each is above all later ones."""
    better, worse, lead, start = [], [], [], 0
    for ladder in steps:
        for high, low in itertools.combinations(range(len(ladder)), 2):
            better.append(start + high)
            worse.append(start + low)
            lead.append(plan.margin * min(ladder[low] - ladder[high], plan.furthest))
        start += len(ladder)
    return Pairs(apart=seen[better] - seen[worse], lead=torch.tensor(lead))


def solve(photos: Tensor, scores: Tensor, pairs: Pairs, plan: HeadPlan) -> tuple[Tensor, float]:
    """(weights [width], bias): ridge regression of scores [n] on photos [n, width] that also keeps pairs in order.

    Squared error on the scores, plus `plan.weight` times that of the pairs that lack their lead, found in a few rounds.
    """
    centre, mean = photos.mean(0), scores.mean()
    x = (photos - centre).double()
    fixed = x.T @ x + plan.ridge * torch.eye(x.shape[1], dtype=torch.float64)
    wanted = x.T @ (scores - mean).double()
    weights = torch.zeros(x.shape[1], dtype=torch.float64)
    for _ in range(ROUNDS):
        short = pairs.apart @ weights.float() < pairs.lead
        active = pairs.apart[short].double()
        pull = plan.weight * active.T
        weights = torch.linalg.solve(fixed + pull @ active, wanted + pull @ pairs.lead[short].double())
    return weights.float(), float(mean - centre @ weights.float())


def refit(network: Lite, material: Material, plan: HeadPlan, *, seed: int, validation: int) -> float:
    """Replace a network's head by the closed-form one; returns the SRCC on the validation rows."""
    fit, held = split_validation(len(material.scores), validation, seed=seed)
    scores = torch.from_numpy(material.scores)
    photos = look(network, photo_tiles(material))
    rows, steps = draw_rungs(material, plan, seed=seed)
    pairs = neighbours(look(network, (material.rungs[row] for row in rows)), steps, plan)
    weights, bias = solve(photos[fit], scores[fit], pairs, plan)
    set_head(network, weights, bias)
    return spearman(photos[held] @ weights, scores[held])


def draw_rungs(material: Material, plan: HeadPlan, *, seed: int) -> tuple[list[int], list[list[int]]]:
    """(rows of `material.rungs`, their steps per ladder) of ladders and rungs drawn at random, best first."""
    random = np.random.default_rng(seed)
    count = min(plan.ladders, len(material.ladders))
    rows: list[int] = []
    steps: list[list[int]] = []
    for number in random.choice(len(material.ladders), count, replace=False):
        held = material.ladders[number].rows
        chosen = np.sort(random.choice(len(held), min(plan.rungs, len(held)), replace=False))
        rows += [held[index] for index in chosen]
        steps.append([int(index) for index in chosen])
    return rows, steps


def set_head(network: Lite, weights: Tensor, bias: float) -> None:
    """Put weights [facts + hidden] and bias into the network in place of those that are there."""
    facts = network.direct.weight.shape[1]
    with torch.no_grad():
        network.direct.weight.copy_(weights[None, :facts])
        network.score.weight.copy_(weights[None, facts:])
        network.score.bias.fill_(bias)
