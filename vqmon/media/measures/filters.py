"""Linear filters in numpy: separable kernels and resizing as blocks of matrix products, means, log-Gabor filters."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

_Float = TypeVar("_Float", np.float32, np.float64)
_BLOCK = 64
_STRIP_ROWS = 16


@lru_cache(maxsize=32)
def gaussian_taps(count: int, sigma: float) -> tuple[float, ...]:
    """`count` samples of a Gaussian around the middle, with sum 1."""
    offsets = np.arange(count) - (count - 1) / 2
    taps = np.exp(-(offsets**2) / (2 * sigma**2))
    return tuple(float(tap) for tap in taps / taps.sum())


@lru_cache(maxsize=8)
def gaussian_window(size: int, sigma: float) -> NDArray[np.float64]:
    """(size, size): a Gaussian with sum 1, to the last bit as `window / sum(sum(window))` of MATLAB's `fspecial`.

    MATLAB adds one term after another; numpy's `sum` adds pairwise, and the last bits of all weights are others.
    """
    offsets = [index - (size - 1) / 2 for index in range(size)]
    window = np.array([[math.exp(-(y * y + x * x) / (2 * sigma**2)) for x in offsets] for y in offsets])
    window /= np.cumsum(window.T)[-1]
    window /= np.cumsum(np.cumsum(window, axis=0)[-1])[-1]
    return window


def correlate_window(plane: NDArray[np.float64], window: NDArray[np.float64]) -> NDArray[np.float64]:
    """Correlation with a window where it fits (`valid`), to the last bit as `conv2` of GNU Octave adds it up.

    Slower than two passes. It is for measures in which the sign of rounding errors counts, as in flat regions.
    """
    rows, columns = (side - taps + 1 for side, taps in zip(plane.shape, window.shape, strict=True))
    result, term = np.zeros((rows, columns)), np.empty((_STRIP_ROWS, columns))
    # in strips, so that what is computed stays in the cache
    for top in range(0, rows, _STRIP_ROWS):
        strip = result[top : top + _STRIP_ROWS]
        for column in reversed(range(window.shape[1])):
            for row in reversed(range(window.shape[0])):
                shifted = plane[top + row : top + row + len(strip), column : column + columns]
                strip += np.multiply(shifted, window[row, column], out=term[: len(strip)])
    return result


def correlate_separable(plane: NDArray[_Float], rows: Sequence[float], columns: Sequence[float]) -> NDArray[_Float]:
    """Correlation with the outer product of `rows` (down) and `columns` (across), where the kernel fits (`valid`)."""
    return _correlate_across(_correlate_down(plane, tuple(rows)), tuple(columns))


def _correlate_down(plane: NDArray[_Float], taps: tuple[float, ...]) -> NDArray[_Float]:
    height = plane.shape[0] - len(taps) + 1
    result = np.empty((height, plane.shape[1]), plane.dtype)
    for start in range(0, height, _BLOCK):
        count = min(_BLOCK, height - start)
        band = _band(taps, count, plane.dtype.str)
        np.matmul(band, plane[start : start + count + len(taps) - 1], out=result[start : start + count])
    return result


def _correlate_across(plane: NDArray[_Float], taps: tuple[float, ...]) -> NDArray[_Float]:
    width = plane.shape[1] - len(taps) + 1
    result = np.empty((plane.shape[0], width), plane.dtype)
    for start in range(0, width, _BLOCK):
        count = min(_BLOCK, width - start)
        band = _band(taps, count, plane.dtype.str)
        np.matmul(plane[:, start : start + count + len(taps) - 1], band.T, out=result[:, start : start + count])
    return result


@lru_cache(maxsize=256)
def _band(taps: tuple[float, ...], count: int, dtype: str) -> NDArray[Any]:
    """(count, count + taps - 1): the taps along the diagonal; a product with it is a correlation."""
    band = np.zeros((count, count + len(taps) - 1), np.dtype(dtype))
    for row in range(count):
        band[row, row : row + len(taps)] = taps
    return band


def halve(plane: NDArray[_Float]) -> NDArray[_Float]:
    """Means of 2 x 2 pixels; an odd last row or column is paired with itself (mirrored border)."""
    height, width = plane.shape
    if height % 2 or width % 2:
        plane = np.pad(plane, ((0, height % 2), (0, width % 2)), mode="edge")
    down = plane[0::2] + plane[1::2]
    means: NDArray[_Float] = down[:, 0::2] + down[:, 1::2]
    means *= means.dtype.type(0.25)
    return means


def block_means(plane: NDArray[_Float], factor: int) -> NDArray[_Float]:
    """Means of `factor` x `factor` pixels, the picture being 0 beyond its borders.

    The first block begins (factor - 1) // 2 pixels before the picture, as when MATLAB's `conv2(..., 'same')` with an
    average filter is sampled at every `factor`-th pixel from the first one. Shape: sides divided and rounded up.
    """
    if factor == 1:
        return plane
    before = (factor - 1) // 2
    rows, columns = (-(-side // factor) for side in plane.shape)
    size = (rows * factor, columns * factor)
    padded = plane
    if before or plane.shape != size:
        padded = np.pad(plane, ((before, factor), (before, factor)))[: size[0], : size[1]]
    down = padded[0::factor].copy()
    for row in range(1, factor):
        down += padded[row::factor]
    means = down[:, 0::factor].copy()
    for column in range(1, factor):
        means += down[:, column::factor]
    means *= means.dtype.type(1 / factor**2)
    return means


def resize(plane: NDArray[_Float], *, height: int, width: int) -> NDArray[_Float]:
    """Resized as MATLAB's bilinear `imresize`: the kernel is widened when the picture shrinks, borders are mirrored."""
    plane = _apply_rows(
        _resize_weights(plane.shape[0], height, height / plane.shape[0], "bilinear", plane.dtype.str), plane
    )
    return _apply_rows(
        _resize_weights(plane.shape[1], width, width / plane.shape[1], "bilinear", plane.dtype.str), plane.T
    ).T


