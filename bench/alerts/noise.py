"""Noise of one series at a time, and the drift detectors of river on series of any shape."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from river.drift import ADWIN, PageHinkley

from bench.alerts.series_shapes import DAY
from bench.alerts.series_shapes import SHAPES as SERIES_SHAPES

LEVEL = 70.0
DEVIATION = 3.75
"""Points; 0.15 MOS."""

SHAPES = tuple((phi, tail) for phi in (0.0, 0.3, 0.6, 0.8) for tail in ("normal", "t4"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Noise of a series: lag-1 correlation, and innovations that are normal or t with 4 degrees of freedom."""

    phi: float
    tail: str

    def values(self, chance: np.random.Generator, count: int) -> list[float]:
        """So many scores of a series without a fault."""
        steps = chance.standard_t(4, count) / math.sqrt(2) if self.tail == "t4" else chance.normal(size=count)
        last, phi, values = float(chance.normal()), self.phi, []
        for step in (steps * math.sqrt(1 - phi**2)).tolist():
            last = phi * last + step
            values.append(LEVEL + DEVIATION * last)
        return values


def river() -> bool:
    """False alarms of river's ADWIN and Page-Hinkley with their defaults on every shape, on z-scores of a first day."""
    print(f"{'alarms per stream-day of one day after the first':45} ADWIN  Page-Hinkley")
    for name, shape in SERIES_SHAPES.items():
        scores = shape(np.random.default_rng([31, *name.encode()]), 2 * DAY, 1)[:, 0]
        counts = [_alarms(make, scores) for make in (ADWIN, lambda: PageHinkley(mode="down"))]
        print(f"{name:45} {counts[0]:5}  {counts[1]:5}", flush=True)
    return True


def _alarms(make: Callable[[], ADWIN | PageHinkley], scores: NDArray[np.float64]) -> int:
    mean, deviation = np.nanmean(scores[:DAY]), max(float(np.nanstd(scores[:DAY])), 0.05)
    detector, count = make(), 0
    for z in ((scores[DAY:] - mean) / deviation).tolist():
        if math.isnan(z):
            continue
        detector.update(z)
        if detector.drift_detected:
            detector, count = make(), count + 1
    return count
