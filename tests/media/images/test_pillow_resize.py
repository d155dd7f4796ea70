"""Padding and resizing are bit-exact with Pillow."""

import numpy as np
import pytest

from vqmon.media.images.pillow_resize import pad_and_resize_to_square, shrink_to_short_side


@pytest.mark.parametrize(
    ("height", "width", "side"), [(90, 160, 64), (161, 90, 448), (33, 100, 33), (7, 7, 7), (1, 5, 16)]
)
def test_the_result_is_that_of_pillow(height: int, width: int, side: int) -> None:
    """Reduced, enlarged and unchanged, wide and tall."""
    image = pytest.importorskip("PIL.Image")
    picture = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    longest = max(height, width)
    square = image.new("RGB", (longest, longest), (120, 60, 7))
    square.paste(image.fromarray(picture), ((longest - width) // 2, (longest - height) // 2))
    expected = np.asarray(square.resize((side, side), image.Resampling.BICUBIC))
    resized = pad_and_resize_to_square(picture, side=side, pad_rgb=(120, 60, 7))
    np.testing.assert_array_equal(resized, expected)


def test_a_flat_picture_stays_flat_next_to_padding_of_its_colour() -> None:
    """The weights add up to one."""
    picture = np.full((10, 40, 3), 77, np.uint8)
    assert (pad_and_resize_to_square(picture, side=13, pad_rgb=(77, 77, 77)) == 77).all()


@pytest.mark.parametrize(("height", "width", "size"), [(90, 161, (32, 57)), (200, 61, (104, 32)), (32, 80, (32, 80))])
def test_a_picture_is_shrunk_as_by_pillow_with_the_bilinear_kernel(
    height: int, width: int, size: tuple[int, int]
) -> None:
    """The longer side is rounded down, and a picture that is small enough stays as it is.

    Tall pictures differ by a level from Pillow 13, which resizes the rows of these first.
    """
    image = pytest.importorskip("PIL.Image")
    picture = np.random.default_rng(2).integers(0, 256, (height, width, 3), dtype=np.uint8)
    expected = np.asarray(image.fromarray(picture).resize(size[::-1], image.Resampling.BILINEAR))
    resized = shrink_to_short_side(picture, 32)
    np.testing.assert_allclose(resized.astype(int), expected.astype(int), rtol=0, atol=1 if height > width else 0)
