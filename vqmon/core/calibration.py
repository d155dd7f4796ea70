"""Calibration: maps a scorer's native values to the common scale of 0 to 100."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A monotone, piecewise linear map through (native, 0..100) points; constant beyond its first and last point."""

    version: int
    points: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        natives = [native for native, _ in self.points]
        scores = [score for _, score in self.points]
        if len(natives) < 2 or sorted(set(natives)) != natives:
            raise ValueError("a calibration needs two or more points with rising native values")
        if not all(0 <= score <= 100 for score in scores):
            raise ValueError("calibrated values must be within 0..100")
        if scores != sorted(scores) and scores != sorted(scores, reverse=True):
            raise ValueError("calibrated values must be monotone")

    def apply(self, native: float) -> float:
        """The 0..100 score of a native value.

        >>> Calibration(version=1, points=((1.0, 0.0), (5.0, 100.0))).apply(3.0)
        50.0
        """
        natives, scores = zip(*self.points, strict=True)
        return float(np.interp(native, natives, scores))
