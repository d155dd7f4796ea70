"""The chart against its formulas, written out a second time, and what must change nothing."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.alerts.regression.noise import PARAMETERS, ar1, run
from vqmon.core.alerts.conditions.regression import RegressionState
from vqmon.core.alerts.regression.baseline import FIRST_VALUES
from vqmon.core.alerts.regression.change_point import detected_drop
from vqmon.core.alerts.regression.control_chart import (
    EMPTY_CHART,
    SPANS,
    ControlChart,
    chart_at_closing,
    chart_at_opening,
    current_baseline,
    evidence_of,
    evidence_over,
    has_recovered,
    low_averages,
    update_while_open,
    values_until_detected,
    visible_drops,
)
from vqmon.core.alerts.state import RenditionSeries
from vqmon.transport.wire.cloudevents import encode_state, parse_state

LEARNED = run(EMPTY_CHART, ar1(1, 3000, 0.3))[-1]


def is_alarm(chart: ControlChart) -> bool:
    return next(low_averages(chart), None) is not None


def test_the_averages_are_those_of_medians_of_five() -> None:
    values = ar1(2, 200, 0.5)
    charts = run(EMPTY_CHART, values)
    start = charts[FIRST_VALUES - 1]
    assert start.baseline is not None
    for index, span in enumerate(SPANS):
        average, lowest = start.baseline.level, start.baseline.level
        for n in range(FIRST_VALUES, 100):
            average += 2 / (span + 1) * (np.median(values[n - 4 : n + 1]) - average)
            lowest = min(lowest, average)
        assert charts[99].averages[index].value == pytest.approx(average, abs=0.002)
        assert charts[99].averages[index].lows.lowest == pytest.approx(lowest, abs=0.002)


def test_the_lows_of_a_block_make_the_limits() -> None:
    """Blocks of 100 segments; the averages of 108 and 324 do not fit into one and are not used."""
    charts = run(EMPTY_CHART, ar1(3, 800, 0.0))
    # The first 30 values are not part of a block.
    ends = [n for n in range(1, 800) if charts[n].blocks.ended > charts[n - 1].blocks.ended]
    assert ends == list(range(129, 800, 100))
    lowest = [min(chart.averages[0].value for chart in charts[end - 99 : end + 1]) for end in ends]
    lows = charts[-1].averages[0].lows
    assert lows.mean == pytest.approx(np.mean([min(low, 70) for low in lowest]), abs=0.35)
    assert charts[-1].blocks.last_value_count == 100
    assert [evidence_of(charts[128]), evidence_of(charts[328])] == [0.0, 0.0]
    assert (
        evidence_of(charts[-1])
        == max(
            (charts[-1].baseline.level - average.value) / (charts[-1].baseline.level - average.lows.limit)  # type: ignore[union-attr]
            for average in charts[-1].averages[:2]
        )
    )


def test_a_large_drop_is_detected_by_the_shortest_average_within_seconds() -> None:
    fault = run(LEARNED, ar1(7, 100, 0.3) - 15, start=1000.0 + 4 * 3000)
    first = next(n for n, chart in enumerate(fault) if is_alarm(chart))
    assert first <= 5
    assert next(low_averages(fault[first])) == 0


def test_a_small_drop_is_detected_by_a_longer_average() -> None:
    limits = [average.lows.limit for average in LEARNED.averages[:2]]
    assert limits[0] < limits[1]
    fault = run(LEARNED, [(2 * limits[0] + limits[1]) / 3] * 100, start=LEARNED.last_end_at)
    assert {index for chart in fault for index in low_averages(chart)} == {1}


def test_one_or_two_outliers_count_for_nothing() -> None:
    two, three = run(LEARNED, [70.0, 0.0, 70.0, 0.0, 70.0]), run(LEARNED, [70.0, 0.0, 0.0, 0.0, 70.0])
    assert not any(map(is_alarm, two))
    assert any(map(is_alarm, three))


def test_with_heavy_tails_a_jolt_must_last_like_the_smallest_drop_that_is_seen() -> None:
    """However far it goes; on a series that has none it is an alarm after a few values."""
    heavy = run(EMPTY_CHART, ar1(5, 3000, 0.0, tails=4.0))[-1]
    assert [chart.baseline.has_heavy_tails for chart in (heavy, LEARNED)] == [True, False]  # type: ignore[union-attr]
    smallest = visible_drops(heavy, delta_min=1.0)[0]
    for_all = [values_until_detected(heavy, points) for points in (smallest.points, 30.0, 70.0)]
    assert for_all == [smallest.value_count] * 3
    level = heavy.baseline.level  # type: ignore[union-attr]
    jolt, fault = [0.0] * 6 + [level] * 20, [0.0] * 20
    assert not any(map(is_alarm, run(heavy, jolt, start=heavy.last_end_at)))
    assert any(map(is_alarm, run(LEARNED, jolt, start=LEARNED.last_end_at)))
    first = next(n for n, chart in enumerate(run(heavy, fault, start=heavy.last_end_at), start=1) if is_alarm(chart))
    assert first == pytest.approx(smallest.value_count, abs=2)


@pytest.mark.parametrize(("phi", "tails"), [(0.0, 4.0), (0.8, 4.0), (0.3, 0.0)])
def test_a_large_drop_that_lasts_does_not_recover(phi: float, tails: float) -> None:
    """Though it counted for less when it opened, and though a fault makes the tails of any series heavy."""
    chart = run(EMPTY_CHART, ar1(5, 3000, phi, tails=tails, deviation=2.0))[-1]
    fault = ar1(6, 900, phi, tails=tails, deviation=2.0) - 40
    at = chart.last_end_at
    charts = run(chart, fault[:30], start=at)
    opening = next(number for number, each in enumerate(charts) if is_alarm(each))
    drop = detected_drop(charts[opening], delta_min=1.0, min_impact_minutes=0.0)
    assert drop is not None
    assert drop.points == pytest.approx(40, abs=4)
    chart = charts[opening]
    chart = chart_at_opening(chart, drop.average_index, drop=drop.points, flap_seconds=1800, at=chart.last_end_at)
    for value in fault[opening + 1 :]:
        at = chart.last_end_at
        chart = update_while_open(chart, value, PARAMETERS, starts_at=at, ends_at=at + 4)
        assert not has_recovered(chart)
    assert chart.baseline is not None
    assert chart.baseline.has_heavy_tails


def test_noise_opens_nothing() -> None:
    for phi, tails in ((0.0, 0.0), (0.8, 0.0), (0.0, 4.0), (0.8, 4.0)):
        for seed in range(3):
            assert not any(map(is_alarm, run(EMPTY_CHART, ar1(seed, 3000, phi, tails=tails))))


def test_a_constant_series_gives_no_alarm_and_a_step_of_its_smallest_drop_does() -> None:
    assert not any(map(is_alarm, run(EMPTY_CHART, [70.0] * 600)))
    rounding = [70.0 + 0.01 * (n % 3) for n in range(600)]
    assert not any(map(is_alarm, run(EMPTY_CHART, rounding)))
    assert any(map(is_alarm, run(EMPTY_CHART, [70.0] * 600 + [67.0] * 30)))


def test_programmes_that_were_seen_are_usual() -> None:
    """Content that is ten points lower for minutes widens the limits, and no longer opens anything."""
    content = np.repeat([70.0, 60.0] * 20, 75)
    charts = run(EMPTY_CHART, content + ar1(4, len(content), 0.3, deviation=1.0) - 70)
    assert not any(map(is_alarm, charts[1200:]))
    assert any(map(is_alarm, run(charts[-1], [45.0] * 20, start=charts[-1].last_end_at)))


def test_an_alert_resolves_when_its_average_is_back_and_flapping_asks_for_longer() -> None:
    at = LEARNED.last_end_at
    fault = run(LEARNED, ar1(7, 30, 0.3) - 12, start=at)[-1]
    drop = detected_drop(fault, delta_min=2.5, min_impact_minutes=0.0)
    assert drop is not None
    needed = []
    for flap_count in (0.0, 1.0):
        chart = chart_at_opening(fault, drop.average_index, drop=drop.points, flap_seconds=1800, at=at + 120)
        chart = chart._replace(recovery=chart.recovery._replace(flap_count=flap_count))
        for n, value in enumerate(ar1(8, 300, 0.3) - 12):
            chart = update_while_open(chart, value, PARAMETERS, starts_at=at + 4 * n, ends_at=at + 4 * n + 4)
            assert not has_recovered(chart)
        for n, value in enumerate(ar1(9, 60, 0.3)):
            chart = update_while_open(chart, value, PARAMETERS, starts_at=at + 4 * n, ends_at=at + 4 * n + 4)
            if has_recovered(chart):
                needed.append(n + 1)
                break
        closed = chart_at_closing(chart, closed_at=at)
        assert not is_alarm(closed)
        assert (closed.recovery.closed_at, closed.recovery.flap_count) == (at, flap_count)
    assert needed[0] < needed[1] <= 60


@pytest.mark.parametrize("seed", [0, 3, 4])
def test_the_end_of_a_large_fault_opens_nothing(seed: int) -> None:
    """Longer averages still hold the fault when its alert resolves; that is no fault of its own."""
    fault = ar1(7, 100, 0.3) - 50
    charts = run(LEARNED, fault, start=LEARNED.last_end_at)
    opening = next(number for number, chart in enumerate(charts) if is_alarm(chart))
    chart = charts[opening]
    drop = detected_drop(chart, delta_min=2.5, min_impact_minutes=0.0)
    assert drop is not None
    chart = chart_at_opening(chart, drop.average_index, drop=drop.points, flap_seconds=1800, at=chart.last_end_at)
    for value in [*fault[opening + 1 :], *ar1(seed, 12, 0.3)]:
        start = chart.last_end_at
        chart = update_while_open(chart, value, PARAMETERS, starts_at=start, ends_at=start + 4)
    assert has_recovered(chart)
    closed = chart_at_closing(chart, closed_at=chart.last_end_at)
    assert not any(map(is_alarm, run(closed, ar1(seed, 150, 0.3), start=closed.last_end_at)))
    # A part of the fault that stays is seen.
    assert any(map(is_alarm, run(closed, ar1(seed, 150, 0.3) - 12, start=closed.last_end_at)))


def test_an_alert_that_opens_again_soon_is_flapping() -> None:
    closed = chart_at_closing(LEARNED, closed_at=1000.0)
    for at, flap_count in ((1100.0, 1), (5000.0, 0)):
        opened = chart_at_opening(closed, 1, drop=6, flap_seconds=1800, at=at)
        assert opened.recovery.flap_count == flap_count
    assert chart_at_opening(LEARNED, 1, drop=6, flap_seconds=1800, at=1100.0).recovery.flap_count == 0


def test_a_gap_begins_the_averages_again_at_the_usual_level() -> None:
    low = run(LEARNED, [50.0] * 8, start=LEARNED.last_end_at)[-1]
    at_once, later = (run(low, [50.0], start=low.last_end_at + gap)[-1] for gap in (0.0, 900.0))
    assert is_alarm(at_once)
    assert not is_alarm(later)


def test_the_visible_drops_are_seen_as_soon_as_they_are_said_to_be() -> None:
    """Without noise, which brings it forward or delays it."""
    drops = visible_drops(LEARNED, delta_min=2.5)
    assert [drop.points for drop in drops] == sorted((drop.points for drop in drops), reverse=True)
    level = LEARNED.baseline.level if LEARNED.baseline else 0.0
    calm = run(LEARNED, [level] * 60, start=LEARNED.last_end_at)[-1]
    for points, value_count in drops:
        charts = run(calm, [level - points] * 60, start=calm.last_end_at)
        first = next(n for n, chart in enumerate(charts, start=1) if is_alarm(chart))
        assert first == pytest.approx(value_count, abs=2)
    assert values_until_detected(LEARNED, drops[-1].points - 0.5) is None
    assert visible_drops(run(EMPTY_CHART, [70.0] * 100)[-1], delta_min=2.5) == ()


def test_the_evidence_can_be_computed_again_over_values() -> None:
    """As the page draws it: like the chart's own, with limits that stay."""
    values = (ar1(5, 60, 0.3) - 6).tolist()
    calm = run(LEARNED, [LEARNED.baseline.level] * 40, start=LEARNED.last_end_at)[-1]  # type: ignore[union-attr]
    charts = run(calm, values, start=calm.last_end_at)
    drawn = evidence_over(calm, values)
    assert drawn[-1] == pytest.approx(evidence_of(charts[-1]), abs=0.15)
    assert evidence_over(EMPTY_CHART, [1.0, 2.0]) == [0.0, 0.0]


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
@given(st.integers(0, 10_000), st.floats(-20, 20))
def test_the_level_does_not_matter(seed: int, shift: float) -> None:
    """The same noise on another level gives the same evidence."""
    values = ar1(seed, 500, 0.5)
    plain, other = run(EMPTY_CHART, values)[-1], run(EMPTY_CHART, values + shift)[-1]
    assert evidence_of(other) == pytest.approx(evidence_of(plain), abs=0.02)


def test_a_chart_is_small() -> None:
    """At any time at most 1.4 kB as numbers in JSON."""
    for chart in run(EMPTY_CHART, ar1(1, 2000, 0.6, tails=4)):
        assert len(json.dumps(chart)) < 1400
