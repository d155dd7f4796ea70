"""Control chart of one series: four moving averages, each with a limit from how low it has been before.

The averages are exponentially weighted (EWMA; Roberts 1959) over about 12, 36, 108 and 324 segments, of the median of
each value and the four before it, so that one or two outliers count for nothing. The content is divided into blocks of
an hour. For each average the chart learns the mean and the deviation of its lowest values in these blocks; the limit is
so far below that a block passes it once in `false_alarm_days` (`baseline.limit_factor`). Where the lows change slowly
from hour to hour the limit follows the last one. Nothing is assumed about the correlation of the series or about its
content: programmes, ad breaks and noise all show in the lows. Where values have heavy tails, a jolt counts only as the
smallest drop that the shortest average can see, however far it goes: it must last like such a drop.
"""

import math
from collections.abc import Iterator, Sequence
from statistics import median
from typing import NamedTuple

from vqmon.core.alerts.conditions.chart import FORGET_SECONDS, ChartParameters
from vqmon.core.alerts.regression.baseline import (
    FIRST_VALUES,
    MIN_BLOCKS,
    Baseline,
    BlockLows,
    baseline_of,
    with_block,
    with_value,
)

SPANS = (12, 36, 108, 324)
"""Lengths of the averages, in values: the mean of so many independent values varies as much."""

_SHARES = tuple(2.0 / (span + 1.0) for span in SPANS)
"""Weight of the newest value in each average."""

_MEDIAN_LENGTH = 5
"""The averages are those of the median of so many values."""

_SPANS_PER_BLOCK = 1.25
"""An average is used when a block holds at least so many times its length."""

_RECOVERED_SHARE = 0.75
"""An alert resolves when its average has recovered so much of the drop."""

_DAY_SECONDS = 86_400.0

DETECTED_SHARE = 0.8
"""A drop is called visible to an average when this share of it reaches the limit."""


class Average(NamedTuple):
    """One moving average, its lows, and the values since it may have changed."""

    value: float
    lows: BlockLows
    # mean square of its distance from the usual level
    mean_square: float
    # CUSUM whose last zero is the beginning of a change: of how far values are below the middle of level and limit
    cusum: float = 0.0
    # when the CUSUM was last 0, in seconds since the epoch, and the values since: how many, their sum, their impact
    change_at: float = 0.0
    value_count: float = 0.0
    total: float = 0.0
    impact_minutes: float = 0.0


class Recovery(NamedTuple):
    """What an open alert waits for, and the alerts before it; moments are seconds since the epoch."""

    # index of the average that opened the alert, and the value at which it has recovered
    average_index: float = 0.0
    level: float = 0.0
    # consecutive values with the average above it, and since when
    steady_count: float = 0.0
    began_at: float = 0.0
    # how many times in a row the alert opened again within `flap_seconds`
    flap_count: float = 0.0
    # when the last alert resolved
    closed_at: float = 0.0
    # since when an alarm waits for an alert that explains it; 0 = no alarm
    held_since: float = 0.0


class BlockCounts(NamedTuple):
    """The blocks of content so far."""

    # blocks that have ended
    ended: float = 0.0
    # of the one that has not ended: length of its content, number of its values
    content_seconds: float = 0.0
    value_count: float = 0.0
    # of the last one that has ended: number of its values, and their mean length
    last_value_count: float = 0.0
    segment_seconds: float = 0.0


class ControlChart(NamedTuple):
    """All that is remembered of a series of numbers."""

    # None until FIRST_VALUES values are there
    baseline: Baseline | None = None
    # all values so far while there is no baseline, oldest first
    first_values: tuple[float, ...] = ()
    # one per span
    averages: tuple[Average, ...] = ()
    blocks: BlockCounts = BlockCounts()
    last_end_at: float = 0.0
    # the values before the next one of which the median is taken, the latest last
    recent_values: tuple[float, ...] = ()
    recovery: Recovery = Recovery()


EMPTY_CHART = ControlChart()


class VisibleDrop(NamedTuple):
    """The smallest drop that an average can see, and how soon."""

    points: float
    value_count: float


