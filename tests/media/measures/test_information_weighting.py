"""Values of IW-SSIM on made pictures, as the authors' code gives them."""

import numpy as np
import pytest

from tests.media.measures import pictures
from vqmon.media.measures.information_weighting import IW_SSIM
from vqmon.media.measures.measure import Picture


# the authors' iwssim.m
@pytest.mark.parametrize(
    ("name", "expected"), [("noise", 0.9662028), ("blur", 0.9560340), ("blocks", 0.9409052), ("odd", 0.9631690)]
)
def test_iw_ssim(name: str, expected: float) -> None:
    assert IW_SSIM.compute(*pictures.pair(name)) == pytest.approx(expected, abs=1e-5)


def test_flat_pictures_have_a_value() -> None:
    """Without information every window counts alike."""
    flat = Picture(np.full((176, 180, 3), 128, np.uint8))

    assert IW_SSIM.compute(flat, flat) == pytest.approx(1)
