"""What a fold gives to read: the sample of every measure of one arm against the control, plain, weighted, adjusted."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vqmon.core.experiments.data.clusters import ClusterTable, Floats
from vqmon.core.experiments.data.metrics import ExperimentMetrics
from vqmon.core.experiments.data.pairs import ArmPairs
from vqmon.core.experiments.data.sessions import UnpairedTotals
from vqmon.core.experiments.definition import Experiment
from vqmon.core.experiments.results import ClusterDifference, SliceDifference
from vqmon.core.experiments.stats.distributions import t_quantile
from vqmon.core.experiments.stats.estimators import (
    paired_difference,
    ratio_difference,
    regression_adjusted_difference,
    segment_weighted_difference,
    switchback_difference,
    variance_explained,
)
from vqmon.core.experiments.stats.nonparametric import benjamini_hochberg_q
from vqmon.core.experiments.stats.sequential import MeanDifference, t_interval, t_test_p

MAX_SLICES = 200
MAX_CLUSTER_DIFFERENCES = 400
"""Clusters of a forest plot: above, the worst and the best half of so many."""

MIN_FOR_INTERVAL = 3


class Contrast(Protocol):
    """One arm against the control."""

    def sample(self, key: str) -> MeanDifference | None: ...
    def weighted(self, key: str) -> MeanDifference | None: ...
    def adjusted(self, key: str) -> tuple[MeanDifference, float] | None: ...
    def differences(self, key: str) -> Floats | None: ...
    def segments(self, key: str) -> int: ...
    def by_cluster(self, key: str) -> tuple[ClusterDifference, ...]: ...
    def slices(self) -> tuple[SliceDifference, ...]: ...


class PairedContrast:
    """Of pairs: a cluster's number is the mean over its pairs."""

    def __init__(self, experiment: Experiment, measures: ExperimentMetrics, pairs: ArmPairs) -> None:
        self._it, self._measures, self._pairs = experiment, measures, pairs

    def sample(self, key: str) -> MeanDifference | None:
        kept, place = self._kept(key), self._measures.index[key]
        sample = paired_difference(self._table.means(place)[kept])
        if sample is None:
            return None
        keys = len(self._measures.keys)
        sides = [float(self._table.means(place + side * keys)[kept].mean()) for side in (1, 2)]
        return replace(sample, control_mean=sides[0], arm_mean=sides[1])

    def weighted(self, key: str) -> MeanDifference | None:
        kept, place = self._kept(key), self._measures.index[key]
        return segment_weighted_difference(self._table.means(place)[kept], self._table.counts(place)[kept])

    def adjusted(self, key: str) -> tuple[MeanDifference, float] | None:
        if not self._it.covariates or set(self._it.covariates) - set(self._it.covariate_means):
            return None
        keys = len(self._measures.keys)
        known = np.column_stack([self._table.means(3 * keys + k) for k in range(len(self._it.covariates))])
        kept = self._kept(key) & np.isfinite(known).all(1)
        if kept.sum() < self._kept(key).sum():
            # Dropping clusters without a covariate would change the question.
            return None
        centre = np.array([self._it.covariate_means[name] for name in self._it.covariates])
        found = regression_adjusted_difference(
            self._table.means(self._measures.index[key])[kept], known[kept], centre=centre
        )
        plain = self.sample(key)
        if found is None or plain is None:
            return None
        return replace(found[0], control_mean=plain.control_mean, arm_mean=plain.arm_mean), found[1]

    def differences(self, key: str) -> Floats | None:
        return self._table.means(self._measures.index[key])[self._kept(key)]

    def segments(self, key: str) -> int:
        return int(self._table.counts(self._measures.index[key])[self._kept(key)].sum())

    def by_cluster(self, key: str) -> tuple[ClusterDifference, ...]:
        place, keys = self._measures.index[key], len(self._measures.keys)
        means = [self._table.means(place + side * keys) for side in range(3)]
        names = self._table.names
        rows = sorted(
            (int(row) for row in np.flatnonzero(self._kept(key))), key=lambda row: (means[0][row], names[row])
        )
        if len(rows) > MAX_CLUSTER_DIFFERENCES:
            rows = rows[: MAX_CLUSTER_DIFFERENCES // 2] + rows[-MAX_CLUSTER_DIFFERENCES // 2 :]
        return tuple(self._difference(names[row], row, key, [float(side[row]) for side in means]) for row in rows)

    def slices(self) -> tuple[SliceDifference, ...]:
        parts = []
        for where, table in self._pairs.slices.items():
            means = table.means(0)
            parts.append(
                (where, paired_difference(means), float(means.mean()), int(table.segment_counts().sum()), len(table))
            )
        return _tested(parts, self._it.alpha)

    @property
    def _table(self) -> ClusterTable:
        return self._pairs.table

    def _kept(self, key: str) -> NDArray[np.bool_]:
        # Read once means: clusters that come later give no second chance.
        first = self._it.planned_clusters if self._it.is_fixed_horizon else None
        return self._table.complete_mask(first=first) & (self._table.counts(self._measures.index[key]) > 0)

    def _difference(self, cluster: str, row: int, key: str, means: Sequence[float]) -> ClusterDifference:
        keys, scorers = len(self._measures.keys), len(self._measures.scorers)
        place = self._measures.index[key]
        squares = 3 * keys + len(self._it.covariates) + place
        n = int(self._table.counts(place)[row])
        spread, lagged = (float(self._table.sums(squares + step)[row]) for step in (0, scorers))
        variance = max(0.0, spread - n * means[0] ** 2) / (n - 1) if n > 1 else None
        half = None if variance is None else _inside(n, variance, lagged / (n - 1) - means[0] ** 2)
        return ClusterDifference(
            cluster=cluster,
            segments=n,
            control_mean=means[1],
            arm_mean=means[2],
            difference=means[0],
            low=None if half is None else means[0] - half,
            high=None if half is None else means[0] + half,
            sd=None if variance is None else math.sqrt(variance),
        )


class UnpairedContrast:
    """Of sessions or blocks: difference of two ratios, or of block means within streams."""

    def __init__(self, experiment: Experiment, measures: ExperimentMetrics, fold: UnpairedTotals, arm: str) -> None:
        self._it, self._measures, self._fold = experiment, measures, fold
        self._arms = (experiment.control, arm)

    def sample(self, key: str) -> MeanDifference | None:
        place = self._measures.index[key]
        if self._it.design == "switchback":
            return self._within_streams(place)
        return ratio_difference(*(self._sums(arm, place) for arm in self._arms))

    def weighted(self, key: str) -> MeanDifference | None:
        return None

    def adjusted(self, key: str) -> tuple[MeanDifference, float] | None:
        if not self._it.covariates or self._it.design == "switchback":
            return None
        place, first = self._measures.index[key], len(self._measures.keys)
        columns = range(first, first + len(self._it.covariates))
        inputs = []
        for arm in self._arms:
            table, kept = self._fold.tables[arm], self._fold.included_mask(arm, place)
            if any((table.counts(column)[kept] != table.counts(place)[kept]).any() for column in columns):
                return None
            inputs.append(np.column_stack([table.sums(column)[kept] for column in columns]))
        plain = self.sample(key)
        control, other = (self._sums(arm, place) for arm in self._arms)
        found = ratio_difference(control, other, covariates=(inputs[0], inputs[1]))
        return None if plain is None or found is None else (found, variance_explained(plain, found))

    def differences(self, key: str) -> Floats | None:
        return None

    def segments(self, key: str) -> int:
        return sum(int(self._sums(arm, self._measures.index[key])[1].sum()) for arm in self._arms)

    def by_cluster(self, key: str) -> tuple[ClusterDifference, ...]:
        return ()

    def slices(self) -> tuple[SliceDifference, ...]:
        if self._it.design == "switchback":
            # Which part of a stream saw which arm is told by the block, not by what a part has in common.
            return ()
        parts = []
        for where, tables in self._fold.slices.items():
            both = [tables.get(arm, ClusterTable(1)) for arm in self._arms]
            seen = [(table, table.counts(0) > 0) for table in both]
            sample = ratio_difference(*((table.sums(0)[kept], table.counts(0)[kept]) for table, kept in seen))
            if sample is not None:
                rows = sum(int(table.segment_counts().sum()) for table in both)
                parts.append((where, sample, sample.mean, rows, sample.n))
        return _tested(parts, self._it.alpha)

    def _sums(self, arm: str, place: int) -> tuple[Floats, Floats]:
        kept, table = self._fold.included_mask(arm, place), self._fold.tables[arm]
        return table.sums(place)[kept], table.counts(place)[kept]

    def _within_streams(self, place: int) -> MeanDifference | None:
        kept = [self._fold.included_mask(arm, place) for arm in self._arms]
        if not all(one.any() for one in kept):
            return None
        means = [self._fold.tables[arm].means(place)[one] for arm, one in zip(self._arms, kept, strict=True)]
        streams = [self._fold.block_streams(arm)[one] for arm, one in zip(self._arms, kept, strict=True)]
        is_arm = np.repeat([False, True], [len(one) for one in means])
        return switchback_difference(np.concatenate(means), is_arm, np.concatenate(streams))


def _inside(n: int, variance: float, covariance: float) -> float | None:
    """Half of about 95 % of a cluster's own mean, its segments being correlated; None with fewer than 3."""
    if n < MIN_FOR_INTERVAL:
        return None
    if variance == 0:
        return 0.0
    lag = min(0.95, max(0.0, covariance / variance))
    useful = max(2.0, n * (1 - lag) / (1 + lag))
    return t_quantile(0.975, useful - 1) * math.sqrt(variance / useful)


Part = tuple[tuple[str, str], MeanDifference | None, float, int, int]


def _tested(parts: Sequence[Part], alpha: float) -> tuple[SliceDifference, ...]:
    parts = sorted(parts, key=lambda it: (it[0][0], -it[3], it[0][1]))[:MAX_SLICES]
    tests = [None if sample is None or clusters < MIN_FOR_INTERVAL else sample for _, sample, _, _, clusters in parts]
    p_values = [None if sample is None else t_test_p(sample) for sample in tests]
    found = iter(benjamini_hochberg_q([p for p in p_values if p is not None]))
    slices = []
    for ((slice_, value), _, mean, segments, clusters), sample, p in zip(parts, tests, p_values, strict=True):
        interval = None if sample is None else t_interval(sample, alpha=alpha)
        slices.append(
            SliceDifference(
                slice=slice_,
                value=value,
                clusters=clusters,
                segments=segments,
                mean=mean,
                low=None if interval is None else interval.low,
                high=None if interval is None else interval.high,
                p=p,
                q=None if p is None else next(found),
            )
        )
    return tuple(slices)
