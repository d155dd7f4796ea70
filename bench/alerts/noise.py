"""Noise as series of scores have it, and the detectors that a chart is held against, all behind one call."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray
from river.drift import ADWIN, PageHinkley

from vqmon.core.alerts.conditions.chart import ChartParameters
from vqmon.core.alerts.regression.cusum import (
    EMPTY_CHART,
    ControlChart,
    is_alarm,
    update_chart,
    without_evidence,
)

SEGMENT_SECONDS = 4.0
DAY = 21_600
"""Segments of a stream-day."""

LEVEL = 70.0
DEVIATION = 3.75
"""Points; 0.15 MOS."""

SHAPES = tuple((phi, tail) for phi in (0.0, 0.3, 0.6, 0.8) for tail in ("normal", "t4"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Noise of a series: lag-1 correlation, and innovations that are normal or t with 4 degrees of freedom."""

    phi: float
    tail: str

    def steps(self, chance: np.random.Generator, count: int) -> NDArray[np.float64]:
        """Innovations of a series of variance 1."""
        drawn = chance.standard_t(4, count) / math.sqrt(2) if self.tail == "t4" else chance.normal(size=count)
        return drawn * math.sqrt(1 - self.phi**2)

    def values(self, chance: np.random.Generator, count: int) -> list[float]:
        """So many scores of a series without a fault."""
        last, phi, values = float(chance.normal()), self.phi, []
        for step in self.steps(chance, count).tolist():
            last = phi * last + step
            values.append(LEVEL + DEVIATION * last)
        return values


Feed = Callable[[list[float]], Iterator[int]]
"""Takes the scores that follow; gives the places at which it alarms, each alarm starting it anew."""


class OurChart:
    """The product's chart; can be forked, as it is a value."""

    name = "vqmon"

    def __init__(self, parameters: ChartParameters, chart: ControlChart = EMPTY_CHART, at: float = 1e6) -> None:
        self.parameters, self.chart, self.at = parameters, chart, at

    def feed(self, values: list[float]) -> Iterator[int]:
        chart, at, parameters = self.chart, self.at, self.parameters
        for index, value in enumerate(values):
            chart = update_chart(chart, value, parameters, starts_at=at, ends_at=at + SEGMENT_SECONDS)
            at += SEGMENT_SECONDS
            self.chart, self.at = chart, at
            if is_alarm(chart.cusum, parameters):
                self.chart = chart = without_evidence(chart)
                yield index

    def fork(self) -> "OurChart":
        return OurChart(self.parameters, self.chart, self.at)


class Threshold:
    """The plain rule: `run` values in a row lower than 2 deviations under the mean of the baseline."""

    name = "threshold 2 s.d., 5 in a row"

    def __init__(self, baseline: list[float], run: int = 5) -> None:
        self.limit = float(np.mean(baseline) - 2 * np.std(baseline))
        self.run, self.count = run, 0

    def feed(self, values: list[float]) -> Iterator[int]:
        for index, value in enumerate(values):
            self.count = self.count + 1 if value < self.limit else 0
            if self.count >= self.run:
                self.count = 0
                yield index

    def fork(self) -> "Threshold":
        twin = Threshold([0.0], self.run)
        twin.limit = self.limit
        return twin


class River:
    """A drift detector of river with its defaults, on z-scores of the baseline; up and down alike, as it is made."""

    def __init__(self, name: str, make: Callable[[], ADWIN | PageHinkley], baseline: list[float]) -> None:
        self.name, self.make = name, make
        self.mean, self.deviation = float(np.mean(baseline)), float(np.std(baseline)) or 1.0
        self.detector = make()

    def feed(self, values: list[float]) -> Iterator[int]:
        for index, value in enumerate(values):
            self.detector.update((value - self.mean) / self.deviation)
            if self.detector.drift_detected:
                self.detector = self.make()
                yield index

    def fork(self) -> "River":
        twin = River(self.name, self.make, [self.mean - self.deviation, self.mean + self.deviation])
        return twin


Detector = OurChart | Threshold | River


def detectors(baseline: list[float], parameters: ChartParameters) -> list[Detector]:
    """The product's chart that has seen the baseline, and the others with what they ask of it."""
    chart = OurChart(parameters)
    for _ in chart.feed(baseline):
        pass
    return [
        chart,
        Threshold(baseline),
        River("river ADWIN", ADWIN, baseline),
        River("river Page-Hinkley", lambda: PageHinkley(mode="down"), baseline),
    ]


def delay(detector: Detector, shape: Shape, chance: np.random.Generator, *, drop: float, longest: int) -> int:
    """Segments from a drop of so many deviations to the alarm, after some usual ones; `longest` when not seen."""
    twin = detector.fork()
    before = shape.values(chance, 96)
    last = (before[-1] - LEVEL) / DEVIATION
    values = []
    for step in shape.steps(chance, longest).tolist():
        last = shape.phi * last + step
        values.append(LEVEL + DEVIATION * (last - drop))
    for _ in twin.feed(before):
        # A false alarm before the drop starts it anew.
        continue
    return next((index + 1 for index in twin.feed(values)), longest)


def middle(delays: list[int]) -> float:
    return median(delays)


def p95(delays: list[int]) -> float:
    return float(np.quantile(delays, 0.95))
