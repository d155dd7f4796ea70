"""The published sampling of fragments in numpy, to which the decoder's fragments are compared.

Wu et al., "FAST-VQA: Efficient End-to-end Video Quality Assessment with Fragment Sampling", ECCV 2022.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
Frames = NDArray[np.uint8]
"""(frames, height, width, 3)."""
Small = Literal["published", "whole"]
"""Where fragments of enlarged frames are cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Number of fragments along rows and columns, and their side in pixels at native resolution."""

    per_side: int = 7
    side: int = 32

    @property
    def size(self) -> int:
        """Side in pixels of the assembled view."""
        return self.per_side * self.side


def origins(height: int, width: int, *, groups: int, seed: int, grid: Grid = Grid()) -> Indices:
    """Top left corner of each fragment in frames of this size: (rows, columns, groups, 2) of row and column.

    Frames of one of `groups` runs share their corners. The draws are those of the published sampler under torch's seed
    of that number: all rows, then all columns, each a 32-bit number of the Mersenne twister modulo the space in its
    cell. Raises ValueError for frames smaller than a fragment.
    """
    if min(height, width) < grid.side:
        raise ValueError(f"frames of {height} x {width} hold no fragment of {grid.side} x {grid.side}")
    generator = np.random.RandomState(seed)
    corners = np.empty((grid.per_side, grid.per_side, groups, 2), dtype=np.int64)
    for axis, size in enumerate((height, width)):
        cell = size // grid.per_side
        starts = np.minimum(np.arange(grid.per_side) * cell, size - grid.side)
        corners[..., axis] = starts[:, None, None] if axis == 0 else starts[None, :, None]
        if cell > grid.side:
            numbers = generator.randint(0, 2**32, size=corners.shape[:3], dtype=np.uint32)
            corners[..., axis] += numbers % np.uint32(cell - grid.side)
    return corners


def cut(frames: Frames, corners: Indices, *, grid: Grid = Grid()) -> Frames:
    """Frames assembled from the fragments at `corners`; raises ValueError when frames do not divide evenly into
    groups."""
    groups = corners.shape[2]
    if len(frames) % groups:
        raise ValueError(f"{len(frames)} frames do not divide into {groups} groups")
    assembled = np.empty((len(frames), grid.size, grid.size, 3), dtype=np.uint8)
    length, side = len(frames) // groups, grid.side
    for row, column, group in np.ndindex(grid.per_side, grid.per_side, groups):
        top, left = corners[row, column, group]
        run = slice(group * length, (group + 1) * length)
        fragment = frames[run, top : top + side, left : left + side]
        assembled[run, row * side : (row + 1) * side, column * side : (column + 1) * side] = fragment
    return assembled


def fragments(frames: Frames, *, seed: int, groups: int = 1, grid: Grid = Grid(), small: Small = "published") -> Frames:
    """The fragments of a clip (frames, height, width, 3): (frames, 224, 224, 3) at native resolution.

    Frames under 224 on a side are enlarged first. `published` then cuts fragments at the corners of the small frame, so
    that only the upper left part is seen, as the published code does; `whole` cuts them from the whole enlarged frame.
    """
    height, width = frames.shape[1:3]
    larger = enlarge(frames, grid.size)
    if small == "whole":
        height, width = larger.shape[1:3]
    return cut(larger, origins(height, width, groups=groups, seed=seed, grid=grid), grid=grid)


def enlarge(frames: Frames, least: int) -> Frames:
    """Frames whose shorter side is under `least`, enlarged to it: bilinear, truncated to integers.

    As published: the scale is that of the shorter side, and sides are truncated to whole pixels after scaling.
    """
    ratio = min(frames.shape[1] / least, frames.shape[2] / least)
    if ratio >= 1:
        return frames
    scale = 1 / ratio
    rows, columns = (_taps(frames.shape[axis], scale) for axis in (1, 2))
    values = frames.astype(np.float32) / np.float32(255)
    values = _blend(_blend(values, rows, axis=1), columns, axis=2)
    larger: Frames = np.clip(values * np.float32(255), 0, 255).astype(np.uint8)
    return larger


def _taps(size: int, scale: float) -> tuple[Indices, Indices, NDArray[np.float32]]:
    """For each pixel of an enlarged side: the two source pixels that it lies between, and the weight of the second."""
    position = np.maximum((np.arange(int(np.floor(size * scale))) + 0.5) / scale - 0.5, 0)
    low = np.minimum(position.astype(np.int64), size - 1)
    return low, np.minimum(low + 1, size - 1), (position - low).astype(np.float32)


def _blend(
    values: NDArray[np.float32], taps: tuple[Indices, Indices, NDArray[np.float32]], *, axis: int
) -> NDArray[np.float32]:
    low, high, weight = taps
    weight = weight.reshape([-1 if index == axis else 1 for index in range(values.ndim)])
    blended: NDArray[np.float32] = np.take(values, low, axis) * (1 - weight) + np.take(values, high, axis) * weight
    return blended
