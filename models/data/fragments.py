"""Which frames and which pieces of them FAST-VQA and DOVER look at, drawn from a seed; numpy alone.

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
"""Where pieces of enlarged frames are taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """How many pieces along rows and columns, and their side in pixels at native resolution."""

    pieces: int = 7
    side: int = 32

    @property
    def size(self) -> int:
        """Side in pixels of what is put together."""
        return self.pieces * self.side


def strata(count: int, *, length: int, parts: int, interval: int, draw: np.random.RandomState) -> Indices:
    """Frame indices (parts * length): one run of `length` frames, `interval` apart, at a random place in each of
    `parts` equal parts of a clip of `count` frames; where a part is too short, from its start, and around the end.

    The same draw gives the indices of the published sampler under numpy's seed of that number.

    >>> strata(20, length=4, parts=1, interval=2, draw=np.random.RandomState(0)).tolist()
    [5, 7, 9, 11]
    """
    if min(count, length, parts, interval) < 1:
        raise ValueError(f"count, length, parts and interval must be above 0: {count}, {length}, {parts}, {interval}")
    part, needed = count // parts, length * interval
    late = draw.randint(0, part - needed, size=parts) if part > needed else np.zeros(parts, dtype=np.int64)
    starts = np.arange(parts) * part + late
    found: Indices = ((starts[:, None] + np.arange(length) * interval) % count).ravel()
    return found


def evenly(count: int, *, length: int, clips: int) -> Indices:
    """Frame indices (clips * length) of runs of neighbouring frames, each in the middle of its share of the clip.

    This is what the published script for single videos does; nothing is drawn.

    >>> evenly(10, length=2, clips=2).tolist()
    [2, 3, 6, 7]
    """
    room = (count - length + 1) / clips
    starts = ((np.arange(clips) + 0.5) * room).astype(np.int64) if count >= length else np.zeros(clips, np.int64)
    found: Indices = ((starts[:, None] + np.arange(length)) % count).ravel()
    return found


def origins(height: int, width: int, *, groups: int, seed: int, grid: Grid = Grid()) -> Indices:
    """Where each piece starts in frames of this size: (pieces, pieces, groups, 2) of row and column.

    `groups` runs of frames are cut alike. The draws are those of the published sampler under torch's seed of that
    number: all rows, then all columns, each a 32-bit number of the Mersenne twister modulo the room in its cell.
    """
    if min(height, width) < grid.side:
        raise ValueError(f"frames of {height} x {width} hold no piece of {grid.side} x {grid.side}")
    draw = np.random.RandomState(seed)
    found = np.empty((grid.pieces, grid.pieces, groups, 2), dtype=np.int64)
    for axis, size in enumerate((height, width)):
        cell = size // grid.pieces
        starts = np.minimum(np.arange(grid.pieces) * cell, size - grid.side)
        found[..., axis] = starts[:, None, None] if axis == 0 else starts[None, :, None]
        if cell > grid.side:
            numbers = draw.randint(0, 2**32, size=found.shape[:3], dtype=np.uint32)
            found[..., axis] += numbers % np.uint32(cell - grid.side)
    return found


def cut(frames: Frames, at: Indices, *, grid: Grid = Grid()) -> Frames:
    """Frames put together of the pieces that start `at`; frames divide evenly into the groups of `at`."""
    groups = at.shape[2]
    if len(frames) % groups:
        raise ValueError(f"{len(frames)} frames do not divide into {groups} groups")
    together = np.empty((len(frames), grid.size, grid.size, 3), dtype=np.uint8)
    length, side = len(frames) // groups, grid.side
    for row, column, group in np.ndindex(grid.pieces, grid.pieces, groups):
        top, left = at[row, column, group]
        run = slice(group * length, (group + 1) * length)
        piece = frames[run, top : top + side, left : left + side]
        together[run, row * side : (row + 1) * side, column * side : (column + 1) * side] = piece
    return together


def fragments(frames: Frames, *, seed: int, groups: int = 1, grid: Grid = Grid(), small: Small = "published") -> Frames:
    """The view of a clip (frames, height, width, 3): (frames, 224, 224, 3) of pieces at native resolution.

    Frames under 224 on a side are enlarged first. `published` then takes pieces where they lay before enlarging, so
    that only the upper left part is seen, as the published code does; `whole` takes them from all of the frame.
    """
    height, width = frames.shape[1:3]
    larger = enlarge(frames, grid.size)
    if small == "whole":
        height, width = larger.shape[1:3]
    return cut(larger, origins(height, width, groups=groups, seed=seed, grid=grid), grid=grid)


def enlarge(frames: Frames, least: int) -> Frames:
    """Frames whose shorter side is under `least`, scaled up to it: bilinear between pixel centres, cut to integers.

    As published: the scale is that of the tighter side, and sides are cut to whole pixels after scaling.
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
    """Of each pixel of an enlarged side: the two pixels it lies between, and the share of the second."""
    place = np.maximum((np.arange(int(np.floor(size * scale))) + 0.5) / scale - 0.5, 0)
    low = np.minimum(place.astype(np.int64), size - 1)
    return low, np.minimum(low + 1, size - 1), (place - low).astype(np.float32)


def _blend(
    values: NDArray[np.float32], taps: tuple[Indices, Indices, NDArray[np.float32]], *, axis: int
) -> NDArray[np.float32]:
    low, high, share = taps
    share = share.reshape([-1 if each == axis else 1 for each in range(values.ndim)])
    between: NDArray[np.float32] = np.take(values, low, axis) * (1 - share) + np.take(values, high, axis) * share
    return between
