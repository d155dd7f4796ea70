"""Estimates of a change: when it began, how large the drop is, and which signals and scores moved with it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from vqmon.core.alerts.regression.baseline import Baseline, baseline_of
from vqmon.core.alerts.regression.cusum import ControlChart, CusumState, current_baseline, values_before_change
from vqmon.core.types import CompanionShift

_MAX_COUNT = 300.0
"""The usual mean of a companion rests on so many values; older ones fade."""

_DIGITS = 6

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
        means=tuple([round(mean + share * one, _DIGITS) for mean, one in zip(means, deviations, strict=True)]),
        variances=tuple(
            [
                round(rest * (variance + share * one * one), _DIGITS + 2)
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


def change_began_at(cusum: CusumState) -> float:
    """The last moment at the baseline, in seconds: where S left 0, or where the second sum did for a large drop."""
    return cusum.fast_change_at if _is_large(cusum) else cusum.change_at


def _is_large(cusum: CusumState) -> bool:
    return cusum.fast_cusum >= cusum.cusum / 3.0 and cusum.fast_count >= 1.0


class DropEstimate(NamedTuple):
    """Size of a drop in points; low and high are the ends of its 95 % interval."""

    baseline_level: float
    # of the values since the change
    mean: float
    low: float
    high: float

    @property
    def points(self) -> float:
        """The drop itself."""
        return self.baseline_level - self.mean


def estimate_drop(chart: ControlChart) -> DropEstimate:
    """The drop since the change.

    Correlated noise makes the mean of n neighbours as precise as that of n (1 - phi) / (1 + phi) independent values.
    One value from before the change may be among them: the drop may be larger by its share.
    """
    cusum = chart.cusum
    count, total = cusum.count_since_change, cusum.sum_since_change
    if _is_large(cusum):
        count, total = cusum.fast_count, cusum.fast_sum
    baseline = current_baseline(chart) or Baseline(level=cusum.last_value)
    if chart.baseline is None and len(chart.first_values) >= 6:
        baseline = baseline_of(values_before_change(cusum, chart.first_values))
    phi = baseline.autocorrelation
    count = max(count, 1.0)
    independent = max(count * (1.0 - phi) / (1.0 + phi), 1.0)
    learned_from = max(baseline.value_count * (1.0 - phi) / (1.0 + phi), 1.0)
    margin = 1.96 * math.sqrt(baseline.mean_square * (1.0 / independent + 1.0 / learned_from))
    mean = total / count if cusum.count_since_change else cusum.last_value
    drop = baseline.level - mean
    high = drop + margin + max(drop, 0.0) / max(count - 1.0, 1.0)
    return DropEstimate(baseline_level=baseline.level, mean=mean, low=drop - margin, high=high)
