"""Whether the segments that one arm lost differ from those that were compared, so that these are a selection."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vqmon.core.experiments.data.clusters import ClusterTable, Floats
from vqmon.core.experiments.data.pairs import ArmPairs
from vqmon.core.experiments.stats.estimators import paired_difference
from vqmon.core.experiments.stats.nonparametric import spearman_p
from vqmon.core.experiments.stats.sequential import t_test_p

_MIN_CLUSTERS = 5
"""Clusters with losses that the t-test needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossEvidence:
    """How the segments lost by one arm relate to content."""

    # the arm without a score
    arm: str
    lost: int
    # by how many points lost segments score higher than the compared ones of their cluster (by the other arm)
    points_higher: float
    # two-sided p-values: of the t-test of `points_higher` over clusters; of Spearman's correlation over all clusters
    # between the share that is lost and the score; and between that share and the difference of the arms. 1 where
    # untestable
    p_within: float
    p_score: float
    p_difference: float


def loss_evidence(pairs: ArmPairs, *, arm: str, control: str, metrics: int) -> tuple[LossEvidence, ...]:
    """The evidence for each arm that lost segments; `metrics` is the number of metrics of the table's columns."""
    evidence = []
    for lost_by, other_column in ((arm, metrics), (control, 2 * metrics)):
        missing = pairs.missing[lost_by]
        if missing.count:
            evidence.append(_evidence(lost_by, missing.count, missing.scores, pairs.table, other_column))
    return tuple(evidence)


def _evidence(lost_by: str, count: int, lost: ClusterTable, table: ClusterTable, column: int) -> LossEvidence:
    rows = {name: row for row, name in enumerate(table.names)}
    compared_scores, differences = table.means(column), table.means(0)
    lost_scores = np.full(len(table), np.nan)
    lost_counts = np.zeros(len(table))
    for name, score, segments in zip(lost.names, lost.means(0), lost.counts(0), strict=True):
        if name in rows:
            lost_scores[rows[name]], lost_counts[rows[name]] = score, segments
    shares = lost_counts / np.maximum(1, lost_counts + table.counts(0))
    higher = lost_scores - compared_scores
    within = paired_difference(higher[np.isfinite(higher)])
    return LossEvidence(
        arm=lost_by,
        lost=count,
        points_higher=within.mean if within else 0.0,
        p_within=t_test_p(within) if within and within.n >= _MIN_CLUSTERS else 1.0,
        p_score=_correlation_p(shares, compared_scores),
        p_difference=_correlation_p(shares, differences),
    )


def _correlation_p(first: Floats, second: Floats) -> float:
    mask: NDArray[np.bool_] = np.isfinite(first) & np.isfinite(second)
    return spearman_p(first[mask], second[mask])
