"""Derives the assumptions of a power analysis from a pilot, that is from the pairs of an experiment so far."""

from dataclasses import dataclass

import numpy as np

from vqmon.core.experiments.results import Comparison
from vqmon.core.experiments.stats.distributions import t_quantile
from vqmon.core.experiments.stats.power import PowerAssumptions
from vqmon.errors import SettingsError

_MIN_PILOT_CLUSTERS = 5
"""Clusters, and degrees of freedom within clusters, that a pilot needs."""

_DEFAULT_ICC = 0.3
_DEFAULT_SEGMENTS_PER_CLUSTER = 30
_DEFAULT_LARGEST_LOSS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PilotVariance:
    """The variance components of paired differences in a pilot."""

    # standard deviation of one segment's difference, points of 0..100
    sd: float
    # intraclass correlation: share of the variance between clusters, 0..1
    icc: float
    segments_per_cluster: int
    # standard deviation of the segments of a cluster over their mean
    segments_cv: float
    clusters: int
    # blocks that are worth an independent cluster; 1 for other clusters
    blocks_per_cluster: float


def estimate_pilot_variance(comparison: Comparison) -> PilotVariance:
    """Variance components from the first arm with enough pairs (one-way random effects, method of moments).

    Raises SettingsError when the pilot is too small.
    """
    name = comparison.experiment.name
    effect = next(
        (
            result.effects[0]
            for result in comparison.answers
            if len(result.effects[0].by_cluster) >= _MIN_PILOT_CLUSTERS
        ),
        None,
    )
    if effect is None:
        raise SettingsError(
            f"{name}: a plan needs {_MIN_PILOT_CLUSTERS} clusters of pairs or more; give --sd and --icc"
        )
    clusters = [cluster for cluster in effect.by_cluster if cluster.sd is not None]
    degrees_of_freedom = sum(cluster.segments - 1 for cluster in clusters)
    if effect.final is None:
        raise SettingsError(f"{name}: the differences so far do not vary; give --sd and --icc")
    if degrees_of_freedom < _MIN_PILOT_CLUSTERS:
        raise SettingsError(f"{name}: the clusters have one segment each; give --sd and --icc")
    squares_within = sum((cluster.segments - 1) * (cluster.sd or 0.0) ** 2 for cluster in clusters)
    variance_within = squares_within / degrees_of_freedom
    # The variance of cluster means, recovered from the half-width of the t interval over independent clusters.
    independent = effect.clusters if effect.effective_clusters is None else effect.effective_clusters
    t = t_quantile((1 + effect.final.level) / 2, max(1.0, independent - 1))
    variance_of_means = independent * ((effect.final.high - effect.final.low) / 2 / t) ** 2
    counts = np.array([cluster.segments for cluster in effect.by_cluster], dtype=np.float64)
    variance_between = max(0.0, variance_of_means - variance_within * float((1 / counts).mean()))
    variance = variance_within + variance_between
    return PilotVariance(
        sd=variance**0.5,
        icc=variance_between / variance if variance > 0 else 0.0,
        segments_per_cluster=max(1, round(effect.segments / effect.clusters)),
        segments_cv=float(counts.std() / counts.mean()),
        clusters=effect.clusters,
        blocks_per_cluster=effect.clusters / independent,
    )


def power_assumptions(
    comparison: Comparison | None,
    *,
    difference: float,
    sd: float | None,
    icc: float | None,
    segments: int | None,
    segments_cv: float | None = None,
    autocorrelation: float = 0.0,
    power: float = 0.8,
) -> PowerAssumptions:
    """The assumptions of a plan to detect `difference`: given values, else those of the pilot `comparison`.

    Raises SettingsError without a pilot and `sd`, when a value is missing and the pilot is too small, and for values
    that are no numbers or out of range.
    """
    is_incomplete = None in (sd, icc, segments)
    pilot = estimate_pilot_variance(comparison) if comparison is not None and is_incomplete else None
    if pilot is None and sd is None:
        raise SettingsError("a plan needs a variance: name an experiment that has run (a pilot), or give --sd")
    experiment = comparison.experiment if comparison is not None else None
    default_icc = pilot.icc if pilot else _DEFAULT_ICC
    default_segments = pilot.segments_per_cluster if pilot else _DEFAULT_SEGMENTS_PER_CLUSTER
    try:
        return PowerAssumptions(
            difference=difference,
            sd=sd if sd is not None else pilot.sd if pilot else 0.0,
            icc=icc if icc is not None else default_icc,
            segments_per_cluster=segments or default_segments,
            segments_cv=segments_cv if segments_cv is not None else pilot.segments_cv if pilot else 0.0,
            autocorrelation=autocorrelation,
            pilot_clusters=pilot.clusters if pilot and sd is None else 0,
            blocks_per_cluster=pilot.blocks_per_cluster if pilot else 1.0,
            alpha=experiment.alpha if experiment else 0.05,
            power=power,
            hypotheses=len(experiment.treatments) * len(experiment.scorers) if experiment else 1,
            guardrails=len(experiment.guardrails) if experiment else 0,
            largest_loss=experiment.largest_loss if experiment else _DEFAULT_LARGEST_LOSS,
        )
    except ValueError as error:
        raise SettingsError(str(error)) from error
