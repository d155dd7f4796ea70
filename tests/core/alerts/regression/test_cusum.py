"""The chart against its formulas, written out a second time, and what must change nothing."""

import json
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.alerts.regression.noise import PARAMETERS, ar1, cusums, run
from vqmon.core.alerts.conditions.chart import ChartParameters
from vqmon.core.alerts.conditions.regression import RegressionState
from vqmon.core.alerts.regression.baseline import FIRST_VALUES, Baseline
from vqmon.core.alerts.regression.cusum import (
    EMPTY_CHART,
    ControlChart,
    CusumState,
    chart_at_opening,
    current_baseline,
    has_recovered,
    is_alarm,
    rank_residual,
    update_chart,
    update_while_open,
    without_evidence,
)
from vqmon.core.alerts.state import RenditionSeries
from vqmon.transport.wire.cloudevents import encode_state, parse_state

BASELINE = Baseline(
    value_count=10_000, level=70.0, spread=4.0, mean_square=15.0, mean_lag_product=7.5, residual_spread=3.4,
    residual_mean=0.1, residual_variance=11.0,
)  # fmt: skip
LEARNED = ControlChart(cusum=CusumState(last_value=70.0, last_end_at=1000.0), baseline=BASELINE)


def test_the_sum_follows_the_formulas_step_by_step() -> None:
    """Whitening, clipping, standardising and the sum, while the baseline stays as it is."""
    values = ar1(1, 30, 0.5)
    phi, deviation = 7.5 / 15.0, math.sqrt(11.0)
    residuals = [value - 70 - phi * (before - 70) for before, value in pairwise([70.0, *values])]
    z = [-(min(max(residual, -3 * 3.4), 3 * 3.4) - 0.1) / deviation for residual in residuals]
    s, expected = 0.0, []
    for z_value in z:
        s = max(0.0, s + z_value - 0.5 - 1 / math.sqrt(10_000))
        expected.append(s)
    assert [cusum.cusum for cusum in cusums(run(LEARNED, values))] == pytest.approx(expected, abs=1e-12)


def test_a_missing_segment_restarts_the_lag() -> None:
    """After a gap the value alone counts, scaled to the residuals' deviation; no value is imputed."""
    chart = update_chart(LEARNED, 60.0, PARAMETERS, starts_at=1008.0, ends_at=1012.0)
    z = -(max(-10.0 * math.sqrt(1 - 0.25), -10.2) - 0.1) / math.sqrt(11.0)
    assert chart.cusum.cusum == pytest.approx(z - 0.51)


def test_the_change_is_the_last_moment_at_zero() -> None:
    """With the values since; a value that brings the sum to zero starts anew."""
    low = cusums(run(LEARNED, [70, 70, 55, 56, 57]))[-1]
    assert (low.change_at, low.count_since_change, low.sum_since_change) == (1008.0, 3.0, 168.0)
    assert low.impact_since_change == pytest.approx(0.3)
    back = cusums(run(LEARNED, [55, 90, 90]))[-1]
    assert (back.change_at, back.count_since_change, back.sum_since_change, back.impact_since_change) == (1012, 0, 0, 0)


def test_evidence_from_before_a_long_gap_is_discarded() -> None:
    low = run(LEARNED, [55, 56, 57])[-1]
    assert low.cusum.cusum > 0
    after = update_chart(low, 70.5, PARAMETERS, starts_at=1012.0 + 600.0, ends_at=1616.0)
    assert (after.cusum.cusum, after.cusum.count_since_change, after.cusum.change_at) == (0.0, 0.0, 1616.0)


def test_the_e_detector_multiplies() -> None:
    """M = (M + 1) exp(z - k' - 1/2), alarm at M >= A; stored as ln(M + 1)."""
    parameters = ChartParameters(log_guarantee=math.log1p(1000.0))
    values = ar1(2, 20, 0.5) - 4
    plain = cusums(run(LEARNED, values))
    guaranteed = cusums(run(LEARNED, values, parameters=parameters))
    m, phi = 0.0, 0.5
    for cusum, (before, value) in zip(guaranteed, pairwise([70.0, *values]), strict=True):
        residual = value - 70 - phi * (before - 70)
        z = -(min(max(residual, -10.2), 10.2) - 0.1) / math.sqrt(11.0)
        m = (m + 1) * math.exp(z - 0.01 - 0.5)
        assert cusum.log_e_value == pytest.approx(math.log1p(m))
        assert is_alarm(cusum, parameters) == (m >= 1000)
    assert guaranteed[-1].cusum == plain[-1].cusum


