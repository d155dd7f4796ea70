"""Run lengths of a CUSUM: how often it alarms by chance, and how soon it detects a shift.

All numbers are for independent normal residuals of variance 1 and the sum S = max(0, S + z - k), alarm at S > h.
Markov chain: Brook and Evans, Biometrika 59 (1972) 539; closed form: Siegmund, Sequential Analysis (1985).
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

_STATES = 400
"""States of the Markov chain that S is approximated by; run lengths are within 0.1 % of published tables."""

_MAX_DELAY = 5000.0
"""Values; a shift that takes longer on average counts as not detected."""


def run_length(k: float, h: float, shift: float = 0.0) -> float:
    """Mean number of values to an alarm from S = 0, when the mean of z is `shift`."""
    transitions = _transition_matrix(k, h, shift)
    lengths = np.linalg.solve(np.eye(len(transitions)) - transitions, np.ones(len(transitions)))
    return float(lengths[0])


def siegmund_run_length(k: float, h: float, shift: float = 0.0) -> float:
    """Siegmund's closed form, within a few percent: (exp(-2db) + 2db - 1) / (2 d^2), b = h + 1.166, d = shift - k."""
    b, d = h + 1.166, shift - k
    if abs(d) < 1e-9:
        return b * b
    if -2 * d * b > 700:
        return math.inf
    return (math.exp(-2 * d * b) + 2 * d * b - 1) / (2 * d * d)


def limit_for(k: float, values_per_alarm: float) -> float:
    """The h that gives one false alarm in so many values; by the chain where it can be solved, else in closed form."""
    low, high = 0.1, 60.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if siegmund_run_length(k, middle) < values_per_alarm else (low, middle)
    h = (low + high) / 2
    # The chain loses digits where a false alarm is rarer than this.
    if values_per_alarm > 1e8:
        return h
    for _ in range(6):
        ratio = math.log(values_per_alarm / run_length(k, h))
        h += ratio / (2 * k)
        if abs(ratio) < 1e-4:
            break
    return h


def delay_quantiles(
    k: float, h: float, shift: float, *, probabilities: tuple[float, ...] = (0.5, 0.95)
) -> tuple[float, ...]:
    """Values from a shift to the alarm, as quantiles, when S was in its steady state before.

    Raises ValueError when the mean delay is more than 5000 values.
    """
    if run_length(k, h, shift) > _MAX_DELAY:
        raise ValueError(f"a shift of {shift:g} is not detected with k = {k:g}, h = {h:g}")
    distribution = _steady_state(_transition_matrix(k, h, 0.0))
    transitions = _transition_matrix(k, h, shift)
    quantiles: list[float] = []
    count = 0
    rising = sorted(probabilities)
    while len(quantiles) < len(rising):
        distribution = distribution @ transitions
        count += 1
        while len(quantiles) < len(rising) and distribution.sum() <= 1 - rising[len(quantiles)]:
            quantiles.append(float(count))
    return tuple(quantiles)


def _transition_matrix(k: float, h: float, shift: float) -> NDArray[np.float64]:
    """Transition probabilities between the states without an alarm, shape (_STATES, _STATES)."""
    width = 2 * h / (2 * _STATES - 1)
    # State 0 holds all that is at or below zero.
    levels = np.arange(_STATES) * width
    difference = levels[None, :] - levels[:, None] - (shift - k)
    upper, lower = _normal_cdf(difference + width / 2), _normal_cdf(difference - width / 2)
    transitions = upper - lower
    transitions[:, 0] = upper[:, 0]
    return transitions


def _steady_state(transitions: NDArray[np.float64]) -> NDArray[np.float64]:
    """The distribution of S after many values without an alarm."""
    distribution = np.zeros(len(transitions))
    distribution[0] = 1.0
    for _ in range(2000):
        after = distribution @ transitions
        after /= after.sum()
        if np.abs(after - distribution).max() < 1e-10:
            break
        distribution = after
    return distribution


_erf: Callable[[NDArray[np.float64]], NDArray[np.float64]] = np.vectorize(math.erf, otypes=[np.float64])


def _normal_cdf(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distribution function of the standard normal; differences repeat along diagonals, so each is computed once."""
    values, inverse = np.unique(np.round(x, 12), return_inverse=True)
    return np.asarray(((1 + _erf(values / math.sqrt(2))) / 2)[inverse].reshape(x.shape))
