"""SI and TI of ITU-T P.910: how much detail a picture has, and how much it differs from the one before it.

measure     formula and source
si, ti      ITU-T P.910 (04/2008), of full-range luma 0..255: the standard deviation of the Sobel magnitude without the
            outermost pixels, and of the difference from the previous picture.
si_pq,      ITU-T P.910 (07/2022 and 10/2023): the same in the PQ domain of BT.2100, times 255, on a display by BT.1886
ti_pq       with gamma 2.4 from 0.1 to 300 cd/m2.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vqmon.media.measures.measure import Measure, Picture, Plane


def spatial_information(plane: Plane) -> float:
    """SI of a plane of levels."""
    smooth_down = plane[:-2] + 2 * plane[1:-1] + plane[2:]
    smooth_across = plane[:, :-2] + 2 * plane[:, 1:-1] + plane[:, 2:]
    across, down = smooth_down[:, 2:] - smooth_down[:, :-2], smooth_across[2:] - smooth_across[:-2]
    return float(np.sqrt(across * across + down * down).std(dtype=np.float64))


def temporal_information(previous: Plane, plane: Plane) -> float:
    """TI of two planes of levels that follow each other."""
    return float((plane - previous).std(dtype=np.float64))


def pq_levels(luma: NDArray[np.float64]) -> NDArray[np.float32]:
    """Levels of full-range luma 0..255 on a display from 0.1 to 300 cd/m2, in the PQ domain, times 255."""
    luminance = (300 - 0.1) * (luma / 255) ** 2.4 + 0.1
    power = (luminance / 10_000) ** 0.1593017578125
    levels: NDArray[np.float64] = ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375 * 255
    return levels.astype(np.float32)


def _pq_luma(picture: Picture) -> Plane:
    return _all_pq_levels()[picture.luma.astype(np.uint8)]


@lru_cache(maxsize=1)
def _all_pq_levels() -> NDArray[np.float32]:
    """(256,)."""
    return pq_levels(np.arange(256, dtype=np.float64))


SI = Measure(
    name="si",
    description="spatial information of luma",
    unit="",
    low=0,
    high=None,
    higher_is_better=None,
    needs="nothing",
    source="ITU-T P.910 (04/2008)",
    value=lambda _, picture: spatial_information(picture.luma),
)
TI = Measure(
    name="ti",
    description="temporal information of luma",
    unit="",
    low=0,
    high=None,
    higher_is_better=None,
    needs="previous",
    source="ITU-T P.910 (04/2008)",
    value=lambda previous, picture: temporal_information(previous.luma, picture.luma),
)
SI_PQ = Measure(
    name="si_pq",
    description="spatial information in the PQ domain",
    unit="",
    low=0,
    high=None,
    higher_is_better=None,
    needs="nothing",
    source="ITU-T P.910 (10/2023)",
    value=lambda _, picture: spatial_information(_pq_luma(picture)),
)
TI_PQ = Measure(
    name="ti_pq",
    description="temporal information in the PQ domain",
    unit="",
    low=0,
    high=None,
    higher_is_better=None,
    needs="previous",
    source="ITU-T P.910 (10/2023)",
    value=lambda previous, picture: temporal_information(_pq_luma(previous), _pq_luma(picture)),
)