def current_baseline(chart: ControlChart) -> Baseline | None:
    """The baseline, at first that of the values so far; None before the third value."""
    if chart.baseline is not None:
        return chart.baseline
    return baseline_of(chart.first_values) if len(chart.first_values) >= 3 else None


def update_chart(
    chart: ControlChart,
    value: float,
    parameters: ChartParameters,
    *,
    starts_at: float,
    ends_at: float,
    impact_minutes: float = 0.0,
    is_open: bool = False,
) -> ControlChart:
    """The chart after one more value; segments in order of time. While an alert `is_open`, values count as they are."""
    baseline = chart.baseline
    if baseline is None:
        return _with_first_value(chart, value, ends_at)
    if abs(starts_at - chart.last_end_at) >= parameters.forget_seconds:
        chart = _without_evidence(chart, baseline.level)
    recent = (*chart.recent_values, value)
    baseline = with_value(baseline, value, max_count=parameters.baseline_segments)
    blocks = chart.blocks
    has_limits = blocks.ended >= MIN_BLOCKS
    lowest = -math.inf if is_open else baseline.level - _largest_step(chart, baseline)
    middle = max(sorted(recent)[_MEDIAN_LENGTH // 2], lowest)
    averages = tuple(
        [
            _next_average(
                average, share, value, middle, baseline, parameters,
                has_limits=has_limits, starts_at=starts_at, ends_at=ends_at, impact_minutes=impact_minutes,
            )
            for average, share in zip(chart.averages, _SHARES, strict=True)
        ]
    )  # fmt: skip
    chart = ControlChart(
        baseline,
        (),
        averages,
        BlockCounts(
            blocks.ended,
            blocks.content_seconds + max(ends_at - starts_at, 0.0),
            blocks.value_count + 1.0,
            blocks.last_value_count,
            blocks.segment_seconds,
        ),
        ends_at,
        recent[1:],
        chart.recovery,
    )
    return chart if chart.blocks.content_seconds < parameters.block_seconds else _with_block(chart, parameters)


def _next_average(
    average: Average,
    share: float,
    value: float,
    middle: float,
    baseline: Baseline,
    parameters: ChartParameters,
    *,
    has_limits: bool,
    starts_at: float,
    ends_at: float,
    impact_minutes: float,
) -> Average:
    """An average after a value; `middle` is the median of it and the four before, as far as it counts."""
    lows, level = average.lows, baseline.level
    new = average.value + share * (middle - average.value)
    if new < lows.lowest:
        lows = BlockLows(new, lows.mean, lows.variance, lows.limit, lows.last, lows.mean_square_change)
    distance = new - level
    mean_square = average.mean_square + (distance * distance - average.mean_square) / baseline.value_count
    # The change that the average is for: from the usual level to its limit.
    change = max(level - lows.limit, parameters.delta_min) if has_limits else parameters.delta_min
    cusum = average.cusum + level - change / 2.0 - value
    if cusum <= 0.0:
        return Average(new, lows, mean_square, 0.0, ends_at)
    change_at = average.change_at
    if not average.value_count and not 0.0 <= starts_at - change_at < FORGET_SECONDS:
        change_at = starts_at
    return Average(
        new, lows, mean_square, cusum, change_at,
        average.value_count + 1.0, average.total + value, average.impact_minutes + impact_minutes,
    )  # fmt: skip


def _largest_step(chart: ControlChart, baseline: Baseline) -> float:
    """How far below the usual level a value counts in the averages; infinite where values have no heavy tails.

    It is the smallest drop that the shortest average can see.
    """
    if chart.blocks.ended < MIN_BLOCKS or not baseline.has_heavy_tails:
        return math.inf
    return max(baseline.level - chart.averages[0].lows.limit, 1e-6) / DETECTED_SHARE


def _with_first_value(chart: ControlChart, value: float, ends_at: float) -> ControlChart:
    values = (*chart.first_values, round(value, 3))
    if len(values) < FIRST_VALUES:
        return chart._replace(first_values=values, last_end_at=ends_at)
    return chart_from(baseline_of(values), values, ends_at=ends_at)._replace(recovery=chart.recovery)


def chart_from(baseline: Baseline, values: Sequence[float], *, ends_at: float) -> ControlChart:
    """A chart that knows the usual level, without limits; `values` are the last ones, until a moment (seconds).

    The averages begin at the level, as those of independent values.
    """
    level = baseline.level
    recent = (*(level,) * _MEDIAN_LENGTH, *values)[-_MEDIAN_LENGTH + 1 :]
    averages = tuple(
        Average(level, BlockLows(level), baseline.mean_square / span, change_at=ends_at) for span in SPANS
    )  # fmt: skip
    return ControlChart(baseline=baseline, averages=averages, last_end_at=ends_at, recent_values=recent)


def _with_block(chart: ControlChart, parameters: ChartParameters) -> ControlChart:
    """The chart after a block has ended."""
    blocks = chart.blocks
    count = blocks.ended + 1.0
    level = chart.baseline.level if chart.baseline else 0.0
    averages = [
        average._replace(
            lows=with_block(
                average.lows,
                average.value,
                block_count=count,
                highest_limit=level - parameters.delta_min / 2.0,
                false_alarms_per_block=parameters.block_seconds / _DAY_SECONDS / parameters.false_alarm_days,
            )
        )
        for average in chart.averages
    ]
    return chart._replace(
        averages=tuple(averages),
        blocks=BlockCounts(
            ended=count,
            last_value_count=blocks.value_count,
            segment_seconds=round(blocks.content_seconds / blocks.value_count, 3),
        ),
    )


def _used_indexes(chart: ControlChart) -> Iterator[int]:
    """The averages that have a limit and fit into a block, the shortest first."""
    if chart.blocks.ended >= MIN_BLOCKS:
        for index, span in enumerate(SPANS):
            if span * _SPANS_PER_BLOCK <= chart.blocks.last_value_count:
                yield index


def low_averages(chart: ControlChart) -> Iterator[int]:
    """Indexes of the averages that are below their limits, the shortest first."""
    for index in _used_indexes(chart):
        average = chart.averages[index]
        if average.value < average.lows.limit and average.value_count:
            yield index


def evidence_of(chart: ControlChart) -> float:
    """How far the averages are on their way from the usual level to their limits: 0 = at the level, 1 = an alarm."""
    level = chart.baseline.level if chart.baseline else 0.0
    shares = [
        (level - average.value) / max(level - average.lows.limit, 1e-6)
        for average in (chart.averages[index] for index in _used_indexes(chart))
    ]
    return max(shares, default=0.0)


def evidence_over(chart: ControlChart, values: Sequence[float]) -> list[float]:
    """`evidence_of` after each of these values; the averages begin at the usual level, the limits stay as they are."""
    if chart.baseline is None:
        return [0.0] * len(values)
    lowest = chart.baseline.level - _largest_step(chart, chart.baseline)
    chart = _without_evidence(chart, chart.baseline.level)
    evidence = []
    for number in range(len(values)):
        middle = max(median(values[max(number - _MEDIAN_LENGTH + 1, 0) : number + 1]), lowest)
        averages = (
            average._replace(value=average.value + share * (middle - average.value))
            for average, share in zip(chart.averages, _SHARES, strict=True)
        )
        chart = chart._replace(averages=tuple(averages))
        evidence.append(evidence_of(chart))
    return evidence


def values_until_detected(chart: ControlChart, drop_points: float) -> float | None:
    """How many values of a lasting drop an average takes to its limit, at the least; None when none reaches it.

    A drop of d points takes an average of weight w below its limit, D points under the usual level, after
    ln(1 - D / d) / ln(1 - w) values; noise may bring that forward or delay it. The median of five costs two values.
    Where values have heavy tails a larger drop counts as `_largest_step`.
    """
    baseline = chart.baseline or Baseline()
    counted_points = min(drop_points, _largest_step(chart, baseline))
    counts = []
    for index in _used_indexes(chart):
        share = (baseline.level - chart.averages[index].lows.limit) / counted_points
        if share < DETECTED_SHARE + 1e-9:
            counts.append(math.log(1.0 - share) / math.log(1.0 - _SHARES[index]))
    return math.ceil(min(counts)) + _MEDIAN_LENGTH // 2 if counts else None


def visible_drops(chart: ControlChart, *, delta_min: float) -> tuple[VisibleDrop, ...]:
    """The smallest drops that the averages can see, the soonest first; each smaller than the one before.

    A drop is visible to an average when 80 % of it reach the limit. No drop below `delta_min` is an alert.
    """
    level = chart.baseline.level if chart.baseline else 0.0
    drops: list[VisibleDrop] = []
    for index in _used_indexes(chart):
        points = max((level - chart.averages[index].lows.limit) / DETECTED_SHARE, delta_min)
        value_count = values_until_detected(chart, points)
        if value_count is not None and (not drops or points < drops[-1].points):
            drops.append(VisibleDrop(points, value_count))
    return tuple(drops)


def chart_at_opening(
    chart: ControlChart, index: int, *, drop: float, flap_seconds: float, at: float
) -> ControlChart:  # fmt: skip
    """The chart when an average opens an alert; `drop` is in points, `at` the moment of opening in seconds."""
    level = chart.baseline.level if chart.baseline else 0.0
    before = chart.recovery
    is_flapping = before.closed_at and abs(at - before.closed_at) < flap_seconds
    recovery = Recovery(
        average_index=float(index),
        level=level - (1.0 - _RECOVERED_SHARE) * drop,
        flap_count=before.flap_count + 1.0 if is_flapping else 0.0,
        closed_at=before.closed_at,
    )
    # where a drop counted for less than it is, the average is still above the level at which it recovers
    averages = (
        average._replace(value=min(average.value, recovery.level)) if number == index else average
        for number, average in enumerate(chart.averages)
    )
    return chart._replace(averages=tuple(averages), recovery=recovery)


def update_while_open(
    chart: ControlChart, value: float, parameters: ChartParameters, *, starts_at: float, ends_at: float
) -> ControlChart:
    """The chart after one more value while its alert is open."""
    chart = update_chart(chart, value, parameters, starts_at=starts_at, ends_at=ends_at, is_open=True)
    recovery = chart.recovery
    if not chart.averages or chart.averages[int(recovery.average_index)].value < recovery.level:
        return chart._replace(recovery=recovery._replace(steady_count=0.0, began_at=0.0))
    began_at = recovery.began_at if recovery.steady_count else starts_at
    return chart._replace(recovery=recovery._replace(steady_count=recovery.steady_count + 1.0, began_at=began_at))


def has_recovered(chart: ControlChart) -> bool:
    """Whether an open alert's average is near its usual level again; flapping asks for it to stay there longer."""
    recovery = chart.recovery
    return recovery.steady_count > recovery.flap_count * SPANS[int(recovery.average_index)]


def chart_at_closing(chart: ControlChart, *, closed_at: float) -> ControlChart:
    """The chart after an alert has resolved.

    Longer averages still hold the fault, and begin again where its own is, but no lower than their limits: what is left
    of a large fault is no second one.
    """
    recovery = chart.recovery
    value = chart.averages[int(recovery.average_index)].value if chart.averages else 0.0
    averages = tuple(
        _unchanged(
            average,
            max(value, average.lows.limit) if index > recovery.average_index else average.value,
            chart.last_end_at,
        )
        for index, average in enumerate(chart.averages)
    )
    return chart._replace(
        averages=averages, recovery=Recovery(flap_count=recovery.flap_count, closed_at=closed_at)
    )  # fmt: skip


def _without_evidence(chart: ControlChart, level: float) -> ControlChart:
    averages = tuple(_unchanged(average, level, chart.last_end_at) for average in chart.averages)
    return chart._replace(
        averages=averages,
        recent_values=(level,) * (_MEDIAN_LENGTH - 1),
        recovery=chart.recovery._replace(held_since=0.0),
    )


def _unchanged(average: Average, value: float, at: float) -> Average:
    """The average at a value, with no change since a moment (seconds)."""
    return Average(value, average.lows, average.mean_square, change_at=at)
