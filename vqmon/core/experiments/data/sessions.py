"""Unpaired traffic per session or block and arm: sessions that each see one arm, or blocks of a switchback."""

import math
from collections import Counter
from collections.abc import Mapping
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from vqmon.core.experiments.data.clusters import ClusterTable
from vqmon.core.experiments.data.metrics import (
    ExperimentMetrics,
    cluster_of_segment,
    numeric_attribute,
    text_attribute,
)
from vqmon.core.experiments.data.units import UnitTotals
from vqmon.core.experiments.definition import Experiment
from vqmon.core.experiments.stats.sample_ratio_mismatch import srm_log_e_value
from vqmon.core.types import Outcome


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
        self.units = UnitTotals(arm_label=experiment.label)
        # sessions by arm
        self.sessions: Counter[str] = Counter({name: 0 for name in names})
        # sessions since the arm's last one, and ln of the probability of that by the planned shares
        self.runs: Counter[str] = Counter({name: 0 for name in names})
        self.run_log_p_values = dict.fromkeys(names, 0.0)
        # by arm: for each session, the index of the planned shares when it began
        self._stages: dict[str, list[int]] = {name: [] for name in names}
        # planned shares of the arms -> sessions by arm, and ln of their e-value
        self._counts_by_shares: dict[tuple[float, ...], list[int]] = {}
        self._log_e_values: dict[tuple[float, ...], float] = {}
        self._max_log_e_value = 0.0
        self._arms = [arm for arm in experiment.arms if arm.name in self.tables]
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
            self._count_session(arm, segment.starts_at)
        if row is not None:
            self.units.add(arm, segment, values[: len(self._metrics.scorers)])
            for key in self._experiment.slices:
                arm_tables = self.slices.setdefault((key, text_attribute(key, segment)), {})
                arm_tables.setdefault(arm, ClusterTable(1)).add(cluster, values[:1])

    def planned_counts(self) -> Mapping[str, float]:
        """The planned number of sessions of each arm, by the shares when each session began."""
        planned = dict.fromkeys(self.tables, 0.0)
        for shares, counts in self._counts_by_shares.items():
            for name, share in zip(planned, shares, strict=True):
                planned[name] += sum(counts) * share
        return planned

    def stages(self, arm: str) -> NDArray[np.int64]:
        """(sessions of the arm,) the index of the planned shares when each began; a ramp has several."""
        return np.array(self._stages[arm], dtype=np.int64)

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
        """ln of the largest e-value against the planned shares after any session."""
        return self._max_log_e_value

    def _count_session(self, arm: str, starts_at: datetime) -> None:
        self.sessions[arm] += 1
        now = [planned.share_at(starts_at) for planned in self._arms]
        shares = tuple(share / sum(now) for share in now)
        counts = self._counts_by_shares.setdefault(shares, [0] * len(shares))
        self._stages[arm].append(list(self._counts_by_shares).index(shares))
        for index, (name, share) in enumerate(zip(self.tables, shares, strict=True)):
            counts[index] += name == arm
            self.runs[name] = 0 if name == arm else self.runs[name] + 1
            self.run_log_p_values[name] = 0.0 if name == arm else self.run_log_p_values[name] + math.log1p(-share)
        # Shares that follow each other are tested independently: the e-values of all stages multiply.
        self._log_e_values[shares] = srm_log_e_value(counts, shares)
        self._max_log_e_value = max(self._max_log_e_value, sum(self._log_e_values.values()))
