"""Values of the structural similarities on made pictures, as the public implementations give them."""

import numpy as np
import pytest

from tests.media.measures import pictures
from vqmon.media.measures.measure import Picture
from vqmon.media.measures.structural_similarity import IW_SSIM, MS_SSIM, SSIM, UQI

# scikit-image 0.25: structural_similarity(gaussian_weights=True, use_sample_covariance=False, data_range=255)
SKIMAGE_SSIM = {"noise": 0.8045167, "blur": 0.8494605, "blocks": 0.9129617, "odd": 0.7475957}
# the authors' msssim.m
AUTHORS_MS_SSIM = {"noise": 0.9700290, "blur": 0.9805019, "blocks": 0.9750957, "odd": 0.9692384}

# the authors' img_qi.m
AUTHORS_UQI = {"noise": 0.4988945, "blur": 0.7271528, "blocks": 0.7649718, "odd": 0.3774371}


@pytest.mark.parametrize(("name", "expected"), SKIMAGE_SSIM.items())
def test_ssim(name: str, expected: float) -> None:
    assert SSIM.compute(*pictures.pair(name)) == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize(("name", "expected"), AUTHORS_MS_SSIM.items())
def test_ms_ssim(name: str, expected: float) -> None:
    assert MS_SSIM.compute(*pictures.pair(name)) == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize(("name", "expected"), AUTHORS_UQI.items())
def test_uqi(name: str, expected: float) -> None:
    assert UQI.compute(*pictures.pair(name)) == pytest.approx(expected, abs=1e-6)


def test_uqi_of_flat_pictures() -> None:
    """Without variance the means decide, and two black pictures are alike."""
    black, gray, white = (Picture(np.full((64, 64, 3), level, np.uint8)) for level in (0, 100, 200))

    assert UQI.compute(gray, white) == pytest.approx(2 * 100 * 200 / (100**2 + 200**2))
    assert UQI.compute(black, black) == 1
    assert UQI.compute(black, gray) == 0


# the authors' iwssim.m
@pytest.mark.parametrize(
    ("name", "expected"), [("noise", 0.9662028), ("blur", 0.9560340), ("blocks", 0.9409052), ("odd", 0.9631690)]
)
def test_iw_ssim(name: str, expected: float) -> None:
    assert IW_SSIM.compute(*pictures.pair(name)) == pytest.approx(expected, abs=1e-5)


def test_iw_ssim_of_flat_pictures() -> None:
    """Without information every window counts alike."""
    flat = Picture(np.full((176, 180, 3), 128, np.uint8))

    assert IW_SSIM.compute(flat, flat) == pytest.approx(1)
