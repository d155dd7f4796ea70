"""Noise like that of series of scores, and charts that are fed with it."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vqmon.core.alerts.conditions.chart import ChartParameters
from vqmon.core.alerts.regression.control_chart import ControlChart, update_chart

PARAMETERS = ChartParameters(block_seconds=400.0, false_alarm_days=5.0)
"""Blocks of 100 segments: averages of 12 and 36 are used."""


def ar1(seed: int, count: int, phi: float, *, tails: float = 0.0, deviation: float = 3.0) -> NDArray[np.float64]:
    """AR(1) noise of this deviation around 70; innovations normal, or t with `tails` degrees of freedom."""
    random = np.random.default_rng(seed)
    steps = random.standard_t(tails, count) / math.sqrt(tails / (tails - 2)) if tails else random.normal(size=count)
    values = np.empty(count)
    last = random.normal()
    for n, step in enumerate(steps * math.sqrt(1 - phi * phi)):
        last = values[n] = phi * last + step
    return 70 + deviation * values


def run(
    chart: ControlChart,
    values: NDArray[np.float64] | Sequence[float],
    *,
    start: float = 1000.0,
    parameters: ChartParameters = PARAMETERS,
) -> list[ControlChart]:
    """The chart after each value, of consecutive 4-second segments."""
    charts = []
    for n, value in enumerate(values):
        at = start + 4.0 * n
        chart = update_chart(chart, float(value), parameters, starts_at=at, ends_at=at + 4.0, impact_minutes=0.1)
        charts.append(chart)
    return charts
