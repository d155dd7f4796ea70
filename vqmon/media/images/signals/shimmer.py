"""How far a texture changes from picture to picture in a way that no movement explains: local flicker, boiling texture.

Up to 15 tiles of 48 x 48 pixels at native size, spread evenly, are predicted from both sides in time: the mean of the
tile displaced by +d in the picture `lag` earlier and by -d in the one `lag` later, for the d up to 24 pixels that
predicts best (bilateral motion estimation, as for frame interpolation: Choi, Lee, Ko, "New frame rate up-conversion
using bi-directional motion estimation", IEEE Trans. Consumer Electronics 46(3), 2000). An error of a part of a pixel in
d cancels to first order, since it enters with both signs. What remains is change that goes up and down again.

* Lags of 1 and of 3 pictures, so that changes with periods of 2 to 12 pictures are seen.
* A tile that moves unevenly (one of its two steps has more than `_MAX_STEP_RATIO` times the difference of the other)
  does not count: that is judder.
* Where movement is too fast to be followed, the remainder is as coarse as the picture is. So twice the mean square of
  the remainder's 16 x 16 pixel means is subtracted from its mean square, unless the earlier and the later picture are
  alike and only the one between differs, which movement does not do.
"""

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

SHIMMER_FRAMES = 8
"""Most consecutive pictures from which shimmer is measured."""

_TILE = 48
_MARGIN = 24
_SIDE = _TILE + 2 * _MARGIN
_ROWS, _COLUMNS = 3, 5
_LAGS = ((1, (1, 4)), (3, (3, 4)))
"""(lag, middle pictures) in pictures."""
_FULL_LEVELS = 32.0
_TILE_QUANTILE = 0.6
_MAX_STEP_RATIO = 2.5
_COARSE_WEIGHT = 2.0
# the mean square of the remainder of independent pictures is 1.5 times their variance
_INDEPENDENT = 1.5

_Tiles = NDArray[np.float32]


def measure_shimmer(pictures: Sequence[NDArray[np.uint8]]) -> float:
    """0..1 of up to SHIMMER_FRAMES consecutive pictures (height, width) of 8-bit luma: the deviation in levels over 32.

    Of the tiles the 60th percentile counts. 0 for fewer than three pictures, and for those smaller than a tile.
    """
    if len(pictures) < 3 or min(pictures[0].shape) < _TILE:
        return 0.0
    last = len(pictures) - 1
    triples = [
        [(middle - lag, middle, middle + lag) for middle in middles if lag <= middle <= last - lag]
        for lag, middles in _LAGS
    ]
    needed = {index for triples_of_lag in triples for triple in triples_of_lag for index in triple}
    tiles = {index: _pyramid(_cut_tiles(pictures[index])) for index in sorted(needed)}
    squares = [
        np.mean([_remainders(*(tiles[index] for index in triple)) for triple in triples_of_lag], axis=0)
        for triples_of_lag in triples
        if triples_of_lag
    ]
    deviation = np.sqrt(float(np.quantile(np.max(squares, axis=0), _TILE_QUANTILE)) / _INDEPENDENT)
    return float(min(1.0, deviation / _FULL_LEVELS))


def _cut_tiles(picture: NDArray[np.uint8]) -> _Tiles:
    """(tiles, _SIDE, _SIDE): each tile with its margins, which repeat the picture's edge where they reach beyond."""
    tops, lefts = _starts(picture.shape[0], _ROWS), _starts(picture.shape[1], _COLUMNS)
    if min(tops[0], lefts[0]) < _MARGIN:
        picture = np.pad(picture, _MARGIN, mode="edge")
        tops, lefts = [top + _MARGIN for top in tops], [left + _MARGIN for left in lefts]
    tiles = np.empty((len(tops) * len(lefts), _SIDE, _SIDE), np.float32)
    for tile, (top, left) in zip(tiles, product(tops, lefts), strict=True):
        tile[...] = picture[top - _MARGIN : top + _TILE + _MARGIN, left - _MARGIN : left + _TILE + _MARGIN]
    return tiles


