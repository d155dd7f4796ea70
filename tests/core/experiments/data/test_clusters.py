"""The cluster table: sums, counts and means without nan, and which clusters are complete."""

import math

import numpy as np

from vqmon.core.experiments.data.clusters import ClusterTable


def test_nan_counts_in_no_sum_and_a_column_without_values_has_no_mean() -> None:
    """Each column counts its own values."""
    table = ClusterTable(2)
    table.add("a", np.array([1.0, math.nan]))
    table.add("a", np.array([3.0, math.nan]))
    assert (table.sums(0)[0], table.counts(0)[0], table.means(0)[0]) == (4.0, 2.0, 2.0)
    assert table.counts(1)[0] == 0
    assert math.isnan(table.means(1)[0])


def test_a_full_cluster_takes_no_more_segments() -> None:
    """With `max_segments`, later segments are refused and the cluster is complete only then."""
    table = ClusterTable(1, max_segments=2)
    assert [table.add("a", np.array([value])) for value in (1.0, 2.0, 9.0)] == [0, 0, None]
    table.add("b", np.array([5.0]))
    assert table.complete_mask().tolist() == [True, False]
    assert table.means(0).tolist() == [1.5, 5.0]


def test_the_first_complete_clusters_are_those_that_were_complete_first() -> None:
    """The order of completion counts, not the order of appearance."""
    table = ClusterTable(1, max_segments=2)
    for name in ("a", "b", "b", "a"):
        table.add(name, np.array([1.0]))
    assert table.complete_mask(first=1).tolist() == [False, True]


def test_a_table_grows_beyond_its_initial_rows() -> None:
    """Forty clusters keep their own sums."""
    table = ClusterTable(1)
    for number in range(40):
        table.add(f"c{number}", np.array([float(number)]))
    assert table.means(0).tolist() == [float(number) for number in range(40)]
    assert (len(table), table.names[39]) == (40, "c39")
