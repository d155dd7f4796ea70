"""Estimators of the mean difference between two arms: paired, ratio of sums, switchback, and covariate-adjusted."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vqmon.core.experiments.stats.sequential import MeanDifference

Floats = NDArray[np.float64]

_MIN_CLUSTERS_PER_COVARIATE = 20
"""Below this number of clusters per covariate, a paired difference is not adjusted."""

_CROSS_FITTING_FOLDS = 5

_UNEVEN_SPLIT = 2

MAX_SESSION_MEDIANS = 10
"""A session counts with no more segments than this many times the median: a few endless ones decide nothing."""


def paired_difference(differences: Floats) -> MeanDifference | None:
    """The mean of the cluster differences, each cluster counting once; None with fewer than two clusters."""
    n = len(differences)
    if n < 2:
        return None
    mean, sd = float(differences.mean()), float(differences.std(ddof=1))
    skewness = float((((differences - mean) / sd) ** 3).mean()) if sd > 0 else 0.0
    return MeanDifference(n=n, mean=mean, sd=sd, degrees_of_freedom=n - 1, skewness=skewness, values=differences)


def segment_weighted_difference(differences: Floats, segment_counts: Floats) -> MeanDifference | None:
    """The mean of the cluster differences, each segment counting once: sum(n d) / sum(n).

    Its variance over clusters is that of the delta method. None with fewer than two clusters.
    """
    n = len(differences)
    if n < 2:
        return None
    mean = float((segment_counts * differences).sum() / segment_counts.sum())
    influence = segment_counts / segment_counts.mean() * (differences - mean)
    sd = float(np.sqrt((influence**2).sum() / (n - 1)))
    return MeanDifference(n=n, mean=mean, sd=sd, degrees_of_freedom=n - 1)


def ratio_difference(
    control: tuple[Floats, Floats], arm: tuple[Floats, Floats], *, covariates: tuple[Floats, Floats] | None = None
) -> MeanDifference | None:
    """The difference of two ratios sum(Y) / sum(N) over sessions, with the delta method's variance (cluster-robust).

    `control` and `arm` are (Y, N) with one entry per session. `covariates` are the sums (sessions, k) of values known
    before enhancement, of control and arm; they adjust the difference by regression (CUPED: Deng et al., WSDM 2013),
    with slopes fitted on the other folds. With n sessions of both arms, sd**2 / n is the sum of both variances, as in
    GrowthBook's gbstats; degrees of freedom are Welch-Satterthwaite. A session with more than ten times the median of N
    counts with its means and that many segments. An arm with less than half as many sessions as the other is taken to
    vary at least as much: few sessions do not show the rare ones. None with fewer than two sessions in an arm.
    """
    if min(len(control[0]), len(arm[0])) < 2:
        return None
    limit = MAX_SESSION_MEDIANS * float(np.median(np.concatenate([control[1], arm[1]])))
    shrinkage = [np.minimum(1.0, limit / counts) for _, counts in (control, arm)]
    control, arm = (
        (sums * shrink, counts * shrink) for (sums, counts), shrink in zip((control, arm), shrinkage, strict=True)
    )
    if covariates is not None:
        covariates = (covariates[0] * shrinkage[0][:, None], covariates[1] * shrinkage[1][:, None])
    values = [_linearized_ratio(*sums) for sums in (control, arm)]
    means = tuple(float(value.mean()) for value in values)
    if covariates is not None:
        values = _adjusted_values(values, covariates, session_counts=(control[1], arm[1]))
    n = len(values[0]) + len(values[1])
    spreads = [float(value.var(ddof=1)) for value in values]
    third = [float(((value - value.mean()) ** 3).mean()) for value in values]
    smaller, larger = (0, 1) if len(values[0]) <= len(values[1]) else (1, 0)
    if len(values[smaller]) * _UNEVEN_SPLIT < len(values[larger]) and spreads[smaller] < spreads[larger]:
        spreads[smaller], third[smaller] = spreads[larger], third[larger]
    variances = [spread / len(value) for spread, value in zip(spreads, values, strict=True)]
    total = variances[0] + variances[1]
    squares = sum(variance**2 / (len(value) - 1) for variance, value in zip(variances, values, strict=True))
    third_moments = [moment / len(value) ** 2 for moment, value in zip(third, values, strict=True)]
    return MeanDifference(
        n=n,
        skewness=float(np.sqrt(n)) * (third_moments[1] - third_moments[0]) / total**1.5 if total > 0 else 0.0,
        smaller_arm=min(len(value) for value in values),
        mean=float(values[1].mean() - values[0].mean()),
        sd=float(np.sqrt(n * total)),
        degrees_of_freedom=total**2 / squares if squares > 0 else n - 2,
        control_mean=means[0],
        arm_mean=means[1],
    )


def stratified_difference(strata: Sequence[MeanDifference]) -> MeanDifference | None:
    """The differences of several strata as one, weighted by the sessions of their smaller arms; None without any.

    For shares that changed during an experiment: sessions are compared only with sessions under the same shares.
    """
    if len(strata) < 2:
        return strata[0] if strata else None
    n = sum(part.n for part in strata)
    sizes = np.array([part.smaller_arm or part.n for part in strata], dtype=np.float64)
    weights = sizes / sizes.sum()
    variances = weights**2 * np.array([part.standard_error**2 for part in strata])
    total = float(variances.sum())
    third = sum(
        weight**3 * part.skewness * part.standard_error**3 / np.sqrt(part.n)
        for weight, part in zip(weights, strata, strict=True)
    )
    freedom = np.array([part.degrees_of_freedom for part in strata])
    control_mean, arm_mean, mean = (
        float(weights @ np.array([getattr(part, name) for part in strata]))
        for name in ("control_mean", "arm_mean", "mean")
    )
    return MeanDifference(
        n=n,
        mean=mean,
        sd=float(np.sqrt(n * total)),
        degrees_of_freedom=float(total**2 / (variances**2 / freedom).sum()) if total > 0 else n - 2,
        control_mean=control_mean,
        arm_mean=arm_mean,
        skewness=float(np.sqrt(n) * third / total**1.5) if total > 0 else 0.0,
        smaller_arm=int(sizes.sum()),
    )


def regression_adjusted_difference(
    differences: Floats, covariates: Floats, *, centre: Floats
) -> tuple[MeanDifference, float] | None:
    """The paired difference at the covariate means `centre` (k,) of all traffic, and the share of variance explained.

    `covariates` is (clusters, k). Slopes come from the other folds (cross-fitting), so that no cluster adjusts itself.
    `centre` must be known from all traffic: centred at the sample's own mean, the adjusted mean would be the plain one
    with too small a variance. None with too few clusters.
    """
    plain = paired_difference(differences)
    if plain is None or len(differences) < _MIN_CLUSTERS_PER_COVARIATE * covariates.shape[1]:
        return None
    folds = _folds([len(differences)])
    slopes = _cross_fitted_slopes(differences - differences.mean(), covariates - covariates.mean(0), folds)
    adjusted = paired_difference(differences - ((covariates - centre) * slopes).sum(1))
    if adjusted is None:
        return None
    explained = variance_explained(plain, adjusted)
    return replace(adjusted, control_mean=plain.control_mean, arm_mean=plain.arm_mean), explained


def switchback_difference(
    block_means: Floats, is_arm: NDArray[np.bool_], streams: NDArray[np.str_]
) -> MeanDifference | None:
    """The difference of block means within streams: least squares with one intercept per stream, HC1 variance.

    None when fewer than two blocks more than streams are given, or when no stream has both arms.
    """
    _, stream_index, stream_sizes = np.unique(streams, return_inverse=True, return_counts=True)

    def centre_within_streams(values: Floats) -> Floats:
        totals = np.bincount(stream_index, values, len(stream_sizes))
        centred: Floats = values - (totals / stream_sizes)[stream_index]
        return centred

    n = len(block_means)
    degrees_of_freedom = n - len(stream_sizes) - 1
    treatment = centre_within_streams(is_arm.astype(np.float64))
    treatment_variation = float((treatment**2).sum())
    if degrees_of_freedom < 1 or treatment_variation < 1e-9:
        return None
    slope = float((treatment * block_means).sum()) / treatment_variation
    residuals = centre_within_streams(block_means) - slope * treatment
    variance = float((treatment**2 * residuals**2).sum()) / treatment_variation**2 * n / degrees_of_freedom
    return MeanDifference(
        n=n,
        mean=slope,
        sd=float(np.sqrt(variance * n)),
        degrees_of_freedom=degrees_of_freedom,
        control_mean=float(block_means[~is_arm].mean()),
        arm_mean=float(block_means[is_arm].mean()),
    )


def variance_explained(plain: MeanDifference, adjusted: MeanDifference) -> float:
    """The share of the variance that the covariates explain; below 0 when they only add noise."""
    return 1 - (adjusted.sd / plain.sd) ** 2 if plain.sd > 0 else 0.0


def _adjusted_values(
    values: Sequence[Floats], covariates: tuple[Floats, Floats], *, session_counts: tuple[Floats, Floats]
) -> list[Floats]:
    """The values of both arms less what their covariates explain."""
    linearized = [
        np.column_stack([_linearized_ratio(column, counts) for column in sums.T])
        for sums, counts in zip(covariates, session_counts, strict=True)
    ]
    # Both arms get the same slopes, fitted to what remains after each arm's own mean.
    centred_values = np.concatenate([value - value.mean() for value in values])
    centred_covariates = np.concatenate([columns - columns.mean(0) for columns in linearized])
    slopes = _cross_fitted_slopes(centred_values, centred_covariates, _folds([len(value) for value in values]))
    pooled = np.concatenate(linearized)
    adjusted = np.concatenate(values) - ((pooled - pooled.mean(0)) * slopes).sum(1)
    return [adjusted[: len(values[0])], adjusted[len(values[0]) :]]


def _linearized_ratio(sums: Floats, counts: Floats) -> Floats:
    """Values per session whose mean is the ratio sum(sums) / sum(counts) and whose variance is the delta method's."""
    ratio = sums.sum() / counts.sum()
    values: Floats = ratio + (sums - ratio * counts) / counts.mean()
    return values


def _folds(sizes: Sequence[int]) -> NDArray[np.int64]:
    return np.concatenate([np.arange(size) % _CROSS_FITTING_FOLDS for size in sizes])


def _cross_fitted_slopes(values: Floats, covariates: Floats, folds: NDArray[np.int64]) -> Floats:
    """(rows, k): for each row, the least-squares slopes of the rows in the other folds."""
    slopes = np.empty_like(covariates)
    for fold in range(_CROSS_FITTING_FOLDS):
        others = folds != fold
        inputs = covariates[others] - covariates[others].mean(0)
        targets = values[others] - values[others].mean()
        slopes[~others] = np.linalg.lstsq(inputs, targets, rcond=None)[0]
    return slopes
