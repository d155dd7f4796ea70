"""How evenly the picture moves from frame to frame: judder, repeated frames and jumps.

All come from the mean absolute differences of consecutive frames at native rate, in levels; a stretch of frames without
a gap and without a change of scene counts when it has at least `_MIN_STEPS` differences and moves, which is when the
median of the differences that are no repeats is at least `_MOVING_LEVELS`. A still picture has neither judder nor
repeats: it is frozen.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_MIN_STEPS = 5
_MOVING_LEVELS = 1.0
_REPEAT_SHARE = 0.2
_REPEAT_LEVELS = 0.8
# a jump begins at so many times the median of the other steps, and is complete at so many
_JUMP_FROM, _JUMP_TO = 1.75, 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cadence:
    """Values from 0 to 1 about some consecutive frames.

    `judder` is the mean change of the difference from one step to the next over the sum of both: 0 for even movement,
    0.25 for 24 frames shown as 30 by repeating, 1 when every second frame is a repeat. `repeated_frames` is the share
    of the steps that show the frame before once more. `jumps` is 0 while no step is more than 1.75 times the median of
    the steps, and 1 from 4 times on.
    """

    judder: float
    repeated_frames: float
    jumps: float


def measure_cadence(differences: Sequence[float]) -> Cadence | None:
    """The cadence of one stretch, from the differences of its consecutive frames in levels.

    None when it is too short, or when it does not move.

    >>> measure_cadence([0, 4, 0, 4, 0, 4])
    Cadence(judder=1.0, repeated_frames=0.5, jumps=0.0)
    """
    steps = np.asarray(differences, np.float64)
    if len(steps) < _MIN_STEPS:
        return None
    usual = float(np.median(steps[steps > _REPEAT_LEVELS])) if (steps > _REPEAT_LEVELS).any() else 0.0
    is_repeat = (steps <= _REPEAT_LEVELS) & (steps <= _REPEAT_SHARE * usual)
    if usual < _MOVING_LEVELS or (~is_repeat).sum() < 3:
        return None
    changes, sums = np.abs(np.diff(steps)), steps[1:] + steps[:-1]
    largest = float(steps.max()) / usual
    return Cadence(
        judder=float(changes.sum() / sums.sum()),
        repeated_frames=float(is_repeat.mean()),
        jumps=float(np.clip((largest - _JUMP_FROM) / (_JUMP_TO - _JUMP_FROM), 0, 1)),
    )
