"""Rank and linear correlations of predictions with human scores, for one sample or for many resamples at once.

Arrays have the shape (resamples, items), or (items,); statistics have the shape (resamples,), or (). A statistic is NaN
where predictions or human scores do not vary.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairCounts:
    """How many of the pairs of items are ordered alike by predictions and human scores; one count per resample."""

    concordant: Floats
    discordant: Floats
    # pairs with equal predictions and different human scores, and the reverse
    tied_predictions: Floats
    tied_scores: Floats

    @property
    def kendall_tau_b(self) -> Floats:
        """Kendall's tau-b, -1..1 (Kendall, "The treatment of ties in ranking problems", Biometrika 1945)."""
        untied = self.concordant + self.discordant
        with np.errstate(invalid="ignore", divide="ignore"):
            tau: Floats = (self.concordant - self.discordant) / np.sqrt(
                (untied + self.tied_predictions) * (untied + self.tied_scores)
            )
        return tau

    @property
    def pairwise_accuracy(self) -> Floats:
        """The share of the pairs with different human scores that are ordered right, 0..1; a tie counts half."""
        pairs = self.concordant + self.discordant + self.tied_predictions
        with np.errstate(invalid="ignore", divide="ignore"):
            accuracy: Floats = (self.concordant + self.tied_predictions / 2) / pairs
        return accuracy


def mid_ranks(values: Floats) -> Floats:
    """Ranks from 1 along the last axis; equal values share the mean of their ranks."""
    order = np.argsort(values, axis=-1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=-1)
    first, last = _run_bounds(ordered)
    ranks = np.empty_like(values, dtype=np.float64)
    np.put_along_axis(ranks, order, (first + last) / 2 + 1, axis=-1)
    return ranks


def pearson(predictions: Floats, scores: Floats) -> Floats:
    """Pearson's linear correlation along the last axis, -1..1."""
    x = predictions - predictions.mean(axis=-1, keepdims=True)
    y = scores - scores.mean(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation: Floats = np.clip((x * y).sum(-1) / np.sqrt((x * x).sum(-1) * (y * y).sum(-1)), -1.0, 1.0)
    return correlation


def spearman(predictions: Floats, scores: Floats) -> Floats:
    """Spearman's rank correlation along the last axis, -1..1: Pearson's of the mid-ranks."""
    return pearson(mid_ranks(predictions), mid_ranks(scores))


def count_pairs(predictions: Floats, scores: Floats) -> PairCounts:
    """Count the pairs along the last axis in O(n log^2 n) (Knight, JASA 1966)."""
    x, y = np.atleast_2d(predictions), np.atleast_2d(scores)
    count = x.shape[1]
    x_ranks, y_ranks = _dense_ranks(x), _dense_ranks(y)
    # By prediction, and by human score where predictions are equal.
    keys = np.sort(x_ranks * (count + 1) + y_ranks, axis=1)
    both_tied = _tied_pairs(keys)
    x_tied, y_tied = _tied_pairs(np.sort(x_ranks, axis=1)), _tied_pairs(np.sort(y_ranks, axis=1))
    discordant = _inversions(keys % (count + 1))
    total = count * (count - 1) / 2
    counts = PairCounts(
        concordant=total - x_tied - y_tied + both_tied - discordant,
        discordant=discordant,
        tied_predictions=x_tied - both_tied,
        tied_scores=y_tied - both_tied,
    )
    return counts if np.ndim(predictions) > 1 else _first(counts)


def _first(counts: PairCounts) -> PairCounts:
    return PairCounts(
        concordant=counts.concordant[0],
        discordant=counts.discordant[0],
        tied_predictions=counts.tied_predictions[0],
        tied_scores=counts.tied_scores[0],
    )


def _run_bounds(ordered: NDArray[np.generic]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The first and the last index of the run of equal values to which each element of a sorted axis belongs."""
    index = np.broadcast_to(np.arange(ordered.shape[-1]), ordered.shape)
    begins = np.ones(ordered.shape, dtype=bool)
    begins[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    ends = np.ones(ordered.shape, dtype=bool)
    ends[..., :-1] = begins[..., 1:]
    first = np.maximum.accumulate(np.where(begins, index, 0), axis=-1)
    last = np.minimum.accumulate(np.where(ends, index, ordered.shape[-1])[..., ::-1], axis=-1)[..., ::-1]
    return first, last


def _dense_ranks(values: Floats) -> NDArray[np.int64]:
    """Integers (rows, items) that are ordered and tied as the values of each row."""
    order = np.argsort(values, axis=1, kind="stable")
    first, _ = _run_bounds(np.take_along_axis(values, order, axis=1))
    ranks = np.empty(values.shape, dtype=np.int64)
    np.put_along_axis(ranks, order, first, axis=1)
    return ranks


def _tied_pairs(ordered: NDArray[np.int64]) -> Floats:
    """How many pairs of each sorted row are equal."""
    first, _ = _run_bounds(ordered)
    pairs: Floats = np.asarray((np.arange(ordered.shape[1]) - first).sum(axis=1), dtype=np.float64)
    return pairs


def _inversions(values: NDArray[np.int64]) -> Floats:
    """How many pairs of each row (rows, items) are in falling order: a merge sort that counts."""
    rows, count = values.shape
    padded = 1 << max(0, count - 1).bit_length()
    blocks = np.full((rows, padded), np.iinfo(np.int64).max)
    blocks[:, :count] = values
    inversions = np.zeros(rows)
    half = 1
    while half < padded:
        blocks = blocks.reshape(rows, -1, 2 * half)
        # Stable: of equal values the left one comes first, so that ties are not counted.
        order = np.argsort(blocks, axis=2, kind="stable")
        is_left = order < half
        left_after = half - np.cumsum(is_left, axis=2)
        inversions += np.where(is_left, 0, left_after).sum(axis=(1, 2))
        blocks = np.take_along_axis(blocks, order, axis=2)
        half *= 2
    return inversions
