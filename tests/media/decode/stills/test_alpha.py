"""Compositing on black: code values times alpha, rounded; 16 bits become 8."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vqmon.media.decode.stills.alpha import composite_on_black

DType = type[np.unsignedinteger[Any]]


def translucent(dtype: DType, *, rows: int = 700) -> NDArray[Any]:
    """(rows, 5, 4) random pixels; the first 300 rows are opaque."""
    pixels = np.random.default_rng(1).integers(0, np.iinfo(dtype).max, (rows, 5, 4), dtype, endpoint=True)
    pixels[:300, :, 3] = np.iinfo(dtype).max
    return pixels


@pytest.mark.parametrize(("source", "target"), [(np.uint8, np.uint8), (np.uint16, np.uint8), (np.uint16, np.uint16)])
def test_code_values_are_multiplied_by_alpha(source: DType, target: DType) -> None:
    packed = translucent(source)
    pixels, is_translucent = composite_on_black(packed, is_premultiplied=False, dtype=target)
    exact = packed[..., :3] * (packed[..., 3:] / np.iinfo(source).max) * (np.iinfo(target).max / np.iinfo(source).max)
    assert is_translucent
    assert pixels.dtype == target
    assert np.abs(pixels - exact).max() <= 0.51


def test_premultiplied_colours_are_left() -> None:
    packed = translucent(np.uint8)
    pixels, is_translucent = composite_on_black(packed, is_premultiplied=True, dtype=np.uint8)
    assert is_translucent
    assert (pixels == packed[..., :3]).all()


def test_an_opaque_picture_is_not_translucent() -> None:
    packed = translucent(np.uint8, rows=300)
    pixels, is_translucent = composite_on_black(packed, is_premultiplied=False, dtype=np.uint8)
    assert not is_translucent
    assert (pixels == packed[..., :3]).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_without_alpha_are_reduced_to_8_bits(channels: int) -> None:
    packed = translucent(np.uint16)[..., :channels]
    pixels, is_translucent = composite_on_black(packed, is_premultiplied=False, dtype=np.uint8)
    assert not is_translucent
    assert pixels.shape == (700, 5, channels)
    assert np.abs(pixels - packed / 257).max() <= 0.5
