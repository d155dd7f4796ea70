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


def paired_difference(differences: Floats) -> MeanDifference | None:
    """The mean of the cluster differences, each cluster counting once; None with fewer than two clusters."""
    n = len(differences)
    if n < 2:
        return None
    mean, sd = float(differences.mean()), float(differences.std(ddof=1))
    skewness = float((((differences - mean) / sd) ** 3).mean()) if sd > 0 else 0.0
    return MeanDifference(n=n, mean=mean, sd=sd, degrees_of_freedom=n - 1, skewness=skewness)


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
    GrowthBook's gbstats; degrees of freedom are Welch-Satterthwaite. None with fewer than two sessions in an arm.
    """
    if min(len(control[0]), len(arm[0])) < 2:
        return None
    values = [_linearized_ratio(*sums) for sums in (control, arm)]
    means = tuple(float(value.mean()) for value in values)
    if covariates is not None:
        values = _adjusted_values(values, covariates, session_counts=(control[1], arm[1]))
    n = len(values[0]) + len(values[1])
    variances = [float(value.var(ddof=1)) / len(value) for value in values]
    total = variances[0] + variances[1]
    squares = sum(variance**2 / (len(value) - 1) for variance, value in zip(variances, values, strict=True))
    return MeanDifference(
        n=n,
        mean=float(values[1].mean() - values[0].mean()),
        sd=float(np.sqrt(n * total)),
        degrees_of_freedom=total**2 / squares if squares > 0 else n - 2,
        control_mean=means[0],
        arm_mean=means[1],
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
