"""Confidence sequences and e-values against a second writing of the formulas, the t interval against scipy."""

import math
from decimal import Decimal, getcontext

import numpy as np
import pytest
import scipy.stats

from vqmon.core.experiments.stats.estimators import (
    paired_difference,
)
from vqmon.core.experiments.stats.sample_ratio_mismatch import srm_log_e_value
from vqmon.core.experiments.stats.sequential import (
    MeanDifference,
    anytime_valid_interval,
    confidence_sequence_half_width,
    e_value,
    mixture_rho,
    one_sided_sequence_width,
    t_interval,
    t_test_p,
)

EXACT = 1e-9


def test_half_width_is_that_of_the_paper() -> None:
    """The two-sided and one-sided formulas, written a second time with 50 digits; equal to 1e-9."""
    getcontext().prec = 50
    for n in (5, 20, 21, 84, 1000, 100_000):
        for planned in (20, 40, 5000):
            for alpha in (0.05, 0.01):
                a = Decimal(str(alpha))
                rho2 = (-2 * a.ln() + (1 - 2 * a.ln()).ln()) / planned
                spread = n * rho2 + 1
                two = (2 * spread / (n * n * rho2) * (spread.sqrt() / a).ln()).sqrt() * Decimal("0.37")
                rho = mixture_rho(alpha=alpha, planned_clusters=planned)
                assert confidence_sequence_half_width(0.37, n, rho=rho, alpha=alpha) == pytest.approx(
                    float(two), rel=EXACT
                )
                b = 2 * a
                one2 = (-2 * b.ln() + (1 - 2 * b.ln()).ln()) / planned
                spread = n * one2 + 1
                radius = (2 * spread / (n * n * one2) * (1 + spread.sqrt() / (2 * a)).ln()).sqrt() * Decimal("0.37")
                rho = mixture_rho(alpha=2 * alpha, planned_clusters=planned)
                assert one_sided_sequence_width(0.37, n, rho=rho, alpha=alpha) == pytest.approx(
                    float(radius), rel=EXACT
                )


def test_the_e_value_reaches_1_over_alpha_when_the_sequence_leaves_0() -> None:
    """Both ways of reading are one test."""
    rho = mixture_rho(alpha=0.05, planned_clusters=40)
    for n in (20, 50, 400):
        edge = confidence_sequence_half_width(2.0, n, rho=rho, alpha=0.05)
        for mean, outside in ((edge * 1.0001, True), (edge * 0.9999, False), (-edge * 1.0001, True)):
            sample = MeanDifference(n=n, mean=mean, sd=2.0, degrees_of_freedom=n - 1)
            interval = anytime_valid_interval(sample, rho=rho, alpha=0.05)

            assert (interval.low > 0 or interval.high < 0) is outside
            assert (e_value(sample, rho=rho) >= 20) is outside


def test_final_interval_and_p_are_the_paired_t() -> None:
    """As scipy's ttest_1samp; constant differences have no width and no doubt."""
    values = np.random.default_rng(1).normal(0.4, 1.1, 13)
    sample = paired_difference(values)
    assert sample is not None
    theirs = scipy.stats.ttest_1samp(values, 0)

    assert t_test_p(sample) == pytest.approx(theirs.pvalue, rel=EXACT)
    mine = t_interval(sample, alpha=0.05)
    assert (mine.low, mine.high) == pytest.approx(tuple(theirs.confidence_interval(0.95)), rel=EXACT)
    same = paired_difference(np.zeros(30))
    assert same is not None
    assert (t_test_p(same), e_value(same, rho=0.3) < 1) == (1.0, True)


def test_sample_ratio_evidence_is_a_bayes_factor() -> None:
    """Of one session it is 1; an even split speaks for the plan, an uneven one against it."""
    assert srm_log_e_value([1, 0], [1, 1]) == pytest.approx(0.0)
    assert srm_log_e_value([5000, 5000], [1, 1]) < 0
    assert srm_log_e_value([5600, 4400], [1, 1]) > math.log(1000)
    assert srm_log_e_value([9000, 1000], [9, 1]) < 0
