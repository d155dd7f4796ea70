"""What scorers say about a segment, who they are, and why a dear one was or was not asked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vqmon.core.frames import Sampling


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A monotone, piecewise linear map through (native, 0..100) points; ends are held beyond the last point."""

    version: int
    points: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        natives = [native for native, _ in self.points]
        scores = [score for _, score in self.points]
        if len(natives) < 2 or sorted(set(natives)) != natives:
            raise ValueError("calibration needs two or more points with rising native values")
        if not all(0 <= score <= 100 for score in scores):
            raise ValueError("calibrated values must be within 0..100")
        if scores != sorted(scores) and scores != sorted(scores, reverse=True):
            raise ValueError("calibrated values must rise or fall all along")

    def apply(self, native: float) -> float:
        """Map one native value to 0..100.

        >>> Calibration(version=1, points=((1.0, 0.0), (5.0, 100.0))).apply(3.0)
        50.0
        """
        natives, scores = zip(*self.points, strict=True)
        return float(np.interp(native, natives, scores))


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One Scorer's verdict on one Segment; 0..100, higher is better, `native_*` on the scorer's own scale."""

    # name@version, or name.task@version of a scorer that can be asked several things
    scorer: str
    value: float
    native_value: float
    p5: float
    min: float
    pooling: str
    # one per sampled frame; a clip that is judged as a whole has its value at each of its frames
    frame_values: tuple[float, ...]
    # level word -> probability, for scorers that answer in words; the mean over frames
    levels: Mapping[str, float] = field(default_factory=dict, hash=False)
    # of the levels, the mean over frames: 0 = sure of one level, 1 = all alike
    entropy: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalSummary:
    """One signal over a segment: 0..1, higher means more of what its name says."""

    mean: float
    max: float
    frame_values: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerIdentity:
    """Which scorer exactly, and where it ran."""

    scorer: str
    sha256: str
    preprocessing: str
    calibration_version: int
    device: str
    licence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What produced a verdict: enough to reproduce it."""

    scorers: tuple[ScorerIdentity, ...]
    sampling: Sampling
    # library name -> version; ffmpeg libraries included
    versions: Mapping[str, str]


PROMOTION_REASONS: dict[str, str] = {
    "sample": "chosen by its key, so that every look at it chooses the same",
    "label": "one of its labels is always looked at",
    "low": "the cheap score is under the limit",
    "drop": "the cheap score fell under the median of the segments before it",
}
"""Why the heavy scorers look at a segment, beside the cheap ones."""

PROMOTION_SKIP_REASONS: dict[str, str] = {
    "budget": "the device-seconds of this hour are used up",
    "failed": "a heavy scorer failed; the cheap verdict stands alone",
    "timeout": "a heavy scorer was not done in time; the cheap verdict stands alone",
}
"""Why they did not look, though there was a reason to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """Whether the heavy scorers looked at a segment too, and why; only said where heavy scorers are set."""

    # keys of PROMOTIONS; none = there was no reason to
    reasons: tuple[str, ...] = ()
    # a key of LEFT_OUT, empty when nothing was
    left_out: str = ""

    def __post_init__(self) -> None:
        if unknown := set(self.reasons) - set(PROMOTION_REASONS):
            raise ValueError(f"unknown reasons {sorted(unknown)}")
        if self.left_out and (self.left_out not in PROMOTION_SKIP_REASONS or not self.reasons):
            raise ValueError(f"unknown or without a reason to look: {self.left_out!r}")


Values = NDArray[np.float64]


def _harmonic(values: Values) -> float:
    """Harmonic mean on a scale shifted by one, as VMAF pools, so that zeros do not rule alone."""
    return float(len(values) / np.sum(1.0 / (np.clip(values, 0.0, None) + 1.0)) - 1.0)


POOLINGS: Mapping[str, Callable[[Values], float]] = {
    "mean": lambda values: float(values.mean()),
    "min": lambda values: float(values.min()),
    "p5": lambda values: float(np.percentile(values, 5)),
    "harmonic": _harmonic,
}


def pool(name: str, values: Sequence[float]) -> float:
    """Pool frame values by a name of `POOLINGS`; an unknown name or no value is a ValueError, never a guess."""
    if name not in POOLINGS:
        raise ValueError(f"unknown pooling {name!r}; known: {', '.join(sorted(POOLINGS))}")
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"cannot pool {array.size} values of which {int((~np.isfinite(array)).sum())} are not finite")
    return POOLINGS[name](array)


def summarize_signal(values: Sequence[float]) -> SignalSummary:
    """Put one signal's frame values together."""
    return SignalSummary(
        mean=round(pool("mean", values), 4),
        max=round(max(values), 4),
        frame_values=tuple(round(float(value), 4) for value in values),
    )
