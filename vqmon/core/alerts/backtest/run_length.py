"""How often a CUSUM alarms by chance, and how soon it sees a shift: the arithmetic behind the settings.

All numbers are for independent normal residuals of variance 1 and steps S = max(0, S + z - k), alarm at S > h.
Markov chain: Brook and Evans, Biometrika 59 (1972) 539; closed form: Siegmund, Sequential Analysis (1985).
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

STATES = 400
"""Of the chain that stands for S; with so many the run lengths are within 0.1 % of the tables."""

LONGEST = 5000.0
"""Steps; who waits longer sees nothing."""


def run_length(k: float, h: float, shift: float = 0.0) -> float:
    """Mean number of steps to an alarm from S = 0, when the mean of z is `shift`."""
    moves = _moves(k, h, shift)
    lengths = np.linalg.solve(np.eye(len(moves)) - moves, np.ones(len(moves)))
    return float(lengths[0])


def siegmund_length(k: float, h: float, shift: float = 0.0) -> float:
    """The same in closed form, within a few percent: b = h + 1.166, (exp(-2db) + 2db - 1) / (2 d^2), d = shift - k."""
    b, d = h + 1.166, shift - k
    if abs(d) < 1e-9:
        return b * b
    if -2 * d * b > 700:
        return math.inf
    return (math.exp(-2 * d * b) + 2 * d * b - 1) / (2 * d * d)


def limit_for(k: float, steps: float) -> float:
    """The h that gives one false alarm in so many steps, by the chain where it can be solved, else in closed form."""
    low, high = 0.1, 60.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if siegmund_length(k, middle) < steps else (low, middle)
    h = (low + high) / 2
    # The chain loses digits where a false alarm is rarer than this.
    if steps > 1e8:
        return h
    for _ in range(6):
        ratio = math.log(steps / run_length(k, h))
        h += ratio / (2 * k)
        if abs(ratio) < 1e-4:
            break
    return h


def delay_quantiles(k: float, h: float, shift: float, *, at: tuple[float, ...] = (0.5, 0.95)) -> tuple[float, ...]:
    """Steps from a shift to the alarm, as quantiles, when S had settled before (steady state).

    Raises ValueError when that takes more than LONGEST on average.
    """
    if run_length(k, h, shift) > LONGEST:
        raise ValueError(f"a shift of {shift:g} is not seen with k = {k:g}, h = {h:g}")
    start = _settled(_moves(k, h, 0.0))
    moves = _moves(k, h, shift)
    found: list[float] = []
    place, steps = start, 0
    wanted = sorted(at)
    while len(found) < len(wanted):
        place = place @ moves
        steps += 1
        while len(found) < len(wanted) and place.sum() <= 1 - wanted[len(found)]:
            found.append(float(steps))
    return tuple(found)


def _moves(k: float, h: float, shift: float) -> NDArray[np.float64]:
    """How S moves between the states of the chain, those without an alarm."""
    width = 2 * h / (2 * STATES - 1)
    # S itself moves in steps of `width`; state 0 holds all that is at or below zero.
    places = np.arange(STATES) * width
    difference = places[None, :] - places[:, None] - (shift - k)
    upper, lower = _normal(difference + width / 2), _normal(difference - width / 2)
    moves = upper - lower
    moves[:, 0] = upper[:, 0]
    return moves


def _settled(moves: NDArray[np.float64]) -> NDArray[np.float64]:
    place = np.zeros(len(moves))
    place[0] = 1.0
    for _ in range(2000):
        after = place @ moves
        after /= after.sum()
        if np.abs(after - place).max() < 1e-10:
            break
        place = after
    return place


_erf: Callable[[NDArray[np.float64]], NDArray[np.float64]] = np.vectorize(math.erf, otypes=[np.float64])


def _normal(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The normal distribution function; differences repeat along diagonals, so each is worked out once."""
    values, places = np.unique(np.round(x, 12), return_inverse=True)
    return np.asarray(((1 + _erf(values / math.sqrt(2))) / 2)[places].reshape(x.shape))
