"""Reduction of packed pixels to opaque ones: composited on black, as a player without a background shows them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_STRIP_ROWS = 256


def composite_on_black(
    packed: NDArray[Any], *, is_premultiplied: bool, dtype: type[np.unsignedinteger[Any]]
) -> tuple[NDArray[Any], bool]:
    """Pixels without alpha as `dtype`, (height, width, 1 or 3), and whether any pixel was translucent.

    `packed` is uint8 or uint16, (height, width, channels): grey, R G B, or R G B alpha. Code values are multiplied by
    alpha as they are, not in linear light, as browsers do (CSS Compositing 1); 16 bits become 8 by rounding v / 257.
    """
    height, width, channels = packed.shape
    largest, target = int(np.iinfo(packed.dtype).max), int(np.iinfo(dtype).max)
    pixels = np.empty((height, width, min(channels, 3)), dtype)
    is_translucent = False
    for top in range(0, height, _STRIP_ROWS):
        strip = packed[top : top + _STRIP_ROWS]
        colours = strip[..., :3]
        if channels == 4 and strip[..., 3].min() < largest:
            is_translucent = True
            if not is_premultiplied:
                colours = (colours.astype(np.uint32) * strip[..., 3:] + largest // 2) // largest
        if target < largest:
            colours = (colours.astype(np.uint32) * target + largest // 2) // largest
        pixels[top : top + _STRIP_ROWS] = colours
    return pixels, is_translucent