def test_two_consecutive_shocks_are_an_alarm() -> None:
    """Clipping would take five segments for what two show."""
    first, second = cusums(run(LEARNED, [35.0, 10.0]))
    assert not is_alarm(first, PARAMETERS)
    assert is_alarm(second, PARAMETERS)
    assert second.cusum < PARAMETERS.h
    assert not is_alarm(cusums(run(LEARNED, [35.0, 70.0, 35.0]))[-1], PARAMETERS)


def test_a_fault_is_not_learned() -> None:
    """Neither while evidence gathers, nor what waited in blocks, nor while the alert is open."""
    values = ar1(5, 3000, 0.3)
    before = run(EMPTY_CHART, values)[-1]
    fault = run(before, values[:40] - 6, start=1000.0 + 4 * 3000)
    at_alarm = next(chart for chart in fault if is_alarm(chart.cusum, PARAMETERS))
    assert before.baseline is not None
    assert at_alarm.baseline is not None
    assert at_alarm.baseline.value_count - before.baseline.value_count <= 2 * 38
    assert at_alarm.baseline.level == pytest.approx(before.baseline.level, abs=0.2)
    opened = chart_at_opening(at_alarm, drop=6, flap_seconds=1800, at=0.0)
    assert all(block.ended_at <= opened.cusum.change_at + 0.5 for block in opened.blocks)
    later = opened
    for n in range(500):
        at = opened.cusum.last_end_at + 4.0 * n
        later = update_while_open(later, 60.0, PARAMETERS, starts_at=at, ends_at=at + 4)
    assert later.baseline == opened.baseline


def test_an_alert_ends_on_evidence_and_flapping_asks_for_more() -> None:
    """Back at the baseline it resolves within two minutes; at the low level it stays open for hours."""
    chart = run(EMPTY_CHART, ar1(6, 4000, 0.0))[-1]
    at = chart.cusum.last_end_at
    low = chart_at_opening(chart, drop=6, flap_seconds=1800, at=at)
    for n, value in enumerate(ar1(7, 5000, 0.0) - 6):
        low = update_while_open(low, float(value), PARAMETERS, starts_at=at + 4 * n, ends_at=at + 4 * n + 4)
        assert not has_recovered(low.cusum, PARAMETERS)
    needed = []
    for flap_count in (0.0, 2.0):
        chart = low._replace(cusum=low.cusum._replace(flap_count=flap_count))
        for n, value in enumerate(ar1(8, 60, 0.0)):
            chart = update_while_open(chart, float(value), PARAMETERS, starts_at=at + 4 * n, ends_at=at + 4 * n + 4)
            if has_recovered(chart.cusum, PARAMETERS):
                needed.append(n + 1)
                break
    assert needed[0] <= 12
    assert needed[0] < needed[1] <= 30


def test_an_alert_that_opens_again_soon_is_flapping() -> None:
    closed = without_evidence(LEARNED, closed_at=1000.0)
    assert chart_at_opening(closed, drop=6, flap_seconds=1800, at=1100.0).cusum.flap_count == 1
    assert chart_at_opening(closed, drop=6, flap_seconds=1800, at=5000.0).cusum.flap_count == 0
    assert chart_at_opening(LEARNED, drop=6, flap_seconds=1800, at=1100.0).cusum.flap_count == 0


def test_a_constant_series_gives_no_alarm() -> None:
    """Nor one that moves by rounding only; a step of a point does."""
    assert cusums(run(EMPTY_CHART, [70.0] * 500))[-1].cusum == 0.0
    rounding = [70.0 + 0.01 * (n % 3) for n in range(500)]
    assert not any(is_alarm(cusum, PARAMETERS) for cusum in cusums(run(EMPTY_CHART, rounding)))
    step = [70.0] * 300 + [69.0] * 10
    assert any(is_alarm(cusum, PARAMETERS) for cusum in cusums(run(EMPTY_CHART, step)))


