"""Values of CAMBI as libvmaf gives them for the same luma, and what has no banding."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.media.measures import pictures
from vqmon.media.measures.measure import Picture
from vqmon.media.measures.no_reference.banding import CAMBI


def slope(height: int = 240, width: int = 320, *, step: int = 1) -> NDArray[np.int64]:
    """Levels that rise slowly to the right and downwards, in steps."""
    y, x = np.mgrid[0:height, 0:width]
    levels: NDArray[np.int64] = (20 + x * 0.25 + y * 0.1).astype(np.int64) // step * step
    return levels


def gray(levels: NDArray[np.int64]) -> Picture:
    return Picture(levels.astype(np.uint8)[..., None].repeat(3, axis=2))


# libvmaf 86da14d in the ffmpeg program, on the luma plane of the same pictures
@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (gray(slope()), 21.679490),
        (gray(slope(step=2)), 11.353702),
        (gray(slope(217, 301)), 23.131844),
        (gray(slope() + np.random.default_rng(3).integers(0, 2, (240, 320))), 1.371521),
        (pictures.pair("blocks")[1], 2.266531),
    ],
    ids=["steps of 1", "steps of 2", "odd size", "dithered", "colour"],
)
def test_cambi_as_libvmaf(picture: Picture, expected: float) -> None:
    assert CAMBI.compute(None, picture) == pytest.approx(expected, abs=2e-6)


def test_nothing_flat_and_a_single_colour_have_no_banding() -> None:
    noise = np.random.default_rng(5).integers(0, 256, (216, 240))

    assert CAMBI.compute(None, gray(noise)) == 0
    assert CAMBI.compute(None, gray(np.full((216, 240), 90))) == 0
