"""Betting on a bounded loss: what it excludes, what it never excludes, and how often it errs."""

import math

import numpy as np
import pytest

from vqmon.core.experiments.stats.bounded_loss import STAKE_WEIGHTS, STAKES, log_capital, lower_bound


def test_the_capital_is_the_mixture_of_products_of_the_paper() -> None:
    """Written a second time, value by value."""
    values, largest_loss = np.array([1.0, -2.0, 4.0]), 8.0
    capital = sum(
        weight * math.prod(1 + stake / largest_loss * (value - 0.5) for value in values)
        for stake, weight in zip(STAKES, STAKE_WEIGHTS, strict=True)
    )
    assert log_capital(values, 0.5, largest_loss=largest_loss) == pytest.approx(math.log(capital), abs=1e-12)
    assert STAKE_WEIGHTS.sum() == pytest.approx(1)


def test_one_content_at_the_largest_loss_takes_nearly_all_of_the_largest_bet() -> None:
    """Sixty small gains are then worth nothing, and a loss beyond the limit counts as one at the limit."""
    gains = np.full(60, 0.6)
    lost = np.append(gains, -10.0)

    assert log_capital(gains, 0.0, largest_loss=10.0) > math.log(20)
    assert log_capital(lost, 0.0, largest_loss=10.0) < math.log(20)
    assert log_capital(np.append(gains, -40.0), 0.0, largest_loss=10.0) == log_capital(lost, 0.0, largest_loss=10.0)


def test_the_bound_is_where_the_capital_reaches_one_over_alpha() -> None:
    """Twenty contents that gain 2 exclude 0, twenty that gain .25 do not; correlated ones are worth fewer."""
    much, little = np.full(20, 2.0), np.full(20, 0.25)
    bound = lower_bound(much, largest_loss=10.0, alpha=0.05)

    assert log_capital(much, bound, largest_loss=10.0) == pytest.approx(math.log(20), abs=1e-6)
    assert 0 < bound < 2
    assert lower_bound(little, largest_loss=10.0, alpha=0.05) < 0
    assert lower_bound(much, largest_loss=10.0, alpha=0.05, independence=0.5) < bound


def test_contents_of_which_a_few_lose_much_give_no_wrong_winner() -> None:
    """5 % lose five points and the rest gain .26, so the mean is 0: at most 5 % of 400 runs, at any of 100 looks."""
    rng = np.random.default_rng(7)
    wrong = 0
    for _ in range(400):
        values = np.where(rng.random(100) < 0.05, -5.0, 5 * 0.05 / 0.95)
        logs = np.cumsum(np.log1p(STAKES[:, None] / 10 * values), 1)
        wrong += bool((np.log(STAKE_WEIGHTS @ np.exp(logs)) >= math.log(20)).any())
    assert wrong <= 20
