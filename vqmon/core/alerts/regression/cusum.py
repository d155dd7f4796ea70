"""Control chart of one series: a one-sided CUSUM of whitened, clipped residuals.

Per value x: r = (x - level) - phi (x' - level), psi = clip(r), z = (mean - psi) / deviation, S = max(0, S + z - k); an
alarm at S > h. After a missing segment r is (x - level) sqrt(1 - phi^2): no value is imputed. k grows by the standard
error of the level, 1 / sqrt(count), so that a short baseline costs delay instead of false alarms. In guarantee mode the
Shiryaev-Roberts e-detector M = (M + 1) exp(z - 1/2) alarms at M >= A: at most one false alarm in A values, whatever
their distribution, if z is sub-Gaussian with scale 1 (Shin, Ramdas, Rinaldo 2022).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vqmon.core.alerts.conditions.chart import ChartParameters
from vqmon.core.alerts.regression.baseline import (
    CLIP_SPREADS,
    FIRST_VALUES,
    QUARTILE,
    Baseline,
    Block,
    baseline_of,
    with_block,
)

LINKED_SECONDS = 0.5
"""Segments further apart than this are not consecutive."""

_FORGET_SECONDS = 600.0
"""After a gap of this length the evidence from before it is discarded."""

_SHOCK_DEVIATIONS = 8.0
"""Two consecutive residuals beyond this, unclipped, are an alarm by themselves. At 6 heavy tails (t with 4 degrees of
freedom) alone would use up the false alarms of 0.04 per stream-day."""

_FAST_K = 1.25
"""Reference value of the second sum: a value from before the change begins it half as often."""

_STEADY_SEGMENTS = 15
"""So many consecutive values near the baseline resolve an alert, however slow the other evidence is."""

_MIN_RECOVERY_SEGMENTS = 4.0
"""Evidence of recovery comes from at least so many values."""

_LAG_BLOCKS = 4
"""`lag_seconds` is divided into so many blocks."""


class CusumState(NamedTuple):
    """The sums of a chart; moments are seconds since the epoch. A tuple, as one is made per value."""

    # the alarm threshold: h, or ln(A + 1) in guarantee mode; pages draw the chart without its rule
    limit: float = 0.0
    last_value: float = 0.0
    last_end_at: float = 0.0
    # S
    cusum: float = 0.0
    # ln(M + 1) of the e-detector
    log_e_value: float = 0.0
    # when S was last 0, and the values since: how many, their sum, their impact in minutes
    change_at: float = 0.0
    count_since_change: float = 0.0
    sum_since_change: float = 0.0
    impact_since_change: float = 0.0
    # the same of the second sum with k = FAST_K, whose start is nearer to that of a large drop
    fast_cusum: float = 0.0
    fast_change_at: float = 0.0
    fast_count: float = 0.0
    fast_sum: float = 0.0
    # consecutive residuals beyond SHOCK_DEVIATIONS
    shock_count: float = 0.0
    # while an alert is open: the size of the drop in deviations, evidence of recovery and since when it gathers,
    # consecutive values near the baseline
    shift: float = 0.0
    recovery_evidence: float = 0.0
    recovery_began_at: float = 0.0
    steady_count: float = 0.0
    # how many times in a row the alert opened again within `flap_seconds`
    flap_count: float = 0.0
    # when the last alert resolved
    closed_at: float = 0.0
    # since when an alarm waits for an alert that explains it; 0 = no alarm
    held_since: float = 0.0


class ControlChart(NamedTuple):
    """All that is remembered of a series of numbers."""

    cusum: CusumState = CusumState()
    # None until FIRST_VALUES values are there
    baseline: Baseline | None = None
    # all values so far while there is no baseline, oldest first
    first_values: tuple[float, ...] = ()
    # values not yet in the baseline, newest block first
    blocks: tuple[Block, ...] = ()


EMPTY_CHART = ControlChart()


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
) -> ControlChart:
    """The chart after one more value of a series without an open alert; segments in order of time."""
    cusum, baseline, _, blocks = chart
    gap_seconds = starts_at - cusum.last_end_at
    if not -_FORGET_SECONDS < gap_seconds < _FORGET_SECONDS:
        cusum = cusum._replace(
            cusum=0.0, log_e_value=0.0, count_since_change=0.0, fast_cusum=0.0, fast_count=0.0, shock_count=0.0,
            held_since=0.0,
        )  # fmt: skip
        chart = chart._replace(cusum=cusum)
    segment = _SegmentValue(value, starts_at, ends_at, impact_minutes)
    if baseline is None:
        return _update_first_values(chart, segment, parameters)
    is_linked = -LINKED_SECONDS <= gap_seconds <= LINKED_SECONDS
    phi = baseline.autocorrelation
    deviation = value - baseline.level
    deviation_before = cusum.last_value - baseline.level
    residual = deviation - phi * deviation_before if is_linked else deviation * math.sqrt(1.0 - phi * phi)
    bound = CLIP_SPREADS * baseline.residual_spread
    clipped = -bound if residual < -bound else bound if residual > bound else residual
    residual_deviation = math.sqrt(baseline.residual_variance)
    z = (baseline.residual_mean - clipped) / residual_deviation
    is_shock = baseline.residual_mean - residual >= _SHOCK_DEVIATIONS * residual_deviation
    evidence = cusum.log_e_value if parameters.log_guarantee else cusum.cusum
    if evidence <= (parameters.log_guarantee or parameters.h) / 2:
        sample = (deviation, deviation_before if is_linked else 0.0, residual, clipped)
        baseline, blocks = _learn(baseline, blocks, sample, parameters, starts_at=starts_at, ends_at=ends_at)
    standard_error = 1.0 / math.sqrt(baseline.value_count)
    shock_count = cusum.shock_count + 1.0 if is_shock else 0.0
    cusum = _add_evidence(cusum, z, standard_error, segment, parameters, shock_count=shock_count)
    return ControlChart(cusum, baseline, (), blocks)


class _SegmentValue(NamedTuple):
    value: float
    starts_at: float
    ends_at: float
    impact_minutes: float


def _add_evidence(
    cusum: CusumState,
    z: float,
    standard_error: float,
    segment: _SegmentValue,
    parameters: ChartParameters,
    *,
    shock_count: float,
) -> CusumState:
    """S, M, and the values since the last moment at which the series was at its baseline."""
    value, starts_at, ends_at, impact_minutes = segment
    s = max(0.0, cusum.cusum + z - parameters.k - standard_error)
    log_e_value = 0.0
    if parameters.log_guarantee:
        log_e_value = math.log1p(math.exp(min(cusum.log_e_value + z - standard_error - 0.5, 700.0)))
    if s <= 0.0:
        change_at, count, total, impact = ends_at, 0.0, 0.0, 0.0
    elif cusum.count_since_change:
        change_at, count = cusum.change_at, cusum.count_since_change + 1.0
        total, impact = cusum.sum_since_change + value, cusum.impact_since_change + impact_minutes
    else:
        is_recent = 0.0 <= starts_at - cusum.change_at < _FORGET_SECONDS
        change_at, count, total, impact = cusum.change_at if is_recent else starts_at, 1.0, value, impact_minutes
    fast = cusum.fast_cusum + z - _FAST_K
    if fast <= 0.0 or s <= 0.0:
        fast, fast_change_at, fast_count, fast_sum = 0.0, ends_at, 0.0, 0.0
    else:
        fast_change_at = cusum.fast_change_at if cusum.fast_count else max(change_at, starts_at)
        fast_count, fast_sum = cusum.fast_count + 1.0, cusum.fast_sum + value
    # In the order of the fields: naming them takes twice as long.
    return CusumState(
        parameters.log_guarantee or parameters.h, value, ends_at, s, log_e_value,
        change_at, count, total, impact,
        fast, fast_change_at, fast_count, fast_sum,
        shock_count,
        0.0, 0.0, 0.0, 0.0,
        cusum.flap_count, cusum.closed_at, cusum.held_since,
    )  # fmt: skip


def _update_first_values(chart: ControlChart, segment: _SegmentValue, parameters: ChartParameters) -> ControlChart:
    """Without a baseline the evidence comes from sequential ranks of the residuals."""
    cusum = chart.cusum
    values = (*chart.first_values, round(segment.value, 3))
    if len(values) <= parameters.min_segments:
        z, standard_error = 0.0, 0.0
    else:
        reference = max(len(values) - 1 - int(cusum.count_since_change), int(parameters.min_segments))
        z, standard_error = rank_residual(values, reference), 1.0 / math.sqrt(reference)
    cusum = _add_evidence(cusum, z, standard_error, segment, parameters, shock_count=cusum.shock_count)
    if len(values) < FIRST_VALUES:
        return ControlChart(cusum, None, values, ())
    return ControlChart(cusum, baseline_of(values_before_change(cusum, values)), (), ())


def rank_residual(values: Sequence[float], reference: int) -> float:
    """How low the last value is, by the rank of its residual: mean 0, variance about 1 when nothing changes.

    It is ranked among the first `reference` values, those before a possible change; at least three. Ranked are the
    residuals after the lag-1 correlation of these values, which is taken larger by its standard error as too little
    whitening causes false alarms. Ranks hold for any distribution (Lombard and Van Zyl, Technologies 7 (2019) 71); the
    result lies within +-sqrt(3).
    """
    sample = np.asarray(values[:reference])
    level = float(np.partition(sample, reference // 2)[reference // 2])
    deviations = sample - level
    bound = CLIP_SPREADS * 1.4826 * float(np.partition(np.abs(deviations), reference // 2)[reference // 2])
    clipped = np.clip(deviations, -bound, bound)
    square = float(clipped @ clipped)
    phi = float(clipped[1:] @ clipped[:-1]) / square if square > 0.0 else 0.0
    phi = min(max(phi + 1.0 / math.sqrt(reference), 0.0), 0.95)
    residuals = deviations[1:] - phi * deviations[:-1]
    last = (values[-1] - level) - phi * (values[-2] - level)
    below = float(np.count_nonzero(residuals < last))
    equal = float(np.count_nonzero(residuals == last))
    return math.sqrt(12.0) * (0.5 - (below + (equal + 1.0) / 2.0) / (len(residuals) + 1.0))


def values_before_change(cusum: CusumState, values: tuple[float, ...]) -> tuple[float, ...]:
    """The first values without those since a possible change; at least half of them."""
    return values[: max(len(values) - int(cusum.count_since_change), len(values) // 2)]


def is_alarm(cusum: CusumState, parameters: ChartParameters) -> bool:
    """Whether the evidence of a drop reaches the threshold."""
    if cusum.shock_count >= 2.0:
        return True
    if parameters.log_guarantee:
        return cusum.log_e_value >= parameters.log_guarantee
    return cusum.cusum > parameters.h


def chart_at_opening(chart: ControlChart, *, drop: float, flap_seconds: float, at: float) -> ControlChart:
    """The chart when an alert opens: values since the change are not learned, and the baseline is frozen.

    `drop` is in points, `at` is the moment of opening.
    """
    cusum, baseline, first_values, blocks = chart
    if baseline is None:
        baseline, blocks = baseline_of(values_before_change(cusum, first_values)), ()
    blocks = tuple(block for block in blocks if block.ended_at <= cusum.change_at + LINKED_SECONDS)
    shift = (1.0 - baseline.autocorrelation) * drop / baseline.residual_deviation
    is_flapping = cusum.closed_at and abs(at - cusum.closed_at) < flap_seconds
    cusum = cusum._replace(
        shift=min(max(shift, 0.4), CLIP_SPREADS), recovery_evidence=0.0, recovery_began_at=0.0, steady_count=0.0,
        flap_count=cusum.flap_count + 1.0 if is_flapping else 0.0, held_since=0.0,
    )  # fmt: skip
    return ControlChart(cusum, baseline, (), blocks)


def update_while_open(
    chart: ControlChart, value: float, parameters: ChartParameters, *, starts_at: float, ends_at: float
) -> ControlChart:
    """The chart after one more value while the alert is open: evidence that residuals are usual rather than low."""
    cusum, baseline = chart.cusum, chart.baseline or Baseline()
    phi = baseline.autocorrelation
    is_linked = abs(starts_at - cusum.last_end_at) <= LINKED_SECONDS
    deviation = value - baseline.level
    residual = (
        deviation - phi * (cusum.last_value - baseline.level)
        if is_linked
        else deviation * math.sqrt(1.0 - phi * phi)
    )  # fmt: skip
    bound = CLIP_SPREADS * baseline.residual_spread
    z = (baseline.residual_mean - max(-bound, min(bound, residual))) / baseline.residual_deviation
    # Single good values, however far out, are no recovery.
    most = 2.0 * parameters.k * parameters.h / _MIN_RECOVERY_SEGMENTS
    recovery = max(0.0, cusum.recovery_evidence + min(cusum.shift * (cusum.shift / 2.0 - z), most))
    is_steady = deviation > -parameters.delta_min / 2.0
    cusum = cusum._replace(
        last_value=value,
        last_end_at=ends_at,
        cusum=min(max(0.0, cusum.cusum + z - parameters.k), 2.0 * parameters.h),
        recovery_evidence=recovery,
        recovery_began_at=cusum.recovery_began_at if recovery > 0.0 and cusum.recovery_began_at else starts_at,
        steady_count=cusum.steady_count + 1.0 if is_steady else 0.0,
    )
    return chart._replace(cusum=cusum)


def has_recovered(cusum: CusumState, parameters: ChartParameters) -> bool:
    """Whether an open alert's series is at its baseline again; flapping asks for more evidence each time."""
    factor = 1.0 + cusum.flap_count / 2.0
    is_evident = cusum.recovery_evidence >= 2.0 * parameters.k * parameters.h * factor
    return is_evident or cusum.steady_count >= _STEADY_SEGMENTS * factor


