"""What can be said of a value before anything is known of its distribution: its rank among those before it."""

import math
from collections.abc import Sequence

import numpy as np

CLIP_SPREADS = 3.0


def rank_residual(values: Sequence[float]) -> float:
    """How low the last value is, by the sequential rank of its residual: mean 0, variance about 1 when nothing changes.

    Ranks are those of residuals after the lag-1 correlation of the values, which is taken larger by its standard error
    as too little whitening raises false alarms. Ranks need no distribution (Lombard and Van Zyl, Technologies 7 (2019)
    71); the answer lies within +-sqrt(3).
    """
    series = np.asarray(values)
    count = len(series) - 1
    away = series - np.partition(series, count // 2)[count // 2]
    size = np.abs(away)
    bound = CLIP_SPREADS * 1.4826 * float(np.partition(size, count // 2)[count // 2])
    clipped = np.clip(away, -bound, bound)
    square = float(clipped @ clipped)
    if square <= 0.0:
        return 0.0 if away[-1] >= 0.0 else math.sqrt(3.0) * (count - 1) / (count + 1)
    memory = float(clipped[1:] @ clipped[:-1]) / square + 1.0 / math.sqrt(count)
    residuals = away[1:] - min(max(memory, 0.0), 0.95) * away[:-1]
    last = residuals[-1]
    below = float(np.count_nonzero(residuals < last))
    equal = float(np.count_nonzero(residuals == last))
    rank = below + (equal + 1.0) / 2.0
    return math.sqrt(12.0) * (0.5 - (rank - 0.5) / count)
