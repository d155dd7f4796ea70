"""Peak signal-to-noise ratio: of luma, of RGB, and of luma as the eye's contrast sensitivity and masking see it.

measure      formula and source
psnr         10 log10(255^2 / mean squared error of luma); identical pictures give 100 dB, which is also the ceiling.
psnr_rgb     the same with the mean squared error over R, G and B.
psnr_hvs     Egiazarian et al., "New full-reference quality metrics based on HVS", VPQM 2006: the same with the
             differences of the DCT coefficients of 8 x 8 blocks, weighted by contrast sensitivity; luma, blocks side
             by side.
psnr_hvs_m   Ponomarenko et al., "On between-coefficient contrast masking of DCT basis functions", VPQM 2007: what the
             contrast of the block masks is taken off the differences first; 100 dB when no difference is visible.
"""

import math

import numpy as np
from numpy.typing import NDArray

from vqmon.media.measures.measure import Measure, Picture, Plane

_CEILING_DB = 100.0
_BLOCK = 8
_CONTRAST_SENSITIVITY = np.array(
    [
        [1.608443, 2.339554, 2.573509, 1.608443, 1.072295, 0.643377, 0.504610, 0.421887],
        [2.144591, 2.144591, 1.838221, 1.354478, 0.989811, 0.443708, 0.428918, 0.467911],
        [1.838221, 1.979622, 1.608443, 1.072295, 0.643377, 0.451493, 0.372972, 0.459555],
        [1.838221, 1.513829, 1.169777, 0.887417, 0.504610, 0.295806, 0.321689, 0.415082],
        [1.429727, 1.169777, 0.695543, 0.459555, 0.378457, 0.236102, 0.249855, 0.334222],
        [1.072295, 0.735288, 0.467911, 0.402111, 0.317717, 0.247453, 0.227744, 0.279729],
        [0.525206, 0.402111, 0.329937, 0.295806, 0.249855, 0.212687, 0.214459, 0.254803],
        [0.357432, 0.279729, 0.270896, 0.262603, 0.229778, 0.257351, 0.249855, 0.259950],
    ],
    np.float32,
)
_MASKING = np.array(
    [
        [0.390625, 0.826446, 1.000000, 0.390625, 0.173611, 0.062500, 0.038447, 0.026874],
        [0.694444, 0.694444, 0.510204, 0.277008, 0.147929, 0.029727, 0.027778, 0.033058],
        [0.510204, 0.591716, 0.390625, 0.173611, 0.062500, 0.030779, 0.021004, 0.031888],
        [0.510204, 0.346021, 0.206612, 0.118906, 0.038447, 0.013212, 0.015625, 0.026015],
        [0.308642, 0.206612, 0.073046, 0.031888, 0.021626, 0.008417, 0.009426, 0.016866],
        [0.173611, 0.081633, 0.033058, 0.024414, 0.015242, 0.009246, 0.007831, 0.011815],
        [0.041649, 0.024414, 0.016437, 0.013212, 0.009426, 0.006830, 0.006944, 0.009803],
        [0.019290, 0.011815, 0.011080, 0.010412, 0.007972, 0.010000, 0.009426, 0.010203],
    ],
    np.float32,
)


def _decibels(mean_squared_error: float) -> float:
    """PSNR of 8-bit samples in dB, at most 100."""
    if mean_squared_error <= 0:
        return _CEILING_DB
    return min(_CEILING_DB, 10 * math.log10(255**2 / mean_squared_error))


def _psnr(reference: Picture, distorted: Picture) -> float:
    difference = reference.luma - distorted.luma
    return _decibels(float(np.square(difference, out=difference).mean(dtype=np.float64)))


def _psnr_rgb(reference: Picture, distorted: Picture) -> float:
    difference = np.subtract(reference.rgb, distorted.rgb, dtype=np.float32)
    return _decibels(float(np.square(difference, out=difference).mean(dtype=np.float64)))


def _psnr_hvs(reference: Picture, distorted: Picture) -> float:
    difference = _dct(_blocks(reference.luma)) - _dct(_blocks(distorted.luma))
    return _weighted_decibels(difference)


def _psnr_hvs_m(reference: Picture, distorted: Picture) -> float:
    x, y = _blocks(reference.luma), _blocks(distorted.luma)
    x_dct, y_dct = _dct(x), _dct(y)
    masks = np.maximum(_masking_contrast(x, x_dct), _masking_contrast(y, y_dct))
    visible = np.abs(x_dct - y_dct)
    direct = visible[:, 0, :, 0].copy()
    visible -= masks[:, None, :, None] * (1 / _MASKING)[None, :, None, :]
    np.maximum(visible, 0, out=visible)
    visible[:, 0, :, 0] = direct
    return _weighted_decibels(visible)


