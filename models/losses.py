"""Losses that train a scorer: agreement with human scores and order within one content; all are pure."""

import torch
from torch import Tensor


def plcc(predicted: Tensor, target: Tensor) -> Tensor:
    """(1 - Pearson's linear correlation) / 2 of two vectors [n]: 0 when they agree, 1 when they are opposite."""
    a, b = predicted - predicted.mean(), target - target.mean()
    alike: Tensor = (a * b).sum() / (a.norm() * b.norm()).clamp_min(1e-6)
    return (1 - alike) / 2


def pair_hinge(predicted: Tensor, target: Tensor, *, margin: float) -> Tensor:
    """Mean over the pairs of [n] that differ in `target`: how far the better one falls short of leading by `margin`.

    `margin` is per unit of target difference, at most `margin` itself (Gao et al., learning to rank for blind quality).
    """
    apart = target[:, None] - target[None, :]
    lead = predicted[:, None] - predicted[None, :]
    short = (margin * apart.clamp(max=1) - lead).clamp_min(0) * (apart > 0)
    return short.sum() / (apart > 0).sum().clamp_min(1)


def ladder_hinge(predicted: Tensor, steps: Tensor, *, margin: float) -> Tensor:
    """Mean over pairs of rungs, predicted [ladders, rungs]: the lower rung (larger of `steps` [ladders, rungs]) must
    score at least `margin` per step below the higher one."""
    apart = (steps[:, None, :] - steps[:, :, None]).clamp_min(0)
    lead = predicted[:, :, None] - predicted[:, None, :]
    short = (margin * apart - lead).clamp_min(0) * (apart > 0)
    return short.sum() / (apart > 0).sum().clamp_min(1)


def l1(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of two vectors [n]."""
    return (predicted - target).abs().mean()


def spearman(predicted: Tensor, target: Tensor) -> float:
    """Spearman's rank correlation of two vectors [n]; equal values share their mean rank."""
    ranks = [_ranks(one) - (len(one) - 1) / 2 for one in (predicted.double(), target.double())]
    return float((ranks[0] * ranks[1]).sum() / (ranks[0].norm() * ranks[1].norm()).clamp_min(1e-12))


def _ranks(values: Tensor) -> Tensor:
    _, inverse, counts = torch.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    ranks: Tensor = (last - (counts.double() + 1) / 2)[inverse]
    return ranks
