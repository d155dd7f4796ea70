"""Compare2Score: pictures compared by mPLUG-Owl2 with five anchors, and the score that explains the comparisons best.

Zhu et al., "Adaptive Image Quality Assessment via Teaching Large Multimodal Model to Compare", NeurIPS 2024.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfcx, expit, log_ndtr

from models.networks.owl.owl import PICTURE_ID
from models.networks.owl.q_align import softmax

LEVELS = MappingProxyType({"inferior": 20773, "worse": 15029, "similar": 2788, "better": 2253, "superior": 11558})
"""Level word of the second picture against the first -> the token id that stands for it, worst first."""
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
TEMPERATURE = 100.0

# "USER: <first> <second> Compared with the first image, what is your quality rating for second image? \nASSISTANT: The
# quality of the second image is"
PROMPT = (
    *(1, 3148, 1001, 29901, 29871, PICTURE_ID, 259, PICTURE_ID, 29871, 3831, 1965, 411, 278, 937, 1967, 29892, 825),
    *(338, 596, 11029, 21700, 363, 1473, 1967, 29973, 29871, 13, 22933, 9047, 13566, 29901, 450, 11029, 310, 278),
    *(1473, 1967, 338),
)
"""Token ids of the LLaMA tokenizer; the anchor is the first picture."""

ANCHOR_MATRIX = np.array(
    [
        [0.5, 0.25912809, 3.3130276e-04, 1.6087297e-06, 1.1803027e-09],
        [0.74087191, 0.5, 0.24985345, 9.9954158e-02, 1.8675303e-08],
        [0.99966872, 0.75014657, 0.5, 0.49968880, 0.24852838],
        [0.99999839, 0.90004587, 0.50031120, 0.5, 0.25400183],
        [1.0, 1.0, 0.75147164, 0.74599814, 0.5],
    ],
    dtype=np.float32,
)
"""P(anchor i beats anchor j) of the published anchors, worst picture first."""

Matrix = NDArray[np.float32] | NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """How a difference of scores becomes a probability: its logarithm, and that one's first two derivatives."""

    log: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    slope: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    bend: Callable[[NDArray[np.float64]], NDArray[np.float64]]


def _mills(x: NDArray[np.float64]) -> NDArray[np.float64]:
    # density over distribution of the normal law, without underflow far to the left
    ratio: NDArray[np.float64] = np.sqrt(2 / np.pi) / erfcx(-x / np.sqrt(2))
    return ratio


LINKS = MappingProxyType(
    {
        # the published scorer class and its dataset script
        "logistic": Link(
            log=lambda x: -np.logaddexp(0.0, -x),
            slope=lambda x: expit(-x),
            bend=lambda x: -expit(x) * expit(-x),
        ),
        # Thurstone's case V, as in the paper and in the published model's own `score`
        "normal": Link(
            log=log_ndtr,
            slope=_mills,
            bend=lambda x: -_mills(x) * (x + _mills(x)),
        ),
    }
)
_LEAST = 1e-6
"""The published objective cuts probabilities off below this."""


def preferences(logits: NDArray[np.float32], *, temperature: float = TEMPERATURE) -> NDArray[np.float32]:
    """P(second picture is the better one) from logits (..., 5) in the order of LEVELS, in float32.

    At the published temperature of 100 all P lie near 0.5, so half precision, as published, would cost resolution.
    """
    shares = softmax(np.asarray(logits, dtype=np.float32) / np.float32(temperature))
    preferred: NDArray[np.float32] = shares @ np.asarray(WEIGHTS, dtype=np.float32)
    return preferred


def comparison_matrix(preferred: Sequence[float] | Matrix, anchors: Matrix = ANCHOR_MATRIX) -> NDArray[np.float64]:
    """P(i beats j) of the anchors and, last, of the picture that is preferred over anchor j with preferred[j]."""
    count = len(anchors)
    matrix = np.full((count + 1, count + 1), 0.5, dtype=np.float64)
    matrix[:count, :count] = anchors
    matrix[count, :count] = preferred
    matrix[:count, count] = 1 - np.asarray(preferred, dtype=np.float64)
    return matrix


def map_scores(matrix: Matrix, *, link: str = "logistic", tolerance: float = 1e-12) -> NDArray[np.float64]:
    """The scores s that maximise sum_ij C_ij log F(s_i - s_j) - |s|^2 / 2, exactly, by damped Newton steps.

    F is the link; the prior makes the problem strictly concave, so the optimum is the only one. Raises ValueError
    when the matrix holds anything but probabilities.
    """
    wins = np.asarray(matrix, dtype=np.float64)
    if not (np.isfinite(wins).all() and wins.min() >= 0 and wins.max() <= 1):
        raise ValueError("comparisons must be probabilities within 0..1")
    chosen = LINKS[link]
    scores = np.zeros(len(wins))
    for _ in range(100):
        gradient, hessian = _derivatives(scores, wins, chosen)
        if np.abs(gradient).max() < tolerance:
            break
        step = np.linalg.solve(hessian, gradient)
        scores = scores - _damping(scores, step, wins, chosen) * step
    return scores


