"""Linear filters in numpy: separable kernels as blocks of matrix products, and box downsampling."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vqmon.media.measures.measure import Plane

_BLOCK = 64


@lru_cache(maxsize=32)
def gaussian_taps(count: int, sigma: float) -> tuple[float, ...]:
    """`count` samples of a Gaussian around the middle, with sum 1."""
    offsets = np.arange(count) - (count - 1) / 2
    taps = np.exp(-(offsets**2) / (2 * sigma**2))
    return tuple(float(tap) for tap in taps / taps.sum())


def correlate_separable(plane: Plane, rows: Sequence[float], columns: Sequence[float]) -> Plane:
    """Correlation with the outer product of `rows` (down) and `columns` (across), where the kernel fits (`valid`)."""
    return _correlate_across(_correlate_down(plane, tuple(rows)), tuple(columns))


def _correlate_down(plane: Plane, taps: tuple[float, ...]) -> Plane:
    height = plane.shape[0] - len(taps) + 1
    result = np.empty((height, plane.shape[1]), plane.dtype)
    for start in range(0, height, _BLOCK):
        count = min(_BLOCK, height - start)
        band = _band(taps, count, plane.dtype.str)
        np.matmul(band, plane[start : start + count + len(taps) - 1], out=result[start : start + count])
    return result


def _correlate_across(plane: Plane, taps: tuple[float, ...]) -> Plane:
    width = plane.shape[1] - len(taps) + 1
    result = np.empty((plane.shape[0], width), plane.dtype)
    for start in range(0, width, _BLOCK):
        count = min(_BLOCK, width - start)
        band = _band(taps, count, plane.dtype.str)
        np.matmul(plane[:, start : start + count + len(taps) - 1], band.T, out=result[:, start : start + count])
    return result


@lru_cache(maxsize=256)
def _band(taps: tuple[float, ...], count: int, dtype: str) -> NDArray[np.float32]:
    """(count, count + taps - 1): the taps along the diagonal; a product with it is a correlation."""
    band = np.zeros((count, count + len(taps) - 1), np.dtype(dtype))
    for row in range(count):
        band[row, row : row + len(taps)] = taps
    return band


def halve(plane: Plane) -> Plane:
    """Means of 2 x 2 pixels; an odd last row or column is paired with itself (mirrored border)."""
    height, width = plane.shape
    if height % 2 or width % 2:
        plane = np.pad(plane, ((0, height % 2), (0, width % 2)), mode="edge")
    down = plane[0::2] + plane[1::2]
    return np.multiply(down[:, 0::2] + down[:, 1::2], np.float32(0.25), dtype=plane.dtype)
