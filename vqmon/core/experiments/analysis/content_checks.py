"""Checks of what was compared: losses by content, spread, repeated contents, contents and sessions that weigh most."""

from collections.abc import Iterable, Sequence

import numpy as np

from vqmon.core.experiments.data.clusters import Floats
from vqmon.core.experiments.data.losses import LossEvidence
from vqmon.core.experiments.data.units import Unit
from vqmon.core.experiments.results import ConfidenceInterval, HealthCheck
from vqmon.core.experiments.stats.sequential import MeanDifference
from vqmon.plurals import plural

_LOSS_ALPHA = 0.001
_MAX_LOST_SHARE = 0.10
"""With more losses than this in one arm, they could decide whatever they depend on."""

_REPEATED_SHARE = 0.05
_RULING_SHARE = 0.5
_REMAINING_SHARE = 1 / 3
"""A winner whose difference falls below this share of itself without one content is that content's only."""
_MIN_CLUSTERS = 8
_LONG_SESSIONS_SHARE = 0.2


def check_lost_content(evidence: Sequence[LossEvidence], *, pairs: int) -> HealthCheck:
    """Whether the segments that each arm lost are like those that were compared, and few."""
    lost = sum(loss.lost for loss in evidence)
    segments = max(1, pairs + lost)
    problems = []
    for loss in evidence:
        side = f"{abs(loss.points_higher):.1f} points {'higher' if loss.points_higher > 0 else 'lower'}"
        for p, words in (
            (loss.p_within, f"score {side} than the compared ones of the same contents"),
            (loss.p_score, "come from contents that score otherwise"),
            (loss.p_difference, "come from contents in which the arms differ otherwise"),
        ):
            if p < _LOSS_ALPHA:
                problems.append(f"the segments that {loss.arm} lost {words} (p {p:.2g})")
        if loss.lost > _MAX_LOST_SHARE * segments:
            problems.append(
                f"{loss.arm} lost {loss.lost / segments:.1%} of the segments, which could decide the answer"
            )
    few = f"{lost / segments:.1%} of the segments have a score in one arm only, whatever their content"
    return HealthCheck(
        name="lost content",
        is_good=not problems,
        weight="blocks",
        text="; ".join(problems) or few,
        remedy="repair the losses, or leave the contents that cause them out of both arms" if problems else "",
        p=min((min(loss.p_within, loss.p_score, loss.p_difference) for loss in evidence), default=None),
    )


def check_spread(estimate: MeanDifference) -> HealthCheck:
    """Whether the clusters differ from each other at all: differences without spread are no measurement."""
    if not estimate.is_constant:
        text = f"the differences of {estimate.n} clusters have s.d. {estimate.sd:.2g}"
        return HealthCheck(name="spread", is_good=True, weight="blocks", text=text)
    if estimate.is_none:
        return HealthCheck(
            name="spread",
            is_good=False,
            weight="blocks",
            text=f"both arms have the same scores in all {estimate.n} clusters, so the differences have no variance",
            remedy="check whether the arms are the same files, or the scores at the end of their scale; of arms that "
            "are the same nothing is to be decided",
        )
    return HealthCheck(
        name="spread",
        is_good=False,
        weight="blocks",
        text=f"all {estimate.n} clusters differ by {estimate.mean:+.4g}, with s.d. {estimate.sd:.2g}: the differences "
        "have no variance, as those of two encodes always have",
        remedy="check that the scores of an arm are not computed from the other's, and that clusters are not copies",
    )


def check_repeated_content(values: Floats) -> HealthCheck:
    """Whether clusters are copies of each other; `values` (clusters, k) are their counts and means in both arms."""
    clusters = len(values)
    repeated = clusters - len(np.unique(values.round(9), axis=0)) if clusters else 0
    is_good = repeated <= _REPEATED_SHARE * clusters
    return HealthCheck(
        name="repeated content",
        is_good=is_good,
        weight="blocks",
        text=f"{repeated} of {plural(clusters, 'cluster')} with exactly the scores of another one, in both arms",
        remedy="" if is_good else "a content that is repeated counts once: name it in the label that is the cluster",
    )


def check_ruling_cluster(values: Floats, names: Sequence[str]) -> HealthCheck | None:
    """Whether one cluster makes most of the spread of the differences (clusters,); None with few clusters."""
    if len(values) < _MIN_CLUSTERS:
        return None
    squares = (values - np.median(values)) ** 2
    if not squares.any():
        return None
    first = int(squares.argmax())
    share = float(squares[first] / squares.sum())
    is_good = share <= _RULING_SHARE
    return HealthCheck(
        name="concentration",
        is_good=is_good,
        weight="notes",
        text=f"{names[first]} differs by {values[first]:+.2f} and makes {share:.0%} of the spread between clusters",
        remedy="" if is_good else "look at this content: is it scored correctly, and is it typical?",
    )


def check_ruling_unit(units: Iterable[Unit], reading: ConfidenceInterval, *, margin: float) -> HealthCheck | None:
    """Whether one stream, or one value of a label, with a fifth of the segments or fewer makes the answer.

    A winner needs a third of its difference without it; elsewhere it must not move the mean by `margin`. None when
    there is no such unit. Clusters do not show it where they are finer than contents, such as sessions.
    """
    sign = (reading.low > 0) - (reading.high < 0)
    ruling = [
        unit
        for unit in units
        if (
            sign * unit.difference > 0 and sign * unit.difference_without < _REMAINING_SHARE * sign * unit.difference
            if sign
            else reading.low > -margin and abs(unit.difference - unit.difference_without) > margin
        )
    ]
    if not ruling:
        return None
    unit = max(ruling, key=lambda unit: abs(unit.difference - unit.difference_without))
    return HealthCheck(
        name="concentration",
        is_good=False,
        weight="blocks",
        text=f"{unit.attribute} {unit.value} alone, with {unit.share:.0%} of the segments, makes the difference: "
        f"{unit.difference:+.3g} with it, {unit.difference_without:+.3g} without",
        remedy="look at this content: is it scored correctly? Leave it out of both arms, or decide for it alone; where "
        "contents differ so much, the content is the cluster",
    )


def check_long_sessions(counts: Sequence[Floats], *, limit_medians: float) -> HealthCheck | None:
    """Whether a few sessions hold many of the segments; `counts` (sessions,) are those of each arm."""
    segments = np.concatenate(list(counts))
    if len(segments) < _MIN_CLUSTERS:
        return None
    is_long = segments > limit_medians * np.median(segments)
    share = float(segments[is_long].sum() / segments.sum())
    is_good = share <= _LONG_SESSIONS_SHARE
    return HealthCheck(
        name="concentration",
        is_good=is_good,
        weight="notes",
        text=f"{int(is_long.sum())} of {len(segments)} sessions have more than {limit_medians:g} times the median's "
        f"segments, {share:.0%} of all; each counts with that many",
        remedy=""
        if is_good
        else "robots, or screens that never stop? leave them out by a label, or label them otherwise",
    )


def check_dependence(estimate: MeanDifference) -> HealthCheck | None:
    """How many independent blocks the blocks of a stream are worth; None for other clusters."""
    if estimate.effective_n is None:
        return None
    return HealthCheck(
        name="dependence",
        is_good=estimate.effective_n >= estimate.n / 2,
        weight="notes",
        text=f"{estimate.n} blocks are worth {estimate.effective_n:.0f} independent ones: the interval counts them so",
        remedy=""
        if estimate.effective_n >= estimate.n / 2
        else "longer blocks, or the programme as the cluster (a label), cost nothing and say the same",
    )