def without_evidence(chart: ControlChart, *, closed_at: float | None = None) -> ControlChart:
    """The chart with its sums at zero: after an alert has closed, or a change that is too small for one."""
    cusum = chart.cusum
    return chart._replace(
        cusum=CusumState(
            limit=cusum.limit,
            last_value=cusum.last_value,
            last_end_at=cusum.last_end_at,
            change_at=cusum.last_end_at,
            flap_count=cusum.flap_count,
            closed_at=cusum.closed_at if closed_at is None else closed_at,
        )
    )


def _learn(
    baseline: Baseline,
    blocks: tuple[Block, ...],
    sample: tuple[float, float, float, float],
    parameters: ChartParameters,
    *,
    starts_at: float,
    ends_at: float,
) -> tuple[Baseline, tuple[Block, ...]]:
    """Add a value to the newest block, and to the baseline the blocks that are older than the lag.

    `sample` holds the deviation from the level, that of the value before, the residual, and the clipped residual.
    """
    deviation, deviation_before, residual, clipped = sample
    bound = CLIP_SPREADS * baseline.spread
    bounded = -bound if deviation < -bound else bound if deviation > bound else deviation
    bounded_before = -bound if deviation_before < -bound else bound if deviation_before > bound else deviation_before
    newest = blocks[0] if blocks else Block(starts_at)
    is_residual_far = abs(residual - baseline.residual_mean) > QUARTILE * baseline.residual_spread
    # In the order of the fields: naming them takes twice as long.
    newest = Block(
        newest.began_at,
        ends_at,
        newest.value_count + 1.0,
        newest.sign_sum + (1.0 if deviation > 0.0 else -1.0 if deviation < 0.0 else 0.0),
        newest.beyond_quartile + (abs(deviation) > QUARTILE * baseline.spread),
        newest.square_sum + bounded * bounded,
        newest.lag_product_sum + bounded * bounded_before,
        newest.residuals_beyond_quartile + is_residual_far,
        newest.residual_sum + clipped,
        newest.residual_square_sum + clipped * clipped,
    )
    older = blocks[1:]
    if 0.0 <= ends_at - newest.began_at < parameters.lag_seconds / _LAG_BLOCKS:
        return baseline, (newest, *older)
    # Rounded, as it is written with every segment.
    older = (Block._make(round(figure, 4) for figure in newest), *older)
    # A timeline that was set back must not keep a block forever.
    while older and not 0.0 <= ends_at - older[-1].ended_at < parameters.lag_seconds:
        baseline = with_block(baseline, older[-1], max_count=parameters.baseline_segments)
        older = older[:-1]
    return baseline, (Block(ends_at, ends_at), *older)
