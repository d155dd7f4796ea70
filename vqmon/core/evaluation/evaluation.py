"""Evaluates scorers against human scores: statistics, groups, paired tests, reliability and outliers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from vqmon.core.evaluation.correlations import count_pairs, mid_ranks, pearson, spearman
from vqmon.core.evaluation.intervals import (
    bootstrap_estimate,
    difference,
    error_estimate,
    estimate,
    mean_estimate,
    resample,
    resampled_contents,
)
from vqmon.core.evaluation.logistic import Logistic, fit_logistic, refit_mapped
from vqmon.core.evaluation.results import (
    STATISTICS,
    Estimate,
    Evaluation,
    GroupResult,
    Outlier,
    PairedTests,
    ReliabilityBin,
    ScorerResult,
    StatisticTest,
    WithinGroups,
)
from vqmon.core.evaluation.significance import holm_adjusted_p, williams_test_p
from vqmon.core.experiments.stats.distributions import t_quantile

Floats = NDArray[np.float64]

_MIN_ITEMS = 10
"""The fewest items of an evaluation, and of a group whose PLCC and RMSE are stated."""
_MIN_RANKED_ITEMS = 4
"""The fewest items of a group whose rank statistics are stated."""
_MANY_GROUPS = 20
"""From so many groups on, the interval of their mean comes from resampled groups instead of resampled items."""
_OUTLIER_DEVIATIONS = 3.0
_MAX_OUTLIERS = 24
_RELIABILITY_BINS = 10
_MIN_BIN_ITEMS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class RatedItems:
    """Pictures or clips with human scores; sequences and arrays have one entry per item."""

    names: Sequence[str]
    scores: Floats
    # e.g. content, distortion or scale factor; empty = no groups
    groups: Sequence[str] = ()
    # the source that an item was made from, whose items are not independent; empty = unknown
    contents: Sequence[str] = ()
    # of the mean human scores; empty = unknown
    standard_errors: Sequence[float] = ()

    def __post_init__(self) -> None:
        if len(self.names) < _MIN_ITEMS:
            raise ValueError(f"{len(self.names)} items; an evaluation needs at least {_MIN_ITEMS}")
        if not np.isfinite(self.scores).all() or self.scores.min() == self.scores.max():
            raise ValueError("human scores must be finite and must differ")
        lengths = {len(values) for values in (self.groups, self.contents, self.standard_errors) if len(values)}
        if len(self.scores) != len(self.names) or not lengths <= {len(self.names)}:
            raise ValueError("needs one score, group, content and standard error per item")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Resampled:
    """Statistics of a sample, and of its resamples."""

    values: Mapping[str, float]
    draws: Mapping[str, Floats]
    logistic: Logistic
    # human scores minus mapped predictions, (items,)
    residuals: Floats
    contents: Sequence[str]

    def estimates(self) -> dict[str, Estimate]:
        """Each statistic with its interval."""
        items, no_draws = len(self.residuals), np.empty(0)
        units = resampled_contents(self.contents) or items
        return {
            name: error_estimate(self.values[name], self.residuals, contents=self.contents)
            if name == "rmse"
            else estimate(name, self.values[name], self.draws.get(name, no_draws), items=items, units=units)
            for name in STATISTICS
        }


def evaluate(
    items: RatedItems,
    predictions: Mapping[str, Floats],
    *,
    draws: int = 1000,
    seed: int = 1,
    on_scorer: Callable[[str], None] = lambda scorer: None,
) -> Evaluation:
    """Evaluate the predictions (items,) of each scorer, higher is better; all scorers on the same resamples.

    Raises ValueError for predictions that are not finite.
    """
    if unusable := [name for name, values in predictions.items() if not np.isfinite(values).all()]:
        raise ValueError(f"{', '.join(unusable)}: predictions must be finite")
    resampled, results = {}, []
    for scorer, values in predictions.items():
        on_scorer(scorer)
        resampled[scorer] = _statistics(values, items.scores, items.contents, draws=draws, seed=seed)
        results.append(_scorer_result(scorer, values, items, resampled[scorer], draws=draws, seed=seed))
    return Evaluation(
        items=len(items.names),
        groups=len(set(items.groups)),
        resampled_contents=resampled_contents(items.contents),
        draws=draws,
        scorers=tuple(results),
        comparisons=_comparisons(items.scores, predictions, resampled),
    )


def _statistics(predictions: Floats, scores: Floats, contents: Sequence[str], *, draws: int, seed: int) -> _Resampled:
    logistic = fit_logistic(predictions, scores)
    mapped = logistic(predictions)
    values = _statistics_of(predictions[None], scores[None], mapped[None])
    chunks = []
    for rows in resample(len(scores), contents=contents, draws=draws, rng=np.random.default_rng(seed)):
        x, y = predictions[rows], scores[rows]
        chunks.append(_statistics_of(x, y, refit_mapped(logistic, x, y)))
    resampled = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in STATISTICS if chunks}
    return _Resampled(
        values={name: float(value[0]) for name, value in values.items()},
        draws=resampled,
        logistic=logistic,
        residuals=scores - mapped,
        contents=contents,
    )


def _statistics_of(predictions: Floats, scores: Floats, mapped: Floats) -> dict[str, Floats]:
    """Each statistic (resamples,) of predictions, scores and mapped predictions (resamples, items)."""
    pairs = count_pairs(predictions, scores)
    return {
        "srcc": spearman(predictions, scores),
        "plcc": pearson(mapped, scores),
        "krcc": pairs.kendall_tau_b,
        "rmse": np.sqrt(((mapped - scores) ** 2).mean(axis=1)),
        "pairwise_accuracy": pairs.pairwise_accuracy,
    }


def _scorer_result(
    scorer: str, predictions: Floats, items: RatedItems, resampled: _Resampled, *, draws: int, seed: int
) -> ScorerResult:
    residuals = resampled.residuals
    mapped = items.scores - residuals
    by_group, within = _by_group(predictions, items, draws=draws, seed=seed)
    deviations = _deviations(residuals)
    errors = np.asarray(items.standard_errors, dtype=np.float64)
    return ScorerResult(
        scorer=scorer,
        logistic=resampled.logistic,
        statistics=resampled.estimates(),
        by_group=by_group,
        within_groups=within,
        reliability=tuple(_reliability(predictions, mapped, items.scores)),
        outliers=tuple(_outliers(items, predictions, mapped, deviations)),
        outlier_share=float((np.abs(deviations) > _OUTLIER_DEVIATIONS).mean()),
        outlier_ratio=float((np.abs(residuals) > 2 * errors).mean()) if len(errors) else None,
    )


def _by_group(
    predictions: Floats, items: RatedItems, *, draws: int, seed: int
) -> tuple[tuple[GroupResult, ...], WithinGroups | None]:
    if not items.groups:
        return (), None
    names, inverse = np.unique(np.asarray(items.groups), return_inverse=True)
    results, ranked = [], []
    for index, name in enumerate(names.tolist()):
        rows = np.flatnonzero(inverse == index)
        statistics = {name: Estimate(value=None, low=None, high=None) for name in STATISTICS}
        if len(rows) >= _MIN_RANKED_ITEMS:
            # Groups are resampled independently of each other, so that the interval of their mean holds.
            sample = _group_sample(predictions, items, rows, draws=draws, seed=seed + 1 + index)
            statistics = sample.estimates()
            ranked.append(statistics)
        results.append(GroupResult(group=name, items=len(rows), statistics=statistics))
    return tuple(results), _within_groups(ranked, rng=np.random.default_rng(seed), draws=draws)


def _group_sample(
    predictions: Floats, items: RatedItems, rows: NDArray[np.intp], *, draws: int, seed: int
) -> _Resampled:
    """The statistics of a group; of a small one without draws, and without PLCC and RMSE.

    Four parameters would fit a few items almost perfectly.
    """
    is_small = len(rows) < _MIN_ITEMS
    contents = np.asarray(items.contents)[rows].tolist() if len(items.contents) else ()
    sample = _statistics(predictions[rows], items.scores[rows], contents, draws=0 if is_small else draws, seed=seed)
    if not is_small:
        return sample
    return replace(sample, values={**sample.values, "plcc": np.nan, "rmse": np.nan})


def _within_groups(groups: Sequence[Mapping[str, Estimate]], *, rng: np.random.Generator, draws: int) -> WithinGroups:
    """The means over the groups whose rank statistics are stated; from resampled groups where there are many."""
    statistics = {}
    for name in STATISTICS:
        estimates = [group[name] for group in groups if group[name].value is not None]
        values = np.array([each.value for each in estimates], dtype=np.float64)
        if len(values) >= _MANY_GROUPS:
            means = values[rng.integers(0, len(values), (draws, len(values)))].mean(axis=1)
            statistics[name] = bootstrap_estimate(name, float(values.mean()), means, units=len(values))
        else:
            statistics[name] = mean_estimate(estimates)
    return WithinGroups(groups=len(groups), statistics=statistics)


def _deviations(residuals: Floats) -> Floats:
    robust = 1.4826 * float(np.median(np.abs(residuals)))
    spread = robust or float(residuals.std())
    return residuals / spread if spread else np.zeros_like(residuals)


def _outliers(items: RatedItems, predictions: Floats, mapped: Floats, deviations: Floats) -> list[Outlier]:
    worst = np.argsort(-np.abs(deviations), kind="stable")[:_MAX_OUTLIERS]
    return [
        Outlier(
            item=items.names[index],
            score=float(items.scores[index]),
            prediction=float(predictions[index]),
            mapped=float(mapped[index]),
            residual=float(items.scores[index] - mapped[index]),
            deviations=float(deviations[index]),
        )
        for index in worst.tolist()
    ]


def _reliability(predictions: Floats, mapped: Floats, scores: Floats) -> list[ReliabilityBin]:
    """Bins of about as many items each, from the lowest to the highest prediction."""
    order = np.argsort(predictions, kind="stable")
    bins = []
    for rows in np.array_split(order, min(_RELIABILITY_BINS, len(order) // _MIN_BIN_ITEMS)):
        mean = float(scores[rows].mean())
        half_width = t_quantile(0.975, len(rows) - 1) * float(scores[rows].std(ddof=1)) / np.sqrt(len(rows))
        bins.append(
            ReliabilityBin(
                items=len(rows),
                prediction=float(predictions[rows].mean()),
                mapped=float(mapped[rows].mean()),
                score=mean,
                low=mean - float(half_width),
                high=mean + float(half_width),
            )
        )
    return bins


def _comparisons(
    scores: Floats, predictions: Mapping[str, Floats], resampled: Mapping[str, _Resampled]
) -> tuple[PairedTests, ...]:
    pairs = list(combinations(predictions, 2))
    tests: dict[tuple[str, str], list[StatisticTest]] = {pair: [] for pair in pairs}
    for name in STATISTICS:
        differences = [
            difference(
                resampled[first].values[name] - resampled[second].values[name],
                resampled[first].draws[name] - resampled[second].draws[name],
            )
            for first, second in pairs
        ]
        adjusted = holm_adjusted_p([p for _, p in differences])
        for (first, second), (found, p), p_holm in zip(pairs, differences, adjusted, strict=True):
            tests[first, second].append(
                StatisticTest(
                    statistic=name,
                    difference=found,
                    p_bootstrap=p,
                    p_holm=p_holm,
                    p_williams=_williams(name, scores, predictions, resampled, first=first, second=second),
                )
            )
    return tuple(PairedTests(first=first, second=second, tests=tuple(tests[first, second])) for first, second in pairs)


def _williams(
    statistic: str,
    scores: Floats,
    predictions: Mapping[str, Floats],
    resampled: Mapping[str, _Resampled],
    *,
    first: str,
    second: str,
) -> float | None:
    if statistic == "srcc":
        x, y, z = mid_ranks(predictions[first]), mid_ranks(predictions[second]), mid_ranks(scores)
    elif statistic == "plcc":
        x, y = (resampled[name].logistic(predictions[name]) for name in (first, second))
        z = scores
    else:
        return None
    return williams_test_p(float(pearson(x, z)), float(pearson(y, z)), between=float(pearson(x, y)), items=len(scores))