def halve_bicubic(plane: NDArray[_Float]) -> NDArray[_Float]:
    """Half as large, rounded up, as MATLAB's `imresize(plane, 0.5)`."""
    for _ in range(2):
        size = plane.shape[0]
        plane = _apply_rows(_resize_weights(size, -(-size // 2), 0.5, "bicubic", plane.dtype.str), plane).T
    return plane


def resize_bytes(plane: NDArray[np.uint8], *, height: int, width: int) -> NDArray[np.uint8]:
    """Resized as MATLAB's bicubic `imresize` of 8-bit pictures: rounded after each direction, smaller scale first."""
    scales = (height / plane.shape[0], width / plane.shape[1])
    for is_width in sorted((False, True), key=lambda index: scales[index]):
        lines = plane.T if is_width else plane
        weights = _resize_weights(lines.shape[0], (height, width)[is_width], scales[is_width], "bicubic", "<f8")
        resized = np.floor(_apply_rows(weights, lines.astype(np.float64)) + 0.5).clip(0, 255).astype(np.uint8)
        plane = resized.T if is_width else resized
    return plane


def _apply_rows(weights: NDArray[_Float], plane: NDArray[_Float]) -> NDArray[_Float]:
    """`weights @ plane` by blocks of rows, each over the input rows that have weight."""
    result = np.empty((weights.shape[0], plane.shape[1]), plane.dtype)
    for start in range(0, weights.shape[0], _BLOCK):
        block = weights[start : start + _BLOCK]
        used = np.flatnonzero(block.any(axis=0))
        first, last = int(used[0]), int(used[-1]) + 1
        np.matmul(block[:, first:last], plane[first:last], out=result[start : start + _BLOCK])
    return result


@lru_cache(maxsize=32)
def _resize_weights(size: int, new_size: int, scale: float, kernel: str, dtype: str) -> NDArray[Any]:
    """(new size, size): the weight of each input sample in each output sample; rows add up to 1."""
    shrink = min(1.0, scale)
    support = (2 if kernel == "bilinear" else 4) / shrink
    centres = (np.arange(new_size) + 0.5) / scale - 0.5
    first = np.floor(centres - support / 2).astype(np.int64)
    taps = first[:, None] + np.arange(math.ceil(support) + 2)
    distance = np.abs(shrink * (centres[:, None] - taps))
    if kernel == "bilinear":
        values = np.maximum(0, 1 - distance)
    else:
        near = 1.5 * distance**3 - 2.5 * distance**2 + 1
        far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
        values = np.where(distance <= 1, near, np.where(distance <= 2, far, 0))
    values /= values.sum(axis=1, keepdims=True)
    mirrored = taps % (2 * size)
    mirrored = np.minimum(mirrored, 2 * size - 1 - mirrored)
    weights = np.zeros((new_size, size))
    np.add.at(weights, (np.arange(new_size)[:, None].repeat(taps.shape[1], axis=1), mirrored), values)
    return weights.astype(np.dtype(dtype))


def angular_distance(x: NDArray[np.float64], y: NDArray[np.float64], angle: float) -> NDArray[np.float64]:
    """The angle between the frequencies (x, y) and the direction `angle`, 0..pi; y grows downwards."""
    theta = np.arctan2(-y, x)
    return np.abs(np.arctan2(np.sin(theta - angle), np.cos(theta - angle)))
