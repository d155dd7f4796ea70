"""Where pieces of a frame at its own size are taken: a grid drawn from a seed, and windows at equal steps."""

from itertools import product

import numpy as np
from numpy.typing import NDArray

WINDOW_STRIDE = 32


def origins(height: int, width: int, *, rows: int, columns: int, side: tuple[int, int], seed: int) -> NDArray[np.int64]:
    """(rows, columns, 2): row and column in px where each piece of `side` (height, width) starts in such a frame.

    One piece per cell of the grid, at a drawn place; where cells are no larger than pieces, at the cell's start. Wu et
    al., "FAST-VQA: Efficient End-to-end Video Quality Assessment with Fragment Sampling", ECCV 2022; the draws are
    those of the published sampler under torch's seed of that number: all rows, then all columns, each a 32-bit number
    of the Mersenne twister modulo the room in its cell. Raises ValueError for a frame smaller than a piece.
    """
    if height < side[0] or width < side[1]:
        raise ValueError(f"frames of {height} x {width} hold no piece of {side[0]} x {side[1]}")
    draw = np.random.RandomState(seed)
    found = np.empty((rows, columns, 2), dtype=np.int64)
    for axis, (size, count) in enumerate(((height, rows), (width, columns))):
        cell = size // count
        starts = np.minimum(np.arange(count) * cell, size - side[axis])
        found[..., axis] = starts[:, None] if axis == 0 else starts[None, :]
        if cell > side[axis]:
            numbers = draw.randint(0, 2**32, size=(rows, columns), dtype=np.uint32)
            found[..., axis] += numbers % np.uint32(cell - side[axis])
    return found


def corners(height: int, width: int, *, size: tuple[int, int], count: int) -> list[tuple[int, int]]:
    """Row and column in px of `count` windows of `size` (height, width), which stand every 32 px.

    Of the list row by row they are taken at equal whole steps from the first; a frame with fewer gives them over again.
    The choice of LIQE (Zhang et al., CVPR 2023). Raises ValueError for a frame smaller than a window.

    >>> corners(224, 256, size=(224, 224), count=3)
    [(0, 0), (0, 32), (0, 0)]
    """
    if height < size[0] or width < size[1]:
        raise ValueError(f"a frame of {height} x {width} holds no window of {size[0]} x {size[1]}")
    lines, places = (
        range(0, whole - part + 1, WINDOW_STRIDE) for whole, part in zip((height, width), size, strict=True)
    )
    every = list(product(lines, places))
    step = max(1, len(every) // count)
    return [every[at * step % len(every)] for at in range(count)]