def test_there_is_no_baseline_before_the_third_value() -> None:
    charts = run(EMPTY_CHART, [70.0, 71.0, 72.0])
    assert current_baseline(charts[1]) is None
    baseline = current_baseline(charts[2])
    assert baseline is not None
    assert (baseline.value_count, baseline.level) == (3, 71.0)
    assert charts[2].baseline is None


# what changes nothing

values_of = st.lists(st.floats(20, 95, allow_nan=False).map(lambda value: round(value, 3)), min_size=1, max_size=260)
SERIES = RenditionSeries(rendition_key="news/1080p", subject="lite")


def stored(chart: ControlChart) -> ControlChart:
    """The chart after a round trip through its stored form."""
    state = parse_state(encode_state(RegressionState(rule="r", series=SERIES, basis="lite@1", chart=chart)))
    assert isinstance(state, RegressionState)
    assert state.chart is not None
    return state.chart


@settings(max_examples=40)
@given(values_of, st.integers(0, 260))
def test_a_restart_at_any_value_changes_no_bit(values: list[float], cut: int) -> None:
    charts = run(EMPTY_CHART, values)
    cut = min(cut, len(values))
    restored = stored(charts[cut - 1]) if cut else EMPTY_CHART
    assert run(restored, values[cut:], start=1000.0 + 4 * cut) == charts[cut:]


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.floats(0.5, 3.0), st.floats(-20, 20))
def test_level_and_scale_do_not_matter(seed: int, scale: float, shift: float) -> None:
    """The same noise on another level and another scale gives the same evidence."""
    values = ar1(seed, 400, 0.5)
    plain = cusums(run(EMPTY_CHART, values))[FIRST_VALUES:]
    other = cusums(run(EMPTY_CHART, (values - 70) * scale + 70 + shift))[FIRST_VALUES:]
    # The first values are rounded to three digits, so that ranks of near ones may change places.
    assert [cusum.cusum for cusum in other] == pytest.approx([cusum.cusum for cusum in plain], abs=0.3)


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(0, 399))
def test_a_lower_value_is_never_less_evidence(seed: int, index: int) -> None:
    values = ar1(seed, index + 1, 0.5)
    lower = values.copy()
    lower[index] -= 5
    assert cusums(run(LEARNED, lower))[-1].cusum >= cusums(run(LEARNED, values))[-1].cusum


def test_a_chart_is_small() -> None:
    """At any time at most 1.4 kB as numbers in JSON."""
    for chart in run(EMPTY_CHART, ar1(1, 2000, 0.6, tails=4)):
        numbers = [chart.cusum, chart.baseline, chart.first_values, chart.blocks]
        assert len(json.dumps(numbers)) < 1400


# the first values


def test_ranks_hold_for_any_distribution() -> None:
    """Low values give positive ranks, however far out they are; independent ones have mean 0 and variance 1."""
    assert rank_residual([*range(50, 90), 1], 40) > 1.5
    assert rank_residual([*range(50, 90), 200], 40) < -1.5
    ranks = [rank_residual(ar1(seed, 60, 0.0).tolist(), 59) for seed in range(400)]
    assert np.mean(ranks) == pytest.approx(0, abs=0.15)
    assert np.std(ranks) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("phi", "tails"), [(0.0, 0.0), (0.8, 0.0), (0.0, 4.0), (0.8, 4.0)])
def test_the_first_minutes_are_quiet(phi: float, tails: float) -> None:
    """Without a baseline noise gives no alarm, and a large drop does."""
    for seed in range(30):
        charts = run(EMPTY_CHART, ar1(seed, 130, phi, tails=tails))
        assert not any(is_alarm(cusum, PARAMETERS) for cusum in cusums(charts))
    detected = 0
    for seed in range(20):
        values = ar1(seed, 110, phi, tails=tails)
        values[70:] -= 15
        detected += any(is_alarm(cusum, PARAMETERS) for cusum in cusums(run(EMPTY_CHART, values)))
    assert detected >= (18 if phi == 0 else 3)