def _gain(scores: NDArray[np.float64], wins: NDArray[np.float64], link: Link) -> float:
    return float((wins * link.log(scores[:, None] - scores)).sum() - (scores**2).sum() / 2)


def _derivatives(
    scores: NDArray[np.float64], wins: NDArray[np.float64], link: Link
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    apart = scores[:, None] - scores
    pull, curve = wins * link.slope(apart), wins * link.bend(apart)
    curve = curve + curve.T
    np.fill_diagonal(curve, 0)
    gradient = (pull - pull.T).sum(axis=1) - scores
    return gradient, np.diag(curve.sum(axis=1) - 1) - curve


def _damping(scores: NDArray[np.float64], step: NDArray[np.float64], wins: NDArray[np.float64], link: Link) -> float:
    """The largest of 1, 1/2, 1/4 ... at which the objective does not fall."""
    before, factor = _gain(scores, wins, link), 1.0
    while factor > 1e-6 and _gain(scores - factor * step, wins, link) < before - 1e-12:
        factor /= 2
    return factor


def adam_scores(matrix: Matrix, *, link: str = "logistic", steps: int = 100, seed: int = 0) -> NDArray[np.float32]:
    """What the published optimiser ends with: Adam at 0.1 in float32, from torch's uniform draw on a CPU.

    Kept to check against published numbers: 100 steps end within 0.3 of the optimum's 0..100, 50 steps 3 to 4 away.
    """
    import torch

    distribution = {"logistic": torch.sigmoid, "normal": torch.distributions.Normal(0, 1).cdf}[link]
    wins = torch.as_tensor(np.asarray(matrix, dtype=np.float32))
    draw = torch.rand(len(wins), generator=torch.Generator().manual_seed(seed))
    scores = draw.clone().requires_grad_()
    optimiser = torch.optim.Adam([scores], lr=0.1)
    for _ in range(steps):
        optimiser.zero_grad()
        log = torch.log(distribution(scores[:, None] - scores).clamp(min=_LEAST))
        loss = (scores**2).sum() / 2 - (wins * log).sum()
        loss.backward()
        optimiser.step()
    found: NDArray[np.float32] = scores.detach().numpy()
    return found


def final_score(scores: Matrix) -> float:
    """The last of the scores on the published scale: 0 = the lowest of all, 100 = the highest of all.

    A picture that beats or loses to every anchor is at the end of the scale, however far beyond.
    """
    low, high = float(scores.min()), float(scores.max())
    return 100.0 * (float(scores[-1]) - low) / (high - low)


def score(logits: NDArray[np.float32], anchors: Matrix = ANCHOR_MATRIX, *, link: str = "logistic") -> float:
    """0..100 of one picture from its logits (anchors, 5) against every anchor."""
    return final_score(map_scores(comparison_matrix(preferences(logits), anchors), link=link))


def choose_anchors(scores: NDArray[np.float64], variances: NDArray[np.float64], *, count: int = 5) -> list[int]:
    """Which of an owner's scored pictures to compare with: per equal interval of the scale, the surest.

    `scores` are mean opinions, `variances` how far opinions differed; gives indices, worst picture first. Raises
    ValueError when an interval holds no picture.
    """
    scores, variances = np.asarray(scores, dtype=np.float64), np.asarray(variances, dtype=np.float64)
    edges = np.linspace(scores.min(), scores.max(), count + 1)
    bins = np.clip(np.searchsorted(edges, scores, side="right") - 1, 0, count - 1)
    chosen = []
    for each in range(count):
        members = np.flatnonzero(bins == each)
        if not len(members):
            raise ValueError(f"no picture scores within {edges[each]:g}..{edges[each + 1]:g}; add some or lower count")
        chosen.append(int(members[np.argmin(variances[members])]))
    return chosen


def anchor_matrix(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """P(anchor i beats anchor j) from logits (first, second, 5); both orders count alike, so bias of place cancels."""
    beats = preferences(logits).T.astype(np.float64)
    matrix: NDArray[np.float64] = (beats + 1 - beats.T) / 2
    np.fill_diagonal(matrix, 0.5)
    return matrix


def compare_arms(logits_ab: NDArray[np.float32], logits_ba: NDArray[np.float32]) -> NDArray[np.float32]:
    """P(arm B's frame is better than arm A's), from logits (frames, 5) with A first and with B first.

    The mean of both orders: whatever the network says about the place of a picture rather than its quality cancels.
    """
    preferred: NDArray[np.float32] = (preferences(logits_ab) + np.float32(1) - preferences(logits_ba)) / np.float32(2)
    return preferred
