"""Bounds of a mean for clusters of which a rare one may lose much: betting on a bounded loss.

Twenty titles that all gain a little say nothing about a title in a hundred that loses ten points. Betting does: who
stakes the share 1 / L of a capital on each title loses all of it with the first title that lies L below the mean.
Under a mean of at most m the capital prod(1 + b (x - m)) with 0 < b <= 1 / L is a nonnegative supermartingale, so it
reaches 1 / alpha with probability alpha at most, at all looks together (Waudby-Smith and Ramdas, "Estimating means of
bounded random variables by betting", J. R. Stat. Soc. B 2024, arXiv:2010.09686).
"""

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

STAKES = np.array([1.0, 0.5, 0.25, 0.125]) * 0.999
"""The bets of the mixture, as shares of the largest one: large ones win against rare losses, small ones with noise."""

STAKE_WEIGHTS = np.array([0.7, 0.15, 0.1, 0.05])
"""The share of the capital on each bet."""

GUARDRAIL_LARGEST_LOSS = 8.0
"""For a guardrail, a rare cluster is taken to be worse by up to this many of its margins."""

_BRACKET = 5.0
"""The bound is searched within this many largest losses of the mean."""

_PRECISION = 1e-9
"""Of the bound, as a share of the largest loss."""


def log_capital(values: Floats, mean: float, *, largest_loss: float) -> float:
    """ln of the capital of a bet that the mean of `values` (n,) is above `mean`.

    No value is taken to lie more than `largest_loss` below the mean; one that does counts as if it lay there.
    """
    gains = np.maximum(values - mean, -largest_loss) / largest_loss
    logs = np.log1p(STAKES[:, None] * gains).sum(1)
    highest = float(logs.max())
    return highest + math.log(float((STAKE_WEIGHTS * np.exp(logs - highest)).sum()))


def lower_bound(
    values: Floats, *, largest_loss: float, alpha: float, independence: float = 1.0, at_least: float = -math.inf
) -> float:
    """The lower confidence bound of the mean of `values` (n,) that holds at all looks together.

    `independence` is the share of the values that correlated ones are worth (0..1). A bound that lies below `at_least`
    is not searched for: then that is returned.
    """
    mean, needed = float(values.mean()), -math.log(alpha) / independence
    low, high = mean - _BRACKET * largest_loss, mean
    if at_least > low:
        if at_least >= high or log_capital(values, at_least, largest_loss=largest_loss) < needed:
            return at_least
        low = at_least
    while high - low > _PRECISION * largest_loss:
        middle = (low + high) / 2
        if not low < middle < high:
            break
        if log_capital(values, middle, largest_loss=largest_loss) >= needed:
            low = middle
        else:
            high = middle
    return low
