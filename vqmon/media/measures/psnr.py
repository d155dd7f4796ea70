"""Peak signal-to-noise ratio, of luma and of RGB.

measure    formula and source
psnr       10 log10(255^2 / mean squared error of luma); identical pictures give 100 dB, which is also the ceiling.
psnr_rgb   the same with the mean squared error over R, G and B.
"""

import math

import numpy as np

from vqmon.media.measures.measure import Measure, Picture

_CEILING_DB = 100.0


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
