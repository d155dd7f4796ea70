"""Unpaired traffic: sessions that each see one arm, or blocks of a live stream whose encoder changes arm."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from vqmon.core.experiments.data.clusters import ClusterTable
from vqmon.core.experiments.data.metrics import ExperimentMetrics, cluster_of_segment, numeric_attribute, text_attribute
from vqmon.core.experiments.definition import Experiment
from vqmon.core.experiments.stats.sequential import srm_log_e_value
from vqmon.core.types import Outcome

SRM_CHECK_INTERVAL_SESSIONS = 16
"""Sessions between two looks at the sample ratio: the sequence holds for any looks."""


class UnpairedTotals:
    """Takes outcomes of all arms in any order; gives sums per session or block and arm.

    Columns: every measure, then every covariate.
    """

    def __init__(self, experiment: Experiment, measures: ExperimentMetrics) -> None:
        self._it = experiment
        self._measures = measures
        columns = len(measures.keys) + len(experiment.covariates)
        names = [arm.name for arm in experiment.arms if arm.name != experiment.input_arm]
        self.tables = {name: ClusterTable(columns, most_each=experiment.segments_per_cluster) for name in names}
        self.slices: dict[tuple[str, str], dict[str, ClusterTable]] = {}
        self.sessions: Counter[str] = Counter({name: 0 for name in names})
        self._most_uneven = 0.0
        self._shares = {arm.name: arm.share for arm in experiment.arms if arm.name in self.tables}
        # block -> stream; block -> its first arm, None after a second one was seen
        self._streams: dict[str, str] = {}
        self._arms: dict[str, str | None] = {}

    def add(self, arm: str, outcome: Outcome) -> None:
        """One outcome of an arm more."""
        segment = outcome.segment
        cluster = cluster_of_segment(self._it, segment)
        if cluster is None or arm not in self.tables:
            return
        if self._it.design == "switchback":
            self._streams[cluster] = segment.rendition.stream_id
            if self._arms.setdefault(cluster, arm) != arm:
                self._arms[cluster] = None
        table = self.tables[arm]
        before = len(table)
        known = [numeric_attribute(key, segment) for key in self._it.covariates]
        values = self._measures.of(outcome)
        place = table.add(cluster, np.concatenate([values, known]))
        if len(table) > before:
            self._counted(arm)
        if place is not None:
            for key in self._it.slices:
                parts = self.slices.setdefault((key, text_attribute(key, segment)), {})
                parts.setdefault(arm, ClusterTable(1)).add(cluster, values[:1])

    @property
    def shares(self) -> Mapping[str, float]:
        return self._shares

    def mixed_block_counts(self) -> tuple[int, int]:
        """How many blocks of a switchback had more than one arm, of how many."""
        return sum(arm is None for arm in self._arms.values()), len(self._arms)

    def crossover_counts(self) -> tuple[int, int]:
        """How many sessions were seen in more than one arm, of how many."""
        seen = Counter(name for table in self.tables.values() for name in table.names)
        return sum(count > 1 for count in seen.values()), len(seen)

    def included_mask(self, arm: str, column: int) -> NDArray[np.bool_]:
        """(sessions of the arm,) which have as much as they need of this column, and are not of two arms."""
        table = self.tables[arm]
        kept = table.complete_mask() & (table.counts(column) > 0)
        if self._it.design == "switchback":
            kept &= np.array([self._arms[name] is not None for name in table.names], dtype=bool)
        return kept

    def block_streams(self, arm: str) -> NDArray[np.str_]:
        """(blocks of the arm,) the stream of each."""
        return np.array([self._streams[name] for name in self.tables[arm].names])

    def _counted(self, arm: str) -> None:
        self.sessions[arm] += 1
        if self.sessions.total() % SRM_CHECK_INTERVAL_SESSIONS == 0:
            self._most_uneven = self.max_log_e_value()

    def max_log_e_value(self) -> float:
        """ln of the largest evidence against the planned shares at any look, now included."""
        now = srm_log_e_value([self.sessions[name] for name in self.tables], [self._shares[n] for n in self.tables])
        return max(self._most_uneven, now)
