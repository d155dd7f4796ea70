"""The outcomes of a stream over time, as chart data, table, signal charts and caption."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from vqmon.core.timeline import TimeBucket, TimelinePoint
from vqmon.core.types import SIGNALS, Alert
from vqmon.errors import REASONS
from vqmon.plurals import plural
from vqmon.web.model.sparklines import polyline_path
from vqmon.web.model.time_range import TimeRange
from vqmon.web.urls import segment_path

MAX_BUCKETS = 500
"""Buckets of a range that holds too many segments to read one by one."""

MAX_TABLE_ROWS = 200

_MAX_CHART_POINTS = 600
"""Points per rendition in a chart; with more segments, each point is the worst of several."""

_MIN_VISIBLE_SIGNAL = 0.05
"""A signal that stays below this value is not shown."""

PointsByRendition = dict[str, list[TimelinePoint]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableCell:
    """One outcome in the table behind the chart; a score or the reason why there is none."""

    url: str
    value: float | None
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRow:
    """One moment in the table behind the chart, with a cell per rendition."""

    at: datetime
    cells: Sequence[TableCell | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalChart:
    """One signal over the time range: an SVG path per rendition."""

    name: str
    meaning: str
    max: float
    label: str
    paths: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceChart:
    """One reference measure over the time range: an SVG path per rendition, from its lowest to its highest value."""

    name: str
    low: float
    high: float
    label: str
    paths: Sequence[str]


def group_by_rendition(points: Iterable[TimelinePoint], renditions: Sequence[str]) -> PointsByRendition:
    """The points of each rendition in time order; renditions in the order given.

    A segment that failed first and was scored later has two outcomes of the same start time; the scored one remains.
    """
    groups: PointsByRendition = {name: [] for name in renditions}
    for point in points:
        group = groups.setdefault(point.rendition, [])
        if not group or group[-1].starts_at != point.starts_at:
            group.append(point)
        elif point.reason is None:
            group[-1] = point
    return groups


def scorer_names(points: Iterable[TimelinePoint]) -> list[str]:
    """Every scorer that scored one of the points, in alphabetical order."""
    return sorted({scorer for point in points for scorer in point.scores})


def downsample_to_worst(
    points: Sequence[TimelinePoint], scorer: str, *, max_points: int = _MAX_CHART_POINTS
) -> Sequence[TimelinePoint]:
    """At most `max_points` points: of each run of neighbours the worst; unscored is worse than any score."""
    if len(points) <= max_points:
        return points
    size = -(-len(points) // max_points)
    return [
        min(points[begin : begin + size], key=lambda point: point.scores.get(scorer, -1.0))
        for begin in range(0, len(points), size)
    ]


# ---- data of the chart


def chart_data(
    stream_id: str,
    points: PointsByRendition,
    buckets: Sequence[TimeBucket],
    alerts: Iterable[Alert],
    *,
    scorer: str,
    time_range: TimeRange,
) -> dict[str, object]:
    """The data that `chart.js` draws; times are seconds since 1970. Buckets, if any, are drawn instead of points."""
    return {
        "stream_id": stream_id,
        "scorer": scorer,
        "begins_at": time_range.begins_at.timestamp(),
        "ends_at": time_range.ends_at.timestamp(),
        "longest_seconds": time_range.max_length.total_seconds(),
        "follows": time_range.is_live,
        "step_seconds": buckets[0].seconds if buckets else 0.0,
        "renditions": [
            _bucket_series(name, buckets)
            if buckets
            else _rendition_series(name, downsample_to_worst(group, scorer), scorer)
            for name, group in points.items()
        ],
        "alerts": [alert_data(alert) for alert in alerts],
    }


def _rendition_series(name: str, points: Sequence[TimelinePoint], scorer: str) -> dict[str, object]:
    return {
        "name": name,
        "at": [point.starts_at.timestamp() for point in points],
        "value": [_rounded(point.scores.get(scorer)) for point in points],
        "id": [point.event_id for point in points],
        "reason": [point.reason_of(scorer) for point in points],
    }


def _bucket_series(name: str, buckets: Sequence[TimeBucket]) -> dict[str, object]:
    """The lowest score of each bucket; a bucket has no event id, so the chart opens its time range instead."""
    own = [bucket for bucket in buckets if bucket.rendition == name]
    return {
        "name": name,
        "at": [bucket.starts_at.timestamp() for bucket in own],
        "value": [_rounded(bucket.lowest) for bucket in own],
        "id": [None for _ in own],
        "reason": [f"{bucket.unscored} unscored" if bucket.unscored else None for bucket in own],
    }


def alert_data(alert: Alert) -> dict[str, object]:
    """An alert as the chart draws it and as live events announce it; times are seconds since 1970."""
    return {
        "id": alert.id,
        "rule": alert.rule,
        "stream_id": alert.stream_id,
        "rendition": alert.rendition,
        "severity": alert.severity,
        "state": alert.state,
        "summary": alert.summary,
        "began_at": alert.began_at.timestamp(),
        "opened_at": alert.opened_at.timestamp(),
        "resolved_at": alert.resolved_at and alert.resolved_at.timestamp(),
    }


def point_data(point: TimelinePoint) -> dict[str, object]:
    """An outcome as live events announce it; its time is in seconds since 1970."""
    return {
        "stream_id": point.stream_id,
        "rendition": point.rendition,
        "at": point.starts_at.timestamp(),
        "id": point.event_id,
        "reason": point.reason,
        "scores": {scorer: _rounded(value) for scorer, value in point.scores.items()},
        "scorer_failures": dict(point.scorer_failures),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


# ---- table


def table_rows(points: PointsByRendition, scorer: str) -> list[TableRow]:
    """A row per moment, the newest first, with a cell per rendition."""
    by_moment: dict[datetime, dict[str, TimelinePoint]] = {}
    for name, group in points.items():
        for point in group[-MAX_TABLE_ROWS:]:
            by_moment.setdefault(point.starts_at, {})[name] = point
    moments = sorted(by_moment, reverse=True)[:MAX_TABLE_ROWS]
    return [TableRow(at=at, cells=[_cell(by_moment[at].get(name), scorer) for name in points]) for at in moments]


def _cell(point: TimelinePoint | None, scorer: str) -> TableCell | None:
    if point is None:
        return None
    url = segment_path(point.event_id)
    return TableCell(url=url, value=point.scores.get(scorer), reason=reason_label(point.reason_of(scorer)))


# ---- captions


def chart_caption(points: PointsByRendition, alerts: Sequence[Alert], scorer: str) -> str:
    """What the chart shows, in one to three sentences."""
    count = sum(len(group) for group in points.values())
    if not count:
        return "There is no segment in this time. Choose a longer range."
    ranges = []
    for name, group in points.items():
        values = [point.scores[scorer] for point in group if scorer in point.scores]
        if values:
            ranges.append(f"{name} from {min(values):.0f} to {max(values):.0f}, mean {sum(values) / len(values):.0f}")
    unscored = sum(point.reason is not None for group in points.values() for point in group)
    caption = f"{plural(count, 'segment')}, scored by {scorer}: {'; '.join(ranges) or 'none has a score'}."
    caption += f" {unscored} unscored, {plural(len(alerts), 'alert')}."
    longest = max(len(group) for group in points.values())
    if longest > _MAX_CHART_POINTS:
        size = -(-longest // _MAX_CHART_POINTS)
        caption += f" Each point of the chart is the worst of {size} segments."
    return caption


def bucket_caption(buckets: Sequence[TimeBucket], alerts: Sequence[Alert], scorer: str) -> str:
    """What the chart of a long range shows, in three sentences."""
    scored, unscored = sum(bucket.scored for bucket in buckets), sum(bucket.unscored for bucket in buckets)
    total = sum(bucket.mean * bucket.scored for bucket in buckets if bucket.mean is not None)
    mean = f"{total / scored:.0f}" if scored else "none"
    lowest = min((bucket.lowest for bucket in buckets if bucket.lowest is not None), default=0.0)
    return (
        f"{plural(scored + unscored, 'segment')}, scored by {scorer}: mean {mean}, lowest {lowest:.0f}. "
        f"{unscored:,} unscored, {plural(len(alerts), 'alert')}. Each point of the chart is the lowest score of "
        f"{duration_words(buckets[0].seconds)}."
    )


def duration_words(seconds: float) -> str:
    """
    >>> duration_words(1209.6), duration_words(43.2)
    ('20 minutes', '43 seconds')
    """
    return plural(round(seconds / 60), "minute") if seconds >= 90 else plural(round(seconds), "second")


def reason_label(reason: str | None) -> str | None:
    """A reason code with spaces instead of underscores; any other text unchanged."""
    return reason.replace("_", " ") if reason in REASONS and reason is not None else reason


# ---- signals


def signal_charts(points: PointsByRendition, time_range: TimeRange) -> tuple[list[SignalChart], str]:
    """The charts of the signals that are not negligible, strongest first, and the names of the other signals."""
    scored = [point for group in points.values() for point in group if point.reason is None]
    highest = {name: max((point.signals.get(name, 0.0) for point in scored), default=0.0) for name in SIGNALS}
    visible = sorted(
        (name for name in SIGNALS if highest[name] >= _MIN_VISIBLE_SIGNAL), key=lambda name: -highest[name]
    )
    charts = [
        SignalChart(
            name=name.replace("_", " "),
            meaning=SIGNALS[name],
            max=highest[name],
            label=f"{name.replace('_', ' ')} over time, at most {highest[name]:.2f}",
            paths=[_signal_path(downsample_to_worst(group, ""), name, time_range) for group in points.values()],
        )
        for name in visible
    ]
    return charts, ", ".join(name.replace("_", " ") for name in SIGNALS if name not in visible)


def _signal_path(points: Sequence[TimelinePoint], signal: str, time_range: TimeRange) -> str:
    return _mini_path(points, [point.signals.get(signal) for point in points], time_range)


def _mini_path(points: Sequence[TimelinePoint], shares: Sequence[float | None], time_range: TimeRange) -> str:
    """The SVG path of one number per point, each 0..1 of the height."""
    seconds = time_range.length.total_seconds()
    times = ((point.starts_at - time_range.begins_at).total_seconds() / seconds for point in points)
    return polyline_path(zip(times, shares, strict=True), width=200, height=46)


def reference_charts(points: PointsByRendition, time_range: TimeRange) -> list[ReferenceChart]:
    """A chart per reference measure, on its own scale, which is the range of its values."""
    values: dict[str, list[float]] = {}
    for group in points.values():
        for point in group:
            for name, value in point.references.items():
                values.setdefault(name, []).append(value)
    charts = []
    for name, all_values in values.items():
        low, high = min(all_values), max(all_values)
        paths = []
        for group in points.values():
            sampled = downsample_to_worst(group, "")
            shares = [_share(point.references.get(name), low, high) for point in sampled]
            paths.append(_mini_path(sampled, shares, time_range))
        label = f"{name} over time, from {low:.4g} to {high:.4g}"
        charts.append(ReferenceChart(name=name, low=low, high=high, label=label, paths=paths))
    return charts


def _share(value: float | None, low: float, high: float) -> float | None:
    """Where a value lies in a range, 0..1; half way where the range is empty."""
    if value is None:
        return None
    return (value - low) / (high - low) if high > low else 0.5


def references_label(references: Mapping[str, float]) -> str:
    """The reference measures with their values, e.g. "psnr 38.2, ssim 0.971"; empty without any.

    >>> references_label({"psnr": 38.2114, "ssim": 0.97132})
    'psnr 38.21, ssim 0.9713'
    """
    return ", ".join(f"{name} {value:.4g}" for name, value in references.items())


def strongest_signal_label(signals: Mapping[str, float]) -> str:
    """The strongest signal with its value, e.g. "blur 0.42"; empty when all are negligible.

    >>> strongest_signal_label({"over_sharpness": 0.3, "noise": 0.1})
    'over sharpness 0.30'
    """
    name, value = max(signals.items(), key=lambda item: item[1], default=("", 0.0))
    return f"{name.replace('_', ' ')} {value:.2f}" if value >= _MIN_VISIBLE_SIGNAL else ""
