"""Signals of fine detail on pages, slides, ramps and posterized photos."""

from itertools import pairwise

import numpy as np
import pytest

from tests.media.images.pictures import Picture, measure_last, photo


def text_page() -> Picture:
    """Black strokes of irregular lengths on white: what a slide looks like to a block detector."""
    chance = np.random.default_rng(3)
    page = np.full((540, 960), 235.0)
    for top in range(30, 500, 31):
        left = 40
        while left < 900:
            width, height = int(chance.integers(2, 9)), int(chance.integers(8, 18))
            page[top : top + height, left : left + width] = 16
            left += width + int(chance.integers(3, 12))
    return page


def test_text_has_no_coding_impairments() -> None:
    """A high-contrast page is neither blocky, noisy, banded nor over-sharp."""
    values = measure_last(text_page())
    for signal in ("blockiness", "noise", "banding", "over_sharpness"):
        assert values[signal] < 0.1, signal


@pytest.mark.parametrize("name", ["astronaut", "camera", "coffee", "chelsea"])
def test_coarse_posterization_is_banding(name: str) -> None:
    """From 128 down to 16 levels the signal rises, and at 8 it is still there."""
    picture = photo(name)
    values = [
        measure_last(np.floor(picture / (256 / levels)) * (256 / levels))["banding"] for levels in (128, 64, 32, 16)
    ]
    assert all(later > earlier for earlier, later in pairwise(values)), values
    assert measure_last(np.floor(picture / 32) * 32)["banding"] > 0.3


def test_a_ramp_of_few_levels_is_banding() -> None:
    """Few and large steps are seen although they are far apart."""
    ramp = np.tile(np.linspace(16, 235, 960), (540, 1))
    assert all(measure_last(np.floor(ramp / size) * size)["banding"] > 0.3 for size in (2, 4, 8, 16, 32))


def test_a_slide_of_flat_areas_is_not_banding() -> None:
    """Boxes of similar greys, as drawn, stay low."""
    slide = np.full((540, 960), 40.0)
    for top, left, level in ((60, 100, 60), (250, 300, 52), (100, 650, 200), (330, 620, 46)):
        slide[top : top + 150, left : left + 280] = level
    assert measure_last(slide)["banding"] < 0.25
