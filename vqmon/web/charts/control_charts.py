"""Control charts of a stream: what the regression rules know of its series, as bands, CUSUM charts and status rows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vqmon.core.alerts.annotations import DeployMarker
from vqmon.core.alerts.conditions.chart import ChartParameters
from vqmon.core.alerts.conditions.regression import ChartState
from vqmon.core.alerts.regression.baseline import CLIP_SPREADS, Baseline
from vqmon.core.alerts.regression.chart_status import ChartStatus, chart_status
from vqmon.core.alerts.regression.cusum import LINKED_SECONDS, current_baseline
from vqmon.core.alerts.state import State, StateKey
from vqmon.core.timeline import TimelinePoint
from vqmon.web.charts.series import PointsByRendition
from vqmon.web.charts.svg import (
    Plot,
    ReferenceLine,
    Shape,
    format_number,
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
    baseline: Baseline | None
    badge_class: str
    # CUSUM in percent of the alarm limit, 0..100
    evidence_percent: float

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
        if status is None or not isinstance(state, ChartState):
            continue
        path = status.series.removeprefix(f"{stream_id}/")
        rendition = next((name for name in names if path.startswith(f"{name}/")), None)
        if rendition is not None:
            monitored.append(_series_of_state(status, state, rendition, path.removeprefix(f"{rendition}/")))
    return sorted(monitored, key=lambda series: (series.rendition, series.status.rule, series.status.series))


def _series_of_state(status: ChartStatus, state: ChartState, rendition: str, measure: str) -> MonitoredSeries:
    percent = 100 * status.evidence / status.limit if status.limit else 0.0
    return MonitoredSeries(
        status=status,
        rendition=rendition,
        measure=measure,
        baseline=current_baseline(state.chart) if state.chart else None,
        badge_class=_PHASE_CLASSES[status.phase],
        evidence_percent=min(100.0, max(0.0, percent)),
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


def cusum_plot(
    monitored: Sequence[MonitoredSeries], points: PointsByRendition, scorer: str, time_range: TimeRange
) -> Plot | None:
    """The CUSUM of each rendition over the points shown; None when no rule monitors this scorer."""
    shown = [
        series
        for series in monitored
        if not series.is_difference and series.measure == scorer.split("@")[0] and series.baseline
    ]
    limit = max((series.status.limit for series in shown), default=0.0)
    if not shown or limit <= 0:
        return None
    x, y = time_scale(time_range.begins_at, time_range.ends_at), vertical_scale(0.0, 1.6 * limit, height=120)
    order = list(points)
    shapes = []
    for series in shown:
        number = order.index(series.rendition) % 6
        sums = cusum_values(points[series.rendition], scorer, series.baseline) if series.baseline else []
        path = line_path((x(at), y(value)) for at, value in sums)
        shapes.append(Shape(path=path, css_class=f"s c{number} d{number}"))
    return Plot(
        label=f"Evidence (CUSUM) that {scorer} fell below its baseline, computed again over the segments shown with "
        f"the current baseline. A rule triggers at {format_number(limit)}.",
        height=120,
        y_ticks=y.ticks(count=3),
        x_ticks=time_ticks(time_range.begins_at, time_range.ends_at),
        shapes=shapes,
        reference_lines=[ReferenceLine(css_class="margin", y=y(limit), label="limit")],
    )


def cusum_values(points: Sequence[TimelinePoint], scorer: str, baseline: Baseline) -> list[tuple[float, float]]:
    """(seconds since 1970, S) per scored point: the CUSUM of `core.alerts.regression.cusum` with its default k.

    One baseline serves all points, whereas the rule's own baseline moves on.
    """
    sums: list[tuple[float, float]] = []
    deviation, bound, phi = (
        baseline.residual_deviation,
        CLIP_SPREADS * baseline.residual_spread,
        baseline.autocorrelation,
    )
    # As in the rule, a baseline of few values requires more evidence.
    k = ChartParameters().k + 1.0 / max(baseline.value_count, 1.0) ** 0.5
    total = previous_value = previous_at = previous_step = 0.0
    for point in points:
        value = point.scores.get(scorer)
        if value is None or deviation <= 0:
            continue
        at = point.starts_at.timestamp()
        step = at - previous_at
        # A value follows the one before only at the stream's own cadence; after a gap it has no predecessor.
        is_linked = bool(sums) and (not previous_step or abs(step - previous_step) <= LINKED_SECONDS)
        previous_step = step if sums else 0.0
        away = value - baseline.level
        residual = away - phi * (previous_value - baseline.level) if is_linked else away * (1.0 - phi * phi) ** 0.5
        z = (baseline.residual_mean - min(bound, max(-bound, residual))) / deviation
        total = max(0.0, total + z - k)
        sums.append((at, total))
        previous_value, previous_at = value, at
    return sums
