"""TMQI: values of the authors' code on made pictures, and what it prefers."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.media.measures import pictures
from vqmon.media.measures.measure import Picture
from vqmon.media.measures.tone_mapped import tmqi


def luminance_of(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Made linear with a power of 2.2, in an arbitrary unit."""
    linear: NDArray[np.float64] = (rgb.astype(np.float64) ** 2.2 / 1000) @ np.array([0.2126, 0.7152, 0.0722])
    return linear


# the authors' TMQI.m: quality, structural fidelity, naturalness
@pytest.mark.parametrize(
    ("name", "quality", "fidelity", "naturalness"),
    [
        ("noise", 0.9046502, 0.8055888, 0.7007546),
        ("blur", 0.8482334, 0.8446786, 0.3125866),
        ("blocks", 0.8558582, 0.8487307, 0.3460370),
        ("odd", 0.8345866, 0.7951171, 0.3138116),
    ],
)
def test_as_the_authors(name: str, quality: float, fidelity: float, naturalness: float) -> None:
    reference, picture = pictures.pair(name)
    result = tmqi(luminance_of(reference.rgb), picture)

    assert result.quality == pytest.approx(quality, abs=1e-5)
    assert result.structural_fidelity == pytest.approx(fidelity, abs=1e-5)
    assert result.naturalness == pytest.approx(naturalness, abs=1e-5)


def test_clipping_costs_fidelity() -> None:
    """A picture that clips the upper half of its range is worse than one that keeps it."""
    rgb = pictures.scene()
    clipped = Picture(np.minimum(rgb, 120) * 2)

    kept, lost = (tmqi(luminance_of(rgb), picture).structural_fidelity for picture in (Picture(rgb), clipped))
    assert lost < kept - 0.05


@pytest.mark.parametrize(
    ("luminance", "message"),
    [
        (np.zeros((10, 10)), "at one size"),
        (np.zeros((360, 480)), "not constant"),
        (np.full((360, 480), np.nan), "finite"),
    ],
)
def test_bad_luminance_is_refused(luminance: NDArray[np.float64], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tmqi(luminance, Picture(pictures.scene()))


def test_small_pictures_are_refused() -> None:
    rgb = pictures.scene(175, 300)

    with pytest.raises(ValueError, match="at least 176 x 176"):
        tmqi(luminance_of(rgb), Picture(rgb))
