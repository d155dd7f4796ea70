"""Sums and counts per cluster, built up segment by segment: memory grows with the clusters, not with the segments."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_INITIAL_ROWS = 16


class ClusterTable:
    """A table (clusters, columns) of sums and counts; nan is not counted. Rows stay in order of first appearance.

    A cluster is complete when it has `max_segments` segments, and takes no more; 0 = it is complete from its first
    segment on, and takes all.
    """

    def __init__(self, columns: int, *, max_segments: int = 0) -> None:
        self._rows: dict[str, int] = {}
        self._max_segments = max_segments
        self._sums = np.zeros((_INITIAL_ROWS, columns))
        self._counts = np.zeros((_INITIAL_ROWS, columns))
        self._segments = np.zeros(_INITIAL_ROWS, np.int64)
        # rows in the order in which they became complete
        self._completed_rows: list[int] = []

    @property
    def names(self) -> Sequence[str]:
        """(clusters,) names."""
        return tuple(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, cluster: str, values: Floats) -> int | None:
        """Add one segment (or pair) with one value per column; its row, or None when the cluster takes no more."""
        row = self._rows.setdefault(cluster, len(self._rows))
        if row == len(self._segments):
            self._sums = np.concatenate([self._sums, np.zeros_like(self._sums)])
            self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
            self._segments = np.concatenate([self._segments, np.zeros_like(self._segments)])
        if self._max_segments and self._segments[row] >= self._max_segments:
            return None
        is_finite = np.isfinite(values)
        self._sums[row] += np.where(is_finite, values, 0.0)
        self._counts[row] += is_finite
        self._segments[row] += 1
        if self._segments[row] == max(1, self._max_segments):
            self._completed_rows.append(row)
        return row

    def add_all(self, other: "ClusterTable") -> None:
        """Add the sums and counts of another table with as many columns; not for tables with `max_segments`."""
        for row, cluster in enumerate(other.names):
            mine = self.add(cluster, np.full(self._sums.shape[1], np.nan))
            if mine is not None:
                self._sums[mine] += other._sums[row]
                self._counts[mine] += other._counts[row]
                self._segments[mine] += other._segments[row] - 1

    def complete_mask(self, *, first: int | None = None) -> NDArray[np.bool_]:
        """(clusters,) whether each cluster is complete; with `first`, only those that were complete first."""
        if first is None:
            return self._segments[: len(self)] >= max(1, self._max_segments)
        mask = np.zeros(len(self), dtype=bool)
        mask[self._completed_rows[:first]] = True
        return mask

    def segment_counts(self) -> NDArray[np.int64]:
        """(clusters,) segments added."""
        return self._segments[: len(self)]

    def sums(self, column: int) -> Floats:
        """(clusters,) sums of the values that are not nan."""
        return self._sums[: len(self), column]

    def counts(self, column: int) -> Floats:
        """(clusters,) numbers of values that are not nan."""
        return self._counts[: len(self), column]

    def means(self, column: int) -> Floats:
        """(clusters,) means of the values that are not nan; nan without any."""
        counts = self.counts(column)
        means: Floats = np.divide(self.sums(column), counts, out=np.full(len(counts), np.nan), where=counts > 0)
        return means
