"""Proposes settings of a regression rule for a wanted false-alarm rate, from recorded series of scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from vqmon.core.alerts.backtest.run_length import delay_quantiles, limit_for
from vqmon.core.alerts.conditions.chart import ChartParameters
from vqmon.core.alerts.regression.baseline import CLIP_SPREADS, baseline_of
from vqmon.core.alerts.regression.change_point import estimate_drop
from vqmon.core.alerts.regression.cusum import (
    EMPTY_CHART,
    chart_at_opening,
    has_recovered,
    is_alarm,
    update_chart,
    update_while_open,
    without_evidence,
)

_MIN_VALUES = 240
"""A shorter series is left out."""

_DAY_SECONDS = 86_400.0
POINTS_PER_MOS = 25.0
_H_FACTOR = 1.1
_MAX_H = 40.0


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
class SeriesNoise:
    """The noise of one series, in points."""

    name: str
    count: int
    # median
    level: float
    # standard deviation
    deviation: float
    # lag-1 correlation
    autocorrelation: float
    # standard deviation of the whitened and clipped residuals
    residual_deviation: float
    # share of the residuals that are clipped; 0.0027 for a normal distribution
    clipped_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """Settings for a rule, and what they give on the recorded series."""

    k: float
    h: float
    # h for the wanted rate by run-length theory, before it is raised to fit the recorded values
    theoretical_h: float
    baseline_segments: int
    # median length of a segment
    segment_seconds: float
    wanted_alarms_per_day: float
    # alarms per stream-day that these settings give on the recorded values, whatever the reason
    alarms_per_day: float
    stream_days: float
    noise: tuple[SeriesNoise, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionDelay:
    """How soon a drop is detected in the median series: segments, None when it is not detected."""

    drop_points: float
    median: float | None
    p95: float | None


def measure_noise(series: RecordedSeries) -> SeriesNoise:
    """The noise of one series of at least MIN_VALUES values."""
    values = [value for _, _, value in series.values]
    baseline = baseline_of(values)
    phi = baseline.autocorrelation
    residuals = [value - baseline.level - phi * (before - baseline.level) for before, value in pairwise(values)]
    clipped = sum(abs(residual) > CLIP_SPREADS * baseline.residual_spread for residual in residuals)
    return SeriesNoise(
        name=series.name,
        count=len(values),
        level=baseline.level,
        deviation=baseline.mean_square**0.5,
        autocorrelation=phi,
        residual_deviation=baseline.residual_deviation,
        clipped_share=clipped / len(residuals),
    )


def propose(
    recorded: Sequence[RecordedSeries],
    *,
    false_alarms_per_day: float,
    drop_points: float,
    parameters: ChartParameters,
) -> Proposal:
    """Settings that give this many false alarms per stream-day and detect drops of this size soonest.

    k is half of the drop in residual deviations of the median series, h what run-length theory gives for the rate;
    then h is raised until the recorded values themselves give no more alarms. Real incidents among them raise it too
    far; `theoretical_h` shows by how much. Raises ValueError when no series is long enough.
    """
    long_enough = [series for series in recorded if len(series.values) >= _MIN_VALUES]
    if not long_enough:
        raise ValueError(f"no series has {_MIN_VALUES} scored segments; record for longer, or choose another time")
    noise = tuple(measure_noise(series) for series in long_enough)
    seconds = median(end - start for series in long_enough for start, end, _ in series.values)
    shift = median(_shift(series_noise, drop_points) for series_noise in noise)
    k = round(min(max(shift / 2, 0.25), 1.0), 2)
    theoretical_h = round(limit_for(k, _DAY_SECONDS / seconds / false_alarms_per_day), 1)
    h, stream_days = theoretical_h, sum(series.seconds for series in long_enough) / _DAY_SECONDS
    while True:
        candidate = parameters._replace(k=k, h=h)
        alarms_per_day = sum(_count_alarms(series, candidate) for series in long_enough) / stream_days
        # A single alarm does not contradict a rate of less than one.
        if alarms_per_day <= max(false_alarms_per_day, 1.0 / stream_days) or h >= _MAX_H:
            break
        h = round(min(h * _H_FACTOR, _MAX_H), 1)
    return Proposal(
        k=k,
        h=h,
        theoretical_h=theoretical_h,
        baseline_segments=max(int(_DAY_SECONDS / seconds), 1000),
        segment_seconds=seconds,
        wanted_alarms_per_day=false_alarms_per_day,
        alarms_per_day=alarms_per_day,
        stream_days=stream_days,
        noise=noise,
    )


def detection_delays(proposal: Proposal, drops_points: Sequence[float]) -> tuple[DetectionDelay, ...]:
    """How soon drops of these sizes are detected in the median series, by run-length theory."""
    by_sensitivity = sorted(proposal.noise, key=lambda series_noise: _shift(series_noise, 1))
    middle = by_sensitivity[len(by_sensitivity) // 2]
    delays = []
    for drop_points in drops_points:
        try:
            half, most = delay_quantiles(proposal.k, proposal.h, min(_shift(middle, drop_points), CLIP_SPREADS))
        except ValueError:
            delays.append(DetectionDelay(drop_points=drop_points, median=None, p95=None))
        else:
            delays.append(DetectionDelay(drop_points=drop_points, median=half, p95=most))
    return tuple(delays)


def _shift(noise: SeriesNoise, drop_points: float) -> float:
    """A drop in deviations of the series' residuals."""
    return (1 - noise.autocorrelation) * drop_points / noise.residual_deviation


def _count_alarms(series: RecordedSeries, parameters: ChartParameters) -> int:
    """How many alerts a rule with these settings opens on the series; a drop that lasts counts once."""
    chart = EMPTY_CHART
    count, is_open = 0, False
    for starts_at, ends_at, value in series.values:
        if is_open:
            chart = update_while_open(chart, value, parameters, starts_at=starts_at, ends_at=ends_at)
            if has_recovered(chart.cusum, parameters):
                chart, is_open = without_evidence(chart, closed_at=ends_at), False
            continue
        chart = update_chart(chart, value, parameters, starts_at=starts_at, ends_at=ends_at)
        if is_alarm(chart.cusum, parameters):
            drop = estimate_drop(chart)
            if drop.high < parameters.delta_min:
                chart = without_evidence(chart)
            elif drop.points >= parameters.delta_min:
                count, is_open = count + 1, True
                chart = chart_at_opening(chart, drop=drop.points, flap_seconds=0.0, at=ends_at)
    return count
