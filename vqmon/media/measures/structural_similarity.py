"""Structural similarity on luma: SSIM, multi-scale and information-weighted SSIM, the universal quality index.

measure   formula and source
ssim      Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to structural similarity",
          IEEE TIP 13(4), 2004: 11 x 11 Gaussian window of sigma 1.5, K1 = 0.01, K2 = 0.03, L = 255, mean of the map
          where the window fits; at the size of the pictures, without downsampling.
ms_ssim   Wang, Simoncelli, Bovik, "Multiscale structural similarity for image quality assessment", Asilomar 2003: five
          scales, 2 x 2 means between them, weights 0.0448, 0.2856, 0.3001, 0.2363, 0.1333; a scale whose mean
          contrast-structure term is negative counts as 0.
iw_ssim   Wang, Li, "Information content weighting for perceptual image quality assessment", IEEE TIP 20(5), 2011: the
          contrast-structure terms on five bands of a Laplacian pyramid (binomial filter of 5 taps, mirrored borders;
          the last band is the low-pass rest and has the luminance term too), the scale weights of MS-SSIM. In the first
          four bands each window counts by the information that the two pictures carry there: a Gaussian scale mixture
          of 3 x 3 neighbours and the parent coefficient (not in the fourth band), a local gain from 3 x 3 means, noise
          variance 0.4 in both channels. In 64 bits, as the gain of nearly flat regions is a quotient of small numbers.
uqi       Wang, Bovik, "A universal image quality index", IEEE SPL 9(3), 2002: SSIM without constants on 8 x 8 windows.
"""

import math

import numpy as np
from numpy.typing import NDArray

from vqmon.media.measures.filters import correlate_separable, gaussian_taps, halve, resize
from vqmon.media.measures.measure import Measure, Picture, Plane

_C1 = np.float32((0.01 * 255) ** 2)
_C2 = np.float32((0.03 * 255) ** 2)
_TWO = np.float32(2)
_BINOMIAL = tuple(math.sqrt(2) * tap / 16 for tap in (1, 4, 6, 4, 1))
_NOISE_VARIANCE = 0.4
_TOLERANCE = 1e-15
_STRIP_ROWS = 64
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_WINDOW = gaussian_taps(11, 1.5)
_MARGIN = len(_WINDOW) // 2
_MID_GRAY = np.float32(128)
"""Taken off before squares are summed: variances do not change and keep their digits in 32 bits."""

_Band = NDArray[np.float64]
"""(height, width)."""


def _luminance_and_contrast(reference: Plane, distorted: Plane) -> tuple[Plane, Plane]:
    """The maps of the luminance term and of the contrast-structure term, where the window fits."""
    x, y = reference - _MID_GRAY, distorted - _MID_GRAY
    mean_x, mean_y = _smooth(x), _smooth(y)
    powers = _smooth(x * x + y * y)
    products = _smooth(x * y)
    mean_product = mean_x * mean_y
    mean_powers = mean_x * mean_x + mean_y * mean_y
    contrast = _TWO * (products - mean_product) + _C2
    contrast /= powers - mean_powers + _C2
    mean_x += _MID_GRAY
    mean_y += _MID_GRAY
    luminance = _TWO * mean_x * mean_y + _C1
    luminance /= mean_x * mean_x + mean_y * mean_y + _C1
    return luminance, contrast


def _smooth(plane: Plane) -> Plane:
    return correlate_separable(plane, _WINDOW, _WINDOW)


def _ssim_map(reference: Picture, distorted: Picture) -> Plane:
    luminance, contrast = _luminance_and_contrast(reference.luma, distorted.luma)
    luminance *= contrast
    return luminance


def _ssim(reference: Picture, distorted: Picture) -> float:
    return _mean(_ssim_map(reference, distorted))


