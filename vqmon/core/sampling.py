"""Which moments of a segment we look at."""

from collections.abc import Sequence

import numpy as np


def sample_indices(times_seconds: Sequence[float], *, fps: float = 1.0) -> tuple[int, ...]:
    """Choose, for k = 0, 1, 2 ..., the first frame at or after (first frame's time + k / fps).

    `times_seconds` are the presentation times of all frames of a segment, rising. A frame chosen for two moments (a
    gap in the stream) is looked at once. Half a microsecond of tolerance absorbs time-base rounding. A segment of at
    least one frame gives at least one index.

    >>> sample_indices([10.0, 10.5, 11.0, 11.5, 12.0])
    (0, 2, 4)
    >>> sample_indices([0.0, 0.9, 2.5, 2.9])
    (0, 2)
    """
    if not len(times_seconds):
        return ()
    times = np.asarray(times_seconds, dtype=np.float64)
    moments = times[0] + np.arange(int((times[-1] - times[0]) * fps + 1e-6) + 1) / fps
    found = np.searchsorted(times, moments - 5e-7, side="left")
    return tuple(dict.fromkeys(int(index) for index in found if index < len(times)))
