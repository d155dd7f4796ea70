"""Contrasts of one arm with the control: the plain, weighted and covariate-adjusted difference of every metric."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vqmon.core.experiments.data.clusters import ClusterTable, Floats
from vqmon.core.experiments.data.metrics import ExperimentMetrics, stream_of_block
from vqmon.core.experiments.data.pairs import ArmPairs
from vqmon.core.experiments.data.sessions import UnpairedTotals
from vqmon.core.experiments.definition import Experiment
from vqmon.core.experiments.results import ClusterDifference, SliceDifference
from vqmon.core.experiments.stats.dependence import effective_sample_size
from vqmon.core.experiments.stats.distributions import t_quantile
from vqmon.core.experiments.stats.estimators import (
    paired_difference,
    ratio_difference,
    regression_adjusted_difference,
    segment_weighted_difference,
    stratified_difference,
    switchback_difference,
    variance_explained,
)
from vqmon.core.experiments.stats.nonparametric import benjamini_hochberg_q
from vqmon.core.experiments.stats.sequential import MeanDifference, t_interval, t_test_p

_MAX_SLICES = 200
_MAX_CLUSTER_DIFFERENCES = 400
"""Rows of a forest plot; of more clusters, the worst and the best halves are shown."""

_MIN_FOR_INTERVAL = 3
"""With fewer clusters (in a slice) or segments (in a cluster), there is no interval."""

_MAX_LAG1_CORRELATION = 0.95

_ROUNDING_SHARE = 1e-5
"""Segments whose differences have a smaller s.d. than this share of their scores differ by rounding only."""


class Contrast(Protocol):
    """One arm against the control; `key` names a metric of the experiment, such as `score:lite`."""

    def difference(self, key: str) -> MeanDifference | None:
        """Each cluster counts once; None with too few clusters."""
        ...

    def segment_weighted_difference(self, key: str) -> MeanDifference | None:
        """Each segment counts once; None unless paired."""
        ...

    def adjusted_difference(self, key: str) -> tuple[MeanDifference, float] | None:
        """Adjusted for the covariates, with the share of variance that they explain; None when not adjusted."""
        ...

    def cluster_differences(self, key: str) -> Floats | None:
        """(clusters,) differences; None unless paired."""
        ...

    def segment_count(self, key: str) -> int:
        """Pairs, or segments of both arms when they are not paired."""
        ...

    def forest_rows(self, key: str) -> tuple[ClusterDifference, ...]:
        """One row per cluster, worst for the arm first; empty unless paired."""
        ...

    def slice_differences(self) -> tuple[SliceDifference, ...]:
        """The differences of the first scorer by slice."""
        ...


class PairedContrast:
    """The contrast of pairs: the value of a cluster is the mean over its pairs."""

    def __init__(self, experiment: Experiment, metrics: ExperimentMetrics, pairs: ArmPairs) -> None:
        self._experiment, self._metrics, self._pairs = experiment, metrics, pairs

    def difference(self, key: str) -> MeanDifference | None:
        mask, column = self._included_mask(key), self._metrics.index[key]
        estimate = paired_difference(self._table.means(column)[mask])
        if estimate is None:
            return None
        estimate = self._with_dependence(estimate, mask)
        keys = len(self._metrics.keys)
        control_mean, arm_mean = (float(self._table.means(column + side * keys)[mask].mean()) for side in (1, 2))
        return replace(estimate, control_mean=control_mean, arm_mean=arm_mean)

    def segment_weighted_difference(self, key: str) -> MeanDifference | None:
        mask, column = self._included_mask(key), self._metrics.index[key]
        return segment_weighted_difference(self._table.means(column)[mask], self._table.counts(column)[mask])

    def adjusted_difference(self, key: str) -> tuple[MeanDifference, float] | None:
        names = self._experiment.covariates
        if not names or set(names) - set(self._experiment.covariate_means):
            return None
        first_column = 3 * len(self._metrics.keys)
        covariates = np.column_stack([self._table.means(first_column + index) for index in range(len(names))])
        included = self._included_mask(key)
        mask = included & np.isfinite(covariates).all(1)
        if mask.sum() < included.sum():
            # Dropping the clusters without a covariate would change the population that the estimate is about.
            return None
        centre = np.array([self._experiment.covariate_means[name] for name in names])
        means = self._table.means(self._metrics.index[key])
        adjusted = regression_adjusted_difference(means[mask], covariates[mask], centre=centre)
        plain = self.difference(key)
        if adjusted is None or plain is None:
            return None
        estimate = self._with_dependence(adjusted[0], mask)
        return replace(estimate, control_mean=plain.control_mean, arm_mean=plain.arm_mean), adjusted[1]

    def cluster_differences(self, key: str) -> Floats | None:
        return self._table.means(self._metrics.index[key])[self._included_mask(key)]

    def segment_count(self, key: str) -> int:
        return int(self._table.counts(self._metrics.index[key])[self._included_mask(key)].sum())

    def forest_rows(self, key: str) -> tuple[ClusterDifference, ...]:
        column, keys = self._metrics.index[key], len(self._metrics.keys)
        difference, control, arm = (self._table.means(column + side * keys) for side in range(3))
        names = self._table.names
        rows = sorted(
            (int(row) for row in np.flatnonzero(self._included_mask(key))),
            key=lambda row: (difference[row], names[row]),
        )
        if len(rows) > _MAX_CLUSTER_DIFFERENCES:
            rows = rows[: _MAX_CLUSTER_DIFFERENCES // 2] + rows[-_MAX_CLUSTER_DIFFERENCES // 2 :]
        return tuple(
            self._forest_row(
                row, key, difference=float(difference[row]), control=float(control[row]), arm=float(arm[row])
            )
            for row in rows
        )

    def slice_differences(self) -> tuple[SliceDifference, ...]:
        slices = []
        for (attribute, value), table in self._pairs.slices.items():
            means = table.means(0)
            slices.append(
                _Slice(
                    attribute=attribute,
                    value=value,
                    estimate=paired_difference(means),
                    mean=float(means.mean()),
                    segments=int(table.segment_counts().sum()),
                    clusters=len(table),
                )
            )
        return _test_slices(slices, self._experiment.alpha)

    def _with_dependence(self, estimate: MeanDifference, mask: NDArray[np.bool_]) -> MeanDifference:
        """The estimate with the number of independent clusters that blocks are worth; others count as independent."""
        if self._experiment.cluster != "block" or estimate.values is None:
            return estimate
        by_stream: dict[str, list[float]] = {}
        names = np.array(self._table.names)[mask]
        for name, value in zip(names, estimate.values, strict=True):
            by_stream.setdefault(stream_of_block(name), []).append(value)
        effective_n = effective_sample_size([np.array(values) for values in by_stream.values()])
        return replace(estimate, effective_n=effective_n, degrees_of_freedom=max(1.0, effective_n - 1))

    @property
    def _table(self) -> ClusterTable:
        return self._pairs.table

    def _included_mask(self, key: str) -> NDArray[np.bool_]:
        # A fixed-horizon experiment is analysed once: clusters that come later give no second chance.
        first = self._experiment.planned_clusters if self._experiment.is_fixed_horizon else None
        return self._table.complete_mask(first=first) & (self._table.counts(self._metrics.index[key]) > 0)

    def _forest_row(self, row: int, key: str, *, difference: float, control: float, arm: float) -> ClusterDifference:
        column = self._metrics.index[key]
        squares_column = 3 * len(self._metrics.keys) + len(self._experiment.covariates) + column
        lag_column = squares_column + len(self._metrics.scorers)
        n = int(self._table.counts(column)[row])
        sum_of_squares = float(self._table.sums(squares_column)[row])
        sum_of_lag_products = float(self._table.sums(lag_column)[row])
        variance = max(0.0, sum_of_squares - n * difference**2) / (n - 1) if n > 1 else None
        half_width = None
        if variance is not None and variance > (_ROUNDING_SHARE * max(abs(control), abs(arm))) ** 2:
            half_width = _autocorrelated_half_width(n, variance, sum_of_lag_products / (n - 1) - difference**2)
        return ClusterDifference(
            cluster=self._table.names[row],
            segments=n,
            control_mean=control,
            arm_mean=arm,
            difference=difference,
            low=None if half_width is None else difference - half_width,
            high=None if half_width is None else difference + half_width,
            sd=None if variance is None else math.sqrt(variance),
        )


class UnpairedContrast:
    """The contrast of sessions (difference of two ratios) or of switchback blocks (block means within streams)."""

    def __init__(self, experiment: Experiment, metrics: ExperimentMetrics, totals: UnpairedTotals, arm: str) -> None:
        self._experiment, self._metrics, self._totals = experiment, metrics, totals
        self._arms = (experiment.control, arm)

    def difference(self, key: str) -> MeanDifference | None:
        column = self._metrics.index[key]
        if self._experiment.design == "switchback":
            return self._switchback_difference(column)
        sides = [(*self._sums_and_counts(arm, column), self._stages(arm, column)) for arm in self._arms]
        strata = [
            ratio_difference(*((sums[stages == stage], counts[stages == stage]) for sums, counts, stages in sides))
            for stage in np.union1d(sides[0][2], sides[1][2])
        ]
        return stratified_difference([stratum for stratum in strata if stratum is not None])

    def segment_weighted_difference(self, key: str) -> MeanDifference | None:
        return None

    def adjusted_difference(self, key: str) -> tuple[MeanDifference, float] | None:
        if not self._experiment.covariates or self._experiment.design == "switchback" or self._has_ramp:
            return None
        column, first_covariate = self._metrics.index[key], len(self._metrics.keys)
        covariate_columns = range(first_covariate, first_covariate + len(self._experiment.covariates))
        covariates = []
        for arm in self._arms:
            table, mask = self._totals.tables[arm], self._totals.included_mask(arm, column)
            counts = table.counts(column)[mask]
            if any((table.counts(covariate)[mask] != counts).any() for covariate in covariate_columns):
                return None
            covariates.append(np.column_stack([table.sums(covariate)[mask] for covariate in covariate_columns]))
        plain = self.difference(key)
        control, treatment = (self._sums_and_counts(arm, column) for arm in self._arms)
        adjusted = ratio_difference(control, treatment, covariates=(covariates[0], covariates[1]))
        if plain is None or adjusted is None:
            return None
        return adjusted, variance_explained(plain, adjusted)

    def cluster_differences(self, key: str) -> Floats | None:
        return None

    def segment_count(self, key: str) -> int:
        return sum(int(self._sums_and_counts(arm, self._metrics.index[key])[1].sum()) for arm in self._arms)

    def forest_rows(self, key: str) -> tuple[ClusterDifference, ...]:
        return ()

    def slice_differences(self) -> tuple[SliceDifference, ...]:
        if self._experiment.design == "switchback":
            # Arms alternate by block, so a slice of a stream does not see both arms under the same conditions.
            return ()
        slices = []
        for (attribute, value), tables in self._totals.slices.items():
            both = [tables.get(arm, ClusterTable(1)) for arm in self._arms]
            masks = [table.counts(0) > 0 for table in both]
            estimate = ratio_difference(
                *((table.sums(0)[mask], table.counts(0)[mask]) for table, mask in zip(both, masks, strict=True))
            )
            if estimate is not None:
                slices.append(
                    _Slice(
                        attribute=attribute,
                        value=value,
                        estimate=estimate,
                        mean=estimate.mean,
                        segments=sum(int(table.segment_counts().sum()) for table in both),
                        clusters=estimate.n,
                    )
                )
        return _test_slices(slices, self._experiment.alpha)

    def _sums_and_counts(self, arm: str, column: int) -> tuple[Floats, Floats]:
        mask, table = self._totals.included_mask(arm, column), self._totals.tables[arm]
        return table.sums(column)[mask], table.counts(column)[mask]

    @property
    def _has_ramp(self) -> bool:
        return any(arm.share_changes for arm in self._experiment.arms)

    def _stages(self, arm: str, column: int) -> NDArray[np.int64]:
        return self._totals.stages(arm)[self._totals.included_mask(arm, column)]

    def _switchback_difference(self, column: int) -> MeanDifference | None:
        masks = [self._totals.included_mask(arm, column) for arm in self._arms]
        if not all(mask.any() for mask in masks):
            return None
        by_arm = list(zip(self._arms, masks, strict=True))
        means = [self._totals.tables[arm].means(column)[mask] for arm, mask in by_arm]
        streams = [self._totals.block_streams(arm)[mask] for arm, mask in by_arm]
        is_arm = np.repeat([False, True], [len(arm_means) for arm_means in means])
        return switchback_difference(np.concatenate(means), is_arm, np.concatenate(streams))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slice:
    attribute: str
    value: str
    estimate: MeanDifference | None
    mean: float
    segments: int
    clusters: int


def _autocorrelated_half_width(n: int, variance: float, lag1_covariance: float) -> float | None:
    """Half the 95 % interval of the mean of n autocorrelated segments (AR(1)); None with fewer than 3 segments.

    The effective sample size of an AR(1) process is n (1 - r) / (1 + r), r being the lag-1 autocorrelation.
    """
    if n < _MIN_FOR_INTERVAL:
        return None
    correlation = min(_MAX_LAG1_CORRELATION, max(0.0, lag1_covariance / variance))
    effective_n = max(2.0, n * (1 - correlation) / (1 + correlation))
    return t_quantile(0.975, effective_n - 1) * math.sqrt(variance / effective_n)


def _test_slices(slices: Sequence[_Slice], alpha: float) -> tuple[SliceDifference, ...]:
    """The slices with the most segments of each attribute first, tested by t with Benjamini-Hochberg's correction."""
    slices = sorted(slices, key=lambda part: (part.attribute, -part.segments, part.value))[:_MAX_SLICES]
    estimates = [
        None
        if part.estimate is None or part.clusters < _MIN_FOR_INTERVAL or part.estimate.is_constant
        else part.estimate
        for part in slices
    ]
    p_values = [None if estimate is None else t_test_p(estimate) for estimate in estimates]
    q_values = iter(benjamini_hochberg_q([p for p in p_values if p is not None]))
    differences = []
    for part, estimate, p in zip(slices, estimates, p_values, strict=True):
        interval = None if estimate is None else t_interval(estimate, alpha=alpha)
        differences.append(
            SliceDifference(
                slice=part.attribute,
                value=part.value,
                clusters=part.clusters,
                segments=part.segments,
                mean=part.mean,
                low=None if interval is None else interval.low,
                high=None if interval is None else interval.high,
                p=p,
                q=None if p is None else next(q_values),
            )
        )
    return tuple(differences)
