"""The evaluation of scorers: statistics, groups, tests, outliers, reliability."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from vqmon.core.evaluation.evaluation import RatedItems, evaluate
from vqmon.core.evaluation.results import STATISTICS

Floats = NDArray[np.float64]


def _rated(count: int = 240, *, groups: int = 3, seed: int = 1) -> tuple[RatedItems, Floats]:
    """Items whose human score is a bent function of a quality, and that quality."""
    rng = np.random.default_rng(seed)
    quality = rng.normal(size=count)
    items = RatedItems(
        names=[f"{index}.png" for index in range(count)],
        scores=50 + 20 * np.tanh(quality),
        groups=[f"x{index % groups + 2}" for index in range(count)],
        standard_errors=[2.0] * count,
    )
    return items, quality


def test_statistics_are_those_of_scipy_in_all_items_and_in_each_group() -> None:
    """SRCC and KRCC; every statistic has an interval around its value."""
    items, quality = _rated()
    predictions = quality + 0.6 * np.random.default_rng(2).normal(size=240)
    (result,) = evaluate(items, {"lite@2": predictions}, draws=60).scorers
    assert result.statistics["srcc"].value == pytest.approx(stats.spearmanr(predictions, items.scores)[0], abs=1e-9)
    assert result.statistics["krcc"].value == pytest.approx(stats.kendalltau(predictions, items.scores)[0], abs=1e-9)
    for name in STATISTICS:
        interval = result.statistics[name]
        assert interval.value is not None
        assert interval.low is not None
        assert interval.high is not None
        assert interval.low < interval.value < interval.high
    assert [(group.group, group.items) for group in result.by_group] == [("x2", 80), ("x3", 80), ("x4", 80)]
    rows = np.arange(1, 240, 3)
    in_group = stats.spearmanr(predictions[rows], items.scores[rows])[0]
    assert result.by_group[1].statistics["srcc"].value == pytest.approx(in_group, abs=1e-9)
    assert result.within_groups is not None
    means = [group.statistics["srcc"].value or 0 for group in result.by_group]
    assert result.within_groups.statistics["srcc"].value == pytest.approx(np.mean(means), abs=1e-12)


def test_a_level_that_differs_between_groups_shows_only_overall() -> None:
    """A scorer that knows the group and nothing else has a high SRCC, and none within groups."""
    rng = np.random.default_rng(4)
    group = np.arange(400) % 4
    items = RatedItems(
        names=[str(index) for index in range(400)],
        scores=20.0 * group + rng.normal(size=400),
        groups=[f"scale-{level}" for level in group],
    )
    (result,) = evaluate(items, {"group@1": group + 0.01 * rng.normal(size=400)}, draws=60).scorers
    within = result.within_groups
    assert within is not None
    overall, inside = result.statistics["srcc"].value, within.statistics["srcc"]
    assert overall is not None
    assert inside.low is not None
    assert inside.high is not None
    assert overall > 0.9
    assert inside.low < 0 < inside.high


def test_small_groups_state_rank_statistics_or_none() -> None:
    """Four parameters fit five items almost perfectly: no PLCC; with two items nothing is stated."""
    items, quality = _rated(46, groups=1)
    groups = ["big"] * 39 + ["small"] * 5 + ["tiny"] * 2
    rated = RatedItems(names=items.names, scores=items.scores, groups=groups)
    (result,) = evaluate(rated, {"exact@1": quality}, draws=60).scorers
    by_group = {group.group: group.statistics for group in result.by_group}
    assert by_group["small"]["srcc"].value == pytest.approx(1.0)
    assert by_group["small"]["plcc"].value is None
    assert by_group["tiny"]["srcc"].value is None
    assert result.within_groups is not None
    assert result.within_groups.groups == 2


def test_the_better_scorer_is_told_from_the_worse_one_and_equal_ones_are_not() -> None:
    """By the bootstrap and by Williams' test, on the same items."""
    items, quality = _rated(300)
    noise = np.random.default_rng(5).normal(size=(3, 300))
    predictions = {"good@1": quality + 0.3 * noise[0], "same@1": quality + 0.3 * noise[1], "bad@1": quality + noise[2]}
    comparisons = evaluate(items, predictions, draws=150).comparisons
    tests = {(pair.first, pair.second): {test.statistic: test for test in pair.tests} for pair in comparisons}
    assert list(tests) == [("good@1", "same@1"), ("good@1", "bad@1"), ("same@1", "bad@1")]
    for statistic in ("srcc", "plcc"):
        better, equal = tests["good@1", "bad@1"][statistic], tests["good@1", "same@1"][statistic]
        assert better.difference.low is not None
        assert better.difference.low > 0
        assert better.p_williams is not None
        assert better.p_williams < 1e-6
        assert better.p_holm is not None
        assert better.p_holm < 1e-6
        assert equal.p_williams is not None
        assert equal.p_williams > 0.05
    assert tests["good@1", "bad@1"]["rmse"].difference.value is not None
    assert tests["good@1", "bad@1"]["rmse"].difference.value < 0


def test_the_item_that_people_see_differently_is_the_first_outlier() -> None:
    """With its residual, and how many robust standard deviations that is."""
    items, quality = _rated(200)
    predictions = quality + 0.1 * np.random.default_rng(6).normal(size=200)
    predictions[17] = -3.0 if quality[17] > 0 else 3.0
    (result,) = evaluate(items, {"lite@2": predictions}, draws=30).scorers
    worst = result.outliers[0]
    assert worst.item == "17.png"
    assert abs(worst.deviations) > 10
    assert worst.residual == pytest.approx(worst.score - worst.mapped)
    assert np.sign(worst.residual) == np.sign(quality[17])
    assert 0 < result.outlier_share < 0.1
    assert result.outlier_ratio == pytest.approx(np.mean(np.abs(items.scores - result.logistic(predictions)) > 4))


def test_bins_of_the_reliability_plot_hold_every_item_once() -> None:
    """Means rise with the prediction; the mapped mean lies in the interval of a scorer that fits."""
    items, quality = _rated(205)
    (result,) = evaluate(items, {"exact@1": quality}, draws=30).scorers
    assert sum(each.items for each in result.reliability) == 205
    assert [each.prediction for each in result.reliability] == sorted(each.prediction for each in result.reliability)
    assert all(each.low <= each.mapped <= each.high for each in result.reliability)


def test_the_same_seed_gives_the_same_evaluation() -> None:
    """Also when another scorer is evaluated beside it."""
    items, quality = _rated(60)
    alone = evaluate(items, {"a@1": quality}, draws=30).scorers[0]
    assert evaluate(items, {"b@1": quality**3, "a@1": quality}, draws=30).scorers[1] == alone


@pytest.mark.parametrize(
    ("names", "scores", "message"),
    [
        (["a"] * 9, [1.0] * 9, "at least 10"),
        (["a"] * 10, [1.0] * 10, "must differ"),
        (["a"] * 10, [1.0, float("nan")] * 5, "must be finite"),
        (["a"] * 10, [1.0, 2.0] * 6, "one score"),
    ],
)
def test_items_that_cannot_be_evaluated_are_refused(names: list[str], scores: list[float], message: str) -> None:
    """Too few, without variance, not finite, of different lengths."""
    with pytest.raises(ValueError, match=message):
        RatedItems(names=names, scores=np.array(scores))


def test_predictions_that_are_not_finite_are_refused_by_name() -> None:
    """The scorer is named."""
    items, quality = _rated(20)
    with pytest.raises(ValueError, match="lite@2"):
        evaluate(items, {"lite@2": np.where(quality > 0, np.nan, quality)})
