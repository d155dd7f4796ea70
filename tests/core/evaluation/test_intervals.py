"""Intervals: their coverage on samples whose truth is known, few items, and the edges of the scales."""

import numpy as np
import pytest
from numpy.typing import NDArray

from vqmon.core.evaluation.correlations import count_pairs, pearson, spearman
from vqmon.core.evaluation.intervals import difference, error_estimate, estimate, mean_estimate, resample
from vqmon.core.evaluation.logistic import fit_logistic
from vqmon.core.evaluation.results import Estimate

RNG_SEED = 8
NO_DRAWS = np.empty(0)


def test_an_interval_covers_the_truth_in_95_of_100_samples() -> None:
    """Rank correlation of 80 normal items whose true value is 6 / pi * asin(r / 2)."""
    truth = 6 / np.pi * np.arcsin(0.8 / 2)
    rng = np.random.default_rng(RNG_SEED)
    covered = 0
    for _ in range(500):
        first = rng.normal(size=80)
        second = 0.8 * first + 0.6 * rng.normal(size=80)
        (rows,) = resample(80, contents=(), draws=200, rng=rng)
        interval = estimate(
            "srcc", float(spearman(first, second)), spearman(first[rows], second[rows]), items=80, units=80
        )
        assert interval.low is not None
        assert interval.high is not None
        covered += interval.low <= truth <= interval.high
    assert 0.93 <= covered / 500 <= 0.97