def _ms_ssim(reference: Picture, distorted: Picture) -> float:
    x, y = reference.luma, distorted.luma
    value = 1.0
    for scale, weight in enumerate(_SCALE_WEIGHTS, start=1):
        luminance, contrast = _luminance_and_contrast(x, y)
        if scale == len(_SCALE_WEIGHTS):
            contrast *= luminance
        value *= max(0.0, _mean(contrast)) ** weight
        x, y = halve(x), halve(y)
    return value


def _ms_ssim_map(reference: Picture, distorted: Picture) -> Plane:
    """The product of the local terms of all scales, each brought to the size of the first by repeating pixels."""
    x, y = reference.luma, distorted.luma
    height, width = x.shape
    product = np.ones((height, width), np.float32)
    for scale, weight in enumerate(_SCALE_WEIGHTS):
        luminance, contrast = _luminance_and_contrast(x, y)
        if scale == len(_SCALE_WEIGHTS) - 1:
            contrast *= luminance
        local = np.pad(np.maximum(contrast, 0) ** np.float32(weight), _MARGIN, mode="edge")
        product *= np.repeat(np.repeat(local, 1 << scale, axis=0), 1 << scale, axis=1)[:height, :width]
        x, y = halve(x), halve(y)
    return product


def block_ssim(reference: NDArray[np.uint8], distorted: NDArray[np.uint8]) -> Plane:
    """SSIM of luma planes (height, width) in blocks of 8 x 8 pixels, of every second row of blocks.

    For heat maps: (rows of blocks, columns of blocks), a tenth of the work of the map with Gaussian windows.
    """
    rows, columns = distorted.shape[0] // 16, distorted.shape[1] // 8
    x, y = (
        (plane[: rows * 16, : columns * 8].reshape(rows, 16, columns, 8)[:, :8].astype(np.float32) - _MID_GRAY)
        for plane in (reference, distorted)
    )
    mean_x, mean_y, power_x, power_y, product = (
        np.einsum("ijkl,ijkl->ik", a, b) / np.float32(64)
        for a, b in ((x, np.ones_like(x)), (y, np.ones_like(y)), (x, x), (y, y), (x, y))
    )
    covariance = product - mean_x * mean_y
    variances = power_x - mean_x * mean_x + power_y - mean_y * mean_y
    mean_x, mean_y = mean_x + _MID_GRAY, mean_y + _MID_GRAY
    similarity: Plane = (_TWO * mean_x * mean_y + _C1) / (mean_x * mean_x + mean_y * mean_y + _C1)
    similarity *= (_TWO * covariance + _C2) / (variances + _C2)
    return similarity


def _uqi(reference: Picture, distorted: Picture) -> float:
    return _mean(_uqi_map(reference, distorted))


def _uqi_map(reference: Picture, distorted: Picture) -> Plane:
    """Where the window fits. The sums are whole numbers and exact, so that flat windows are known as flat."""
    count = 64
    x, y = reference.luma - _MID_GRAY, distorted.luma - _MID_GRAY
    sum_x, sum_y, squares, products = (
        correlate_separable(plane, (1.0,) * 8, (1.0,) * 8).astype(np.int64) for plane in (x, y, x * x + y * y, x * y)
    )
    covariance = count * products - sum_x * sum_y
    variances = count * squares - sum_x * sum_x - sum_y * sum_y
    sum_x += count * int(_MID_GRAY)
    sum_y += count * int(_MID_GRAY)
    mean_product, mean_squares = sum_x * sum_y, sum_x * sum_x + sum_y * sum_y
    quality = np.ones(sum_x.shape)
    np.divide(2.0 * mean_product, mean_squares, out=quality, where=(variances == 0) & (mean_squares != 0))
    where = (variances != 0) & (mean_squares != 0)
    np.divide(2.0 * covariance, variances, out=quality, where=where)
    np.multiply(quality, 2.0 * mean_product / np.maximum(mean_squares, 1), out=quality, where=where)
    return quality.astype(np.float32)


