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


def rank_hinge(predicted: Tensor, target: Tensor, *, margin: float = 0.05) -> Tensor:
    """Mean over the ordered pairs of [n] with target_i > target_j of max(0, margin - (predicted_i - predicted_j)).

    `margin` is in units of `predicted`, the same for near and far pairs.
    """
    better = target[:, None] > target[None, :]
    short = (margin - (predicted[:, None] - predicted[None, :])).clamp_min(0) * better
    return short.sum() / better.sum().clamp_min(1)


def plcc_regression(predicted: Tensor, target: Tensor) -> Tensor:
    """RQ-VQA's PLCC loss of [n]: with z-scores p, t and r = mean(p t), (|p - t|^2 + |r p - t|^2) / 8.

    Both squares are means. Without the second term it is `plcc`; with it, a good correlation pays a little more.
    """
    p, t = ((one - one.mean()) / (one.std(correction=0) + 1e-8) for one in (predicted, target))
    correlation = (p * t).mean()
    loss: Tensor = (((p - t) ** 2).mean() + ((correlation * p - t) ** 2).mean()) / 8
    return loss


def l1_rank(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean |difference| plus the mean over pairs of [n] with 0 < |target difference| < 1 of how wrong their order is.

    As SimpleVQA trains (Sun et al., ACM MM 2022); targets are meant to be within 0..1.
    """
    apart = target[:, None] - target[None, :]
    lead = predicted[:, None] - predicted[None, :]
    counted = (apart.abs() > 0) & (apart.abs() < 1)
    wrong = (-apart.sign() * lead).clamp_min(0) * counted
    return l1(predicted, target) + wrong.sum() / counted.sum().clamp_min(1)


def fidelity(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean over pairs i < j of [n]: 1 - sqrt(P Q) - sqrt((1-P)(1-Q)), Q the order of the targets (1/2 when equal).

    P = Phi((s_i - s_j) / sqrt 2), Thurstone's case V (Tsai et al., FRank, SIGIR 2007, as LIQE trains).
    """
    i, j = torch.triu_indices(len(predicted), len(predicted), offset=1)
    order = (target[i] > target[j]).to(predicted) + 0.5 * (target[i] == target[j]).to(predicted)
    chance = torch.special.ndtr((predicted[i] - predicted[j]) / 2**0.5).clamp(1e-6, 1 - 1e-6)
    # The root of a product would have no gradient where the order is 0.
    return (1 - chance.sqrt() * order.sqrt() - (1 - chance).sqrt() * (1 - order).sqrt()).mean()


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
