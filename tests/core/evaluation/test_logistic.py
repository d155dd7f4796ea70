"""The 4-parameter logistic: the least-squares optimum of SciPy, on any scale, and degenerate samples."""

from typing import Any

import numpy as np
import pytest
from scipy import optimize

from vqmon.core.evaluation.correlations import pearson
from vqmon.core.evaluation.logistic import fit_logistic, refit_mapped

PREDICTIONS = np.array([
    -0.1, 1.9, 0.9, -0.5, -0.1, -1.1, 1.0, -0.1, 1.1, -2.2, 2.3, 0.3, 0.6, 0.3, 0.5, 1.7, -0.3, 0.4, 0.2, 0.6,
    -1.6, -0.6, -0.5, -0.3, -1.0, -1.9, -0.7, -2.1, -1.3, 1.1, 2.3, -1.5, -1.1, 0.9, 1.8, -0.0, 0.0, 1.3, -0.2,
    -1.0, -0.2, 0.5, 1.3, -1.3, -0.8, -1.7, -2.1, 1.0, 0.4, -1.7, 2.3, 1.2, 2.1, 0.4, 0.6, -2.3, 1.5, 2.4, -2.3,
    -0.1,
], dtype=np.float64)  # fmt: skip
SCORES = np.array([
    51, 69, 69, 40, 44, 39, 61, 49, 64, 29, 70, 48, 63, 47, 42, 60, 65, 46, 47, 63, 35, 30, 58, 37, 29, 35, 40,
    32, 30, 51, 66, 45, 36, 58, 64, 44, 61, 67, 46, 35, 57, 55, 68, 31, 37, 35, 29, 53, 61, 36, 69, 65, 62, 58,
    66, 31, 62, 62, 29, 57,
], dtype=np.float64)  # fmt: skip


def test_the_fit_is_that_of_scipy() -> None:
    """`scipy.optimize.curve_fit` with tolerances of 1e-15: parameters, PLCC and RMSE."""
    logistic = fit_logistic(PREDICTIONS, SCORES)
    mapped = logistic(PREDICTIONS)
    fitted = (logistic.upper, logistic.lower, logistic.centre, logistic.width)
    assert fitted == pytest.approx((66.90177979, 29.07529034, -0.16997572, 0.69856658), abs=1e-5)
    assert float(pearson(mapped, SCORES)) == pytest.approx(0.8783441938160746, abs=1e-9)
    assert float(np.sqrt(((mapped - SCORES) ** 2).mean())) == pytest.approx(6.408557254980331, abs=1e-9)


def _function(x: Any, b1: float, b2: float, b3: float, b4: float) -> Any:
    return (b1 - b2) / (1 + np.exp(-(x - b3) / np.abs(b4))) + b2


@pytest.mark.parametrize("correlation", [0.6, 0.75, 0.9, 0.97])
def test_plcc_and_rmse_are_those_of_the_usual_script(correlation: float) -> None:
    """`curve_fit` from the usual starting values (highest, lowest score, mean and a quarter of the deviation)."""
    rng = np.random.default_rng(5)
    quality = rng.normal(size=300)
    x = 40 + 9 * (correlation * quality + np.sqrt(1 - correlation**2) * rng.normal(size=300))
    y = 3 + 1.4 * np.tanh(quality)
    start = [y.max(), y.min(), x.mean(), x.std() / 4]
    parameters, _ = optimize.curve_fit(_function, x, y, p0=start, maxfev=100_000, ftol=1e-14, xtol=1e-14)
    expected, mapped = _function(x, *parameters), fit_logistic(x, y)(x)
    assert float(pearson(mapped, y)) == pytest.approx(float(pearson(expected, y)), abs=1e-7)
    assert np.sqrt(((mapped - y) ** 2).mean()) == pytest.approx(np.sqrt(((expected - y) ** 2).mean()), abs=1e-7)


@pytest.mark.parametrize(("factor", "offset"), [(1e-3, 5.0), (1e4, -3e5), (-1.0, 0.0)])
def test_the_scale_of_the_predictions_does_not_matter(factor: float, offset: float) -> None:
    """Also when lower is better: the function then falls."""
    plain = fit_logistic(PREDICTIONS, SCORES)(PREDICTIONS)
    scaled = fit_logistic(factor * PREDICTIONS + offset, SCORES)
    assert scaled(factor * PREDICTIONS + offset) == pytest.approx(plain, abs=1e-4)
    assert (scaled.upper > scaled.lower) == (factor > 0)


def test_a_logistic_without_noise_is_recovered() -> None:
    """The squared error goes to 0."""
    x = np.linspace(-3, 5, 40)
    y = 30 / (1 + np.exp(-(x - 0.5) / 0.8)) + 40
    logistic = fit_logistic(x, y)
    assert logistic(x) == pytest.approx(y, abs=1e-6)
    assert (logistic.lower, logistic.centre, logistic.width) == pytest.approx((40, 0.5, 0.8), abs=1e-5)


def test_refits_of_resamples_are_close_to_fits_from_scratch() -> None:
    """PLCC of each resample, which is all that is used of them."""
    rows = np.random.default_rng(4).integers(0, len(SCORES), (50, len(SCORES)))
    x, y = PREDICTIONS[rows], SCORES[rows]
    refitted = pearson(refit_mapped(fit_logistic(PREDICTIONS, SCORES), x, y), y)
    scratch = [float(pearson(fit_logistic(a, b)(a), b)) for a, b in zip(x, y, strict=True)]
    assert refitted == pytest.approx(np.array(scratch), abs=1e-4)


def test_without_variance_the_function_is_the_mean_of_the_scores() -> None:
    """Equal predictions say nothing."""
    assert fit_logistic(np.ones(10), np.arange(10.0))(np.array([1.0, 7.0])).tolist() == [4.5, 4.5]
