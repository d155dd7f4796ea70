"""Values of the structural similarities on made pictures, as the public implementations give them."""

import pytest

from tests.media.measures import pictures
from vqmon.media.measures.structural_similarity import MS_SSIM, SSIM

# scikit-image 0.25: structural_similarity(gaussian_weights=True, use_sample_covariance=False, data_range=255)
SKIMAGE_SSIM = {"noise": 0.8045167, "blur": 0.8494605, "blocks": 0.9129617, "odd": 0.7475957}
# the authors' msssim.m
AUTHORS_MS_SSIM = {"noise": 0.9700290, "blur": 0.9805019, "blocks": 0.9750957, "odd": 0.9692384}


@pytest.mark.parametrize(("name", "expected"), SKIMAGE_SSIM.items())
def test_ssim(name: str, expected: float) -> None:
    assert SSIM.compute(*pictures.pair(name)) == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize(("name", "expected"), AUTHORS_MS_SSIM.items())
def test_ms_ssim(name: str, expected: float) -> None:
    assert MS_SSIM.compute(*pictures.pair(name)) == pytest.approx(expected, abs=2e-6)
