"""What a regression rule does on recorded series: the drops that each shows, how soon, and the alerts it opens."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from vqmon.core.alerts.conditions.chart import ChartParameters
from vqmon.core.alerts.regression.change_point import detected_drop
from vqmon.core.alerts.regression.control_chart import (
    EMPTY_CHART,
    ControlChart,
    VisibleDrop,
    chart_at_closing,
    chart_at_opening,
    has_recovered,
    update_chart,
    update_while_open,
    values_until_detected,
    visible_drops,
)

_MIN_VALUES = 240
"""A shorter series is left out."""

_DAY_SECONDS = 86_400.0
POINTS_PER_MOS = 25.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedSeries:
    """One recorded series of scores, or of score differences."""

    name: str
    # (start, end, value) per segment, in seconds and points, in order of time
    values: tuple[tuple[float, float, float], ...]

    @property
    def seconds(self) -> float:
        """Total length of its segments."""
        return sum(end - start for start, end, _ in self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredSeries:
    """One recorded series as the rule's chart sees it at its end, in points."""

    name: str
    count: int
    # median length of a segment
    segment_seconds: float
    # of the recorded values
    seconds: float
    level: float
    # standard deviation, from the MAD
    deviation: float
    # the smallest drops that it shows; empty while it learns
    visible_drops: tuple[VisibleDrop, ...]
    # segments until each of the asked drops is seen; None = it is not
    delays: tuple[float | None, ...]
    alert_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DropVisibility:
    """How many of the series show a drop, and how soon."""

    drop_points: float
    seen_share: float
    # median over the series that show it; None when none does
    seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningReport:
    """A rule with these settings on recorded series."""

    parameters: ChartParameters
    series: tuple[MeasuredSeries, ...]
    drops: tuple[DropVisibility, ...]

    @property
    def stream_days(self) -> float:
        """Length of the recorded series together."""
        return sum(series.seconds for series in self.series) / _DAY_SECONDS

    @property
    def alerts_per_day(self) -> float:
        """Alerts per stream-day that the rule opens on the recorded values, whatever the reason."""
        return sum(series.alert_count for series in self.series) / self.stream_days


def measure_rule(
    recorded: Sequence[RecordedSeries], *, parameters: ChartParameters, drops_points: Sequence[float]
) -> TuningReport:
    """Run a rule's chart over recorded series; `drops_points` are the drops whose visibility is asked for.

    Raises ValueError when no series is long enough.
    """
    series = tuple(
        _measure(record, parameters, drops_points) for record in recorded if len(record.values) >= _MIN_VALUES
    )  # fmt: skip
    if not series:
        raise ValueError(f"no series has {_MIN_VALUES} scored segments; record for longer, or choose another time")
    drops = []
    for number, points in enumerate(drops_points):
        seconds = [
            delay * measured.segment_seconds
            for measured in series
            if (delay := measured.delays[number]) is not None
        ]  # fmt: skip
        share = len(seconds) / len(series)
        drops.append(
            DropVisibility(drop_points=points, seen_share=share, seconds=median(seconds) if seconds else None)
        )  # fmt: skip
    return TuningReport(parameters=parameters, series=series, drops=tuple(drops))


def _measure(recorded: RecordedSeries, parameters: ChartParameters, drops_points: Sequence[float]) -> MeasuredSeries:
    chart, alert_count = _run(recorded, parameters)
    baseline = chart.baseline
    assert baseline is not None
    return MeasuredSeries(
        name=recorded.name,
        count=len(recorded.values),
        segment_seconds=median(end - start for start, end, _ in recorded.values),
        seconds=recorded.seconds,
        level=baseline.level,
        deviation=baseline.spread,
        visible_drops=visible_drops(chart, delta_min=parameters.delta_min),
        delays=tuple(values_until_detected(chart, points) for points in drops_points),
        alert_count=alert_count,
    )


def _run(series: RecordedSeries, parameters: ChartParameters) -> tuple[ControlChart, int]:
    """The chart after a series, and how many alerts it opened; a drop that lasts counts once."""
    chart = EMPTY_CHART
    count, is_open = 0, False
    for starts_at, ends_at, value in series.values:
        if is_open:
            chart = update_while_open(chart, value, parameters, starts_at=starts_at, ends_at=ends_at)
            if has_recovered(chart):
                chart, is_open = chart_at_closing(chart, closed_at=ends_at), False
            continue
        chart = update_chart(chart, value, parameters, starts_at=starts_at, ends_at=ends_at)
        drop = detected_drop(chart, delta_min=parameters.delta_min, min_impact_minutes=0.0)
        if drop is not None:
            count, is_open = count + 1, True
            chart = chart_at_opening(chart, drop.average_index, drop=drop.points, flap_seconds=0.0, at=ends_at)
    return chart, count
