"""Levels in numbers, held to scipy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import log_ndtr

from vqmon.scoring.scorers.levels import (
    LinkFunction,
    maximum_a_posteriori_scores,
    normalized_entropy,
    score_against_anchors,
    softmax,
)
from vqmon.scoring.scorers.levels import _log_normal as log_normal

ANCHORS = np.array([[0.5, 0.26, 3e-4], [0.74, 0.5, 0.25], [0.9997, 0.75, 0.5]])


def test_the_normal_distributions_logarithm() -> None:
    """As scipy has it, from far left to far right, to twelve digits."""
    x = np.concatenate([np.linspace(-60, 12, 1500), [-37.0, -36.999, 0.0]])
    assert log_normal(x) == pytest.approx(log_ndtr(x), rel=1e-9, abs=1e-300)


@pytest.mark.parametrize("link", ["logistic", "normal"])
@given(preferred=st.lists(st.floats(0, 1), min_size=3, max_size=3))
def test_the_optimum_is_the_optimum(link: LinkFunction, preferred: list[float]) -> None:
    """No general optimiser finds a better place."""
    wins = np.full((4, 4), 0.5)
    wins[:3, :3], wins[3, :3], wins[:3, 3] = ANCHORS, preferred, 1 - np.array(preferred)

    def loss(scores: np.ndarray) -> float:
        apart = scores[:, None] - scores
        log = log_ndtr(apart) if link == "normal" else -np.logaddexp(0, -apart)
        return float((scores**2).sum() / 2 - (wins * log).sum())

    ours = maximum_a_posteriori_scores(wins, link=link)
    theirs = minimize(loss, np.zeros(4), method="BFGS", tol=1e-10).x
    assert loss(ours) <= loss(theirs) + 1e-9
    assert ours == pytest.approx(theirs, abs=1e-4)


@pytest.mark.parametrize("link", ["logistic", "normal"])
def test_more_wins_never_place_lower(link: LinkFunction) -> None:
    """The place rises with each preference, from 0 to 100."""
    places = [score_against_anchors([p, p, p], ANCHORS, link=link) for p in np.linspace(0, 1, 21)]
    assert places == sorted(places)
    assert (places[0], places[-1]) == (0, 100)


def test_known_places_of_the_published_anchors() -> None:
    """The exact optima of the published matrix: all ties, and one more case."""
    published = np.array([
        [0.5, 0.25912809, 3.3130276e-04, 1.6087297e-06, 1.1803027e-09],
        [0.74087191, 0.5, 0.24985345, 9.9954158e-02, 1.8675303e-08],
        [0.99966872, 0.75014657, 0.5, 0.49968880, 0.24852838],
        [0.99999839, 0.90004587, 0.50031120, 0.5, 0.25400183],
        [1.0, 1.0, 0.75147164, 0.74599814, 0.5],
    ])  # fmt: skip
    assert score_against_anchors([0.5] * 5, published, link="logistic") == pytest.approx(53.93, abs=0.01)
    assert score_against_anchors([0.95, 0.8, 0.6, 0.5, 0.2], published, link="logistic") == pytest.approx(
        68.73, abs=0.01
    )


def test_doubt() -> None:
    """0 when one level is sure, 1 when all are alike."""
    assert normalized_entropy(np.array([[1.0, 0, 0, 0, 0], [0.2] * 5])) == pytest.approx([0, 1])


def test_large_logits_do_not_overflow() -> None:
    """The largest is taken off first."""
    assert softmax(np.array([[1e4, 0.0]]), temperature=1.0).tolist() == [[1.0, 0.0]]
