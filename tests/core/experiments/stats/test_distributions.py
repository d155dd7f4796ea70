"""Distribution functions and quantiles against scipy and statsmodels."""

import math
from collections.abc import Callable

import pytest
import scipy.stats
from statsmodels.stats.proportion import proportion_confint

from vqmon.core.experiments.stats.distributions import (
    anytime_sign_test_p,
    binomial_cdf,
    chi_square_upper_tail,
    normal_cdf,
    normal_quantile,
    sign_test_p,
    t_cdf,
    t_quantile,
    wilson_interval,
)

EXACT = 1e-9
DEGREES = (1, 2, 3, 4.5, 9, 30, 83, 1000, 1e4, 9e4, 2e5, 1e6)


@pytest.mark.parametrize("degrees", DEGREES)
def test_student(degrees: float) -> None:
    """Probabilities and quantiles equal scipy's in the middle and in both tails."""
    for x in (-40.0, -5.0, -1.0, 0.0, 0.3, 2.0, 8.0, math.inf):
        assert t_cdf(x, degrees) == pytest.approx(scipy.stats.t.cdf(x, degrees), abs=EXACT)
    for p in (1e-6, 0.001, 0.025, 0.1, 0.4, 0.5, 0.6, 0.975, 0.9999):
        assert t_quantile(p, degrees) == pytest.approx(scipy.stats.t.ppf(p, degrees), rel=EXACT, abs=EXACT)


def test_normal_binomial_and_chi_square() -> None:
    """The others too; a large count is as exact as a small one."""
    for p in (1e-9, 0.001, 0.025, 0.5, 0.975):
        assert normal_quantile(p) == pytest.approx(scipy.stats.norm.ppf(p), abs=EXACT)
        assert normal_cdf(normal_quantile(p)) == pytest.approx(p, rel=EXACT)
    for n in (1, 5, 20, 1000, 100_000):
        for k in {0, 1, n // 3, n // 2, n}:
            assert binomial_cdf(k, n, 0.3) == pytest.approx(scipy.stats.binom.cdf(k, n, 0.3), abs=EXACT)
            assert sign_test_p(k, n - k) == pytest.approx(scipy.stats.binomtest(k, n).pvalue, abs=EXACT)
            low, high = proportion_confint(k, n, method="wilson")
            assert wilson_interval(k, n, alpha=0.05) == pytest.approx((low, high), abs=EXACT)
    for degrees in (1, 2, 3, 10, 50):
        for x in (0.01, 0.5, 3.0, 10.0, 40.0, 100.0):
            assert chi_square_upper_tail(x, degrees) == pytest.approx(scipy.stats.chi2.sf(x, degrees), abs=EXACT)


def test_votes_may_be_looked_at_after_every_content() -> None:
    """Exact: of all ways in which 60 fair coins fall, at most 5 % ever look decided; with a test for one look, 18 %."""

    def ever(p_of: Callable[[int, int], float]) -> float:
        undecided, decided = {0: 1.0}, 0.0
        for throws in range(1, 61):
            after: dict[int, float] = {}
            for heads, share in undecided.items():
                for more in (0, 1):
                    after[heads + more] = after.get(heads + more, 0.0) + share / 2
            undecided = {heads: share for heads, share in after.items() if p_of(heads, throws - heads) > 0.05}
            decided += sum(after.values()) - sum(undecided.values())
        return decided

    assert ever(sign_test_p) > 0.15
    assert ever(anytime_sign_test_p) < 0.05
    assert anytime_sign_test_p(0, 0) == 1
