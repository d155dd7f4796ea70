"""Padding of a picture to a square and bicubic resizing, bit-exact with Pillow, as Q-Align's authors prepare pictures.

The picture is padded first, so the padding bleeds into its border. The arithmetic is that of Pillow's
`Image.resize(..., BICUBIC)` (`src/libImaging/Resample.c`): a cubic kernel with a = -0.5, widened for reduction,
fixed-point weights in units of 2**-22, columns first, rounded to 8 bits between the two passes. Pillow itself is not
used: one function does not justify another compiled library with image parsers of its own in the sandboxed decoder.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vqmon.core.types import Pixels

_WEIGHT_UNIT = 2**22
_KERNEL_RADIUS = 2.0
_BLOCK = 32
"""Rows that are computed at once; a block depends on few rows of the source."""


def pad_and_resize_to_square(picture: Pixels, *, side: int, pad_rgb: tuple[int, int, int]) -> Pixels:
    """Bring a picture (height, width, 3) to (side, side, 3), padded evenly on both sides of the shorter dimension."""
    longest = max(picture.shape[:2])
    # The columns are resized before the rows are padded: padding rows are the same before and after that.
    columns = _resize_rows(_pad_rows(picture.swapaxes(0, 1), longest, pad_rgb), side).swapaxes(0, 1)
    return _resize_rows(_pad_rows(columns, longest, pad_rgb), side)


def _pad_rows(rows: Pixels, count: int, pad_rgb: tuple[int, int, int]) -> Pixels:
    """`count` rows with the given ones in the middle."""
    padded = np.empty((count, *rows.shape[1:]), np.uint8)
    first = (count - len(rows)) // 2
    padded[:first] = padded[first + len(rows) :] = np.asarray(pad_rgb, np.uint8)
    padded[first : first + len(rows)] = rows
    return padded


def _resize_rows(rows: Pixels, count: int) -> Pixels:
    """Resample along the first axis to `count` rows."""
    if len(rows) == count:
        return rows
    resized = np.empty((count, *rows.shape[1:]), np.uint8)
    for first in range(0, count, _BLOCK):
        start, weights = _block_weights(len(rows), count, first)
        support = rows[start : start + weights.shape[1]]
        # whole numbers far below 2**53: the products are exact
        sums = weights @ support.reshape(len(support), -1).astype(np.float64)
        block = np.clip(np.floor(sums / _WEIGHT_UNIT + 0.5), 0, 255)
        resized[first : first + _BLOCK] = block.reshape(-1, *rows.shape[1:])
    return resized


@lru_cache(maxsize=64)
def _block_weights(source_count: int, count: int, first: int) -> tuple[int, NDArray[np.float64]]:
    """The first source row that a block of rows depends on, and the weights (rows, source rows from there on)."""
    scale = source_count / count
    stretch = max(scale, 1.0)
    spans = []
    for row in range(first, min(first + _BLOCK, count)):
        centre = (row + 0.5) * scale
        low = max(0, int(centre - _KERNEL_RADIUS * stretch + 0.5))
        high = min(source_count, int(centre + _KERNEL_RADIUS * stretch + 0.5))
        raw = [_cubic((source_row - centre + 0.5) / stretch) for source_row in range(low, high)]
        spans.append((low, [weight / sum(raw) * _WEIGHT_UNIT for weight in raw]))
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
