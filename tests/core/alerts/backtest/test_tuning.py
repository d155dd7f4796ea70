"""What a rule does on series of known noise: the drops that they show, how soon, and the alerts it opens."""

from dataclasses import replace

import pytest

from tests.core.alerts.regression.noise import PARAMETERS, ar1
from vqmon.core.alerts.backtest.tuning import RecordedSeries, measure_rule

DROPS = (1.0, 2.5, 5.0, 12.5, 25.0)


def recorded(seed: int, count: int, phi: float = 0.0, *, deviation: float = 3.0) -> RecordedSeries:
    values = ar1(seed, count, phi, deviation=deviation)
    return RecordedSeries(name=f"s{seed}", values=tuple((4.0 * n, 4.0 * n + 4, float(v)) for n, v in enumerate(values)))


def test_a_series_is_measured() -> None:
    (series,) = measure_rule([recorded(1, 5000)], parameters=PARAMETERS, drops_points=DROPS).series
    assert (series.name, series.count, series.segment_seconds, series.seconds) == ("s1", 5000, 4.0, 20_000.0)
    assert (series.level, series.deviation) == (pytest.approx(70, abs=0.3), pytest.approx(3, abs=0.2))
    assert series.alert_count == 0


def test_calm_series_show_smaller_drops() -> None:
    calm, noisy = (
        measure_rule([recorded(1, 4000, deviation=deviation)], parameters=PARAMETERS, drops_points=DROPS).series[0]
        for deviation in (2.0, 6.0)
    )
    assert noisy.visible_drops[-1].points > 1.5 * calm.visible_drops[-1].points


def test_larger_drops_are_seen_in_more_series_and_sooner() -> None:
    series = [recorded(seed, 4000, 0.3, deviation=1.0 + seed) for seed in range(6)]
    drops = measure_rule(series, parameters=PARAMETERS, drops_points=DROPS).drops
    assert [drop.drop_points for drop in drops] == list(DROPS)
    shares = [drop.seen_share for drop in drops]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1], drops[0].seconds) == (0.0, 1.0, None)
    assert drops[-1].seconds is not None
    assert drops[-1].seconds <= 40


def test_a_drop_that_lasts_is_one_alert() -> None:
    values = recorded(2, 4000).values
    low = tuple((start, end, value - 12 * (2000 <= n < 2600)) for n, (start, end, value) in enumerate(values))
    report = measure_rule([RecordedSeries(name="s", values=low)], parameters=PARAMETERS, drops_points=DROPS)
    assert report.series[0].alert_count == 1
    assert report.alerts_per_day == pytest.approx(1 / report.stream_days)


def test_a_young_series_has_no_limits() -> None:
    (series,) = measure_rule([recorded(1, 300)], parameters=PARAMETERS, drops_points=DROPS).series
    assert series.visible_drops == ()
    assert series.delays == (None,) * 5


def test_a_few_minutes_of_scores_are_too_little() -> None:
    short = replace(recorded(1, 300), values=recorded(1, 300).values[:100])
    with pytest.raises(ValueError, match="240"):
        measure_rule([short], parameters=PARAMETERS, drops_points=DROPS)
