"""Similarity of local features: gradient magnitude (GMSD).

measure   formula and source
gmsd      Xue, Zhang, Mou, Bovik, "Gradient magnitude similarity deviation", IEEE TIP 23(2), 2014: luma halved by 2 x 2
          means, Prewitt gradients, T = 170, sample standard deviation of the similarity map; 0 is best.
"""

import numpy as np

from vqmon.media.measures.measure import Measure, Picture, Plane

_GMSD_T = np.float32(170)


def _gmsd_map(reference: Picture, distorted: Picture) -> Plane:
    return _similarity(
        _prewitt(_halved_over_zeros(reference.luma)), _prewitt(_halved_over_zeros(distorted.luma)), _GMSD_T
    )


def _similarity(x: Plane, y: Plane, constant: np.float32) -> Plane:
    """(2xy + c) / (x^2 + y^2 + c)."""
    products, powers = x * y, x * x + y * y
    products += products + constant
    powers += constant
    products /= powers
    return products


def _halved_over_zeros(plane: Plane) -> Plane:
    """Means of 2 x 2 pixels; beyond an odd last row or column the picture is 0."""
    height, width = plane.shape
    padded = np.pad(plane, ((0, height % 2), (0, width % 2)))
    down = padded[0::2] + padded[1::2]
    return (down[:, 0::2] + down[:, 1::2]) * np.float32(0.25)


def _prewitt(plane: Plane) -> Plane:
    """Gradient magnitude, with zeros beyond the border."""
    padded = np.pad(plane, 1)
    third = np.float32(1 / 3)
    across, down = padded[:, 2:] - padded[:, :-2], padded[2:] - padded[:-2]
    x = (across[:-2] + across[1:-1] + across[2:]) * third
    y = (down[:, :-2] + down[:, 1:-1] + down[:, 2:]) * third
    magnitude: Plane = np.sqrt(x * x + y * y)
    return magnitude


GMSD = Measure(
    name="gmsd",
    description="deviation of the similarity of gradient magnitudes of luma",
    unit="",
    low=0,
    high=None,
    higher_is_better=False,
    needs="reference",
    source="Xue et al., IEEE TIP 23(2), 2014",
    value=lambda reference, distorted: float(_gmsd_map(reference, distorted).std(ddof=1, dtype=np.float64)),
    local_map=_gmsd_map,
)
