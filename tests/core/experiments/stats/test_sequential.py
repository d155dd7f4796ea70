"""Our own quantiles, tests and intervals against scipy, statsmodels and a second writing of the formulas."""

import math
from collections.abc import Callable
from decimal import Decimal, getcontext

import numpy as np
import pytest
import scipy.stats
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW
from statsmodels.tools import add_constant

from vqmon.core.experiments.analysis.health_checks import ratio_evidence
from vqmon.core.experiments.stats.distributions import (
    binomial_cdf,
    chi_square_tail,
    fair_coin,
    fair_coin_anytime,
    normal_cdf,
    normal_quantile,
    t_cdf,
    t_quantile,
    wilson,
)
from vqmon.core.experiments.stats.estimators import (
    adjusted_paired,
    paired_sample,
    switchback_sample,
    two_sample,
    weighted_sample,
)
from vqmon.core.experiments.stats.nonparametric import (
    benjamini_hochberg,
    bootstrap_interval,
    holm_levels,
    sign_flip_p,
    wilcoxon_p,
    win_rate,
)
from vqmon.core.experiments.stats.power import Assumed, plan, power_anytime, power_final, smallest_difference
from vqmon.core.experiments.stats.sequential import (
    Sample,
    anytime_interval,
    e_value,
    final_interval,
    final_p,
    half_width,
    mixture_rho,
    one_sided_width,
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
            assert fair_coin(k, n - k) == pytest.approx(scipy.stats.binomtest(k, n).pvalue, abs=EXACT)
            low, high = proportion_confint(k, n, method="wilson")
            assert wilson(k, n, alpha=0.05) == pytest.approx((low, high), abs=EXACT)
    for degrees in (1, 2, 3, 10, 50):
        for x in (0.01, 0.5, 3.0, 10.0, 40.0, 100.0):
            assert chi_square_tail(x, degrees) == pytest.approx(scipy.stats.chi2.sf(x, degrees), abs=EXACT)


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

    assert ever(fair_coin) > 0.15
    assert ever(fair_coin_anytime) < 0.05
    assert fair_coin_anytime(0, 0) == 1


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
                rho = mixture_rho(alpha=alpha, planned=planned)
                assert half_width(0.37, n, rho=rho, alpha=alpha) == pytest.approx(float(two), rel=EXACT)
                b = 2 * a
                one2 = (-2 * b.ln() + (1 - 2 * b.ln()).ln()) / planned
                spread = n * one2 + 1
                one = (2 * spread / (n * n * one2) * (1 + spread.sqrt() / (2 * a)).ln()).sqrt() * Decimal("0.37")
                rho = mixture_rho(alpha=2 * alpha, planned=planned)
                assert one_sided_width(0.37, n, rho=rho, alpha=alpha) == pytest.approx(float(one), rel=EXACT)


def test_the_e_value_reaches_1_over_alpha_when_the_sequence_leaves_0() -> None:
    """Both ways of reading are one test."""
    rho = mixture_rho(alpha=0.05, planned=40)
    for n in (20, 50, 400):
        edge = half_width(2.0, n, rho=rho, alpha=0.05)
        for mean, outside in ((edge * 1.0001, True), (edge * 0.9999, False), (-edge * 1.0001, True)):
            sample = Sample(n=n, mean=mean, sd=2.0, degrees=n - 1)
            interval = anytime_interval(sample, rho=rho, alpha=0.05)

            assert (interval.low > 0 or interval.high < 0) is outside
            assert (e_value(sample, rho=rho) >= 20) is outside


def test_final_interval_and_p_are_the_paired_t() -> None:
    """As scipy's ttest_1samp; constant differences have no width and no doubt."""
    values = np.random.default_rng(1).normal(0.4, 1.1, 13)
    sample = paired_sample(values)
    assert sample is not None
    theirs = scipy.stats.ttest_1samp(values, 0)

    assert final_p(sample) == pytest.approx(theirs.pvalue, rel=EXACT)
    mine = final_interval(sample, alpha=0.05)
    assert (mine.low, mine.high) == pytest.approx(tuple(theirs.confidence_interval(0.95)), rel=EXACT)
    same = paired_sample(np.zeros(30))
    assert same is not None
    assert (final_p(same), e_value(same, rho=0.3) < 1) == (1.0, True)


def test_tests_of_ranks_and_signs() -> None:
    """Sign-flip and Wilcoxon equal scipy's, with and without ties; more clusters than can be flipped are refused."""
    rng = np.random.default_rng(2)
    for n in (5, 12, 20, 49, 60):
        values = rng.normal(0.3, 1, n)
        assert wilcoxon_p(values) == pytest.approx(scipy.stats.wilcoxon(values).pvalue, abs=EXACT)
        rounded = np.round(values)
        theirs = scipy.stats.wilcoxon(rounded, method="asymptotic").pvalue
        assert wilcoxon_p(rounded) == pytest.approx(theirs, abs=EXACT)
    values = rng.normal(0.5, 1, 10)
    theirs = scipy.stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_p(values) == pytest.approx(theirs.pvalue, abs=EXACT)
    assert sign_flip_p(np.full(4, 0.1)) == 2 / 16
    with pytest.raises(ValueError, match="21 clusters"):
        sign_flip_p(np.ones(21))
    assert win_rate(np.array([1.0, 2.0, 0.0, -1.0]))[0] == pytest.approx(2.5 / 4)


def test_several_hypotheses() -> None:
    """Holm's decisions and Benjamini-Hochberg's q equal those of statsmodels."""
    rng = np.random.default_rng(3)
    # Statsmodels takes a quarter of a second for one.
    for _ in range(8):
        p_values = list(rng.random(7) ** 4)
        levels = holm_levels(p_values, alpha=0.05)
        assert [p <= level for p, level in zip(p_values, levels, strict=True)] == list(
            multipletests(p_values, alpha=0.05, method="holm")[0]
        )
        assert benjamini_hochberg(p_values) == pytest.approx(multipletests(p_values, method="fdr_bh")[1])


def test_bootstrap_is_for_many_clusters_only() -> None:
    """None up to 50; above, near scipy's BCa."""
    rng = np.random.default_rng(4)
    values = rng.exponential(1, 200)
    mine = bootstrap_interval(values, alpha=0.05, rng=rng)
    theirs = scipy.stats.bootstrap((values,), np.mean, n_resamples=9999, rng=rng).confidence_interval

    assert bootstrap_interval(values[:50], alpha=0.05, rng=rng) is None
    assert mine is not None
    assert (mine.low, mine.high) == pytest.approx((theirs.low, theirs.high), abs=0.02)


def test_sessions_of_equal_length_are_a_welch_test() -> None:
    """The delta method with one segment each is Welch's interval of statsmodels."""
    rng = np.random.default_rng(5)
    one, other = rng.normal(60, 5, 40), rng.normal(62, 9, 70)
    sample = two_sample((one, np.ones(40)), (other, np.ones(70)))
    assert sample is not None
    theirs = CompareMeans(DescrStatsW(other), DescrStatsW(one)).tconfint_diff(usevar="unequal")

    mine = final_interval(sample, alpha=0.05)
    assert (mine.low, mine.high) == pytest.approx(theirs, rel=EXACT)


def test_the_delta_method_covers_sessions_of_uneven_length() -> None:
    """Long sessions that are better by themselves: the ratio's standard error is that of repeated draws."""
    rng = np.random.default_rng(6)
    found, errors = [], []
    for _ in range(400):
        sides = []
        for _ in range(2):
            lengths = rng.integers(1, 60, 150)
            quality = rng.normal(60 + lengths / 10, 4)
            sides.append((quality * lengths, lengths.astype(float)))
        sample = two_sample(*sides)
        assert sample is not None
        found.append(sample.mean)
        errors.append(sample.standard_error)

    assert np.mean(errors) == pytest.approx(np.std(found), rel=0.1)


def test_the_delta_method_is_regression_with_errors_by_session() -> None:
    """Scores of segments on the arm, clustered by session, as statsmodels has it."""
    rng = np.random.default_rng(11)
    values, arms, groups, sums = [], [], [], ([], [])
    for session in range(120):
        n, arm = int(rng.integers(2, 30)), session % 2
        scores = rng.normal(60 + 2 * arm, 5) + n / 10 + rng.normal(0, 3, n)
        values += list(scores)
        arms += [arm] * n
        groups += [session] * n
        sums[arm].append((scores.sum(), float(n)))
    theirs = OLS(np.array(values), add_constant(np.array(arms, float))).fit(
        cov_type="cluster", cov_kwds={"groups": np.array(groups)}
    )
    sample = two_sample(*(tuple(np.array(column) for column in zip(*side, strict=True)) for side in sums))

    assert sample is not None
    assert sample.mean == pytest.approx(theirs.params[1], rel=EXACT)
    assert sample.standard_error == pytest.approx(theirs.bse[1], rel=0.02)


def test_covariates_of_sessions_narrow_without_bias() -> None:
    """A score known before explains most of the variance; the difference stays what it is."""
    rng = np.random.default_rng(7)
    lengths = [rng.integers(20, 40, 300).astype(float) for _ in range(2)]
    before = [rng.normal(60, 8, 300) for _ in range(2)]
    sides = [
        ((it + gain + rng.normal(0, 2, 300)) * n, n) for it, n, gain in zip(before, lengths, (0, 1.5), strict=True)
    ]
    known = [(it * n)[:, None] for it, n in zip(before, lengths, strict=True)]
    plain = two_sample(*sides)
    adjusted = two_sample(*sides, covariates=(known[0], known[1]))

    assert plain is not None
    assert adjusted is not None
    assert adjusted.sd < plain.sd / 2
    assert adjusted.mean == pytest.approx(1.5, abs=3 * adjusted.standard_error)


def test_paired_covariates_need_the_mean_of_all_traffic() -> None:
    """Easy contents drawn by chance: centred at the known mean the gain is the true one; at its own mean it is not."""
    rng = np.random.default_rng(8)
    inside, plain_inside = 0, 0
    for _ in range(300):
        easy = rng.normal(50, 10, 40)
        gain = 1.0 + 0.2 * (easy - 50) + rng.normal(0, 1, 40)
        found = adjusted_paired(gain, easy[:, None], centre=np.array([50.0]))
        wrong = adjusted_paired(gain, easy[:, None], centre=easy[:, None].mean(0))
        assert found is not None
        assert wrong is not None
        interval = final_interval(found[0], alpha=0.05)
        inside += interval.low <= 1.0 <= interval.high
        interval = final_interval(wrong[0], alpha=0.05)
        plain_inside += interval.low <= 1.0 <= interval.high

    assert inside / 300 > 0.92
    assert plain_inside / 300 < 0.80


def test_switchback_compares_within_streams() -> None:
    """Streams of very different quality, one arm more often on the good one: least squares as numpy does it."""
    rng = np.random.default_rng(9)
    streams = np.repeat(["a", "b", "c"], 30)
    is_arm = rng.random(90) < np.repeat([0.2, 0.5, 0.8], 30)
    means = np.repeat([30.0, 60.0, 90.0], 30) + 2.0 * is_arm + rng.normal(0, 1, 90)
    sample = switchback_sample(means, is_arm, streams)
    design = np.column_stack([is_arm, *(streams == name for name in "abc")]).astype(float)

    assert sample is not None
    assert sample.mean == pytest.approx(np.linalg.lstsq(design, means, rcond=None)[0][0])
    assert sample.mean == pytest.approx(2.0, abs=1.0)
    assert sample.standard_error == pytest.approx(1 / math.sqrt(90 * 0.2), rel=0.25)
    assert switchback_sample(means[:30], is_arm[:30] | True, streams[:30]) is None


def test_weighting_by_segments_is_the_ratio() -> None:
    """Equal counts give the plain mean and its error."""
    values = np.random.default_rng(10).normal(0, 1, 12)
    weighted, plain = weighted_sample(values, np.full(12, 30.0)), paired_sample(values)

    assert weighted is not None
    assert plain is not None
    assert (weighted.mean, weighted.sd) == pytest.approx((plain.mean, plain.sd))


def test_sample_ratio_evidence_is_a_bayes_factor() -> None:
    """Of one session it is 1; an even split speaks for the plan, an uneven one against it."""
    assert ratio_evidence([1, 0], [1, 1]) == pytest.approx(0.0)
    assert ratio_evidence([5000, 5000], [1, 1]) < 0
    assert ratio_evidence([5600, 4400], [1, 1]) > math.log(1000)
    assert ratio_evidence([9000, 1000], [9, 1]) < 0


def test_plan() -> None:
    """Clusters for a final look as statsmodels solves them; an any-time look needs more, and both see what they say."""
    found = plan(Assumed(difference=1.25, sd=5.0, icc=0.3, segments_per_cluster=30))
    theirs = TTestPower().solve_power(1.25 / found.cluster_sd, alpha=0.05, power=0.8)

    assert found.design_effect == pytest.approx(9.7)
    assert found.clusters_final == pytest.approx(theirs, abs=1)
    assert found.clusters_final < found.clusters_anytime <= 84
    assert power_anytime(1.25, found.cluster_sd, found.clusters_anytime, alpha=0.05) >= 0.8
    smallest = smallest_difference(found.cluster_sd, found.clusters_anytime, alpha=0.05, power=0.8)
    assert smallest == pytest.approx(1.25, rel=0.02)
    assert power_final(0.5, 1.0, 84, alpha=0.05) == pytest.approx(TTestPower().power(0.5, 84, 0.05), abs=0.002)
    stricter = plan(Assumed(difference=1.25, sd=5.0, hypotheses=4, guardrails=3))
    assert stricter.clusters_anytime > found.clusters_anytime
    with pytest.raises(ValueError, match="difference > 0"):
        Assumed(difference=0, sd=1)
