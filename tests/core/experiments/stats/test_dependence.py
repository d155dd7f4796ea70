"""The effective sample size: of independent, of correlated, and of grouped values."""

import numpy as np
import pytest

from vqmon.core.experiments.stats.dependence import effective_sample_size


def autoregressive(n: int, correlation: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 1, n)
    for at in range(1, n):
        values[at] = correlation * values[at - 1] + np.sqrt(1 - correlation**2) * values[at]
    return values


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.5, 0.7])
def test_an_autoregressive_sequence_is_worth_what_theory_says(correlation: float) -> None:
    """n (1 - r) / (1 + r) less 5 to 50 % for its uncertainty, in the median of 25 sequences; never much more."""
    sizes = [effective_sample_size([autoregressive(400, correlation, seed)]) for seed in range(25)]
    expected = 400 * (1 - correlation) / (1 + correlation)

    assert 0.5 * expected <= np.median(sizes) <= 0.95 * expected
    assert max(sizes) <= min(400, 1.4 * expected)


def test_programmes_of_six_blocks_are_worth_about_a_sixth() -> None:
    """Forty programmes of six blocks each, in which the noise of a block is small."""
    rng = np.random.default_rng(3)
    values = np.repeat(rng.normal(0, 1, 40), 6) + rng.normal(0, 0.2, 240)
    assert 15 <= effective_sample_size([values]) <= 40


def test_streams_with_means_of_their_own_are_worth_little_more_than_streams() -> None:
    """Four streams of 60 blocks whose means differ by more than their blocks."""
    rng = np.random.default_rng(4)
    assert effective_sample_size([rng.normal(mean, 0.5, 60) for mean in (0, 2, 4, 6)]) < 20


def test_what_cannot_be_measured_counts_in_full() -> None:
    """Single values, equal values, none at all."""
    assert effective_sample_size([np.array([1.0]), np.array([2.0])]) == 2
    assert effective_sample_size([np.ones(30)]) == 30
    assert effective_sample_size([]) == 0
