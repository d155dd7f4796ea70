"""The baseline against its formulas by numpy, and what a chart learns against the batch."""

import numpy as np
import pytest

from tests.core.alerts.regression.noise import ar1, run
from vqmon.core.alerts.regression.baseline import MIN_SPREAD, Baseline, Block, baseline_of, with_block
from vqmon.core.alerts.regression.cusum import EMPTY_CHART


def test_the_figures_are_those_of_the_formulas() -> None:
    """Median, clipped lag-1 correlation, MAD of residuals, mean and variance of the clipped ones, by numpy."""
    values = ar1(4, 400, 0.6, tails=4)
    baseline = baseline_of(values.tolist())
    deviations = values - np.median(values)
    spread = 1.4826 * np.median(np.abs(deviations))
    clipped = np.clip(deviations, -3 * spread, 3 * spread)
    phi = (clipped[1:] * clipped[:-1]).mean() / (clipped**2).mean()
    residuals = deviations[1:] - phi * deviations[:-1]
    residual_spread = 1.4826 * np.median(np.abs(residuals - np.median(residuals)))
    bounded = np.clip(residuals, -3 * residual_spread, 3 * residual_spread)
    assert (baseline.level, baseline.spread) == pytest.approx((np.median(values), spread))
    assert (baseline.autocorrelation, baseline.residual_spread) == pytest.approx((phi, residual_spread))
    assert (baseline.residual_mean, baseline.residual_variance) == pytest.approx((bounded.mean(), bounded.var()))
    assert baseline.value_count == 400


@pytest.mark.parametrize("phi", [0.0, 0.6, 0.8])
@pytest.mark.parametrize("tails", [0.0, 4.0])
def test_what_is_learned_block_by_block_is_what_the_batch_gives(phi: float, tails: float) -> None:
    """After a few hours the running figures are the batch's, within a few percent."""
    values = ar1(3, 8000, phi, tails=tails)
    baseline = run(EMPTY_CHART, values)[-1].baseline
    assert baseline is not None
    batch = baseline_of(values.tolist())
    assert baseline.level == pytest.approx(batch.level, abs=0.1)
    assert baseline.autocorrelation == pytest.approx(batch.autocorrelation, abs=0.03)
    for name in ("spread", "residual_spread", "residual_variance"):
        assert getattr(baseline, name) == pytest.approx(getattr(batch, name), rel=0.06)
    # Values of the last ten minutes and more are not in it yet.
    assert 8000 - 240 < baseline.value_count < 8000 - 140


def test_a_constant_series_has_the_smallest_spread_and_no_correlation() -> None:
    baseline = baseline_of([70.0] * 50)
    assert (baseline.level, baseline.spread, baseline.autocorrelation) == (70.0, MIN_SPREAD, 0.0)
    assert baseline.residual_deviation == pytest.approx(MIN_SPREAD)


def test_the_autocorrelation_is_never_negative_nor_one() -> None:
    assert baseline_of([60.0, 80.0] * 30).autocorrelation == 0.0
    assert Baseline(mean_square=1.0, mean_lag_product=1.2).autocorrelation == 0.95


def test_old_values_fade_once_the_baseline_is_full() -> None:
    """A block moves a full baseline by its share of the length, and a young one by its share of all values."""
    block = Block(began_at=0.0, ended_at=40.0, value_count=10.0, sign_sum=10.0, residual_square_sum=10.0)
    young = Baseline(value_count=10.0, level=70.0, spread=4.0)
    full = Baseline(value_count=1000.0, level=70.0, spread=4.0)
    after_young, after_full = (with_block(baseline, block, max_count=1000.0) for baseline in (young, full))
    assert (after_young.value_count, after_full.value_count) == (20.0, 1000.0)
    assert after_young.level - 70.0 == pytest.approx(50 * (after_full.level - 70.0))
