"""Estimators of a mean difference against statsmodels, numpy and repeated draws."""

import math

import numpy as np
import pytest
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW
from statsmodels.tools import add_constant

from vqmon.core.experiments.stats.estimators import (
    paired_difference,
    ratio_difference,
    regression_adjusted_difference,
    segment_weighted_difference,
    stratified_difference,
    switchback_difference,
)
from vqmon.core.experiments.stats.sequential import (
    t_interval,
)

EXACT = 1e-9


def test_sessions_of_equal_length_are_a_welch_test() -> None:
    """The delta method with one segment each is Welch's interval of statsmodels."""
    rng = np.random.default_rng(5)
    first, other = rng.normal(60, 5, 40), rng.normal(62, 9, 70)
    sample = ratio_difference((first, np.ones(40)), (other, np.ones(70)))
    assert sample is not None
    theirs = CompareMeans(DescrStatsW(other), DescrStatsW(first)).tconfint_diff(usevar="unequal")

    mine = t_interval(sample, alpha=0.05)
    assert (mine.low, mine.high) == pytest.approx(theirs, rel=EXACT)


def test_the_delta_method_covers_sessions_of_uneven_length() -> None:
    """Long sessions that are better by themselves: the ratio's standard error is that of repeated draws."""
    rng = np.random.default_rng(6)
    estimates, errors = [], []
    for _ in range(400):
        sides = []
        for _ in range(2):
            lengths = rng.integers(1, 60, 150)
            quality = rng.normal(60 + lengths / 10, 4)
            sides.append((quality * lengths, lengths.astype(float)))
        sample = ratio_difference(*sides)
        assert sample is not None
        estimates.append(sample.mean)
        errors.append(sample.standard_error)

    assert np.mean(errors) == pytest.approx(np.std(estimates), rel=0.1)


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
    sample = ratio_difference(*(tuple(np.array(column) for column in zip(*side, strict=True)) for side in sums))

    assert sample is not None
    assert sample.mean == pytest.approx(theirs.params[1], rel=EXACT)
    assert sample.standard_error == pytest.approx(theirs.bse[1], rel=0.02)


def test_covariates_of_sessions_narrow_without_bias() -> None:
    """A score known before explains most of the variance; the difference stays what it is."""
    rng = np.random.default_rng(7)
    lengths = [rng.integers(20, 40, 300).astype(float) for _ in range(2)]
    before = [rng.normal(60, 8, 300) for _ in range(2)]
    sides = [
        ((score + gain + rng.normal(0, 2, 300)) * n, n)
        for score, n, gain in zip(before, lengths, (0, 1.5), strict=True)
    ]
    covariates = [(score * n)[:, None] for score, n in zip(before, lengths, strict=True)]
    plain = ratio_difference(*sides)
    adjusted = ratio_difference(*sides, covariates=(covariates[0], covariates[1]))

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
        estimate = regression_adjusted_difference(gain, easy[:, None], centre=np.array([50.0]))
        wrong = regression_adjusted_difference(gain, easy[:, None], centre=easy[:, None].mean(0))
        assert estimate is not None
        assert wrong is not None
        interval = t_interval(estimate[0], alpha=0.05)
        inside += interval.low <= 1.0 <= interval.high
        interval = t_interval(wrong[0], alpha=0.05)
        plain_inside += interval.low <= 1.0 <= interval.high

    assert inside / 300 > 0.92
    assert plain_inside / 300 < 0.80


def test_switchback_compares_within_streams() -> None:
    """Streams of very different quality, one arm more often on the good one: least squares as numpy does it."""
    rng = np.random.default_rng(9)
    streams = np.repeat(["a", "b", "c"], 30)
    is_arm = rng.random(90) < np.repeat([0.2, 0.5, 0.8], 30)
    means = np.repeat([30.0, 60.0, 90.0], 30) + 2.0 * is_arm + rng.normal(0, 1, 90)
    sample = switchback_difference(means, is_arm, streams)
    design = np.column_stack([is_arm, *(streams == name for name in "abc")]).astype(float)

    assert sample is not None
    assert sample.mean == pytest.approx(np.linalg.lstsq(design, means, rcond=None)[0][0])
    assert sample.mean == pytest.approx(2.0, abs=1.0)
    assert sample.standard_error == pytest.approx(1 / math.sqrt(90 * 0.2), rel=0.25)
    assert switchback_difference(means[:30], is_arm[:30] | True, streams[:30]) is None


