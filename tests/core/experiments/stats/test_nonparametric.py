"""Sign-flip, Wilcoxon and bootstrap against scipy; Holm and Benjamini-Hochberg against statsmodels."""

import numpy as np
import pytest
import scipy.stats
from statsmodels.stats.multitest import multipletests

from vqmon.core.experiments.stats.nonparametric import (
    bca_bootstrap_interval,
    benjamini_hochberg_q,
    holm_significance_levels,
    sign_flip_test_p,
    spearman_p,
    wilcoxon_signed_rank_p,
    win_rate,
)

EXACT = 1e-9


def test_tests_of_ranks_and_signs() -> None:
    """Sign-flip and Wilcoxon equal scipy's, with and without ties; more clusters than can be flipped are refused."""
    rng = np.random.default_rng(2)
    for n in (5, 12, 20, 49, 60):
        values = rng.normal(0.3, 1, n)
        assert wilcoxon_signed_rank_p(values) == pytest.approx(scipy.stats.wilcoxon(values).pvalue, abs=EXACT)
        rounded = np.round(values)
        theirs = scipy.stats.wilcoxon(rounded, method="asymptotic").pvalue
        assert wilcoxon_signed_rank_p(rounded) == pytest.approx(theirs, abs=EXACT)
    values = rng.normal(0.5, 1, 10)
    theirs = scipy.stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_test_p(values) == pytest.approx(theirs.pvalue, abs=EXACT)
    assert sign_flip_test_p(np.full(4, 0.1)) == 2 / 16
    with pytest.raises(ValueError, match="21 clusters"):
        sign_flip_test_p(np.ones(21))
    assert win_rate(np.array([1.0, 2.0, 0.0, -1.0]))[0] == pytest.approx(2.5 / 4)


def test_several_hypotheses() -> None:
    """Holm's decisions and Benjamini-Hochberg's q equal those of statsmodels."""
    rng = np.random.default_rng(3)
    # Statsmodels takes a quarter of a second for one.
    for _ in range(8):
        p_values = list(rng.random(7) ** 4)
        levels = holm_significance_levels(p_values, alpha=0.05)
        assert [p <= level for p, level in zip(p_values, levels, strict=True)] == list(
            multipletests(p_values, alpha=0.05, method="holm")[0]
        )
        assert benjamini_hochberg_q(p_values) == pytest.approx(multipletests(p_values, method="fdr_bh")[1])


def test_bootstrap_is_for_many_clusters_only() -> None:
    """None up to 50; above, near scipy's BCa."""
    rng = np.random.default_rng(4)
    values = rng.exponential(1, 200)
    mine = bca_bootstrap_interval(values, alpha=0.05, rng=rng)
    theirs = scipy.stats.bootstrap((values,), np.mean, n_resamples=9999, rng=rng).confidence_interval

    assert bca_bootstrap_interval(values[:50], alpha=0.05, rng=rng) is None
    assert mine is not None
    assert (mine.low, mine.high) == pytest.approx((theirs.low, theirs.high), abs=0.02)


def test_spearman_equals_scipy_and_says_nothing_of_few_or_equal_values() -> None:
    """With and without ties."""
    rng = np.random.default_rng(12)
    for n in (8, 30, 200):
        first, second = rng.normal(0, 1, n), rng.normal(0, 1, n)
        for other in (second, first + second, np.round(second)):
            assert spearman_p(first, other) == pytest.approx(scipy.stats.spearmanr(first, other).pvalue, rel=1e-6)
    assert spearman_p(np.arange(7.0), np.arange(7.0)) == 1.0
    assert spearman_p(np.arange(9.0), np.ones(9)) == 1.0
