"""Resizing, bit-exact with Pillow, as the authors of scorers and learned measures prepare pictures.

Q-Align pads to a square and resizes with the bicubic kernel; the picture is padded first, so the padding bleeds into
its border. DISTS resizes with the bilinear kernel. The arithmetic is that of Pillow's `Image.resize`
(`src/libImaging/Resample.c`): a kernel (bicubic: a = -0.5) widened for reduction, fixed-point weights in units of
2**-22, columns first, rounded to 8 bits between the two passes. Pillow itself is not used: one function does not
justify another compiled library with image parsers of its own in the sandboxed decoder.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vqmon.core.types import Pixels

_WEIGHT_UNIT = 2**22
_BLOCK = 32
"""Rows that are computed at once; a block depends on few rows of the source."""


def _cubic(x: float) -> float:
    x = abs(x)
    if x < 1:
        return (1.5 * x - 2.5) * x * x + 1
    return (((x - 5) * x + 8) * x - 4) * -0.5 if x < 2 else 0.0


@dataclass(frozen=True, slots=True)
class _Kernel:
    radius: float
    weight: Callable[[float], float]


_BICUBIC = _Kernel(2.0, _cubic)
_BILINEAR = _Kernel(1.0, lambda x: max(0.0, 1 - abs(x)))


def pad_and_resize_to_square(picture: Pixels, *, side: int, pad_rgb: tuple[int, int, int]) -> Pixels:
    """Bring a picture (height, width, 3) to (side, side, 3), padded evenly on both sides of the shorter dimension."""
    longest = max(picture.shape[:2])
    # The columns are resized before the rows are padded: padding rows are the same before and after that.
    columns = _resize_rows(_pad_rows(picture.swapaxes(0, 1), longest, pad_rgb), side, _BICUBIC).swapaxes(0, 1)
    return _resize_rows(_pad_rows(columns, longest, pad_rgb), side, _BICUBIC)


def shrink_to_short_side(picture: Pixels, side: int) -> Pixels:
    """A picture (height, width, 3) whose shorter side is `side` px, bilinear; one that is no larger stays as it is.

    The longer side is rounded down, as by torchvision's `resize(picture, side)`.
    """
    height, width = picture.shape[:2]
    shortest = min(height, width)
    if shortest <= side:
        return picture
    columns = _resize_rows(picture.swapaxes(0, 1), side * width // shortest, _BILINEAR).swapaxes(0, 1)
    return _resize_rows(columns, side * height // shortest, _BILINEAR)


def _pad_rows(rows: Pixels, count: int, pad_rgb: tuple[int, int, int]) -> Pixels:
    """`count` rows with the given ones in the middle."""
    padded = np.empty((count, *rows.shape[1:]), np.uint8)
    first = (count - len(rows)) // 2
    padded[:first] = padded[first + len(rows) :] = np.asarray(pad_rgb, np.uint8)
    padded[first : first + len(rows)] = rows
    return padded


def _resize_rows(rows: Pixels, count: int, kernel: _Kernel) -> Pixels:
    """Resample along the first axis to `count` rows."""
    if len(rows) == count:
        return rows
    resized = np.empty((count, *rows.shape[1:]), np.uint8)
    for first in range(0, count, _BLOCK):
        start, weights = _block_weights(len(rows), count, first, kernel)
        support = rows[start : start + weights.shape[1]]
        # whole numbers far below 2**53: the products are exact
        sums = weights @ support.reshape(len(support), -1).astype(np.float64)
        block = np.clip(np.floor(sums / _WEIGHT_UNIT + 0.5), 0, 255)
        resized[first : first + _BLOCK] = block.reshape(-1, *rows.shape[1:])
    return resized


@lru_cache(maxsize=64)
def _block_weights(source_count: int, count: int, first: int, kernel: _Kernel) -> tuple[int, NDArray[np.float64]]:
    """The first source row that a block of rows depends on, and the weights (rows, source rows from there on)."""
    scale = source_count / count
    stretch = max(scale, 1.0)
    spans = []
    for row in range(first, min(first + _BLOCK, count)):
        centre = (row + 0.5) * scale
        low = max(0, int(centre - kernel.radius * stretch + 0.5))
        high = min(source_count, int(centre + kernel.radius * stretch + 0.5))
        raw = [kernel.weight((source_row - centre + 0.5) / stretch) for source_row in range(low, high)]
        spans.append((low, [weight / sum(raw) * _WEIGHT_UNIT for weight in raw]))
    start, end = spans[0][0], spans[-1][0] + len(spans[-1][1])
    table = np.zeros((len(spans), end - start))
    for row, (low, weights) in enumerate(spans):
        table[row, low - start : low - start + len(weights)] = [math.trunc(w + math.copysign(0.5, w)) for w in weights]
    return start, table