def _iw_ssim(reference: Picture, distorted: Picture) -> float:
    x_bands, y_bands = (_laplacian_pyramid(picture.luma.astype(np.float64)) for picture in (reference, distorted))
    value = 1.0
    last = len(_SCALE_WEIGHTS) - 1
    for scale, weight in enumerate(_SCALE_WEIGHTS):
        x, y = x_bands[scale], y_bands[scale]
        if scale == last:
            mean = float(_contrast_terms(x, y, with_luminance=True).mean())
        else:
            parent = x_bands[scale + 1] if scale < last - 1 else None
            information = _information(x, y, parent)[_MARGIN - 1 : 1 - _MARGIN, _MARGIN - 1 : 1 - _MARGIN]
            terms, total = _contrast_terms(x, y, with_luminance=False), float(information.sum())
            mean = float((terms * information).sum()) / total if total > 0 else float(terms.mean())
        value *= max(0.0, mean) ** weight
    return value


def _laplacian_pyramid(plane: _Band) -> list[_Band]:
    bands = []
    for _ in _SCALE_WEIGHTS[1:]:
        low = correlate_separable(np.pad(plane, 2, mode="reflect"), _BINOMIAL, _BINOMIAL)[::2, ::2]
        spread = np.zeros_like(plane)
        spread[::2, ::2] = low
        bands.append(plane - correlate_separable(np.pad(spread, 2, mode="reflect"), _BINOMIAL, _BINOMIAL))
        plane = np.ascontiguousarray(low)
    return [*bands, plane]


