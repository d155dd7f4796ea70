"""Unpaired traffic per session or block and arm: sessions that each see one arm, or blocks of a switchback."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from vqmon.core.experiments.data.clusters import ClusterTable
from vqmon.core.experiments.data.metrics import (
    ExperimentMetrics,
    cluster_of_segment,
    numeric_attribute,
    text_attribute,
)
from vqmon.core.experiments.definition import Experiment
from vqmon.core.experiments.stats.sample_ratio_mismatch import srm_log_e_value
from vqmon.core.types import Outcome

_SRM_CHECK_INTERVAL_SESSIONS = 16
"""Sessions between two evaluations of the sample ratio test, which is valid at any looks."""


class UnpairedTotals:
    """Accumulates outcomes of all arms, in any order, to sums per session or block.

    Columns of the tables: every metric, then every covariate.
    """

    def __init__(self, experiment: Experiment, metrics: ExperimentMetrics) -> None:
        self._experiment = experiment
        self._metrics = metrics
        columns = len(metrics.keys) + len(experiment.covariates)
        names = [arm.name for arm in experiment.arms if arm.name != experiment.input_arm]
        # by arm
        self.tables = {name: ClusterTable(columns, max_segments=experiment.segments_per_cluster) for name in names}
        # (attribute, value) -> arm -> table of the first scorer
        self.slices: dict[tuple[str, str], dict[str, ClusterTable]] = {}
        # sessions by arm
        self.sessions: Counter[str] = Counter({name: 0 for name in names})
        self._max_log_e_value = 0.0
        self._shares = {arm.name: arm.share for arm in experiment.arms if arm.name in self.tables}
        self._stream_of_block: dict[str, str] = {}
        # None once a second arm was seen in the block
        self._arm_of_block: dict[str, str | None] = {}

    def add(self, arm: str, outcome: Outcome) -> None:
        """Add an outcome of an arm."""
        segment = outcome.segment
        cluster = cluster_of_segment(self._experiment, segment)
        if cluster is None or arm not in self.tables:
            return
        if self._experiment.design == "switchback":
            self._stream_of_block[cluster] = segment.rendition.stream_id
            if self._arm_of_block.setdefault(cluster, arm) != arm:
                self._arm_of_block[cluster] = None
        table = self.tables[arm]
        clusters_before = len(table)
        covariates = [numeric_attribute(key, segment) for key in self._experiment.covariates]
        values = self._metrics.values(outcome)
        row = table.add(cluster, np.concatenate([values, covariates]))
        if len(table) > clusters_before:
            self._count_session(arm)
        if row is not None:
            for key in self._experiment.slices:
                arm_tables = self.slices.setdefault((key, text_attribute(key, segment)), {})
                arm_tables.setdefault(arm, ClusterTable(1)).add(cluster, values[:1])

    @property
    def shares(self) -> Mapping[str, float]:
        """Planned share of each arm, relative to the others."""
        return self._shares

    def mixed_block_counts(self) -> tuple[int, int]:
        """Switchback blocks with more than one arm, and all blocks."""
        return sum(arm is None for arm in self._arm_of_block.values()), len(self._arm_of_block)

    def crossover_counts(self) -> tuple[int, int]:
        """Sessions seen in more than one arm, and all sessions."""
        arms_per_session = Counter(name for table in self.tables.values() for name in table.names)
        return sum(count > 1 for count in arms_per_session.values()), len(arms_per_session)

    def included_mask(self, arm: str, column: int) -> NDArray[np.bool_]:
        """(sessions of the arm,) whether each is complete, has values in the column, and is no mixed block."""
        table = self.tables[arm]
        mask = table.complete_mask() & (table.counts(column) > 0)
        if self._experiment.design == "switchback":
            mask &= np.array([self._arm_of_block[name] is not None for name in table.names], dtype=bool)
        return mask

    def block_streams(self, arm: str) -> NDArray[np.str_]:
        """(blocks of the arm,) the stream of each block."""
        return np.array([self._stream_of_block[name] for name in self.tables[arm].names])

    def max_log_e_value(self) -> float:
        """ln of the largest e-value against the planned shares at any look, including now."""
        counts, shares = [self.sessions[name] for name in self.tables], [self._shares[name] for name in self.tables]
        return max(self._max_log_e_value, srm_log_e_value(counts, shares))

    def _count_session(self, arm: str) -> None:
        self.sessions[arm] += 1
        if self.sessions.total() % _SRM_CHECK_INTERVAL_SESSIONS == 0:
            self._max_log_e_value = self.max_log_e_value()
