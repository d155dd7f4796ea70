"""Tone mapping of HDR frames (PQ and HLG) to SDR.

The method `bt2390-203nit`: PQ (SMPTE ST 2084) or HLG (ITU-R BT.2100, 1000 nit display, system gamma 1.2) to linear
light; the maximum of R, G, B is compressed by the knee of ITU-R BT.2390-11 section 5.4.1 from 1000 nit to the 203 nit
that ITU-R BT.2408 calls diffuse white; BT.2020 primaries to BT.709 by the 3x3 matrix of ITU-R BT.2087, clipped; gamma
1/2.4 (inverse of ITU-R BT.1886).
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from vqmon.core.types import Pixels
from vqmon.media.images.colour import Colour, Transfer

TONE_MAPPING = "bt2390-203nit"

_PEAK_NITS = 1000.0
_WHITE_NITS = 203.0
_TABLE_SIZE = 4096
_TO_BT709 = np.array(
    [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]], np.float32
)


def tone_map_to_sdr(codes: NDArray[np.uint16], transfer: Transfer) -> Pixels:
    """Map HDR R'G'B' in BT.2020, 16 bits full range, shape (..., 3), to SDR R'G'B' in BT.709, 8 bits full range."""
    light = _linear_light(transfer)[codes >> 4]
    if transfer == "hlg":
        # BT.2100 applies the system gamma to the luminance of the scene, not to each colour
        luminance = light @ np.array([0.2627, 0.6780, 0.0593], np.float32)
        light *= np.power(np.maximum(luminance, 1e-6), 0.2)[..., None] * (_PEAK_NITS / _WHITE_NITS)
    brightest = light.max(axis=-1, keepdims=True)
    light *= _gain()[_gain_index(brightest)]
    light = np.clip(light @ _TO_BT709.T, 0, 1)
    sdr: Pixels = _gamma()[(np.sqrt(np.sqrt(light)) * (_TABLE_SIZE - 1) + 0.5).astype(np.uint16)]
    return sdr


def tone_map_luma(luma: NDArray[np.uint8], colour: Colour) -> NDArray[np.uint8]:
    """Map the 8-bit luma plane of an HDR frame as if each value were a grey; the result has limited range."""
    return _grey_luma_table(colour.transfer, colour.range)[luma]


@cache
def _grey_luma_table(transfer: Transfer, range_: str) -> NDArray[np.uint8]:
    codes = np.arange(256, dtype=np.float64)
    grey_level = codes / 255 if range_ == "pc" else np.clip((codes - 16) / 219, 0, 1)
    grey = tone_map_to_sdr(np.repeat((grey_level * 65535).astype(np.uint16)[:, None], 3, axis=1), transfer)[:, 0]
    table: NDArray[np.uint8] = np.rint(16 + grey * (219 / 255)).astype(np.uint8)
    return table


@cache
def _linear_light(transfer: Transfer) -> NDArray[np.float32]:
    """Linear light of each code: for PQ relative to diffuse white, for HLG relative to the maximum of the scene."""
    code = np.arange(_TABLE_SIZE) / (_TABLE_SIZE - 1)
    if transfer == "pq":
        return (_pq_nits(code) / _WHITE_NITS).astype(np.float32)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
    return scene.astype(np.float32)


@cache
def _gain() -> NDArray[np.float32]:
    """The factor that the knee applies to a pixel, by the fourth root of its brightest colour relative to the peak."""
    nits = np.linspace(0, 1, _TABLE_SIZE) ** 4 * _PEAK_NITS
    nits[0] = nits[1]
    peak = _pq_code(np.array(_PEAK_NITS))
    target = float(_pq_code(np.array(_WHITE_NITS)) / peak)
    knee = 1.5 * target - 0.5
    code = _pq_code(nits) / peak
    t = np.clip((code - knee) / (1 - knee), 0, 1)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * target
    mapped = np.where(code < knee, code, spline)
    return (_pq_nits(mapped * peak) / nits).astype(np.float32)


def _gain_index(light: NDArray[np.float32]) -> NDArray[np.uint16]:
    share = np.clip(light * (_WHITE_NITS / _PEAK_NITS), 0, 1)
    index: NDArray[np.uint16] = (np.sqrt(np.sqrt(share)) * (_TABLE_SIZE - 1)).astype(np.uint16)
    return index


@cache
def _gamma() -> NDArray[np.uint8]:
    """The display code of each light, by its fourth root, because dark tones need finer steps."""
    return np.rint(255 * (np.arange(_TABLE_SIZE) / (_TABLE_SIZE - 1)) ** (4 / 2.4)).astype(np.uint8)


def _pq_nits(code: NDArray[np.float64]) -> NDArray[np.float64]:
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = np.power(code, 1 / m2)
    result: NDArray[np.float64] = 10000 * np.power(np.maximum(power - c1, 0) / (c2 - c3 * power), 1 / m1)
    return result


def _pq_code(nits: NDArray[np.float64]) -> NDArray[np.float64]:
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = np.power(nits / 10000, m1)
    result: NDArray[np.float64] = np.power((c1 + c2 * power) / (1 + c3 * power), m2)
    return result
