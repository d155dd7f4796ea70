"""The contract: what a picture is, which inputs are refused and how, and what every measure promises."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.media.measures import pictures
from vqmon.media.measures.measure import Measure, Picture
from vqmon.media.measures.registry import MEASURES

COMPARING = [measure for measure in MEASURES.values() if measure.needs == "reference"]
SYMMETRIC = [measure for measure in COMPARING if measure.name not in ("mad", "iw_ssim")]
MAPPED = [measure for measure in COMPARING if measure.local_map is not None]


def test_luma_is_rounded_bt601() -> None:
    """White stays 255, a gray stays itself, and the weights are 0.2989, 0.587 and 0.114."""
    rgb = np.array([[[255, 255, 255], [77, 77, 77], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)

    assert Picture(rgb).luma.tolist() == [[255, 77, 76, 150, 29]]


@pytest.mark.parametrize("shape", [(64, 64), (64, 64, 4)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(height, width, 3\) array of uint8"):
        Picture(np.zeros(shape, np.uint8))


def test_other_types_are_refused() -> None:
    with pytest.raises(ValueError, match="float64"):
        Picture(np.zeros((64, 64, 3)))  # type: ignore[arg-type]


def test_registered_under_their_names() -> None:
    """The order is the one that tables print."""
    assert all(name == measure.name for name, measure in MEASURES.items())
    assert next(iter(MEASURES)) == "psnr"


@pytest.mark.parametrize("measure", MEASURES.values(), ids=lambda measure: measure.name)
def test_small_pictures_are_refused(measure: Measure) -> None:
    """One pixel less than the least side is an error that names the measure and the size; the least side is fine."""
    side = measure.min_side_px
    small = Picture(pictures.scene(side - 1, 400))

    with pytest.raises(ValueError, match=rf"{measure.name} needs pictures of at least {side} x {side} pixels, not 400"):
        measure.compute(small, small)
    least = Picture(pictures.scene(side, side + 1))
    assert np.isfinite(measure.compute(least, Picture(pictures.noisy(least.rgb, 9))))


@pytest.mark.parametrize("measure", COMPARING, ids=lambda measure: measure.name)
class TestComparing:
    """Measures that compare a picture with its reference."""

    def test_sizes_must_agree(self, measure: Measure) -> None:
        with pytest.raises(ValueError, match="two pictures of one size, not 300 x 256 and 301 x 256"):
            measure.compute(Picture(pictures.scene(256, 300)), Picture(pictures.scene(256, 301)))

    def test_reference_is_needed(self, measure: Measure) -> None:
        with pytest.raises(ValueError, match="give it the reference picture too"):
            measure.compute(None, Picture(pictures.scene(256, 300)))

    def test_identical_pictures_are_best(self, measure: Measure) -> None:
        picture = Picture(pictures.scene(200, 264))
        best = measure.high if measure.higher_is_better else measure.low

        assert measure.compute(picture, Picture(picture.rgb.copy())) == pytest.approx(best, abs=1e-5)

    @pytest.mark.parametrize("damage", [pictures.noisy, pictures.blurred])
    def test_falls_with_damage(
        self, measure: Measure, damage: Callable[[NDArray[np.uint8], int], NDArray[np.uint8]]
    ) -> None:
        """Four strengths of one damage are put in order."""
        rgb = pictures.scene(200, 264)
        strengths = (4, 10, 22, 45) if damage is pictures.noisy else (1, 2, 4, 8)
        values = [measure.compute(Picture(rgb), Picture(damage(rgb, strength))) for strength in strengths]

        assert values == sorted(values, reverse=measure.higher_is_better)
        assert len(set(values)) == len(values)


@pytest.mark.parametrize("measure", SYMMETRIC, ids=lambda measure: measure.name)
def test_symmetric(measure: Measure) -> None:
    """The two pictures may be exchanged."""
    reference, picture = pictures.pair("noise")

    assert measure.compute(reference, picture) == pytest.approx(measure.compute(picture, reference), rel=1e-6)


@pytest.mark.parametrize("measure", MAPPED, ids=lambda measure: measure.name)
def test_map_shows_the_damaged_half(measure: Measure) -> None:
    """With the right half blurred, the map has the picture's size, is 1 on the left and lower on the right."""
    rgb = pictures.scene(361, 483)
    damaged = rgb.copy()
    damaged[:, 240:] = pictures.blurred(rgb, 3)[:, 240:]
    quality = measure.quality_map(Picture(rgb), Picture(damaged))

    assert quality.shape == (361, 483)
    assert quality.dtype == np.float32
    assert quality[:, :140].mean() == pytest.approx(1, abs=0.02)
    assert np.quantile(quality[:, 280:], 0.05) < np.quantile(quality[:, :140], 0.05) - 0.05


def test_measures_without_a_map_say_so() -> None:
    picture = Picture(pictures.scene())

    with pytest.raises(ValueError, match="psnr has no quality map"):
        MEASURES["psnr"].quality_map(picture, picture)
