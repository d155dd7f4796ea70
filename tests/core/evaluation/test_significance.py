"""Tests of dependent correlations, and Holm's correction."""

import numpy as np
import pytest

from vqmon.core.evaluation.significance import holm_adjusted_p, williams_test_p


def test_williams_test_is_that_of_the_formula() -> None:
    """t = 2.5254 with 97 degrees of freedom for 0.5 and 0.3, which correlate by 0.6, of 100 items."""
    assert williams_test_p(0.5, 0.3, between=0.6, items=100) == pytest.approx(0.013024, abs=1e-6)
    assert williams_test_p(0.3, 0.5, between=0.6, items=100) == pytest.approx(0.013024, abs=1e-6)


def test_williams_test_rejects_5_of_100_true_hypotheses() -> None:
    """Two equally good predictions of the same scores."""
    rng = np.random.default_rng(6)
    rejected = 0
    for _ in range(2000):
        truth, shared, noise = rng.normal(size=60), rng.normal(size=60), rng.normal(size=(2, 60))
        first, second = truth + 0.5 * shared + 0.5 * noise
        r = np.corrcoef([truth, first, second])
        p = williams_test_p(r[0, 1], r[0, 2], between=r[1, 2], items=60)
        assert p is not None
        rejected += p <= 0.05
    assert 0.035 <= rejected / 2000 <= 0.065


def test_williams_test_is_undefined_for_three_items_and_for_nan() -> None:
    """And certain of no difference between a prediction and itself."""
    assert williams_test_p(0.5, 0.3, between=0.6, items=3) is None
    assert williams_test_p(float("nan"), 0.3, between=0.6, items=50) is None
    assert williams_test_p(0.5, 0.5, between=1.0, items=50) == 1.0


def test_holm_corrects_the_smallest_p_value_most() -> None:
    """As statsmodels' multipletests(method="holm"); what was not tested stays None."""
    assert holm_adjusted_p([0.04, 0.01, None, 0.03]) == [0.06, 0.03, None, 0.06]
