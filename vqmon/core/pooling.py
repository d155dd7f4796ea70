"""Frame values become one number per segment."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from vqmon.core.types import SignalSummary

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


def summarize(values: Sequence[float]) -> SignalSummary:
    """Put one signal's frame values together."""
    return SignalSummary(
        mean=round(pool("mean", values), 4),
        max=round(max(values), 4),
        frame_values=tuple(round(float(value), 4) for value in values),
    )
