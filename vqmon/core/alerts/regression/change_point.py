"""Estimates of a change: when it began, how large the drop is, and which signals and scores moved with it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from vqmon.core.alerts.regression.control_chart import SPANS, Average, ControlChart, low_averages
from vqmon.core.types import CompanionShift

_MAX_COUNT = 300.0
"""The usual mean of a companion rests on so many values; older ones fade."""

_DIGITS = 6

_COMPANIONS_INDEX = 1
"""The average whose changes the companions follow, the second."""

FEW_VALUES = 15.0
"""Up to so many values since the change, some may be from before it: a fall takes twelve where tails are heavy."""

LOW_DEVIATIONS = 2.5
HIGH_DEVIATIONS = 2.5
"""Lower and upper end of the interval of a drop, in standard errors of the mean. An alarm comes when noise adds to the
drop, so that the estimate is too large rather than too small; measured, see docs/alerts.md."""

_MOVED_DEVIATIONS = 1.0
"""A companion moved if its mean is more than so many of its own standard deviations from its usual mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Companions:
    """Running statistics of the signals and other scores of the segments of a series.

    While the series is at its baseline the means and variances learn; after a change the sums since then are added up.
    """

    # sorted; the other tuples have a number per name
    names: tuple[str, ...]
    count: float
    count_since_change: float
    means: tuple[float, ...]
    variances: tuple[float, ...]
    sums_since_change: tuple[float, ...]


def update_companions(
    companions: Companions | None, values: Mapping[str, float], *, count_since_change: float
) -> Companions:
    """The statistics after one more segment; `count_since_change` is that of the series' chart, 0 at the baseline."""
    if companions is None or not _has_names(companions, values):
        return _first_companions(values)
    names = companions.names
    means = companions.means
    new = [values[name] for name in names]
    if count_since_change:
        sums = [
            round(total + value, _DIGITS) for total, value in zip(companions.sums_since_change, new, strict=True)
        ]  # fmt: skip
        return Companions(
            names=names,
            count=companions.count,
            count_since_change=companions.count_since_change + 1.0,
            means=means,
            variances=companions.variances,
            sums_since_change=tuple(sums),
        )
    count = min(companions.count + 1.0, _MAX_COUNT)
    share = 1.0 / count
    rest = 1.0 - share
    deviations = [value - mean for value, mean in zip(new, means, strict=True)]
    return Companions(
        names=names,
        count=count,
        count_since_change=0.0,
        # Most signals are constant most of the time.
        means=tuple(
            [round(mean + share * one, _DIGITS) if one else mean for mean, one in zip(means, deviations, strict=True)]
        ),
        variances=tuple(
            [
                round(rest * (variance + share * one * one), _DIGITS + 2) if one or variance else 0.0
                for variance, one in zip(companions.variances, deviations, strict=True)
            ]
        ),
        sums_since_change=(0.0,) * len(names),
    )


def _has_names(companions: Companions, values: Mapping[str, float]) -> bool:
    return len(values) == len(companions.names) and all(name in values for name in companions.names)


def _first_companions(values: Mapping[str, float]) -> Companions:
    names = tuple(sorted(values))
    zeros = (0.0,) * len(names)
    return Companions(
        names=names,
        count=1.0,
        count_since_change=0.0,
        means=tuple(round(values[name], _DIGITS) for name in names),
        variances=zeros,
        sums_since_change=zeros,
    )


def moved_companions(companions: Companions | None) -> tuple[CompanionShift, ...]:
    """The signals and scores that moved with the change, the largest move in own standard deviations first."""
    if companions is None or not companions.count_since_change:
        return ()
    moves = []
    for name, before, variance, total in zip(
        companions.names, companions.means, companions.variances, companions.sums_since_change, strict=True
    ):
        after = total / companions.count_since_change
        distance = abs(after - before)
        # Scores are 0..100, signals 0..1: less than a hundredth of the scale is not worth a mention.
        least = 1.0 if "@" in name else 0.01
        if distance > max(_MOVED_DEVIATIONS * variance**0.5, least):
            moves.append((distance / max(variance**0.5, least), CompanionShift(name=name, before=before, after=after)))
    return tuple(move for _, move in sorted(moves, key=lambda ranked: (-ranked[0], ranked[1].name)))


class DropEstimate(NamedTuple):
    """A drop in points, seen by one average; low and high are the ends of its 95 % interval."""

    # of the average in `ControlChart.averages`
    average_index: int
    baseline_level: float
    # of the values since the change
    mean: float
    low: float
    high: float
    # seconds since the epoch
    began_at: float
    impact_minutes: float

    @property
    def points(self) -> float:
        """The drop itself."""
        return self.baseline_level - self.mean


def count_since_change(chart: ControlChart) -> float:
    """Values since the series may have changed, for the companions; 0 = no change."""
    return chart.averages[_COMPANIONS_INDEX].value_count if chart.averages else 0.0


def detected_drop(chart: ControlChart, *, delta_min: float, min_impact_minutes: float) -> DropEstimate | None:
    """The drop that the shortest average below its limit sees, if it is large enough; None when there is none."""
    for index in low_averages(chart):
        drop = estimate_drop(chart, index)
        if drop.points >= delta_min and drop.impact_minutes >= min_impact_minutes:
            return drop
    return None


def estimate_drop(chart: ControlChart, index: int) -> DropEstimate:
    """The drop since the change that an average sees: since the last zero of its CUSUM.

    The standard error is that of a mean of so many neighbours, as the averages of this series have varied. One value
    from before the change may be among them: the drop may be larger by its share. Of few values more may be: then the
    interval reaches to the median of the last four as well. It also reaches to what shorter averages show and a
    deviation of theirs: a series that was a little low before it fell has its change too early.
    """
    average, baseline = chart.averages[index], chart.baseline
    assert baseline is not None
    count = max(average.value_count, 1.0)
    mean = average.total / count
    drop = baseline.level - mean
    variance = _variance_of_mean(baseline.mean_square, chart.averages, count)
    longest = chart.averages[-1].mean_square * SPANS[-1] / max(baseline.value_count, SPANS[-1])
    error = math.sqrt(variance + longest)
    high = drop + HIGH_DEVIATIONS * error + max(drop, 0.0) / max(count - 1.0, 1.0)
    if count <= FEW_VALUES:
        high = max(high, baseline.level - median(chart.recent_values) + error)
    for shorter in chart.averages[:index]:
        high = max(high, baseline.level - shorter.value + math.sqrt(shorter.mean_square))
    return DropEstimate(
        average_index=index,
        baseline_level=baseline.level,
        mean=mean,
        low=drop - LOW_DEVIATIONS * error,
        high=high,
        began_at=average.change_at,
        impact_minutes=average.impact_minutes,
    )


def _variance_of_mean(mean_square: float, averages: Sequence[Average], count: float) -> float:
    """The variance of the mean of `count` neighbours, in points squared: that of the averages next in length.

    On a logarithmic scale it is a straight line between two lengths; beyond the longest it falls with the count.
    """
    lengths = (1.0, *map(float, SPANS))
    variances = (mean_square, *(average.mean_square for average in averages))
    if count >= lengths[-1]:
        return variances[-1] * lengths[-1] / count
    upper = next(index for index, length in enumerate(lengths) if length > count)
    first, second = (math.log(max(variance, 1e-9)) for variance in variances[upper - 1 : upper + 1])
    share = math.log(count / lengths[upper - 1]) / math.log(lengths[upper] / lengths[upper - 1])
    return math.exp(first + share * (second - first))
