"""Control charts of a stream: what regression rules know of its series, as bands, plots and status rows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vqmon.core.alerts.annotations import DeployMarker
from vqmon.core.alerts.conditions.regression import ChartState
from vqmon.core.alerts.regression.chart_status import ChartStatus, chart_status, visible_drops_text
from vqmon.core.alerts.regression.control_chart import ControlChart, evidence_over
from vqmon.core.alerts.state import State, StateKey
from vqmon.core.timeline import TimelinePoint
from vqmon.web.charts.series import PointsByRendition
from vqmon.web.charts.svg import (
    Plot,
    ReferenceLine,
    Shape,
    line_path,
    time_scale,
    time_ticks,
    vertical_scale,
)
from vqmon.web.model.time_range import TimeRange

MAX_MARKERS = 200
_PHASE_CLASSES = {
    "learning": "stale",
    "ok": "good",
    "pending": "degraded",
    "firing": "failing",
    "resolving": "degraded",
}
"""Phase of a series -> class of its badge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitoredSeries:
    """One series that a regression rule monitors, and its current status."""

    status: ChartStatus
    rendition: str
    # "lite", or "lite~1080p" for the difference from another rendition
    measure: str
    chart: ControlChart
    badge_class: str
    # way of the lowest average from the usual level to its limit, 0..100
    evidence_percent: float
    # the drops that the series shows, e.g. 7.2 points in 24 s, 5 in 2 min; empty while it learns
    sees: str

    @property
    def is_difference(self) -> bool:
        return "~" in self.measure


def monitored_series(
    states: Mapping[StateKey, State], stream_id: str, renditions: Iterable[str]
) -> list[MonitoredSeries]:
    """The series of this stream that regression rules monitor, ordered by rendition, rule and series."""
    # A rendition's name may begin like another's: the longest match is the right one.
    names = sorted(renditions, key=len, reverse=True)
    monitored = []
    for state in states.values():
        status = chart_status(state) if isinstance(state, ChartState) else None
        if status is None or not isinstance(state, ChartState) or state.chart is None:
            continue
        path = status.series.removeprefix(f"{stream_id}/")
        rendition = next((name for name in names if path.startswith(f"{name}/")), None)
        if rendition is not None:
            monitored.append(_series_of_state(status, state.chart, rendition, path.removeprefix(f"{rendition}/")))
    return sorted(monitored, key=lambda series: (series.rendition, series.status.rule, series.status.series))


def _series_of_state(status: ChartStatus, chart: ControlChart, rendition: str, measure: str) -> MonitoredSeries:
    return MonitoredSeries(
        status=status,
        rendition=rendition,
        measure=measure,
        chart=chart,
        badge_class=_PHASE_CLASSES[status.phase],
        evidence_percent=min(100.0, max(0.0, 100.0 * status.evidence)),
        sees=visible_drops_text(chart, delta_min=0.0, seconds=chart.blocks.segment_seconds),
    )


def baseline_bands(monitored: Iterable[MonitoredSeries], scorer: str) -> list[dict[str, Any]]:
    """The baseline and its band per rendition for this scorer, as `chart.js` draws them; of several rules the first."""
    bands: dict[str, dict[str, Any]] = {}
    for series in monitored:
        status = series.status
        if not series.is_difference and series.measure == scorer.split("@")[0] and status.baseline_level is not None:
            band = {
                "rendition": series.rendition,
                "usual": status.baseline_level,
                "low": status.low,
                "high": status.high,
            }
            bands.setdefault(series.rendition, band)
    return list(bands.values())


def markers_in_range(
    markers: Iterable[DeployMarker], stream_id: str, renditions: Sequence[str], time_range: TimeRange
) -> list[DeployMarker]:
    """The markers (such as deploys) within the range that apply to one of these renditions."""
    return [
        marker
        for marker in markers
        if time_range.begins_at <= marker.at <= time_range.ends_at
        and any(marker.matches(stream_id, name) for name in renditions)
    ]


def evidence_plot(
    monitored: Sequence[MonitoredSeries], points: PointsByRendition, scorer: str, time_range: TimeRange
) -> Plot | None:
    """How near to its limit each rendition was over the points shown; None when no rule has limits for the scorer."""
    shown = [
        series
        for series in monitored
        if not series.is_difference and series.measure == scorer.split("@")[0] and series.status.is_trusted
    ]
    if not shown:
        return None
    x, y = time_scale(time_range.begins_at, time_range.ends_at), vertical_scale(0.0, 1.6, height=120)
    order = list(points)
    shapes = []
    for series in shown:
        number = order.index(series.rendition) % 6
        evidence = evidence_values(points[series.rendition], scorer, series.chart)
        path = line_path((x(at), y(value)) for at, value in evidence)
        shapes.append(Shape(path=path, css_class=f"s c{number} d{number}"))
    return Plot(
        label=f"How far the lowest moving average of {scorer} was on its way from the usual level to its limit, "
        "computed again over the segments shown with the current limits. A rule triggers at 1.",
        height=120,
        y_ticks=y.ticks(count=3),
        x_ticks=time_ticks(time_range.begins_at, time_range.ends_at),
        shapes=shapes,
        reference_lines=[ReferenceLine(css_class="margin", y=y(1.0), label="limit")],
    )


def evidence_values(
    points: Sequence[TimelinePoint], scorer: str, chart: ControlChart
) -> list[tuple[float, float]]:  # fmt: skip
    """(seconds since 1970, 0..) per scored point: how far the lowest average is on its way to its limit.

    One set of limits serves all points, whereas the rule's own move on.
    """
    scored = [point for point in points if point.scores.get(scorer) is not None]
    evidence = evidence_over(chart, [point.scores[scorer] for point in scored])
    return [(point.starts_at.timestamp(), max(value, 0.0)) for point, value in zip(scored, evidence, strict=True)]
