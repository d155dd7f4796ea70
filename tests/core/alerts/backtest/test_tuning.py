"""Proposals for series of known noise, and what they then do on noise of that kind."""

import pytest

from tests.core.alerts.regression.noise import PARAMETERS, ar1
from vqmon.core.alerts.backtest.tuning import RecordedSeries, detection_delays, measure_noise, propose


def recorded(seed: int, count: int, phi: float = 0.0, *, tails: float = 0.0) -> RecordedSeries:
    values = ar1(seed, count, phi, tails=tails)
    return RecordedSeries(name=f"s{seed}", values=tuple((4.0 * n, 4.0 * n + 4, float(v)) for n, v in enumerate(values)))


def test_the_noise_of_a_series_is_measured() -> None:
    """Level, deviation, correlation and tails of known noise."""
    plain, heavy = measure_noise(recorded(1, 5000, 0.6)), measure_noise(recorded(2, 5000, 0.0, tails=4))
    assert (plain.level, plain.deviation, plain.autocorrelation) == (
        pytest.approx(70, abs=0.3), pytest.approx(3, abs=0.15), pytest.approx(0.6, abs=0.04),
    )  # fmt: skip
    assert plain.clipped_share < 0.006 < 0.015 < heavy.clipped_share


def test_h_follows_the_wanted_rate_and_k_the_drop() -> None:
    """Rarer alarms ask for more evidence, larger drops for a larger k; quiet series get the theoretical h."""
    series = [recorded(seed, 4000) for seed in range(3)]
    often = propose(series, false_alarms_per_day=1.0, drop_points=3.0, parameters=PARAMETERS)
    seldom = propose(series, false_alarms_per_day=0.033, drop_points=3.0, parameters=PARAMETERS)
    large = propose(series, false_alarms_per_day=0.033, drop_points=6.0, parameters=PARAMETERS)
    assert often.h < seldom.h
    assert seldom.k == pytest.approx(0.5, abs=0.03)
    assert large.k == pytest.approx(1.0, abs=0.06)
    assert (seldom.h, seldom.segment_seconds, seldom.baseline_segments) == (seldom.theoretical_h, 4.0, 21_600)
    assert seldom.h == pytest.approx(11.5, abs=0.7)


def test_scores_that_move_more_than_noise_raise_h() -> None:
    """Slow waves of a few points are no noise: h is raised until they give no more alarms than wanted."""
    series = []
    for seed in range(4):
        values = ar1(seed, 4000, 0.3)
        for start in range(600, 4000, 400):
            values[start : start + 60] -= 4
        segments = tuple((4.0 * n, 4.0 * n + 4, float(value)) for n, value in enumerate(values))
        series.append(RecordedSeries(name=f"s{seed}", values=segments))
    proposal = propose(series, false_alarms_per_day=0.1, drop_points=3.0, parameters=PARAMETERS)
    assert proposal.h > proposal.theoretical_h


def test_larger_drops_are_detected_sooner() -> None:
    """Small drops are detected late or never, large ones within segments."""
    proposal = propose([recorded(1, 4000, 0.6)], false_alarms_per_day=0.033, drop_points=5.0, parameters=PARAMETERS)
    smallest, *others = detection_delays(proposal, [1.0, 2.5, 5.0, 12.5, 25.0])
    assert (smallest.drop_points, smallest.median, smallest.p95) == (1.0, None, None)
    medians = [delay.median for delay in others]
    assert medians == sorted(medians, reverse=True)
    assert medians[-1] <= 8


def test_a_few_minutes_of_scores_are_too_little() -> None:
    with pytest.raises(ValueError, match="240"):
        propose([recorded(1, 100)], false_alarms_per_day=0.033, drop_points=5.0, parameters=PARAMETERS)
