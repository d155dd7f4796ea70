"""A picture padded to a square and made to size as Q-Align's authors do it, to the bit of what Pillow gives.

The padding comes first, so that it bleeds into the picture's border. The arithmetic is that of Pillow's
`Image.resize(..., BICUBIC)` (`src/libImaging/Resample.c`): a cubic of a = -0.5, widened where the picture gets smaller,
weights as whole numbers of 2**-22, columns first, rounded to 8 bits between the two passes.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vqmon.core.types import Pixels

_UNIT = 2**22
_REACH = 2.0
_BLOCK = 32
"""Lines that are made at once: of all lines of the source they look at a few."""


def to_square(picture: Pixels, *, side: int, pad_rgb: tuple[int, int, int]) -> Pixels:
    """A picture (height, width, 3) as (side, side, 3)."""
    longest = max(picture.shape[:2])
    # What is above and below is the same before and after the columns are made.
    columns = _made(_padded(picture.swapaxes(0, 1), longest, pad_rgb), side).swapaxes(0, 1)
    return _made(_padded(columns, longest, pad_rgb), side)


def _padded(lines: Pixels, count: int, pad_rgb: tuple[int, int, int]) -> Pixels:
    """As many lines as `count`, those given in the middle."""
    whole = np.empty((count, *lines.shape[1:]), np.uint8)
    first = (count - len(lines)) // 2
    whole[:first] = whole[first + len(lines) :] = np.asarray(pad_rgb, np.uint8)
    whole[first : first + len(lines)] = lines
    return whole


def _made(lines: Pixels, count: int) -> Pixels:
    """Another number of lines."""
    if len(lines) == count:
        return lines
    found = np.empty((count, *lines.shape[1:]), np.uint8)
    for first in range(0, count, _BLOCK):
        low, weights = _weights(len(lines), count, first)
        some = lines[low : low + weights.shape[1]]
        # whole numbers far below 2**53: the products are exact
        sums = weights @ some.reshape(len(some), -1).astype(np.float64)
        made = np.clip(np.floor(sums / _UNIT + 0.5), 0, 255)
        found[first : first + _BLOCK] = made.reshape(-1, *lines.shape[1:])
    return found


@lru_cache(maxsize=64)
def _weights(taken: int, count: int, first: int) -> tuple[int, NDArray[np.float64]]:
    """The first line that a block of lines looks at, and what each of them takes of it and those after it."""
    scale = taken / count
    wide = max(scale, 1.0)
    spans = []
    for at in range(first, min(first + _BLOCK, count)):
        centre = (at + 0.5) * scale
        low, high = max(0, int(centre - _REACH * wide + 0.5)), min(taken, int(centre + _REACH * wide + 0.5))
        raw = [_cubic((line - centre + 0.5) / wide) for line in range(low, high)]
        spans.append((low, [weight / sum(raw) * _UNIT for weight in raw]))
    start, end = spans[0][0], spans[-1][0] + len(spans[-1][1])
    table = np.zeros((len(spans), end - start))
    for row, (low, weights) in enumerate(spans):
        table[row, low - start : low - start + len(weights)] = [math.trunc(w + math.copysign(0.5, w)) for w in weights]
    return start, table


def _cubic(x: float) -> float:
    x = abs(x)
    if x < 1:
        return (1.5 * x - 2.5) * x * x + 1
    return (((x - 5) * x + 8) * x - 4) * -0.5 if x < 2 else 0.0
