"""Most apparent distortion (MAD) of luma.

Larson, Chandler, "Most apparent distortion: full-reference image quality assessment and the role of strategy", JEI
19(1), 2010, with the constants of the authors' MAD_index.m. Two strategies, mixed by how strong the damage is:

detection    in perceived lightness after a contrast sensitivity filter (32 cycles per degree at the width): where the
             contrast of the error in 16 x 16 pixels is above what the content masks, local mean squared error counts;
             times 200.
appearance   differences of the deviation, skewness and kurtosis of 16 x 16 pixels in 20 log-Gabor bands (5 scales from
             wavelength 3 by factors of 3, 4 orientations), weighted 0.5, 0.75, 1, 5 and 6 by scale.

mad          appearance^(1 - s) detection^s with s = 1 / (1 + 0.467 detection^0.130); 0 is best.
Windows lie 4 pixels apart; each gives the value of its first 4 x 4 pixels; the outer 16 pixels are left out.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vqmon.media.measures.filters import correlate_separable
from vqmon.media.measures.measure import Measure, Picture, Plane

_CELL = 4
_WINDOW = 16
_SCALE_WEIGHTS = (0.5, 0.75, 1.0, 5.0, 6.0)
_ORIENTATIONS = 4
_MASKING_FLOOR = -5.0
"""Natural logarithm of the contrast below which content masks nothing and damage is invisible."""
_LIGHTNESS_FLOOR = 0.5
_BLEND_FACTOR = math.exp(-2.55 / 3.35)
_BLEND_POWER = 1 / (math.log(10) * 3.35)


def _mad(reference: Picture, distorted: Picture) -> float:
    detection = _detection(reference.luma, distorted.luma)
    appearance = _appearance(reference.luma, distorted.luma)
    share = 1 / (1 + _BLEND_FACTOR * detection**_BLEND_POWER)
    return float(appearance ** (1 - share) * detection**share)


def _detection(reference: Plane, distorted: Plane) -> float:
    sensitivity = _contrast_sensitivity(*reference.shape)
    x, y = (_filtered_lightness(luma, sensitivity) for luma in (reference, distorted))
    cells = _moments(x)
    mean, _, _ = _deviation(cells, _WINDOW // _CELL)
    content = _least_of_four(_deviation(cells, 2)[1], height=x.shape[0], width=x.shape[1])
    _, error, _ = _deviation(_moments(y - x), _WINDOW // _CELL)
    with np.errstate(divide="ignore", invalid="ignore"):
        content_contrast, error_contrast = np.log(content / mean), np.log(error / mean)
    visible = np.nan_to_num(error_contrast - np.maximum(content_contrast, _MASKING_FLOOR), nan=0, posinf=0, neginf=0)
    visible = np.where(mean >= _LIGHTNESS_FLOOR, np.maximum(visible, 0), 0).astype(np.float32)
    squared = np.pad((reference - distorted) ** 2, (_WINDOW // 2 - 1, _WINDOW // 2), mode="symmetric")
    local = correlate_separable(squared, (1 / _WINDOW,) * _WINDOW, (1 / _WINDOW,) * _WINDOW)
    return 200 * _inner_root_mean_square(_spread(visible, local.shape) * local)


def _contrast_sensitivity(height: int, width: int) -> Plane:
    """Transfer function after Mannos and Sakrison, lower on diagonals, in the order of the FFT."""
    down = (np.arange(height) - height / 2 + 0.5)[:, None] / width * 64
    across = (np.arange(width) - width / 2 + 0.5)[None, :] / width * 64
    frequency = np.hypot(down, across) / (0.15 * np.cos(4 * np.arctan2(across, down)) + 0.85)
    response = 2.6 * (0.0192 + 0.114 * frequency) * np.exp(-((0.114 * frequency) ** 1.1))
    response[frequency < 7.8909] = 0.9809
    shifted: Plane = np.fft.ifftshift(response).astype(np.float32)
    return shifted


def _filtered_lightness(luma: Plane, sensitivity: Plane) -> Plane:
    lightness = (0.02874 * np.arange(256) ** (2.2 / 3)).astype(np.float32)[luma.astype(np.uint8)]
    filtered: Plane = np.fft.ifft2(np.fft.fft2(lightness) * sensitivity).real.astype(np.float32, copy=False)
    return filtered


def _least_of_four(deviation: Plane, *, height: int, width: int) -> Plane:
    """The least of the values of a window, the next one across, the next one down and the next one diagonally.

    As in the authors' code, a next window counts only if it begins more than 16 pixels before the end of the picture.
    """
    rows, columns = ((side - _WINDOW) // _CELL + 1 for side in (height, width))
    next_rows, next_columns = (-(-(side - _WINDOW - _CELL) // _CELL) for side in (height, width))
    least = deviation[:rows, :columns].copy()
    np.minimum(least[:next_rows], deviation[1 : next_rows + 1, :columns], out=least[:next_rows])
    across = least[:, 1 : next_columns + 1].copy()
    np.minimum(least[:, :next_columns], across, out=least[:, :next_columns])
    return least


def _appearance(reference: Plane, distorted: Plane) -> float:
    x_spectrum, y_spectrum = np.fft.fft2(reference), np.fft.fft2(distorted)
    total: NDArray[np.float32] | None = None
    for weight, band in _log_gabor_bands(*reference.shape):
        x, y = (_statistics(np.abs(np.fft.ifft2(spectrum * band))) for spectrum in (x_spectrum, y_spectrum))
        local = np.abs(x[0] - y[0]) + np.float32(2) * np.abs(x[1] - y[1]) + np.abs(x[2] - y[2])
        local *= np.float32(weight / sum(_SCALE_WEIGHTS))
        total = local if total is None else total + local
    assert total is not None
    return _inner_root_mean_square(_spread(total, reference.shape))


def _log_gabor_bands(height: int, width: int) -> Iterator[tuple[float, NDArray[np.float32]]]:
    """The weight of the scale and the transfer function, 20 times, in the order of the FFT.

    The frequency 0 of an odd side lies half a sample beside the middle, as in the authors' code.
    """
    down = ((np.arange(height) - height / 2) / (height / 2)).astype(np.float32)[:, None]
    across = ((np.arange(width) - width / 2) / (width / 2)).astype(np.float32)[None, :]
    radius, theta = np.hypot(down, across), np.arctan2(-down, across)
    middle = math.floor(height / 2 + 1.5) - 1, math.floor(width / 2 + 1.5) - 1
    radius[middle] = 1
    logarithm = np.log(np.maximum(radius, np.finfo(np.float32).tiny))
    radial = []
    for scale in range(len(_SCALE_WEIGHTS)):
        centre = math.log(2 / (3 * 3**scale))
        part = np.exp((logarithm - np.float32(centre)) ** 2 / np.float32(-2 * math.log(0.55) ** 2))
        part[middle] = 0
        radial.append(part)
    deviation = math.pi / _ORIENTATIONS / 1.5
    for orientation in range(_ORIENTATIONS):
        turned = np.abs(theta - np.float32(orientation * math.pi / _ORIENTATIONS))
        distance = np.minimum(turned, np.float32(2 * math.pi) - turned)
        spread = np.exp(distance**2 * np.float32(-1 / (2 * deviation**2)))
        for weight, part in zip(_SCALE_WEIGHTS, radial, strict=True):
            yield weight, np.fft.fftshift(part * spread)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Cells:
    """Of each 4 x 4 cell: the mean and the sums of the 2nd, 3rd and 4th powers of the deviations from it."""

    mean: Plane
    second: Plane
    third: Plane
    fourth: Plane


def _moments(plane: Plane) -> _Cells:
    rows, columns = plane.shape[0] // _CELL, plane.shape[1] // _CELL
    whole = plane[: rows * _CELL, : columns * _CELL]
    parts = [np.ascontiguousarray(whole[row::_CELL, column::_CELL]) for row in range(_CELL) for column in range(_CELL)]
    mean = np.sum(parts, axis=0) * np.float32(1 / len(parts))
    second, third, fourth = np.zeros_like(mean), np.zeros_like(mean), np.zeros_like(mean)
    for part in parts:
        part -= mean
        square = part * part
        second += square
        third += square * part
        fourth += square * square
    return _Cells(mean=mean, second=second, third=third, fourth=fourth)


def _window_parts(cells: _Cells, count: int) -> tuple[Plane, list[tuple[Plane, Plane, Plane, Plane]]]:
    """The mean of each window of `count` x `count` cells, and per cell in it the offset of its mean and its sums."""
    rows, columns = cells.mean.shape[0] - count + 1, cells.mean.shape[1] - count + 1
    shifts = [(slice(r, r + rows), slice(c, c + columns)) for r in range(count) for c in range(count)]
    mean = np.zeros((rows, columns), np.float32)
    for shift in shifts:
        mean += cells.mean[shift]
    mean *= np.float32(1 / len(shifts))
    return mean, [
        (cells.mean[shift] - mean, cells.second[shift], cells.third[shift], cells.fourth[shift]) for shift in shifts
    ]


def _deviation(cells: _Cells, count: int) -> tuple[Plane, Plane, Plane]:
    """Mean, sample standard deviation and sum of squared deviations of each window of `count` x `count` cells."""
    mean, parts = _window_parts(cells, count)
    squares = np.zeros_like(mean)
    for offset, second, _, _ in parts:
        squares += second + np.float32(_CELL**2) * offset * offset
    return mean, np.sqrt(squares * np.float32(1 / ((count * _CELL) ** 2 - 1))), squares


def _statistics(plane: Plane) -> tuple[Plane, Plane, Plane]:
    """Sample standard deviation, skewness and kurtosis of each window of 16 x 16 pixels."""
    mean, parts = _window_parts(_moments(plane), _WINDOW // _CELL)
    samples, per_cell = _WINDOW**2, np.float32(_CELL**2)
    squares, cubes, fourths = np.zeros_like(mean), np.zeros_like(mean), np.zeros_like(mean)
    for offset, second, third, fourth in parts:
        square = offset * offset
        squares += second + per_cell * square
        cubes += third + offset * (3 * second + per_cell * square)
        fourths += fourth + offset * (4 * third) + square * (6 * second + per_cell * square)
    variance = squares * np.float32(1 / samples)
    divisor = np.where(variance > 0, variance, 1)
    skewness = cubes * np.float32(1 / samples) / (divisor * np.sqrt(divisor))
    kurtosis = fourths * np.float32(1 / samples) / (divisor * divisor)
    return np.sqrt(squares * np.float32(1 / (samples - 1))), skewness, kurtosis


def _spread(windows: Plane, shape: tuple[int, ...]) -> Plane:
    """Each value on 4 x 4 pixels, zeros behind the last window."""
    wide = windows.repeat(_CELL, axis=0).repeat(_CELL, axis=1)
    return np.pad(wide, [(0, size - covered) for size, covered in zip(shape, wide.shape, strict=True)])


def _inner_root_mean_square(plane: Plane) -> float:
    inner = plane[_WINDOW : -_WINDOW - 1, _WINDOW : -_WINDOW - 1]
    return math.sqrt(float(np.square(inner).mean(dtype=np.float64)))


MAD = Measure(
    name="mad",
    description="most apparent distortion of luma: detection of faint damage, appearance of strong damage",
    unit="",
    low=0,
    high=None,
    higher_is_better=False,
    needs="reference",
    source="Larson and Chandler, JEI 19(1), 2010",
    value=_mad,
)
