"""The charts of the bench, many in numpy, against the product's, one after the other."""

import numpy as np
import pytest

from bench.alerts.many_charts import ManyCharts
from bench.alerts.series_shapes import scores_of
from vqmon.core.alerts.conditions.chart import ChartParameters
from vqmon.core.alerts.regression.change_point import detected_drop
from vqmon.core.alerts.regression.control_chart import (
    EMPTY_CHART,
    chart_at_closing,
    chart_at_opening,
    has_recovered,
    update_chart,
    update_while_open,
)

PARAMETERS = ChartParameters(block_seconds=400.0, false_alarm_days=0.2, delta_min=2.0)


@pytest.mark.parametrize("name", ["white, normal", "white, t4", "AR(.9) + sampling phase", "spikes", "two levels"])
def test_both_open_the_same_alerts_with_the_same_intervals(name: str) -> None:
    scores = scores_of(name, np.random.default_rng(3), 1800, 3)
    scores[1200:1260] -= 25.0
    many, opened = ManyCharts(parameters=PARAMETERS), []
    for index, row in enumerate(scores):
        alerts = many.step(row)
        if alerts:
            opened += [
                (index, int(one), *map(float, figures))
                for one, *figures in zip(alerts.series, alerts.points, alerts.low, alerts.high, strict=True)
            ]
    expected = sorted(alert for column in range(3) for alert in alerts_of(scores[:, column], column))
    assert len(expected) >= 3
    assert [alert[:2] for alert in opened] == [alert[:2] for alert in expected]
    assert np.array(opened) == pytest.approx(np.array(expected), abs=0.01)


def alerts_of(scores: np.ndarray, column: int) -> list[tuple[float, ...]]:
    chart, is_open, opened_at, alerts = EMPTY_CHART, False, 0, []
    for index, value in enumerate(scores.tolist()):
        times = {"starts_at": 4.0 * index, "ends_at": 4.0 * index + 4.0}
        if is_open:
            chart = update_while_open(chart, value, PARAMETERS, **times)
            if has_recovered(chart) and index - opened_at >= 30:
                chart, is_open = chart_at_closing(chart, closed_at=0.0), False
            else:
                continue
        else:
            chart = update_chart(chart, value, PARAMETERS, **times)
        drop = detected_drop(chart, delta_min=PARAMETERS.delta_min, min_impact_minutes=0.0)
        if drop is not None:
            chart = chart_at_opening(chart, drop.average_index, drop=drop.points, flap_seconds=0.0, at=times["ends_at"])
            is_open, opened_at = True, index
            alerts.append((index, column, drop.points, drop.low, drop.high))
    return alerts
