"""What can be said of a value before anything is known of its distribution: its rank among those before it."""

import math
from collections.abc import Sequence

import numpy as np

CLIP_SPREADS = 3.0


def rank_residual(values: Sequence[float], settled: int) -> float:
    """How low the last value is, by the rank of its residual: mean 0, variance about 1 when nothing changes.

    It is ranked among the first `settled` values, those before what may be a change, at least three. Ranks are those of
    residuals after the lag-1 correlation of these values, which is taken larger by its standard error as too little
    whitening raises false alarms. Ranks need no distribution (Lombard and Van Zyl, Technologies 7 (2019) 71); the
    answer lies within +-sqrt(3).
    """
    known = np.asarray(values[:settled])
    level = float(np.partition(known, settled // 2)[settled // 2])
    away = known - level
    bound = CLIP_SPREADS * 1.4826 * float(np.partition(np.abs(away), settled // 2)[settled // 2])
    clipped = np.clip(away, -bound, bound)
    square = float(clipped @ clipped)
    memory = float(clipped[1:] @ clipped[:-1]) / square if square > 0.0 else 0.0
    memory = min(max(memory + 1.0 / math.sqrt(settled), 0.0), 0.95)
    residuals = away[1:] - memory * away[:-1]
    last = (values[-1] - level) - memory * (values[-2] - level)
    below = float(np.count_nonzero(residuals < last))
    equal = float(np.count_nonzero(residuals == last))
    return math.sqrt(12.0) * (0.5 - (below + (equal + 1.0) / 2.0) / (len(residuals) + 1.0))
