"""Values of the signal-to-noise ratios."""

import numpy as np
import pytest

from tests.media.measures import pictures
from vqmon.media.measures.measure import Picture
from vqmon.media.measures.psnr import PSNR, PSNR_HVS, PSNR_HVS_M, PSNR_RGB


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


# the authors' psnrhvsm.m
@pytest.mark.parametrize(
    ("name", "hvs", "hvs_m"),
    [
        ("noise", 34.3776972, 37.3513848),
        ("blur", 32.5035074, 35.2548565),
        ("blocks", 28.4174774, 29.3224705),
        ("odd", 33.6089032, 37.2384469),
    ],
)
def test_with_contrast_sensitivity_and_masking(name: str, hvs: float, hvs_m: float) -> None:
    assert PSNR_HVS.compute(*pictures.pair(name)) == pytest.approx(hvs, abs=1e-5)
    assert PSNR_HVS_M.compute(*pictures.pair(name)) == pytest.approx(hvs_m, abs=1e-5)


def test_masked_damage_is_invisible() -> None:
    """One level of noise in strong texture: no dB are lost with masking, some without."""
    texture = np.random.default_rng(5).integers(0, 255, (64, 64, 1)).repeat(3, axis=2).astype(np.uint8)
    damaged = Picture(pictures.noisy(texture, 1))

    assert PSNR_HVS_M.compute(Picture(texture), damaged) > PSNR_HVS.compute(Picture(texture), damaged) + 5
