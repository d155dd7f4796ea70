"""The eight orientations of Exif are found in both byte orders; anything else leaves a picture upright."""

import numpy as np
import pytest

from tests.media.stills import exif
from vqmon.media.decode.stills.exif import read_exif_orientation
from vqmon.media.images.resampling import Orientation

STORED = np.array([[1, 2], [3, 4], [5, 6]])

# Exif 2.32, table 6: which corner of the upright picture the first row and column of the stored one are
UPRIGHT = {
    1: [[1, 2], [3, 4], [5, 6]],
    2: [[2, 1], [4, 3], [6, 5]],
    3: [[6, 5], [4, 3], [2, 1]],
    4: [[5, 6], [3, 4], [1, 2]],
    5: [[1, 3, 5], [2, 4, 6]],
    6: [[5, 3, 1], [6, 4, 2]],
    7: [[6, 4, 2], [5, 3, 1]],
    8: [[2, 4, 6], [1, 3, 5]],
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
def test_each_orientation_makes_the_picture_upright(orientation: int, order: str, prefix: bytes) -> None:
    found = read_exif_orientation(prefix + exif(orientation, order=order))
    assert found.apply(STORED).tolist() == UPRIGHT[orientation]


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"Exif\0\0",
        b"neither byte order",
        exif(0),
        exif(9),
        exif(6, kind=4),
        exif(6)[:20],
        b"MM\0*\xff\xff\xff\xff",
    ],
)
def test_an_invalid_block_leaves_the_picture_upright(block: bytes) -> None:
    assert read_exif_orientation(block) == Orientation()


def test_a_block_that_is_cut_off_before_the_orientation_is_no_error() -> None:
    block = exif(6)
    found = {read_exif_orientation(block[:length]) for length in range(len(block))}
    assert found == {Orientation(), read_exif_orientation(block)}
