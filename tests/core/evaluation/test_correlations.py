"""Correlations and counts of pairs, with values by SciPy 1.16 and by counting."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqmon.core.evaluation.correlations import count_pairs, mid_ranks, pearson, spearman

PREDICTIONS = np.array(
    [-0.1, 1.9, 0.9, -0.5, -0.1, -1.1, 1.0, -0.1, 1.1, -2.2, 2.3, 0.3, 0.6, 0.3, 0.5, 1.7, -0.3, 0.4, 0.2, 0.6]
)
SCORES = np.array([51, 69, 69, 40, 44, 39, 61, 49, 64, 29, 70, 48, 63, 47, 42, 60, 65, 46, 47, 63], dtype=np.float64)


def test_correlations_are_those_of_scipy() -> None:
    """`scipy.stats.spearmanr`, `pearsonr` and `kendalltau` of samples with ties."""
    assert float(spearman(PREDICTIONS, SCORES)) == pytest.approx(0.7246326782514325, abs=1e-12)
    assert float(pearson(PREDICTIONS, SCORES)) == pytest.approx(0.8034062245494893, abs=1e-12)
    assert float(count_pairs(PREDICTIONS, SCORES).kendall_tau_b) == pytest.approx(0.5537714443208186, abs=1e-12)


def test_many_samples_at_once_give_what_each_gives_alone() -> None:
    """Rows are independent of each other."""
    rng = np.random.default_rng(3)
    rows = rng.integers(0, len(SCORES), (7, len(SCORES)))
    together = count_pairs(PREDICTIONS[rows], SCORES[rows])
    for row, indices in enumerate(rows):
        alone = count_pairs(PREDICTIONS[indices], SCORES[indices])
        assert together.kendall_tau_b[row] == alone.kendall_tau_b
        assert together.pairwise_accuracy[row] == alone.pairwise_accuracy
        assert spearman(PREDICTIONS[rows], SCORES[rows])[row] == spearman(PREDICTIONS[indices], SCORES[indices])


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=30))
def test_pairs_are_counted_as_by_comparing_each_pair(items: list[tuple[int, int]]) -> None:
    """Concordant, discordant and tied pairs, at every number of items and with many ties."""
    counted = count_pairs(*np.array(items, dtype=np.float64).T)
    products = [(np.sign(b[0] - a[0]), np.sign(b[1] - a[1])) for a, b in combinations(items, 2)]
    assert counted.concordant == sum(x * y > 0 for x, y in products)
    assert counted.discordant == sum(x * y < 0 for x, y in products)
    assert counted.tied_predictions == sum(x == 0 and y != 0 for x, y in products)
    assert counted.tied_scores == sum(x != 0 and y == 0 for x, y in products)


def test_equal_values_share_the_mean_of_their_ranks() -> None:
    """Also in the middle of a row."""
    assert mid_ranks(np.array([[3.0, 1.0, 3.0, 2.0], [5.0, 5.0, 5.0, 5.0]])).tolist() == [
        [3.5, 1.0, 3.5, 2.0],
        [2.5, 2.5, 2.5, 2.5],
    ]


def test_a_tie_counts_as_half_right() -> None:
    """Of the pairs with different human scores: one right, one tied, one wrong."""
    counts = count_pairs(np.array([1.0, 1.0, 0.0]), np.array([1.0, 2.0, 1.5]))
    assert (counts.concordant, counts.discordant, counts.tied_predictions) == (1, 1, 1)
    assert counts.pairwise_accuracy == 0.5


def test_without_variance_a_correlation_is_undefined() -> None:
    """NaN instead of a warning or a number."""
    flat = np.ones(5)
    assert np.isnan(spearman(flat, np.arange(5.0)))
    assert np.isnan(count_pairs(flat, np.arange(5.0)).kendall_tau_b)