def test_weighting_by_segments_is_the_ratio() -> None:
    """Equal counts give the plain mean and its error."""
    values = np.random.default_rng(10).normal(0, 1, 12)
    weighted, plain = segment_weighted_difference(values, np.full(12, 30.0)), paired_difference(values)

    assert weighted is not None
    assert plain is not None
    assert (weighted.mean, weighted.sd) == pytest.approx((plain.mean, plain.sd))


def test_an_endless_session_counts_with_ten_medians_of_segments() -> None:
    """A session of 100,000 segments is the same as one of 200 where the median is 20; its mean stays."""
    rng = np.random.default_rng(8)
    counts = np.full(60, 20.0)
    control, arm = rng.normal(60, 5, 60) * counts, rng.normal(60, 5, 60) * counts
    endless, long = counts.copy(), counts.copy()
    endless[0], long[0] = 100_000.0, 200.0
    means = arm / counts

    with_endless = ratio_difference((control, counts), (means * endless, endless))
    with_long = ratio_difference((control, counts), (means * long, long))
    assert with_endless is not None
    assert with_long is not None
    assert with_endless.mean == pytest.approx(with_long.mean)
    assert with_endless.sd == pytest.approx(with_long.sd)
    assert with_endless.smaller_arm == 60


def test_the_skewness_of_a_difference_is_that_of_its_estimate() -> None:
    """Of 20,000 draws with exponential sessions in the smaller arm."""
    rng = np.random.default_rng(9)
    skewnesses = [
        estimate.skewness / math.sqrt(estimate.n)
        for _ in range(200)
        if (
            estimate := ratio_difference(
                (rng.normal(0, 1, 100) + 50, np.ones(100)), (rng.exponential(1, 50) + 50, np.ones(50))
            )
        )
    ]
    draws = rng.exponential(1, (20_000, 50)).mean(1) - rng.normal(0, 1 / math.sqrt(100), 20_000)
    skewness = float((((draws - draws.mean()) / draws.std()) ** 3).mean())
    assert float(np.mean(skewnesses)) == pytest.approx(skewness, abs=0.08)


def test_strata_are_weighted_by_their_smaller_arms_and_keep_their_errors() -> None:
    """Two strata with the same difference at different levels have it together; one alone is unchanged."""
    rng = np.random.default_rng(10)
    strata = []
    for level, sizes in ((50, (180, 20)), (80, (100, 100))):
        control, arm = (rng.normal(level, 3, size) for size in sizes)
        stratum = ratio_difference((control, np.ones(sizes[0])), (arm + 1, np.ones(sizes[1])))
        assert stratum is not None
        strata.append(stratum)
    together = stratified_difference(strata)

    assert together is not None
    assert together.mean == pytest.approx((20 * strata[0].mean + 100 * strata[1].mean) / 120)
    assert together.standard_error == pytest.approx(
        math.hypot(20 * strata[0].standard_error, 100 * strata[1].standard_error) / 120
    )
    assert (together.n, together.smaller_arm) == (400, 120)
    assert stratified_difference(strata[:1]) is strata[0]
    assert stratified_difference([]) is None


def test_a_small_arm_varies_at_least_as_much_as_a_large_one() -> None:
    """Forty even sessions beside a thousand of which one in a hundred is far off; beside forty they are as they are."""
    rng = np.random.default_rng(13)
    rare = rng.normal(60, 1, 1000) - 40.0 * (np.arange(1000) % 100 == 0)
    even = rng.normal(60, 1, 40)
    uneven_split = ratio_difference((even, np.ones(40)), (rare, np.ones(1000)))
    even_split = ratio_difference((even, np.ones(40)), (rare[1:41], np.ones(40)))

    assert uneven_split is not None
    assert even_split is not None
    assert uneven_split.standard_error == pytest.approx(math.sqrt(rare.var(ddof=1) * (1 / 40 + 1 / 1000)))
    assert even_split.standard_error == pytest.approx(math.sqrt((even.var(ddof=1) + rare[1:41].var(ddof=1)) / 40))
