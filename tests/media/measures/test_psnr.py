"""Values of the signal-to-noise ratios."""

import numpy as np
import pytest

from tests.media.measures import pictures
from vqmon.media.measures.measure import Picture
from vqmon.media.measures.psnr import PSNR, PSNR_RGB


def test_from_the_definition() -> None:
    """Every sample off by 5: 20 log10(255 / 5)."""
    gray = np.full((64, 64, 3), 100, np.uint8)

    assert PSNR.compute(Picture(gray), Picture(gray + 5)) == pytest.approx(34.1514, abs=1e-4)
    assert PSNR_RGB.compute(Picture(gray), Picture(gray + 5)) == pytest.approx(34.1514, abs=1e-4)


# scikit-image 0.25: peak_signal_noise_ratio
@pytest.mark.parametrize(
    ("name", "luma", "rgb"),
    [("noise", 34.458968, 30.994957), ("blur", 33.339736, 32.606944), ("odd", 32.405197, 30.667706)],
)
def test_as_scikit_image(name: str, luma: float, rgb: float) -> None:
    assert PSNR.compute(*pictures.pair(name)) == pytest.approx(luma, abs=1e-5)
    assert PSNR_RGB.compute(*pictures.pair(name)) == pytest.approx(rgb, abs=1e-5)
