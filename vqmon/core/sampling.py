"""Which moments of a segment we look at, and which frames make the clips that begin there."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vqmon.core.frames import ClipSampling

GAP_SECONDS = 1.0
"""Frames of a clip that are further apart than this have something missing between them."""


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


def clip_indices(times_seconds: Sequence[float], starts: Sequence[int], clip: ClipSampling) -> NDArray[np.int64]:
    """(starts, frames): the frames of the clip that begins at each of `starts`, all counted in the order of the times.

    The segment's last frame is repeated where the segment ends before the clip, as the published code of RQ-VQA
    completes its last clips; the frame before a gap of more than `GAP_SECONDS` is repeated likewise. Frames are
    counted, not timed: of a variable rate come those that there are, and clips may overlap.

    >>> clip_indices([0.0, 0.5, 1.0, 1.5, 9.0], [0, 2], ClipSampling(frames=3)).tolist()
    [[0, 1, 2], [2, 3, 3]]
    """
    found = np.empty((len(starts), clip.frames), dtype=np.int64)
    for row, start in enumerate(starts):
        at = start
        for slot in range(clip.frames):
            found[row, slot] = at
            after = at + clip.stride
            if after >= len(times_seconds) or times_seconds[after] - times_seconds[at] > GAP_SECONDS:
                found[row, slot:] = at
                break
            at = after
    return found
