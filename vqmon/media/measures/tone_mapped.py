"""Tone-mapped image quality index (TMQI): an SDR picture against the HDR luminance it was made from.

Yeganeh, Wang, "Objective quality assessment of tone-mapped images", IEEE TIP 22(2), 2013, with the constants of the
authors' TMQI.m: 0.8012 S^0.3046 + 0.1988 N^0.7088. Structural fidelity S over five scales: SSIM whose deviations pass a
visibility curve (normal distribution around the threshold of the contrast sensitivity at 16, 8, 4, 2 and 1 cycles per
degree). Statistical naturalness N: how usual mean brightness and mean contrast of 11 x 11 blocks are for photos. HDR
luminance is stretched to 32 bits; SDR luma is Y of the gamma-coded samples with the BT.709 weights.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vqmon.media.measures.filters import correlate_separable, gaussian_taps, halve
from vqmon.media.measures.measure import Picture

_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_WINDOW = gaussian_taps(11, 1.5)
_RGB_TO_Y = np.array([0.2126, 0.7152, 0.0722])
_BLOCK = 11
_MIN_SIDE_PX = 11 * 2 ** (len(_SCALE_WEIGHTS) - 1)
_CURVE = np.linspace(-8, 8, 32_001)
_CURVE_VALUES = np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in _CURVE])


@dataclass(frozen=True, slots=True, kw_only=True)
class ToneMappedQuality:
    """0..1 each, higher is better."""

    quality: float
    structural_fidelity: float
    naturalness: float


def tmqi(luminance: NDArray[np.floating], picture: Picture) -> ToneMappedQuality:
    """TMQI of `picture`; `luminance` is (height, width) in any linear unit.

    Raises ValueError when the sizes differ, a side is below 176 pixels, or the luminance is constant or not finite.
    """
    if luminance.shape != (picture.height, picture.width):
        raise ValueError(
            f"TMQI needs the luminance and the picture at one size, not {luminance.shape} and "
            f"{(picture.height, picture.width)}: resize one of them"
        )
    if min(luminance.shape) < _MIN_SIDE_PX:
        raise ValueError(f"TMQI needs pictures of at least {_MIN_SIDE_PX} x {_MIN_SIDE_PX} pixels")
    low, high = float(luminance.min()), float(luminance.max())
    if not math.isfinite(high - low) or high <= low:
        raise ValueError(f"TMQI needs finite luminance that is not constant, not {low} to {high}")
    hdr = math.floor((2**32 - 1) / (high - low) + 0.5) * (luminance.astype(np.float64) - low)
    sdr = picture.rgb @ _RGB_TO_Y
    fidelity, naturalness = _structural_fidelity(hdr, sdr), _naturalness(sdr)
    return ToneMappedQuality(
        quality=0.8012 * fidelity**0.3046 + (1 - 0.8012) * naturalness**0.7088,
        structural_fidelity=fidelity,
        naturalness=naturalness,
    )


def _structural_fidelity(hdr: NDArray[np.float64], sdr: NDArray[np.float64]) -> float:
    value = 1.0
    for scale, weight in enumerate(_SCALE_WEIGHTS):
        value *= max(0.0, _local_fidelity(hdr, sdr, cycles_per_degree=16 / 2**scale)) ** weight
        hdr, sdr = halve(hdr), halve(sdr)
    return value


def _local_fidelity(hdr: NDArray[np.float64], sdr: NDArray[np.float64], *, cycles_per_degree: float) -> float:
    mean_x, mean_y, power_x, power_y, product = (
        correlate_separable(plane, _WINDOW, _WINDOW) for plane in (hdr, sdr, hdr * hdr, sdr * sdr, hdr * sdr)
    )
    deviation_x, deviation_y = np.sqrt(np.maximum(0, power_x - mean_x**2)), np.sqrt(np.maximum(0, power_y - mean_y**2))
    sensitivity = 260 * (0.0192 + 0.114 * cycles_per_degree) * math.exp(-((0.114 * cycles_per_degree) ** 1.1))
    threshold = 128 / (1.4 * sensitivity)
    visible_x, visible_y = (
        np.interp((deviation - threshold) / (threshold / 3), _CURVE, _CURVE_VALUES)
        for deviation in (deviation_x, deviation_y)
    )
    contrast = (2 * visible_x * visible_y + 0.01) / (visible_x**2 + visible_y**2 + 0.01)
    structure = (product - mean_x * mean_y + 10) / (deviation_x * deviation_y + 10)
    return float((contrast * structure).mean())


def _naturalness(sdr: NDArray[np.float64]) -> float:
    """Blocks at the right and lower border are filled up with zeros and count by the pixels that they cover."""
    height, width = sdr.shape
    padded = np.pad(sdr, ((0, -height % _BLOCK), (0, -width % _BLOCK)))
    blocks = padded.reshape(padded.shape[0] // _BLOCK, _BLOCK, padded.shape[1] // _BLOCK, _BLOCK)
    deviation = blocks.std(axis=(1, 3), ddof=1)
    rows = np.minimum(_BLOCK, height - _BLOCK * np.arange(deviation.shape[0]))
    columns = np.minimum(_BLOCK, width - _BLOCK * np.arange(deviation.shape[1]))
    contrast = float(rows @ deviation @ columns) / (height * width) / 64.29
    mode = (4.4 - 1) / (4.4 + 10.1 - 2)
    usual_contrast = (contrast / mode) ** 3.4 * ((1 - contrast) / (1 - mode)) ** 9.1 if contrast < 1 else 0.0
    usual_brightness = math.exp(-0.5 * ((float(sdr.mean()) - 115.94) / 27.99) ** 2)
    return usual_brightness * usual_contrast
