"""What level words mean in numbers: probabilities, expectations, doubt, and the score behind comparisons.

The arithmetic of Q-Align (Wu et al., ICML 2024) and of Compare2Score (Zhu et al., NeurIPS 2024).
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Link = Literal["logistic", "normal"]


def shares(logits: NDArray[np.floating], *, temperature: float) -> Floats:
    """Probabilities of the levels along the last axis.

    >>> shares(np.zeros((1, 2)), temperature=1.0).tolist()
    [[0.5, 0.5]]
    """
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    raised = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    found: Floats = raised / raised.sum(axis=-1, keepdims=True)
    return found


def entropy(probabilities: Floats) -> Floats:
    """Shannon's entropy along the last axis over that of equal shares: 0 = one level is sure, 1 = all are alike."""
    logs = np.log(np.clip(probabilities, np.finfo(np.float64).tiny, None))
    spread: Floats = -(probabilities * logs).sum(axis=-1) / np.log(probabilities.shape[-1])
    return np.clip(spread, 0.0, 1.0)


def place_among(preferred: Sequence[float] | Floats, anchors: Floats, *, link: Link) -> float:
    """0..100: where a picture stands that is preferred over anchor j with probability preferred[j].

    `anchors` holds P(anchor i beats anchor j). Scores of all maximise sum_ij C_ij log F(s_i - s_j) - |s|^2 / 2, which
    has one optimum; 0 is the lowest of them and 100 the highest.
    """
    count = len(anchors)
    wins = np.full((count + 1, count + 1), 0.5)
    wins[:count, :count] = anchors
    wins[count, :count] = preferred
    wins[:count, count] = 1 - np.asarray(preferred, dtype=np.float64)
    scores = most_likely(wins, link=link)
    low, high = float(scores.min()), float(scores.max())
    return 100.0 * (float(scores[-1]) - low) / (high - low)


def most_likely(wins: Floats, *, link: Link, tolerance: float = 1e-10) -> Floats:
    """The scores that explain P(i beats j) best, by damped Newton steps on a strictly concave problem."""
    slope_of, gain_of = _LINKS[link]
    scores = np.zeros(len(wins))
    for _ in range(100):
        apart = scores[:, None] - scores
        slope, bend = slope_of(apart)
        pull, curve = wins * slope, wins * bend
        curve = curve + curve.T
        np.fill_diagonal(curve, 0)
        gradient = (pull - pull.T).sum(axis=1) - scores
        if np.abs(gradient).max() < tolerance:
            break
        step = np.linalg.solve(np.diag(curve.sum(axis=1) - 1) - curve, gradient)
        before, factor = _gain(scores, wins, gain_of), 1.0
        while factor > 1e-6 and _gain(scores - factor * step, wins, gain_of) < before - 1e-12:
            factor /= 2
        scores = scores - factor * step
    return scores


def _gain(scores: Floats, wins: Floats, log: Callable[[Floats], Floats]) -> float:
    return float((wins * log(scores[:, None] - scores)).sum() - (scores**2).sum() / 2)


def _logistic(x: Floats) -> tuple[Floats, Floats]:
    falling = 1 / (1 + np.exp(np.clip(x, -700, 700)))
    return falling, -falling * (1 - falling)


def _normal(x: Floats) -> tuple[Floats, Floats]:
    # density over distribution, from logarithms so that nothing underflows far to the left
    ratio = np.exp(-(x**2) / 2 - math.log(math.sqrt(2 * math.pi)) - _log_normal(x))
    return ratio, -ratio * (x + ratio)


def _log_normal(x: Floats) -> Floats:
    """log of the normal distribution; erfc keeps its relative precision down to x = -37."""
    return np.array([_log_normal_at(one) for one in x.ravel()]).reshape(x.shape)


def _log_normal_at(x: float) -> float:
    if x > 0:
        return math.log1p(-math.erfc(x / math.sqrt(2)) / 2)
    if x > -37:
        return math.log(math.erfc(-x / math.sqrt(2)) / 2)
    return -x * x / 2 - math.log(-x * math.sqrt(2 * math.pi)) + math.log1p(-1 / x**2 + 3 / x**4)


_LINKS: dict[Link, tuple[Callable[[Floats], tuple[Floats, Floats]], Callable[[Floats], Floats]]] = {
    "logistic": (_logistic, lambda x: -np.logaddexp(0.0, -x)),
    "normal": (_normal, _log_normal),
}
"""First and second derivative of log F, and log F itself."""
