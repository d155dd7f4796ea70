"""Outcomes over time as a chart, a table, small multiples and a sentence: the same numbers, four ways."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from vqmon.core.timeline import TimeBucket, TimelinePoint
from vqmon.core.types import SIGNALS, Alert
from vqmon.errors import REASONS
from vqmon.web.addresses import segment_path
from vqmon.web.model.renditions import plural
from vqmon.web.model.sparklines import polyline
from vqmon.web.model.time_range import Range

MAX_CHART_POINTS = 600
"""Points per rendition in a chart; above, each stands for the worst of several segments."""

MAX_BUCKETS = 500
"""Parts of a range that holds too many segments to be read one by one."""

MAX_TABLE_LINES = 200
QUIET = 0.05
"""A signal that stays under this has nothing to show."""

Lines = dict[str, list[TimelinePoint]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One outcome in the table behind the chart."""

    url: str
    value: float | None
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TableLine:
    """One moment in the table behind the chart, a cell per rendition."""

    at: datetime
    cells: Sequence[Cell | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalCurve:
    """One signal over the range, a line per rendition."""

    name: str
    meaning: str
    max: float
    label: str
    lines: Sequence[str]


def lines_of(points: Iterable[TimelinePoint], renditions: Sequence[str]) -> Lines:
    """The points by rendition, in the order of `renditions`, in time order.

    A segment that failed and was scored later has two outcomes at one time; the score stays.
    """
    lines: Lines = {name: [] for name in renditions}
    for point in points:
        line = lines.setdefault(point.rendition, [])
        if not line or line[-1].starts_at != point.starts_at:
            line.append(point)
        elif point.reason is None:
            line[-1] = point
    return lines


def scorers_of(points: Iterable[TimelinePoint]) -> list[str]:
    """Every scorer that has a score in these points, by name."""
    return sorted({scorer for point in points for scorer in point.scores})


def thin(points: Sequence[TimelinePoint], scorer: str, *, most: int = MAX_CHART_POINTS) -> Sequence[TimelinePoint]:
    """At most `most` points: of neighbours the worst stays, an unscored one being worse than any score."""
    if len(points) <= most:
        return points
    each = -(-len(points) // most)
    return [
        min(points[begin : begin + each], key=lambda point: point.scores.get(scorer, -1.0))
        for begin in range(0, len(points), each)
    ]


def chart_of(
    stream_id: str, lines: Lines, buckets: Sequence[TimeBucket], alerts: Iterable[Alert], scorer: str, span: Range
) -> dict[str, object]:
    """What `chart.js` draws; times are seconds since 1970. Buckets, where there are any, stand for the points."""
    return {
        "stream_id": stream_id,
        "scorer": scorer,
        "begins_at": span.begins_at.timestamp(),
        "ends_at": span.ends_at.timestamp(),
        "longest_seconds": span.longest.total_seconds(),
        "follows": span.follows,
        "step_seconds": buckets[0].seconds if buckets else 0.0,
        "renditions": [
            _bucket_line(name, buckets) if buckets else _line(name, thin(points, scorer), scorer)
            for name, points in lines.items()
        ],
        "alerts": [mark_of(alert) for alert in alerts],
    }


def _line(name: str, points: Sequence[TimelinePoint], scorer: str) -> dict[str, object]:
    return {
        "name": name,
        "at": [point.starts_at.timestamp() for point in points],
        "value": [_rounded(point.scores.get(scorer)) for point in points],
        "id": [point.event_id for point in points],
        "reason": [point.reason for point in points],
    }


def _bucket_line(name: str, buckets: Sequence[TimeBucket]) -> dict[str, object]:
    """The worst of each part; a part has no id, the page of the part has."""
    mine = [bucket for bucket in buckets if bucket.rendition == name]
    return {
        "name": name,
        "at": [bucket.starts_at.timestamp() for bucket in mine],
        "value": [_rounded(bucket.lowest) for bucket in mine],
        "id": [None for _ in mine],
        "reason": [f"{bucket.unscored} unscored" if bucket.unscored else None for bucket in mine],
    }


def mark_of(alert: Alert) -> dict[str, object]:
    """An alert as a mark in a chart and as what a reader hears."""
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


def live_point(point: TimelinePoint) -> dict[str, object]:
    """An outcome as an open page is told about it."""
    return {
        "stream_id": point.stream_id,
        "rendition": point.rendition,
        "at": point.starts_at.timestamp(),
        "id": point.event_id,
        "reason": point.reason,
        "scores": {scorer: _rounded(value) for scorer, value in point.scores.items()},
    }


def table_of(lines: Lines, scorer: str) -> list[TableLine]:
    """The newest moments first, a cell per rendition."""
    by_moment: dict[datetime, dict[str, TimelinePoint]] = {}
    for name, points in lines.items():
        for point in points[-MAX_TABLE_LINES:]:
            by_moment.setdefault(point.starts_at, {})[name] = point
    newest = sorted(by_moment, reverse=True)[:MAX_TABLE_LINES]
    return [TableLine(at=at, cells=[_cell(by_moment[at].get(name), scorer) for name in lines]) for at in newest]


def bucket_caption(buckets: Sequence[TimeBucket], alerts: Sequence[Alert], scorer: str) -> str:
    """The chart of a long range in two sentences."""
    scored, unscored = sum(it.scored for it in buckets), sum(it.unscored for it in buckets)
    total = sum(it.mean * it.scored for it in buckets if it.mean is not None)
    mean = f"{total / scored:.0f}" if scored else "none"
    lowest = min((it.lowest for it in buckets if it.lowest is not None), default=0.0)
    return (
        f"{scored + unscored:,} segments scored by {scorer}: mean {mean}, lowest {lowest:.0f}. {unscored:,} unscored, "
        f"{plural(len(alerts), 'alert')}. Each point of the chart is the worst of {span_words(buckets[0].seconds)}."
    )


def span_words(seconds: float) -> str:
    """
    >>> span_words(1209.6), span_words(43.2)
    ('20 minutes', '43 seconds')
    """
    return plural(round(seconds / 60), "minute") if seconds >= 90 else plural(round(seconds), "second")


def _cell(point: TimelinePoint | None, scorer: str) -> Cell | None:
    if point is None:
        return None
    return Cell(url=segment_path(point.event_id), value=point.scores.get(scorer), reason=reason_words(point.reason))


def caption_of(lines: Lines, alerts: Sequence[Alert], scorer: str) -> str:
    """The chart in one or two sentences."""
    count = sum(len(points) for points in lines.values())
    if not count:
        return "No segment in this time. Choose a longer range."
    told = []
    for name, points in lines.items():
        values = [point.scores[scorer] for point in points if scorer in point.scores]
        if values:
            told.append(f"{name} from {min(values):.0f} to {max(values):.0f}, mean {sum(values) / len(values):.0f}")
    unscored = sum(point.reason is not None for points in lines.values() for point in points)
    words = f"{plural(count, 'segment')} scored by {scorer}: {'; '.join(told) or 'none with a score'}."
    words += f" {unscored} unscored, {plural(len(alerts), 'alert')}."
    most = max(len(points) for points in lines.values())
    if most > MAX_CHART_POINTS:
        words += f" Each point of the chart is the worst of {-(-most // MAX_CHART_POINTS)} segments."
    return words


def signals_of(lines: Lines, span: Range) -> tuple[list[SignalCurve], str]:
    """The signals that show something, strongest first, and the names of those that do not."""
    everything = [point for points in lines.values() for point in points if point.reason is None]
    highest = {name: max((point.signals.get(name, 0.0) for point in everything), default=0.0) for name in SIGNALS}
    names = sorted((name for name in SIGNALS if highest[name] >= QUIET), key=lambda name: -highest[name])
    seconds = span.length.total_seconds()
    curves = [
        SignalCurve(
            name=name.replace("_", " "),
            meaning=SIGNALS[name],
            max=highest[name],
            label=f"{name.replace('_', ' ')} over time, at most {highest[name]:.2f}",
            lines=[_signal_line(thin(points, ""), name, span, seconds) for points in lines.values()],
        )
        for name in names
    ]
    return curves, ", ".join(name.replace("_", " ") for name in SIGNALS if name not in names)


def _signal_line(points: Sequence[TimelinePoint], name: str, span: Range, seconds: float) -> str:
    return polyline(
        (((point.starts_at - span.begins_at).total_seconds() / seconds, point.signals.get(name)) for point in points),
        width=200,
        height=46,
    )


def worst_signal(signals: Mapping[str, float]) -> str:
    """The strongest signal with its value; nothing when all are quiet."""
    name, value = max(signals.items(), key=lambda item: item[1], default=("", 0.0))
    return f"{name.replace('_', ' ')} {value:.2f}" if value >= QUIET else ""


def reason_words(reason: str | None) -> str | None:
    """A reason code as it stands in a table."""
    return reason.replace("_", " ") if reason in REASONS and reason is not None else reason


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
