"""The charts of an experiment: confidence interval over time, forest plot by content, distribution of each arm."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from vqmon.core.experiments.definition import Experiment
from vqmon.core.experiments.results import (
    HISTOGRAM_BINS,
    ArmSummary,
    ClusterDifference,
    ConfidenceInterval,
    ConfidenceSequencePoint,
    Effect,
    interval_decimals,
)
from vqmon.core.scores import REFERENCE_PREFIX
from vqmon.plurals import plural
from vqmon.web.charts.svg import (
    Plot,
    ReferenceLine,
    Scale,
    Shape,
    Tick,
    area_path,
    format_signed,
    horizontal_scale,
    line_path,
    range_around_zero,
    time_scale,
    time_ticks,
    vertical_scale,
)

_MAX_INTERVAL_POINTS = 400
"""Points of the interval that are drawn; the CSV file has all of them."""

_BIN_WIDTH = 100 / HISTOGRAM_BINS


@dataclass(frozen=True, slots=True, kw_only=True)
class ForestRow:
    """One content in a forest plot: its numbers, and positions in percent of the width."""

    cluster: ClusterDifference
    x: float
    low_x: float
    high_x: float
    # difference and interval as text
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ForestPlot:
    """A row per content on one axis, and the mean of all of them."""

    rows: Sequence[ForestRow]
    ticks: Sequence[Tick]
    zero_x: float
    total: ForestRow | None


# ---- interval over time


def effect_decimals(effect: Effect) -> int:
    """Decimals of differences: two of points of 0..100, four of a reference measure; more for a short interval."""
    least = 4 if effect.scorer.startswith(REFERENCE_PREFIX) else 2
    reading = effect.reading
    return least if reading is None else interval_decimals(reading.low, reading.high, least=least)


def interval_plot(effect: Effect, experiment: Experiment, *, arm: str, control: str) -> Plot | None:
    """The mean difference and its any-time interval as data arrived; None when there is no course over time.

    Two folders of files, for example, are compared at one moment.
    """
    points = downsample_interval(effect.over_time)
    if len(points) < 2:
        return None
    bounds = [value for point in points for value in (point.low, point.high, point.mean) if value is not None]
    # The first intervals are wide: the later half sets the scale, and what exceeds it is cut off at the edge.
    late = [value for point in points[len(points) // 2 :] for value in (point.low, point.high) if value is not None]
    low, high = range_around_zero(
        [*(late or bounds), -experiment.margin, experiment.margin], min_extent=min(0.5, experiment.margin)
    )
    begins_at, ends_at = points[0].at, max(points[-1].at, points[0].at + timedelta(seconds=1))
    x, y = time_scale(begins_at, ends_at), vertical_scale(low, high)
    band = [
        (x(point.at.timestamp()), y(point.high), y(point.low))
        for point in points
        if point.low is not None and point.high is not None
    ]
    return Plot(
        label=interval_sentence(effect, experiment, arm=arm, control=control),
        height=240,
        y_ticks=y.ticks(),
        x_ticks=time_ticks(begins_at, ends_at),
        shapes=[
            Shape(path=area_path(band), css_class="band"),
            Shape(path=line_path((x(point.at.timestamp()), y(point.mean)) for point in points), css_class="s c0"),
        ],
        reference_lines=_reference_lines(experiment, y),
    )


def _reference_lines(experiment: Experiment, y: Scale) -> list[ReferenceLine]:
    margin, smallest_gain = experiment.margin, experiment.delta_min
    lines = [
        ReferenceLine(css_class="zero", y=y(0.0), label="no difference"),
        ReferenceLine(css_class="margin", y=y(-margin), label=f"margin {format_signed(-margin)}"),
        ReferenceLine(css_class="margin", y=y(margin)),
    ]
    if smallest_gain > 0:
        label = f"smallest gain of interest {format_signed(smallest_gain)}"
        lines.append(ReferenceLine(css_class="aim", y=y(smallest_gain), label=label))
    return lines


def interval_sentence(effect: Effect, experiment: Experiment, *, arm: str, control: str) -> str:
    """What the interval chart shows, in words."""
    first = next((point for point in effect.over_time if point.low is not None), None)
    subject = f"{arm} minus {control} by {effect.scorer} as the data came in"
    if effect.reading is not None and effect.reading.kind == "final":
        final = effect.reading
        return (
            f"{subject}; tested once, at the planned {plural(experiment.planned_clusters, 'cluster')}: "
            f"{_interval_text(final, effect)}."
        )
    if effect.anytime is None or first is None:
        return (
            f"{effect.scorer}: {effect.clusters} of {plural(experiment.planned_clusters, 'planned cluster')}; too few "
            "for an interval yet."
        )
    current = effect.anytime
    return (
        f"{subject}: first interval at {plural(first.clusters, 'cluster')}, now {_interval_text(current, effect)} "
        f"over {effect.clusters}. The band covers the "
        f"true difference at all times with {100 * current.level:g} % confidence."
    )


def _interval_text(interval: ConfidenceInterval, effect: Effect) -> str:
    decimals = interval_decimals(interval.low, interval.high, least=effect_decimals(effect))
    mean, low, high = (format_signed(value, decimals) for value in (interval.mean, interval.low, interval.high))
    return f"{mean} ({low} to {high})"


def downsample_interval(points: Sequence[ConfidenceSequencePoint]) -> list[ConfidenceSequencePoint]:
    """Every n-th point, so that at most about `_MAX_INTERVAL_POINTS` remain, and always the last one."""
    step = -(-len(points) // _MAX_INTERVAL_POINTS) or 1
    sampled = list(points[::step])
    return sampled if not points or sampled[-1] is points[-1] else [*sampled, points[-1]]


# ---- forest plot


def forest_plot(effect: Effect) -> ForestPlot | None:
    """One row per content, the worst for the arm first; None when there is no content."""
    if not effect.by_cluster:
        return None
    values = [
        value
        for cluster in effect.by_cluster
        for value in (cluster.low, cluster.high, cluster.difference)
        if value is not None
    ]
    # a difference of SSIM is a few thousandths, one of scores some points
    x = horizontal_scale(*range_around_zero(values, min_extent=min(1.0, 1.5 * max(map(abs, values))) or 1.0))
    total = None
    if effect.reading is not None:
        overall = ClusterDifference(
            cluster="all",
            segments=effect.segments,
            control_mean=0.0,
            arm_mean=0.0,
            difference=effect.reading.mean,
            low=effect.reading.low,
            high=effect.reading.high,
        )
        total = _forest_row(overall, x, effect_decimals(effect))
    rows = [_forest_row(cluster, x, effect_decimals(effect)) for cluster in effect.by_cluster]
    return ForestPlot(rows=rows, ticks=x.ticks(), zero_x=x(0.0), total=total)


def _forest_row(cluster: ClusterDifference, x: Scale, decimals: int) -> ForestRow:
    low = cluster.difference if cluster.low is None else cluster.low
    high = cluster.difference if cluster.high is None else cluster.high
    decimals = interval_decimals(low, high, least=decimals)
    text = format_signed(cluster.difference, decimals)
    if cluster.low is not None:
        text += f" ({format_signed(low, decimals)} to {format_signed(high, decimals)})"
    return ForestRow(cluster=cluster, x=x(cluster.difference), low_x=x(low), high_x=x(high), text=text)


# ---- distribution of the scores


def scorers_with_histograms(arms: Sequence[ArmSummary]) -> list[str]:
    """Every scorer for which an arm has a histogram."""
    return list(dict.fromkeys(name for arm in arms for name in arm.histogram))


def distribution_plot(arms: Sequence[ArmSummary], scorer: str) -> Plot | None:
    """The histogram of each arm's scores, as shares of its segments; None without any score."""
    shares = {arm.arm: _proportions(arm.histogram.get(scorer, ())) for arm in arms}
    highest = max((max(bins, default=0.0) for bins in shares.values()), default=0.0)
    if highest == 0:
        return None
    low, high = _occupied_range(shares)
    x, y = horizontal_scale(low, high), vertical_scale(0.0, 100 * highest * 1.05, height=180)
    shapes = [
        Shape(path=_step_path(bins, x, y), css_class=f"s c{index % 6} d{index % 6}")
        for index, bins in enumerate(shares.values())
    ]
    means = ", ".join(f"{arm.arm} mean {arm.mean[scorer]:.1f}" for arm in arms if scorer in arm.mean)
    return Plot(
        label=f"Share of each arm's segments by their {scorer} score, in percent: {means}.",
        height=180,
        y_ticks=y.ticks(count=4),
        x_ticks=[tick for tick in x.ticks(count=8) if 2 <= tick.position <= 98],
        shapes=shapes,
    )


def _proportions(counts: Sequence[int]) -> list[float]:
    """Each count as a share of their sum, 0..1."""
    total = sum(counts)
    return [count / total for count in counts] if total else []


def _occupied_range(shares: Mapping[str, Sequence[float]]) -> tuple[float, float]:
    """The part of 0..100 that holds any score, with an empty bin on each side."""
    occupied = [index for bins in shares.values() for index, share in enumerate(bins) if share]
    return max(0.0, (min(occupied) - 1) * _BIN_WIDTH), min(100.0, (max(occupied) + 2) * _BIN_WIDTH)


def _step_path(shares: Sequence[float], x: Scale, y: Scale) -> str:
    points: list[tuple[float, float | None]] = []
    for index, share in enumerate(shares):
        if x.low <= index * _BIN_WIDTH < x.high:
            height = y(100 * share)
            points += [(x(index * _BIN_WIDTH), height), (x((index + 1) * _BIN_WIDTH), height)]
    return line_path(points)