def _starts(length: int, most: int) -> list[int]:
    """The first pixel of each of at most `most` tiles, each in the middle of its share of `length`."""
    count = min(most, length // _TILE)
    return [round((index + 0.5) * length / count - _TILE / 2) for index in range(count)]


def _pyramid(tiles: _Tiles) -> dict[int, _Tiles]:
    """The tiles at each scale of the search: means of 1, 2, 4 and 8 pixels in each direction."""
    levels = {1: tiles}
    for scale in (2, 4, 8):
        levels[scale] = _halved(levels[scale // 2])
    return levels


def _remainders(
    before: Mapping[int, _Tiles], middle: Mapping[int, _Tiles], after: Mapping[int, _Tiles]
) -> NDArray[np.float32]:
    """(tiles,): the mean square of what the best displacement leaves, without what fast movement may have left."""
    inner = middle[1][:, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    offsets = _search(before, middle, after)
    first, second = _displaced(before[1], offsets, _MARGIN), _displaced(after[1], -offsets, _MARGIN)
    remainder = inner - (first + second) * np.float32(0.5)
    coarse = _halved(_halved(_halved(_halved(remainder))))
    fine = _mean_square(remainder) - _COARSE_WEIGHT * _mean_square(coarse)
    still_first, still_second = (side[1][:, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN] for side in (before, after))
    alternating = _mean_square(inner - (still_first + still_second) * np.float32(0.5))
    alternating -= _mean_square(still_second - still_first)
    steps = np.stack([_mean_square(inner - first), _mean_square(inner - second)])
    is_even = steps.max(axis=0) <= _MAX_STEP_RATIO**2 * np.maximum(steps.min(axis=0), 1)
    values: NDArray[np.float32] = np.maximum(np.maximum(fine, alternating), 0) * is_even
    return values


def _search(
    before: Mapping[int, _Tiles], middle: Mapping[int, _Tiles], after: Mapping[int, _Tiles]
) -> NDArray[np.int64]:
    """(tiles, 2): the displacement in px whose prediction from both sides is nearest, from coarse to fine."""
    offsets = np.zeros((len(middle[1]), 2), np.int64)
    for scale, reach in ((8, 3), (4, 1), (2, 1), (1, 1)):
        margin = _MARGIN // scale
        # a displacement within the margin, with the candidates around it
        offsets = np.clip(offsets * 2, reach - margin, margin - reach)
        first = _displaced(before[scale], offsets, margin, extra=reach)
        second = _displaced(after[scale], -offsets, margin, extra=reach)
        size = _TILE // scale
        candidates = sliding_window_view(first, (size, size), axis=(1, 2))
        opposite = sliding_window_view(second, (size, size), axis=(1, 2))[:, ::-1, ::-1]
        # every second row of the finest scale is enough to choose among neighbours
        rows = 2 if scale == 1 else 1
        inner = middle[scale][:, None, None, margin:-margin:rows, margin:-margin]
        error = candidates[..., ::rows, :] + opposite[..., ::rows, :]
        error -= 2 * inner
        costs = np.einsum("tdayx,tdayx->tda", error, error).reshape(len(offsets), -1)
        best = np.stack(np.divmod(costs.argmin(axis=1), 2 * reach + 1), axis=1)
        offsets = offsets + best - reach
    return offsets


def _displaced(tiles: _Tiles, offsets: NDArray[np.int64], margin: int, *, extra: int = 0) -> _Tiles:
    """The inner part of each tile and `extra` pixels around it, taken `offsets` (down, across) further."""
    size = tiles.shape[1] - 2 * (margin - extra)
    cut = np.empty((len(tiles), size, size), np.float32)
    for part, tile, (top, left) in zip(cut, tiles, (offsets + margin - extra).tolist(), strict=True):
        part[...] = tile[top : top + size, left : left + size]
    return cut


def _halved(tiles: _Tiles) -> _Tiles:
    rows = tiles[:, ::2] + tiles[:, 1::2]
    means: _Tiles = (rows[:, :, ::2] + rows[:, :, 1::2]) * np.float32(0.25)
    return means


def _mean_square(tiles: _Tiles) -> NDArray[np.float32]:
    square: NDArray[np.float32] = np.einsum("tyx,tyx->t", tiles, tiles) / np.float32(tiles.shape[1] * tiles.shape[2])
    return square
