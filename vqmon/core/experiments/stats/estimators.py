"""From clusters to one mean difference: paired, two-sample ratios, and adjusted by what was known before."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vqmon.core.experiments.stats.sequential import Sample

Floats = NDArray[np.float64]

FOLDS = 5
LEAST_FOR_COVARIATES = 20
"""Clusters per covariate and more that the slopes are fitted to."""


def paired_sample(differences: Floats) -> Sample | None:
    """Each cluster counts once; None with fewer than two clusters."""
    n = len(differences)
    if n < 2:
        return None
    mean, sd = float(differences.mean()), float(differences.std(ddof=1))
    skewness = float((((differences - mean) / sd) ** 3).mean()) if sd > 0 else 0.0
    return Sample(n=n, mean=mean, sd=sd, degrees=n - 1, skewness=skewness)


def weighted_sample(differences: Floats, counts: Floats) -> Sample | None:
    """Each segment counts once: sum(n d) / sum(n), with the delta method's variance over clusters."""
    n = len(differences)
    if n < 2:
        return None
    mean = float((counts * differences).sum() / counts.sum())
    influence = counts / counts.mean() * (differences - mean)
    return Sample(n=n, mean=mean, sd=float(np.sqrt((influence**2).sum() / (n - 1))), degrees=n - 1)


def two_sample(
    control: tuple[Floats, Floats], arm: tuple[Floats, Floats], *, covariates: tuple[Floats, Floats] | None = None
) -> Sample | None:
    """Difference of two ratios sum(Y) / sum(N) over sessions, by the delta method; None with fewer than two in an arm.

    `control` and `arm` are (Y, N) per session; `covariates` the sums (sessions, k) of what was known before, of both.
    With n sessions of both arms, sd**2 = n (variance of one + variance of the other), as in GrowthBook's formula.
    """
    if min(len(control[0]), len(arm[0])) < 2:
        return None
    values = [_linear(*side) for side in (control, arm)]
    sides = tuple(float(value.mean()) for value in values)
    if covariates is not None:
        known = [
            np.column_stack([_linear(column, side[1]) for column in sums.T])
            for sums, side in zip(covariates, (control, arm), strict=True)
        ]
        # The same slopes for both arms, from what remains after each arm's own mean.
        centred = np.concatenate([value - value.mean() for value in values])
        inputs = np.concatenate([one - one.mean(0) for one in known])
        slopes = _slopes(centred, inputs, _folds([len(value) for value in values]))
        whole = np.concatenate(known)
        moved = np.concatenate(values) - ((whole - whole.mean(0)) * slopes).sum(1)
        values = [moved[: len(values[0])], moved[len(values[0]) :]]
    n = len(values[0]) + len(values[1])
    parts = [float(value.var(ddof=1)) / len(value) for value in values]
    total = parts[0] + parts[1]
    squares = sum(part**2 / (len(value) - 1) for part, value in zip(parts, values, strict=True))
    return Sample(
        n=n,
        mean=float(values[1].mean() - values[0].mean()),
        sd=float(np.sqrt(n * total)),
        degrees=total**2 / squares if squares > 0 else n - 2,
        control_mean=sides[0],
        arm_mean=sides[1],
    )


def adjusted_paired(differences: Floats, known: Floats, *, centre: Floats) -> tuple[Sample, float] | None:
    """The mean difference at the covariates' mean `centre` over all traffic, and the share of variance explained.

    `known` is (clusters, k). Slopes come from the other folds, so that no cluster adjusts itself. Centred at the
    sample's own mean, an adjusted mean would be the plain one with too small a variance: that is why `centre` must be
    known. None with too few clusters.
    """
    plain = paired_sample(differences)
    if plain is None or len(differences) < LEAST_FOR_COVARIATES * known.shape[1]:
        return None
    slopes = _slopes(differences - differences.mean(), known - known.mean(0), _folds([len(differences)]))
    moved = paired_sample(differences - ((known - centre) * slopes).sum(1))
    if moved is None:
        return None
    saved = 1 - (moved.sd / plain.sd) ** 2 if plain.sd > 0 else 0.0
    return replace(moved, control_mean=plain.control_mean, arm_mean=plain.arm_mean), saved


def switchback_sample(means: Floats, is_arm: NDArray[np.bool_], streams: NDArray[np.str_]) -> Sample | None:
    """Difference of block means within streams: least squares with a mean per stream, variance HC1 over blocks.

    None with fewer than two blocks more than there are streams, or when no stream has both arms.
    """
    _, which, sizes = np.unique(streams, return_inverse=True, return_counts=True)

    def within(values: Floats) -> Floats:
        centred: Floats = values - (np.bincount(which, values, len(sizes)) / sizes)[which]
        return centred

    n, degrees = len(means), len(means) - len(sizes) - 1
    lever = within(is_arm.astype(np.float64))
    weight = float((lever**2).sum())
    if degrees < 1 or weight < 1e-9:
        return None
    slope = float((lever * means).sum()) / weight
    rest = within(means) - slope * lever
    variance = float((lever**2 * rest**2).sum()) / weight**2 * n / degrees
    return Sample(
        n=n,
        mean=slope,
        sd=float(np.sqrt(variance * n)),
        degrees=degrees,
        control_mean=float(means[~is_arm].mean()),
        arm_mean=float(means[is_arm].mean()),
    )


def variance_saved(plain: Sample, adjusted: Sample) -> float:
    """Share of the variance that covariates explain; below 0 when they only add noise."""
    return 1 - (adjusted.sd / plain.sd) ** 2 if plain.sd > 0 else 0.0


def _linear(sums: Floats, counts: Floats) -> Floats:
    """Per session values whose mean is the ratio and whose variance is that of the delta method."""
    ratio = sums.sum() / counts.sum()
    values: Floats = ratio + (sums - ratio * counts) / counts.mean()
    return values


def _folds(sizes: Sequence[int]) -> NDArray[np.int64]:
    return np.concatenate([np.arange(size) % FOLDS for size in sizes])


def _slopes(values: Floats, known: Floats, folds: NDArray[np.int64]) -> Floats:
    """(rows, k): for each row the least-squares slopes from the rows of the other folds."""
    slopes = np.empty_like(known)
    for fold in range(FOLDS):
        others = folds != fold
        inputs = known[others] - known[others].mean(0)
        targets = values[others] - values[others].mean()
        slopes[~others] = np.linalg.lstsq(inputs, targets, rcond=None)[0]
    return slopes
