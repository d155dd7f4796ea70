"""Sums per cluster that grow as outcomes come: memory goes with the clusters, never with the segments."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class ClusterTable:
    """Clusters x columns of sums and counts of what is not nan, in the order in which clusters came."""

    def __init__(self, columns: int, *, most_each: int = 0) -> None:
        self._places: dict[str, int] = {}
        self._most_each = most_each
        self._columns = columns
        self._sums = np.zeros((16, columns))
        self._counts = np.zeros((16, columns))
        self._rows = np.zeros(16, np.int64)
        # the places in the order in which they had all they need
        self._completed: list[int] = []

    @property
    def names(self) -> Sequence[str]:
        return tuple(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def add(self, cluster: str, values: Floats) -> int | None:
        """One segment (or pair) more; the cluster's place, or None when it has as many as are used."""
        place = self._places.setdefault(cluster, len(self._places))
        if place == len(self._rows):
            self._sums = np.concatenate([self._sums, np.zeros_like(self._sums)])
            self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
            self._rows = np.concatenate([self._rows, np.zeros_like(self._rows)])
        if self._most_each and self._rows[place] >= self._most_each:
            return None
        there = np.isfinite(values)
        self._sums[place] += np.where(there, values, 0.0)
        self._counts[place] += there
        self._rows[place] += 1
        if self._rows[place] == max(1, self._most_each):
            self._completed.append(place)
        return place

    def complete_mask(self, *, first: int | None = None) -> NDArray[np.bool_]:
        """(clusters,) which have as many segments as a cluster needs to count; only the `first` that had them."""
        if first is None:
            return self._rows[: len(self)] >= max(1, self._most_each)
        found = np.zeros(len(self), dtype=bool)
        found[self._completed[:first]] = True
        return found

    def segment_counts(self) -> NDArray[np.int64]:
        """(clusters,) segments added."""
        return self._rows[: len(self)]

    def sums(self, column: int) -> Floats:
        return self._sums[: len(self), column]

    def counts(self, column: int) -> Floats:
        return self._counts[: len(self), column]

    def means(self, column: int) -> Floats:
        """(clusters,); nan where nothing was measured."""
        counts = self.counts(column)
        means: Floats = np.divide(self.sums(column), counts, out=np.full(len(counts), np.nan), where=counts > 0)
        return means
