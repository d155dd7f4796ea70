"""Fits the linear part of a trained head once more, in closed form and on whole pictures: least squares with order."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.data import COLUMNS, ROWS, cut_tiles, split_validation
from models.lite import Lite
from models.losses import spearman
from models.train import Material, to_tensor

RIDGES = (30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0)
ROUNDS = 4
Parts = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadPlan:
    """How many ladders and rungs of each take part, how far a rung must lead the next, and what a pair weighs."""

    ladders: int = 500
    rungs: int = 4
    margin: float = 0.06
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Pictures as the head reads them: facts [n, width] and what the rest of the head says of them [n]."""

    facts: Tensor
    rest: Tensor

    def take(self, rows: NDArray[np.int64]) -> "Seen":
        chosen = torch.from_numpy(rows)
        return Seen(facts=self.facts[chosen], rest=self.rest[chosen])


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Pictures of one content, the better one's minus the worse one's, and how far apart they must score [n]."""

    facts: Tensor
    rest: Tensor
    lead: Tensor


@torch.inference_mode()
def look(network: Lite, pictures: Iterator[NDArray[np.uint8]]) -> Seen:
    """Every picture, given as its 12 tiles (12, 96, 128, 3), once through the network."""
    network.eval()
    facts = torch.cat([network.facts(to_tensor(tiles), ROWS * COLUMNS) for tiles in pictures])
    return Seen(facts=facts, rest=network.score(network.hidden(facts)).squeeze(1))


def photo_tiles(material: Material) -> Iterator[NDArray[np.uint8]]:
    """The tiles of every photo with a score, in order."""
    return (cut_tiles(canvas) for canvas in material.canvases)


def neighbours(seen: Seen, steps: list[list[int]], *, margin: float) -> Pairs:
    """Pairs from rungs looked at ladder by ladder; `steps` are the rungs' numbers, each is above all later ones."""
    better, worse, lead, start = [], [], [], 0
    for ladder in steps:
        for high, low in itertools.combinations(range(len(ladder)), 2):
            better.append(start + high)
            worse.append(start + low)
            lead.append(margin * (ladder[low] - ladder[high]))
        start += len(ladder)
    facts = seen.facts[better] - seen.facts[worse]
    return Pairs(facts=facts, rest=seen.rest[better] - seen.rest[worse], lead=torch.tensor(lead))


def solve(
    photos: Seen, scores: Tensor, pairs: Pairs, *, ridge: float, weight: float, start: Tensor
) -> tuple[Tensor, float]:
    """(weights [width], bias) that are closest to `start` [width] at the price `ridge` for the squared distance.

    Squared error on the scores, plus `weight` times that of the pairs that lack their lead, found in a few rounds.
    """
    double = photos.facts.double()
    centre = double.mean(0)
    x, target = double - centre, (scores - photos.rest).double()
    fixed = x.T @ x + ridge * torch.eye(x.shape[1], dtype=torch.float64)
    wanted = x.T @ (target - target.mean()) + ridge * start.double()
    weights = start.double()
    for _ in range(ROUNDS):
        short = pairs.rest + (pairs.facts.double() @ weights) < pairs.lead
        active = pairs.facts[short].double()
        lack = (pairs.lead - pairs.rest)[short].double()
        weights = torch.linalg.solve(fixed + weight * active.T @ active, wanted + weight * active.T @ lack)
    return weights.float(), float(target.mean() - centre @ weights)


def best_head(
    photos: Seen, scores: Tensor, pairs: Pairs, *, weight: float, start: Tensor, parts: Parts
) -> tuple[Tensor, float, str]:
    """(weights, bias, what was tried) of the ridge with the best SRCC on the second of the `parts` of the rows."""
    fit, validation = parts
    tried: list[tuple[float, float, Tensor, float]] = []
    kept, held = photos.take(fit), photos.take(validation)
    for ridge in RIDGES:
        weights, bias = solve(kept, scores[fit], pairs, ridge=ridge, weight=weight, start=start)
        tried.append((spearman(held.rest + held.facts @ weights, scores[validation]), ridge, weights, bias))
    _, _, weights, bias = max(tried, key=lambda one: one[0])
    return weights, bias, ", ".join(f"ridge {ridge:g}: {srcc:.4f}" for srcc, ridge, _, _ in tried)


def refit(network: Lite, material: Material, plan: HeadPlan, *, seed: int, validation: int) -> str:
    """Replace a network's linear head by the best one found; returns what was tried."""
    parts = split_validation(len(material.scores), validation, seed=seed)
    scores = torch.from_numpy(material.scores)
    photos = look(network, photo_tiles(material))
    rows, steps = draw_rungs(material, plan, seed=seed)
    pairs = neighbours(look(network, (material.rungs[row] for row in rows)), steps, margin=plan.margin)
    start = network.direct.weight.detach()[0]
    weights, bias, tried = best_head(photos, scores, pairs, weight=plan.weight, start=start, parts=parts)
    set_head(network, weights, bias)
    return tried


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
    """Put the weights into the network; the bias adds to the one that is there."""
    with torch.no_grad():
        network.direct.weight.copy_(weights[None])
        network.score.bias.add_(bias)