def _contrast_terms(x: _Band, y: _Band, *, with_luminance: bool) -> _Band:
    """Where the window fits."""
    mean_x, mean_y, power_x, power_y, product = (
        correlate_separable(plane, _WINDOW, _WINDOW) for plane in (x, y, x * x, y * y, x * y)
    )
    variance_x, variance_y = np.maximum(0, power_x - mean_x**2), np.maximum(0, power_y - mean_y**2)
    terms: _Band = (2 * (product - mean_x * mean_y) + _C2) / (variance_x + variance_y + _C2)
    if with_luminance:
        terms *= (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    return terms


def _information(x: _Band, y: _Band, parent: _Band | None) -> _Band:
    """Bits per coefficient that both pictures share with the source, without the outermost rows and columns."""
    gain, error = _gain_and_error(x, y)
    layers = [x] if parent is None else [x, _enlarged(parent)[: x.shape[0], : x.shape[1]]]
    neighbours = _neighbours(layers)
    count = len(neighbours)
    covariance = np.zeros((count, count))
    height = neighbours[0].shape[0]
    strips = [slice(start, start + _STRIP_ROWS) for start in range(0, height, _STRIP_ROWS)]
    for strip in strips:
        matrix = np.stack([neighbour[strip].ravel() for neighbour in neighbours])
        covariance += matrix @ matrix.T
    covariance /= neighbours[0].size
    values, vectors = np.linalg.eigh(covariance)
    if values[-1] < _TOLERANCE:
        return np.zeros(neighbours[0].shape)
    positive = np.maximum(values, 0)
    positive *= values.sum() / positive.sum()
    used = positive > _TOLERANCE * positive[-1]
    whitening = (vectors[:, used] / np.sqrt(positive[used])).T
    information = np.empty(neighbours[0].shape)
    for strip in strips:
        matrix = whitening @ np.stack([neighbour[strip].ravel() for neighbour in neighbours])
        power = ((matrix * matrix).sum(axis=0) / count).reshape(-1, neighbours[0].shape[1])
        information[strip] = _bits(power, gain[strip], error[strip], positive)
    return information


def _bits(power: _Band, gain: _Band, error: _Band, eigenvalues: NDArray[np.float64]) -> _Band:
    signal = (error + (1 + gain * gain) * _NOISE_VARIANCE) * power / _NOISE_VARIANCE**2
    rest = 1 + error / _NOISE_VARIANCE
    product = np.ones_like(power)
    for eigenvalue in eigenvalues:
        product *= signal * eigenvalue + rest
    bits: _Band = np.log2(product)
    bits[bits < _TOLERANCE] = 0
    return bits


def _gain_and_error(x: _Band, y: _Band) -> tuple[_Band, _Band]:
    """Of y = gain x + error in 3 x 3 windows, without the outermost rows and columns."""
    third = (1 / 3,) * 3
    mean_x, mean_y, power_x, power_y, product = (
        correlate_separable(plane, third, third) for plane in (x, y, x * x, y * y, x * y)
    )
    covariance = product - mean_x * mean_y
    variance_x, variance_y = np.maximum(0, power_x - mean_x**2), np.maximum(0, power_y - mean_y**2)
    gain: _Band = covariance / (variance_x + _TOLERANCE)
    error: _Band = variance_y - gain * covariance
    flat_x, flat_y = variance_x < _TOLERANCE, variance_y < _TOLERANCE
    error[flat_x] = variance_y[flat_x]
    error[flat_y] = 0
    gain[flat_x | flat_y] = 0
    return gain, error


def _neighbours(layers: list[_Band]) -> list[_Band]:
    """The nine neighbours of each coefficient of the first layer, then the coefficient of the second layer."""
    x = layers[0]
    height, width = x.shape[0] - 2, x.shape[1] - 2
    near = [x[row : row + height, column : column + width] for row in range(3) for column in range(3)]
    return [*near, *(layer[1:-1, 1:-1] for layer in layers[1:])]


def _enlarged(parent: _Band) -> _Band:
    """Twice as large, by bilinear resizing to four times with the border continued along its slope."""
    height, width = parent.shape
    wide = resize(parent, height=4 * height - 3, width=4 * width - 3)
    wide = np.pad(wide, 1)
    wide[0], wide[-1] = 2 * wide[1] - wide[2], 2 * wide[-2] - wide[-3]
    wide[:, 0], wide[:, -1] = 2 * wide[:, 1] - wide[:, 2], 2 * wide[:, -2] - wide[:, -3]
    return wide[::2, ::2]


def _mean(plane: Plane) -> float:
    return float(plane.mean(dtype=np.float64))


SSIM = Measure(
    name="ssim",
    description="structural similarity of luma at full size",
    unit="",
    low=-1,
    high=1,
    higher_is_better=True,
    needs="reference",
    source="Wang et al., IEEE TIP 13(4), 2004",
    value=_ssim,
    local_map=lambda reference, distorted: np.pad(_ssim_map(reference, distorted), _MARGIN, mode="edge"),
)
MS_SSIM = Measure(
    name="ms_ssim",
    description="structural similarity of luma over five scales",
    unit="",
    low=0,
    high=1,
    higher_is_better=True,
    needs="reference",
    source="Wang, Simoncelli and Bovik, Asilomar 2003",
    min_side_px=11 * 2 ** (len(_SCALE_WEIGHTS) - 1),
    value=_ms_ssim,
    local_map=_ms_ssim_map,
)
IW_SSIM = Measure(
    name="iw_ssim",
    description="structural similarity of luma over five scales, weighted by information content",
    unit="",
    low=0,
    high=1,
    higher_is_better=True,
    needs="reference",
    source="Wang and Li, IEEE TIP 20(5), 2011",
    min_side_px=11 * 2 ** (len(_SCALE_WEIGHTS) - 1),
    value=_iw_ssim,
)
UQI = Measure(
    name="uqi",
    description="universal quality index of luma",
    unit="",
    low=-1,
    high=1,
    higher_is_better=True,
    needs="reference",
    source="Wang and Bovik, IEEE SPL 9(3), 2002",
    value=_uqi,
    local_map=lambda reference, distorted: np.pad(_uqi_map(reference, distorted), ((3, 4), (3, 4)), mode="edge"),
)