def _weighted_decibels(differences: NDArray[np.float32]) -> float:
    differences *= _CONTRAST_SENSITIVITY[None, :, None, :]
    return _decibels(float(np.square(differences, out=differences).mean(dtype=np.float64)))


def _blocks(luma: Plane) -> NDArray[np.float32]:
    """(block rows, 8, block columns, 8); what does not fill a block is left out."""
    rows, columns = luma.shape[0] // _BLOCK, luma.shape[1] // _BLOCK
    blocks: NDArray[np.float32] = np.ascontiguousarray(luma[: rows * _BLOCK, : columns * _BLOCK])
    return blocks.reshape(rows, _BLOCK, columns, _BLOCK)


def _dct(blocks: NDArray[np.float32]) -> NDArray[np.float32]:
    """Orthonormal DCT-II of every block, in the layout of `blocks`."""
    rows, _, columns, _ = blocks.shape
    order, sample = np.mgrid[0:_BLOCK, 0:_BLOCK]
    basis = (np.sqrt(2 / _BLOCK) * np.cos(np.pi * (2 * sample + 1) * order / (2 * _BLOCK))).astype(np.float32)
    basis[0] /= np.float32(math.sqrt(2))
    down = np.matmul(basis, blocks.reshape(rows, _BLOCK, columns * _BLOCK))
    coefficients: NDArray[np.float32] = np.matmul(down.reshape(-1, _BLOCK), basis.T).reshape(blocks.shape)
    return coefficients


def _masking_contrast(blocks: NDArray[np.float32], coefficients: NDArray[np.float32]) -> Plane:
    """(block rows, block columns): the contrast that hides differences, less where one quarter differs from another."""
    weights = _MASKING.copy()
    weights[0, 0] = 0
    energy = np.einsum("rkcl,rkcl,kl->rc", coefficients, coefficients, weights)
    rows, _, columns, _ = blocks.shape
    spread = _squared_deviations(blocks.reshape(rows, 1, _BLOCK, columns, 1, _BLOCK))[:, 0, :, 0] * np.float32(64 / 63)
    half = _BLOCK // 2
    quarters = _squared_deviations(blocks.reshape(rows, 2, half, columns, 2, half)) * np.float32(16 / 15)
    share = quarters.sum(axis=(1, 3)) / np.where(spread > 0, spread, 1)
    contrast: Plane = np.sqrt(energy * share) / np.float32(32)
    return contrast


def _squared_deviations(blocks: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of (rows, parts, height, columns, parts, width) over height and width; whole numbers, exact in 32 bits."""
    height, width = blocks.shape[2], blocks.shape[5]
    centred = blocks - 128
    total = centred.sum(axis=(2, 5))
    squares = np.einsum("rahcbw,rahcbw->racb", centred, centred)
    deviations: NDArray[np.float32] = squares - total * total / np.float32(height * width)
    return deviations


PSNR = Measure(
    name="psnr",
    description="peak signal-to-noise ratio of luma",
    unit="dB",
    low=0,
    high=_CEILING_DB,
    higher_is_better=True,
    needs="reference",
    source="ITU-T J.340",
    value=_psnr,
)
PSNR_RGB = Measure(
    name="psnr_rgb",
    description="peak signal-to-noise ratio over the R, G and B samples",
    unit="dB",
    low=0,
    high=_CEILING_DB,
    higher_is_better=True,
    needs="reference",
    source="ITU-T J.340",
    value=_psnr_rgb,
)
PSNR_HVS = Measure(
    name="psnr_hvs",
    description="peak signal-to-noise ratio of luma weighted by contrast sensitivity",
    unit="dB",
    low=0,
    high=_CEILING_DB,
    higher_is_better=True,
    needs="reference",
    source="Egiazarian et al., VPQM 2006",
    value=_psnr_hvs,
)
PSNR_HVS_M = Measure(
    name="psnr_hvs_m",
    description="peak signal-to-noise ratio of luma weighted by contrast sensitivity and contrast masking",
    unit="dB",
    low=0,
    high=_CEILING_DB,
    higher_is_better=True,
    needs="reference",
    source="Ponomarenko et al., VPQM 2007",
    value=_psnr_hvs_m,
)
