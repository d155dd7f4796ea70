"""Padding and bicubic resizing are bit-exact with Pillow."""

import numpy as np
import pytest

from vqmon.media.images.pillow_resize import pad_and_resize_to_square


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
