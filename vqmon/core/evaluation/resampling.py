"""The bootstrap: resamples of items, or of whole contents, and intervals of statistics from their resampled values.

Intervals are normal with a correction of the bias (Davison and Hinkley, "Bootstrap methods and their application",
1997, section 5.2), on a scale on which the statistic is about normal: Fisher's z of a correlation, the logarithm of an
error, the logit of a share.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vqmon.core.evaluation.results import STATISTICS, Estimate
from vqmon.core.experiments.stats.distributions import normal_cdf, normal_quantile, t_quantile

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

_MAX_CHUNK_ITEMS = 400_000
"""Items that are resampled at a time: bounds the memory."""
_MIN_CONTENTS = 10
"""With fewer contents, items are resampled: intervals from so few contents cover too little."""
_EDGE = 1e-12
_MIN_DRAWS = 20
_TAIL = 0.1
_LOGISTIC_PARAMETERS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scale:
    forward: Callable[[Floats], Floats]
    backward: Callable[[Floats], Floats]


def _logit(share: Floats) -> Floats:
    clipped = np.clip(share, _EDGE, 1 - _EDGE)
    return np.asarray(np.log(clipped / (1 - clipped)))


_CORRELATION = _Scale(forward=lambda r: np.arctanh(np.clip(r, _EDGE - 1, 1 - _EDGE)), backward=np.tanh)
_SCALES: Mapping[str, _Scale] = {
    "srcc": _CORRELATION,
    "plcc": _CORRELATION,
    "krcc": _CORRELATION,
    "rmse": _Scale(forward=lambda error: np.log(np.maximum(error, _EDGE)), backward=np.exp),
    "pairwise_accuracy": _Scale(forward=_logit, backward=lambda z: 1 / (1 + np.exp(-z))),
}
assert set(_SCALES) == set(STATISTICS)


def resample(count: int, *, contents: Sequence[str], draws: int, rng: np.random.Generator) -> Iterator[Indices]:
    """Chunks (rows, items) of indices of resampled items; `draws` rows in all.

    `contents` names the content of each item, or is empty. With _MIN_CONTENTS contents or more, whole contents are
    resampled, because the items of one content are not independent.
    """
    members = _members(contents)
    if not resampled_contents(contents):
        rows = max(1, _MAX_CHUNK_ITEMS // count)
        for first in range(0, draws, rows):
            yield rng.integers(0, count, (min(rows, draws - first), count))
        return
    sizes = {len(content) for content in members}
    rows = max(1, _MAX_CHUNK_ITEMS // count) if len(sizes) == 1 else 1
    for first in range(0, draws, rows):
        drawn = rng.integers(0, len(members), (min(rows, draws - first), len(members)))
        yield np.stack([np.concatenate([members[content] for content in row]) for row in drawn])


def resampled_contents(contents: Sequence[str]) -> int:
    """How many contents are resampled as a whole; 0 when the items are resampled one by one."""
    count = len(set(contents))
    return count if _MIN_CONTENTS <= count < len(contents) else 0


def _members(contents: Sequence[str]) -> list[Indices]:
    """The indices of the items of each content."""
    if not contents:
        return []
    names, inverse = np.unique(np.asarray(contents), return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    return np.split(order, np.cumsum(np.bincount(inverse, minlength=len(names)))[:-1])


def estimate(statistic: str, value: float, draws: Floats, *, units: int, level: float = 0.95) -> Estimate:
    """The value of a statistic with its bootstrap interval; without an interval when too few draws are finite.

    `units` is the number of items, contents or groups that were resampled: with few of them, the interval is wider by
    the t distribution with `units` - 4 degrees of freedom, for the four parameters of the logistic.
    """
    if not np.isfinite(value):
        return Estimate(value=None, low=None, high=None)
    finite = draws[np.isfinite(draws)]
    if len(finite) < _MIN_DRAWS:
        return Estimate(value=float(value), low=None, high=None)
    scale = _SCALES[statistic]
    at, resampled = scale.forward(np.asarray(value)), scale.forward(finite)
    # From quantiles: on these scales a few resamples with a perfect correlation would spoil mean and deviation.
    low_tail, median, high_tail = np.quantile(resampled, [_TAIL, 0.5, 1 - _TAIL])
    deviation = (high_tail - low_tail) / (2 * normal_quantile(1 - _TAIL))
    half_width = t_quantile(0.5 + level / 2, max(1, units - _LOGISTIC_PARAMETERS)) * deviation
    middle = 2 * at - median
    low, high = (float(scale.backward(np.asarray(bound))) for bound in (middle - half_width, middle + half_width))
    return Estimate(value=float(value), low=min(low, float(value)), high=max(high, float(value)))


def difference(value: float, draws: Floats, *, level: float = 0.95) -> tuple[Estimate, float | None]:
    """A difference of two statistics with its bootstrap interval, and the two-sided p-value of no difference."""
    finite = draws[np.isfinite(draws)]
    if not np.isfinite(value) or len(finite) < _MIN_DRAWS:
        return Estimate(value=float(value) if np.isfinite(value) else None, low=None, high=None), None
    deviation = float(finite.std(ddof=1))
    middle = 2 * value - float(finite.mean())
    half_width = normal_quantile(0.5 + level / 2) * deviation
    interval = Estimate(value=float(value), low=min(middle - half_width, value), high=max(middle + half_width, value))
    if deviation == 0:
        return interval, 1.0 if middle == 0 else 0.0
    return interval, min(1.0, 2 * normal_cdf(-abs(middle) / deviation))
