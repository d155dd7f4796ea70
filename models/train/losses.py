"""Training losses: correlation with human scores, and ranking of pictures or of the rungs of one ladder."""

import torch
from torch import Tensor


def plcc_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """(1 - Pearson's linear correlation) / 2 of two vectors [n]: 0 for perfect correlation, 1 for the opposite."""
    a, b = predicted - predicted.mean(), target - target.mean()
    correlation: Tensor = (a * b).sum() / (a.norm() * b.norm()).clamp_min(1e-6)
    return (1 - correlation) / 2


def scaled_hinge_loss(predicted: Tensor, target: Tensor, *, margin: float) -> Tensor:
    """Pairwise hinge over the pairs of [n] with different targets; the margin grows with the target difference.

    A pair must be `margin` apart per unit of target difference, and at most `margin` apart
    (Gao et al., learning to rank for blind image quality assessment).
    """
    target_difference = target[:, None] - target[None, :]
    lead = predicted[:, None] - predicted[None, :]
    is_better = target_difference > 0
    shortfall = (margin * target_difference.clamp(max=1) - lead).clamp_min(0) * is_better
    return shortfall.sum() / is_better.sum().clamp_min(1)


def ladder_hinge_loss(predicted: Tensor, steps: Tensor, *, margin: float) -> Tensor:
    """Pairwise hinge within each ladder of predicted [ladders, rungs], never between ladders.

    A rung with the larger step number (`steps` [ladders, rungs]) is worse and must score at least `margin` lower per
    step.
    """
    step_difference = (steps[:, None, :] - steps[:, :, None]).clamp_min(0)
    lead = predicted[:, :, None] - predicted[:, None, :]
    is_better = step_difference > 0
    shortfall = (margin * step_difference - lead).clamp_min(0) * is_better
    return shortfall.sum() / is_better.sum().clamp_min(1)


def rank_hinge_loss(predicted: Tensor, target: Tensor, *, margin: float = 0.05) -> Tensor:
    """Mean over the pairs of [n] with target_i > target_j of max(0, margin - (predicted_i - predicted_j)).

    `margin` is in units of `predicted` and does not depend on how far the targets are apart.
    """
    is_better = target[:, None] > target[None, :]
    shortfall = (margin - (predicted[:, None] - predicted[None, :])).clamp_min(0) * is_better
    return shortfall.sum() / is_better.sum().clamp_min(1)


def plcc_regression_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """RQ-VQA's PLCC loss of [n]: (mean((p - t)^2) + mean((r p - t)^2)) / 8 with z-scores p, t and r = mean(p t).

    The first term alone is proportional to `plcc_loss`; the second rewards a high correlation a little more.
    """
    p, t = ((values - values.mean()) / (values.std(correction=0) + 1e-8) for values in (predicted, target))
    correlation = (p * t).mean()
    loss: Tensor = (((p - t) ** 2).mean() + ((correlation * p - t) ** 2).mean()) / 8
    return loss


def l1_rank_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error plus a ranking term, as SimpleVQA trains (Sun et al., ACM MM 2022); targets within 0..1.

    The ranking term is the mean over pairs of [n] with 0 < |target difference| < 1 of the predicted difference where it
    contradicts the targets.
    """
    target_difference = target[:, None] - target[None, :]
    lead = predicted[:, None] - predicted[None, :]
    is_counted = (target_difference.abs() > 0) & (target_difference.abs() < 1)
    wrong_order = (-target_difference.sign() * lead).clamp_min(0) * is_counted
    return l1_loss(predicted, target) + wrong_order.sum() / is_counted.sum().clamp_min(1)


def fidelity_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean over pairs i < j of [n] of 1 - sqrt(P Q) - sqrt((1 - P)(1 - Q)).

    P = Phi((predicted_i - predicted_j) / sqrt 2) is Thurstone's case V; Q is 1 when target i is larger, 0 when target j
    is, and 1/2 for equal targets (Tsai et al., FRank, SIGIR 2007; used by LIQE).
    """
    i, j = torch.triu_indices(len(predicted), len(predicted), offset=1)
    order = (target[i] > target[j]).to(predicted) + 0.5 * (target[i] == target[j]).to(predicted)
    probability = torch.special.ndtr((predicted[i] - predicted[j]) / 2**0.5).clamp(1e-6, 1 - 1e-6)
    # Separate square roots: the root of a product has no gradient where the order is 0.
    return (1 - probability.sqrt() * order.sqrt() - (1 - probability).sqrt() * (1 - order).sqrt()).mean()


def l1_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error of two vectors [n]."""
    return (predicted - target).abs().mean()


def spearman(predicted: Tensor, target: Tensor) -> float:
    """Spearman's rank correlation of two vectors [n]; equal values share their mean rank."""
    ranks = [_mean_ranks(values) - (len(values) - 1) / 2 for values in (predicted.double(), target.double())]
    return float((ranks[0] * ranks[1]).sum() / (ranks[0].norm() * ranks[1].norm()).clamp_min(1e-12))


def _mean_ranks(values: Tensor) -> Tensor:
    _, inverse, counts = torch.unique(values, return_inverse=True, return_counts=True)
    last_rank = counts.cumsum(0).double()
    ranks: Tensor = (last_rank - (counts.double() + 1) / 2)[inverse]
    return ranks
