"""Compare2Score: the prompt, levels and anchors with which mPLUG-Owl2 compares two pictures.

Zhu et al., "Adaptive Image Quality Assessment via Teaching Large Multimodal Model to Compare", NeurIPS 2024. The score
itself, a MAP estimate over the comparisons with all anchors, is computed in `vqmon.scoring.scorers.levels`.
"""

from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from models.networks.owl.owl import PICTURE_TOKEN as _PICTURE
from models.networks.owl.q_align import softmax

LEVELS = MappingProxyType({"inferior": 20773, "worse": 15029, "similar": 2788, "better": 2253, "superior": 11558})
"""Word for the second picture compared with the first -> its token id, worst first."""
LEVEL_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
TEMPERATURE = 100.0

# "USER: <first> <second> Compared with the first image, what is your quality rating for second image? \nASSISTANT: The
# quality of the second image is"
PROMPT = (
    *(1, 3148, 1001, 29901, 29871, _PICTURE, 259, _PICTURE, 29871, 3831, 1965, 411, 278, 937, 1967, 29892, 825),
    *(338, 596, 11029, 21700, 363, 1473, 1967, 29973, 29871, 13, 22933, 9047, 13566, 29901, 450, 11029, 310, 278),
    *(1473, 1967, 338),
)
"""Token ids of the LLaMA tokenizer; the anchor is the first picture."""

Matrix = NDArray[np.float32] | NDArray[np.float64]

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
"""P(anchor i is preferred to anchor j) of the published anchors, worst picture first."""


def preference_probability(logits: NDArray[np.float32], *, temperature: float = TEMPERATURE) -> NDArray[np.float32]:
    """P(the second picture is better) (...) in float32, from logits (..., 5) in the order of LEVELS.

    At the published temperature of 100 all probabilities are near 0.5: the published half precision loses resolution.
    """
    probabilities = softmax(np.asarray(logits, dtype=np.float32) / np.float32(temperature))
    preferred: NDArray[np.float32] = probabilities @ np.asarray(LEVEL_WEIGHTS, dtype=np.float32)
    return preferred


def choose_anchors(scores: NDArray[np.float64], variances: NDArray[np.float64], *, count: int = 5) -> list[int]:
    """Indices of the anchors among scored pictures, worst first: the lowest variance of each interval of the scale.

    `scores` are mean opinions and `variances` those of the opinions; the scale is cut into `count` equal intervals.
    Raises ValueError when an interval holds no picture.
    """
    scores, variances = np.asarray(scores, dtype=np.float64), np.asarray(variances, dtype=np.float64)
    edges = np.linspace(scores.min(), scores.max(), count + 1)
    intervals = np.clip(np.searchsorted(edges, scores, side="right") - 1, 0, count - 1)
    anchors = []
    for interval in range(count):
        members = np.flatnonzero(intervals == interval)
        if not len(members):
            low, high = edges[interval], edges[interval + 1]
            raise ValueError(f"no picture scores within {low:g}..{high:g}; add some or lower count")
        anchors.append(int(members[np.argmin(variances[members])]))
    return anchors


def anchor_matrix(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """P(anchor i is preferred to anchor j) from logits (first, second, 5); averages both orders of each pair."""
    preferred = preference_probability(logits).T.astype(np.float64)
    matrix: NDArray[np.float64] = (preferred + 1 - preferred.T) / 2
    np.fill_diagonal(matrix, 0.5)
    return matrix