def test_resampled_contents_cover_where_resampled_items_do_not() -> None:
    """Mean share of 30 contents of 10 items each, whose items are almost copies of each other."""
    rng = np.random.default_rng(RNG_SEED)
    covered = {"contents": 0, "items": 0}
    names = [str(index) for index in range(300)]
    contents = [str(index // 10) for index in range(300)]
    for _ in range(150):
        level = np.repeat(rng.normal(size=(2, 30)), 10, axis=1)
        first = level[0] + 0.2 * rng.normal(size=300)
        second = 0.7 * level[0] + np.sqrt(0.51) * level[1] + 0.2 * rng.normal(size=300)
        truth = 6 / np.pi * np.arcsin(0.7 / 1.04 / 2)
        for unit, unit_names in (("contents", contents), ("items", names)):
            chunks = resample(300, contents=unit_names, draws=120, rng=rng)
            draws = np.concatenate([spearman(first[rows], second[rows]) for rows in chunks])
            interval = estimate("srcc", float(spearman(first, second)), draws, items=300, units=30)
            assert interval.low is not None
            assert interval.high is not None
            covered[unit] += interval.low <= truth <= interval.high
    assert covered["contents"] >= 0.9 * 150
    assert covered["items"] <= 0.7 * 150


def test_an_interval_contains_its_value_and_stays_on_its_scale() -> None:
    """Correlations within -1..1, shares within 0..1; a perfect correlation has no width."""
    rng = np.random.default_rng(3)
    for statistic, value, draws in (
        ("srcc", 0.99, np.clip(0.98 + 0.01 * rng.normal(size=99), -1, 1)),
        ("pairwise_accuracy", 0.98, np.clip(0.97 + 0.03 * rng.normal(size=99), 0, 1)),
    ):
        interval = estimate(statistic, value, draws, items=99, units=99)
        assert interval.value == value
        assert interval.low is not None
        assert interval.high is not None
        assert 0 < interval.low <= value <= interval.high
        assert interval.high <= 1
    perfect = estimate("srcc", 1.0, np.ones(99), items=99, units=99)
    assert perfect.low == pytest.approx(1.0)


def test_without_enough_draws_there_is_no_interval() -> None:
    """Draws that are NaN do not count; a value that is NaN is None."""
    assert estimate("srcc", 0.5, np.full(99, np.nan), items=99, units=99).low is None
    assert estimate("srcc", float("nan"), np.ones(99), items=99, units=99).value is None


def test_a_difference_has_an_interval_and_a_p_value() -> None:
    """Normal, with the bias of the resamples corrected."""
    draws = 0.2 + 0.1 * np.random.default_rng(3).normal(size=20_000)
    interval, p = difference(0.2, draws)
    assert (interval.low, interval.high) == pytest.approx((0.004, 0.396), abs=0.005)
    assert p == pytest.approx(0.0455, abs=0.003)
    assert difference(0.0, np.zeros(99))[1] == 1.0


# ---- errors


def _scores(predictions: NDArray[np.float64], shape: str, rng: np.random.Generator) -> NDArray[np.float64]:
    """Human scores 1..5 of predictions 0..1, with noise: normal, or on a bounded scale whose middle scatters most."""
    expected = 1 + 4 / (1 + np.exp(-(predictions - 0.6) / 0.12))
    deviations = 0.6 if shape == "normal" else 0.12 + 0.375 * np.sqrt((expected - 1) * (5 - expected))
    return np.asarray(expected + deviations * rng.normal(size=len(predictions)))


@pytest.mark.parametrize(("shape", "items"), [("normal", 120), ("bounded", 40)])
def test_the_interval_of_the_error_covers_that_of_all_items(shape: str, items: int) -> None:
    """In 93 to 97 of 100 samples, give or take two standard errors of 200 samples."""
    rng = np.random.default_rng(RNG_SEED)
    predictions = rng.beta(2, 1.2, 50_000)
    scores = _scores(predictions, shape, rng)
    truth = float(np.sqrt(((fit_logistic(predictions, scores)(predictions) - scores) ** 2).mean()))
    covered = 0
    for _ in range(200):
        predictions = rng.beta(2, 1.2, items)
        scores = _scores(predictions, shape, rng)
        residuals = scores - fit_logistic(predictions, scores)(predictions)
        found = error_estimate(float(np.sqrt((residuals**2).mean())), residuals)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= truth <= found.high
    assert 0.905 <= covered / 200 <= 0.995


def test_the_interval_of_the_error_is_that_of_contents_whose_items_are_alike() -> None:
    """Of 30 contents of 10 equal items each, that of 30 items; where contents do not matter, about that of items."""
    rng = np.random.default_rng(RNG_SEED)
    contents = [str(index // 10) for index in range(300)]
    residuals = rng.normal(size=30)
    rmse = float(np.sqrt((residuals**2).mean()))
    of_items, of_contents = (
        error_estimate(rmse, residuals),
        error_estimate(rmse, np.repeat(residuals, 10), contents=contents),
    )
    assert (of_contents.low, of_contents.high) == pytest.approx((of_items.low, of_items.high))

    residuals = rng.normal(size=300)
    of_items, of_contents = error_estimate(1.0, residuals), error_estimate(1.0, residuals, contents=contents)
    assert (of_contents.low, of_contents.high) == pytest.approx((of_items.low, of_items.high), rel=0.05)


def test_an_error_without_residuals_or_of_four_items_has_no_interval() -> None:
    """Nothing is known of its spread; nan is None."""
    assert error_estimate(0.0, np.zeros(50)).low is None
    assert error_estimate(0.2, np.array([0.2, -0.2, 0.2, -0.2])).low is None
    assert error_estimate(float("nan"), np.ones(50)) == Estimate(value=None, low=None, high=None)


# ---- few items


def _small_samples(correlation: float, *, samples: int, items: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(samples, items) of predictions and human scores; people use a scale that saturates."""
    rng = np.random.default_rng(RNG_SEED)
    first, noise = rng.normal(size=(2, samples, items))
    return first, np.tanh(correlation * first + np.sqrt(1 - correlation**2) * noise)


@pytest.mark.parametrize("correlation", [0.5, 0.99])
def test_ten_items_cover_the_truth_also_near_a_perfect_correlation(correlation: float) -> None:
    """In at least 93 of 100 samples; near a perfect correlation the interval is narrow."""
    predictions, scores = _small_samples(correlation, samples=400, items=10)
    truths = {"srcc": 6 / np.pi * np.arcsin(correlation / 2), "krcc": 2 / np.pi * np.arcsin(correlation)}
    values = {"srcc": spearman(predictions, scores), "krcc": count_pairs(predictions, scores).kendall_tau_b}
    for statistic, truth in truths.items():
        found = [estimate(statistic, value, NO_DRAWS, items=10, units=10) for value in values[statistic].tolist()]
        lows, highs = np.array([[each.low, each.high] for each in found]).T
        assert np.mean((lows <= truth) & (truth <= highs)) >= 0.93
        assert (np.median(lows) > 0.6) == (correlation == 0.99)


def test_plcc_and_rmse_of_a_few_items_allow_for_the_four_parameters() -> None:
    """The fit of ten items is better than that of all; the interval holds the latter in at least 92 of 100 samples."""
    rng = np.random.default_rng(RNG_SEED)
    first, noise = rng.normal(size=(2, 100, 10))
    scores = 0.8 * first + 0.6 * noise
    covered = {"plcc": 0, "rmse": 0}
    for x, y in zip(first, scores, strict=True):
        mapped = fit_logistic(x, y)(x)
        rmse = float(np.sqrt(((mapped - y) ** 2).mean()))
        estimates = {
            "plcc": estimate("plcc", float(pearson(mapped, y)), NO_DRAWS, items=10, units=10),
            "rmse": error_estimate(rmse, y - mapped),
        }
        for statistic, truth in (("plcc", 0.8), ("rmse", 0.6)):
            found = estimates[statistic]
            assert found.low is not None
            assert found.high is not None
            covered[statistic] += found.low <= truth <= found.high
    assert min(covered.values()) >= 92


def test_a_perfect_order_of_a_few_items_bounds_the_correlation_from_below() -> None:
    """The more items, the closer; of the reversed order, from above; of four items nothing is said."""
    lows = [estimate("srcc", 1.0, NO_DRAWS, items=items, units=items).low for items in (5, 10, 29)]
    assert None not in lows
    assert lows == sorted(lows)  # type: ignore[type-var]
    assert 0.2 < lows[0] < 0.8 < lows[1] < 0.98 < lows[2] < 1  # type: ignore[operator]
    reversed_order = estimate("srcc", -1.0, NO_DRAWS, items=10, units=10)
    assert (reversed_order.low, reversed_order.high) == (-1.0, pytest.approx(-lows[1]))  # type: ignore[operator]
    share = estimate("pairwise_accuracy", 1.0, NO_DRAWS, items=10, units=10)
    tau = estimate("krcc", 1.0, NO_DRAWS, items=10, units=10)
    assert (share.low, share.high) == (pytest.approx((1 + tau.low) / 2), 1.0)  # type: ignore[operator]
    assert estimate("srcc", 1.0, NO_DRAWS, items=4, units=4).low is None


def test_the_mean_of_groups_is_narrower_than_each_of_them() -> None:
    """By the root of their number where they are alike; without an interval when one has none."""
    group = Estimate(value=0.8, low=0.6, high=0.9)
    mean = mean_estimate([group] * 4)
    assert (mean.value, mean.low, mean.high) == pytest.approx((0.8, 0.7, 0.85))
    assert mean_estimate([group, Estimate(value=0.7, low=None, high=None)]).low is None
    assert mean_estimate([Estimate(value=None, low=None, high=None)]).value is None


# ---- resamples


def test_without_contents_each_item_is_drawn_by_itself() -> None:
    """As many rows as draws, in chunks that bound the memory."""
    chunks = list(resample(300_000, contents=(), draws=3, rng=np.random.default_rng(1)))
    assert [chunk.shape for chunk in chunks] == [(1, 300_000)] * 3
    (rows,) = resample(50, contents=(), draws=40, rng=np.random.default_rng(1))
    assert rows.shape == (40, 50)
    assert 0.5 < np.mean([len(set(row.tolist())) for row in rows]) / 50 < 0.75


@pytest.mark.parametrize("sizes", [[3] * 12, [1, 2, 3, 4, 5] * 3])
def test_whole_contents_are_drawn_together(sizes: list[int]) -> None:
    """All items of a content appear equally often in a resample, also when contents have different sizes."""
    contents = [f"content-{index}" for index, size in enumerate(sizes) for _ in range(size)]
    for chunk in resample(len(contents), contents=contents, draws=20, rng=np.random.default_rng(2)):
        for row in chunk:
            counts = np.bincount(row, minlength=len(contents))
            for content in set(contents):
                assert len({int(counts[index]) for index, name in enumerate(contents) if name == content}) == 1


def test_items_are_drawn_when_contents_are_few_or_have_one_item_each() -> None:
    """Intervals from a few contents would cover too little."""
    few = ["a"] * 25 + ["b"] * 25
    single = [str(index) for index in range(50)]
    for contents in (few, single):
        (rows,) = resample(50, contents=contents, draws=10, rng=np.random.default_rng(2))
        (plain,) = resample(50, contents=(), draws=10, rng=np.random.default_rng(2))
        assert (rows == plain).all()
