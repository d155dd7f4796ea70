"""Structural similarity on luma: SSIM, multi-scale SSIM and the universal quality index.

measure   formula and source
ssim      Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to structural similarity",
          IEEE TIP 13(4), 2004: 11 x 11 Gaussian window of sigma 1.5, K1 = 0.01, K2 = 0.03, L = 255, mean of the map
          where the window fits; at the size of the pictures, without downsampling.
ms_ssim   Wang, Simoncelli, Bovik, "Multiscale structural similarity for image quality assessment", Asilomar 2003: five
          scales, 2 x 2 means between them, weights 0.0448, 0.2856, 0.3001, 0.2363, 0.1333; a scale whose mean
          contrast-structure term is negative counts as 0.
uqi       Wang, Bovik, "A universal image quality index", IEEE SPL 9(3), 2002: SSIM without constants on 8 x 8 windows.
"""

import numpy as np

from vqmon.media.measures.filters import correlate_separable, gaussian_taps, halve
from vqmon.media.measures.measure import Measure, Picture, Plane

_C1 = np.float32((0.01 * 255) ** 2)
_C2 = np.float32((0.03 * 255) ** 2)
_TWO = np.float32(2)
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_WINDOW = gaussian_taps(11, 1.5)
_MID_GRAY = np.float32(128)
"""Taken off before squares are summed: variances do not change and keep their digits in 32 bits."""


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
        local = np.pad(np.maximum(contrast, 0) ** np.float32(weight), len(_WINDOW) // 2, mode="edge")
        product *= np.repeat(np.repeat(local, 1 << scale, axis=0), 1 << scale, axis=1)[:height, :width]
        x, y = halve(x), halve(y)
    return product


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
    local_map=lambda reference, distorted: np.pad(_ssim_map(reference, distorted), len(_WINDOW) // 2, mode="edge"),
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
