"""Hashes of pictures by which the same content is recognised at another time, whatever its coding (difference hash).

A passage of content is three pictures: the last of one segment, the first and the last of the next. Black, dark and
plain pictures and pictures that stand still have no hash: they look like others.
"""

from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from vqmon.core.types import Fingerprint

PASSAGE_PICTURES = 3

MAX_DIFFERENT_BITS = 24
"""Two passages of 192 bits show the same content when no more differ; measured, see docs/alerts.md."""

_ROWS, _COLUMNS = 18, 32
_HASH_ROWS, _HASH_COLUMNS = 8, 8

_MIN_STEP_LEVELS = 2
"""A step between neighbours counts as texture from here on; smaller ones turn with the coding noise."""

_MIN_TEXTURED_SHARE = 0.5
"""A picture needs so many such steps."""

_MIN_MOVED_BITS = 8
"""Two of the three pictures differ in so many bits, or the passage stands still."""

Passage = tuple[int, ...]
"""Hashes of PASSAGE_PICTURES pictures, 64 bits each; empty for content that cannot be recognised."""


def passage_of(before: Fingerprint, first: Fingerprint, last: Fingerprint) -> Passage:
    """The passage of a segment's first and last picture and the last one before it; () when one of them has no hash."""
    hashes = []
    for fingerprint in (before, first, last):
        hashed = _picture_hash(fingerprint)
        if hashed is None:
            return ()
        hashes.append(hashed)
    moved_bits = max((one ^ other).bit_count() for one, other in combinations(hashes, 2))
    return tuple(hashes) if moved_bits >= _MIN_MOVED_BITS else ()


@lru_cache(maxsize=1024)
def _picture_hash(fingerprint: Fingerprint) -> int | None:
    """64 bits: whether each cell of 8 x 9 is brighter than the one to its left; None for a plain or dark picture."""
    cells = np.frombuffer(bytes.fromhex(fingerprint), np.uint8)
    if cells.size != _ROWS * _COLUMNS:
        return None
    # Whole numbers far below 2 ** 53, so that every machine gives the same bits.
    steps = _ROW_WEIGHTS @ cells.reshape(_ROWS, _COLUMNS).astype(np.float64) @ _COLUMN_STEPS
    if np.count_nonzero(np.abs(steps) >= _MIN_STEP_LEVELS * _CELL_WEIGHT) < _MIN_TEXTURED_SHARE * steps.size:
        return None
    return int.from_bytes(np.packbits(steps > 0).tobytes(), "big")


def _area_weights(count: int, cells: int) -> NDArray[np.float64]:
    """(cells, count): how much of each of `count` numbers lies in each of so many equal cells, in 1 / cells."""
    edges = np.arange(cells + 1) * count
    starts = np.arange(count) * cells
    overlaps = np.minimum(edges[1:, None], starts + cells) - np.maximum(edges[:-1, None], starts)
    overlaps[overlaps < 0] = 0
    return overlaps.astype(np.float64)


_ROW_WEIGHTS = _area_weights(_ROWS, _HASH_ROWS)
_COLUMN_STEPS = np.diff(_area_weights(_COLUMNS, _HASH_COLUMNS + 1), axis=0).T
"""(columns, cells - 1): the step from each cell to the one on its right."""
_CELL_WEIGHT = _ROWS * _COLUMNS
"""Of every cell: the sums are its mean times this."""
