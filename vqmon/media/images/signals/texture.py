"""Signals of fine detail, measured on full-resolution luma patches: blockiness, blur, noise, banding, over-sharpness.

signal          formula and source
blockiness      differences across neighbouring pixels that are small (2..24 levels) and larger than both of their own
                neighbours are counted per column (row) modulo 8; the excess of the largest count over the median of
                the others, 0.4 counting as 1. The 8 x 8 grid after Wang, Sheikh, Bovik, "No-reference perceptual
                quality assessment of JPEG compressed images", ICIP 2002; strong edges are left out so that text and
                pixel art do not count.
blur            Crété-Roffet et al., "The blur effect", SPIE 2007, 9-tap box: how little a strong blur changes the
                picture; the maximum of both directions. 0 for a picture without any edges.
noise           Immerkær, "Fast noise variance estimation", CVIU 1996, per 12 x 12 block; the 10th percentile of the
                blocks that are neither black nor white, so that texture does not count; a standard deviation of 25
                levels counts as 1; 0 when less than a quarter of the picture is between black and white (a text page).
banding         after Tandon et al., "CAMBI", PCS 2021, simplified: steps of 1 to 32 levels between two sides that are
                flat for 5 pixels, weighted 0.1, 0.4, 0.7 and 1 for 1, 2, 3 and 4 to 8 levels, and 1/16 more for each
                level above 8, as larger steps are fewer; one such step every 25 pixels (0.04) counts as 1. Larger
                steps are the edges of drawings. Coding leaves no side quite flat: or, if that is more, the density of
                steps of up to 32 levels between the means of two stretches of 5 pixels, 2 pixels apart, that are at
                least 3 levels, and 1.5 levels more than twice the ranges of both; 0.01, as in natural pictures, counts
                as 0 and 0.025 as 1.
over_sharpness  how many edges have a halo on both sides, and how strong. At the strongest edges (>= 24 levels within 4
                pixels, 1500 in each direction) the width is measured as in Marziliano et al., "Perceptual blur and
                ringing metrics", SPIC 2004: from the middle to the pixel where the profile stops rising, 1 to 6 pixels
                on each side, so that a blurred or upscaled edge is found at its own scale. Behind it a halo of the same
                width is passed over, at least 3 pixels (the reach of a 7 x 7 mask); the next 5 pixels are the plateau.
                    halo       the smaller of overshoot and undershoot beyond the plateaus, over the edge's height: a
                               line or a lit rim has only one
                    roughness  the larger range of the plateaus, over the height between the two peaks
                    excess     halo - 0.05 - 0.2 roughness, at least 0: what lenses, cameras and noise leave
                    strength   mean of excess / (excess + 0.1), weighted by the height, up to 100 levels, and by
                               exp(-(roughness / 0.35)^2), as texture has no plateaus; with 20 clean edges of 40 levels
                               added (800), so that a few edges decide nothing. Edges under 12 levels do not count
                The signal is strength^2.5 / (strength^2.5 + 0.65^2.5): clean pictures, of strength up to 0.16, stay
                under 0.03, the difference at which experiments ask for a person, and strong halos are still ordered.
                Upscaling by Lanczos leaves halos by itself; hit and false rates: docs/experiments.md.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Patches = NDArray[np.int16]
"""(patches, rows, columns)."""

_PATCH_PIXELS = 240
_BLOCK_GRID = 8
_NOISE_BLOCK = 12
_MAX_STEP = 32
_STEP_WEIGHTS = np.array(
    [0, 0.1, 0.4, 0.7, *(1 + max(0, step - 8) / 16 for step in range(4, _MAX_STEP + 1))], np.float32
)

_EDGE_REACH = 18
_MAX_EDGES = 1500
_MIN_EDGE_HEIGHT, _MAX_EDGE_HEIGHT = 12, 100
_MAX_HALF_WIDTH = 6
_MIN_HALO_WIDTH = 3
_PLATEAU_WIDTH = 5
_MAX_ROUGHNESS = 0.35
_CLEAN_HALO = 0.05
_HALF_HALO = 0.1
_CLEAN_WEIGHT = 800
_HALF_STRENGTH = 0.65


def cut_patches(luma: NDArray[np.uint8], *, is_full: bool) -> Patches:
    """Up to 3 x 3 patches, evenly spread, at multiples of 16 pixels; the whole picture when it is small."""
    height, width = luma.shape
    rows, columns = _patch_starts(height), _patch_starts(width)
    tall, wide = min(height, _PATCH_PIXELS), min(width, _PATCH_PIXELS)
    patches = np.stack([luma[top : top + tall, left : left + wide] for top in rows for left in columns]).astype(
        np.int16
    )
    return np.right_shift(patches * np.int16(110), 7) + np.int16(16) if is_full else patches


def _patch_starts(length: int) -> list[int]:
    count = min(3, max(1, length // _PATCH_PIXELS))
    spare = length - min(length, _PATCH_PIXELS)
    return [round(spare * (index + 0.5) / count) // 16 * 16 for index in range(count)]


def _measure_blockiness(patches: Patches) -> float:
    return max(_block_grid_excess(patches), _block_grid_excess(patches.swapaxes(1, 2)))


def _block_grid_excess(patches: Patches) -> float:
    if patches.shape[2] < 4 * _BLOCK_GRID:
        return 0.0
    steps = np.abs(np.diff(patches[:, ::2], axis=2))
    middle, left, right = steps[:, :, 1:-1], steps[:, :, :-2], steps[:, :, 2:]
    is_block_edge = (middle >= 2) & (middle <= 24) & (middle > 2 * np.maximum(left, right))
    per_column = is_block_edge.mean(axis=(0, 1))
    usable = len(per_column) // _BLOCK_GRID * _BLOCK_GRID
    phases = np.sort(per_column[:usable].reshape(-1, _BLOCK_GRID).mean(axis=0))
    return float((phases[-1] - np.median(phases[:-1])) / 0.4)


def _measure_blur(patches: Patches) -> float:
    return max(_blur_along_rows(patches[:, ::3]), _blur_along_rows(_columns_as_rows(patches, every=3)))


def _blur_along_rows(lines: Patches) -> float:
    if lines.shape[2] < 16:
        return 0.0
    change = np.abs(np.diff(lines[:, :, 5:-4], axis=2))
    # the difference between neighbours of a 9-tap box is that of the pixels that enter and leave it, over 9
    nine_times_rest = np.abs(lines[:, :, 10:] - lines[:, :, 1:-9])
    edges = int(change.sum())
    if edges < 0.05 * change.size:
        return 0.0
    return 1 - int(np.maximum(9 * change - nine_times_rest, 0).sum()) / (9 * edges)


def _columns_as_rows(patches: Patches, *, every: int) -> Patches:
    """Every n-th column as a row: (patches, columns, rows), laid out in memory as before, which numpy reads faster."""
    return np.ascontiguousarray(patches[:, :, ::every]).swapaxes(1, 2)


def _measure_noise(patches: Patches) -> float:
    even_rows = patches[:, : patches.shape[1] // 2 * 2]
    if min(even_rows.shape[1:]) < _NOISE_BLOCK + 2:
        return 0.0
    second_differences = even_rows[:, :-2] - 2 * even_rows[:, 1:-1] + even_rows[:, 2:]
    response = np.abs(second_differences[:, :, :-2] - 2 * second_differences[:, :, 1:-1] + second_differences[:, :, 2:])
    strength = _block_means(response)
    level = _block_means(even_rows[:, 1:-1, 1:-1])
    usable = strength[(level > 24) & (level < 228)]
    if usable.size < max(16, strength.size // 4):
        return 0.0
    return float(np.percentile(usable, 10)) * math.sqrt(math.pi / 2) / 6 / 25


def _block_means(values: Patches) -> NDArray[np.float32]:
    count, height, width = values.shape
    tall, wide = height // _NOISE_BLOCK, width // _NOISE_BLOCK
    shaped = values[:, : tall * _NOISE_BLOCK, : wide * _NOISE_BLOCK]
    # 12 values of at most 2040 each: 16 bits hold their sum
    rows = shaped.reshape(count, tall, _NOISE_BLOCK, -1).sum(axis=2, dtype=np.int16)
    sums = rows.reshape(count, tall, wide, _NOISE_BLOCK).sum(axis=3, dtype=np.int32)
    means: NDArray[np.float32] = sums.astype(np.float32) / np.float32(_NOISE_BLOCK**2)
    return means


def _measure_banding(patches: Patches) -> float:
    directions = (patches[:, ::2], _columns_as_rows(patches, every=2))
    exact = max(_contour_density(direction) for direction in directions) / 0.04
    coded = max(_coded_contour_density(direction) for direction in directions)
    return max(exact, (coded - 0.01) / 0.015)


def _contour_density(patches: Patches) -> float:
    reach = 5
    steps = np.abs(np.diff(patches, axis=2))
    count = steps.shape[2] - 2 * reach
    if count <= 0:
        return 0.0
    is_level = steps == 0
    step = steps[:, :, reach:-reach]
    is_contour = (step >= 1) & (step <= _MAX_STEP)
    for start in (*range(reach), *range(reach + 1, 2 * reach + 1)):
        is_contour &= is_level[:, :, start : start + count]
    weights = float(_STEP_WEIGHTS[step[is_contour]].sum())
    return weights / int(is_contour.size)


def _coded_contour_density(patches: Patches) -> float:
    """The density of steps between two nearly flat stretches; of a step's several positions the first counts."""
    reach, gap = 5, 7
    count = patches.shape[2] - reach + 1
    if count <= gap + 1:
        return 0.0
    shifted = [patches[:, :, start : start + count] for start in range(reach)]
    spread = np.maximum.reduce(shifted) - np.minimum.reduce(shifted)
    total = np.add.reduce(shifted)
    # in fifths of a level, as the sums are
    step = np.abs(total[:, :, gap:] - total[:, :, :-gap])
    least = np.maximum(2 * reach * (spread[:, :, gap:] + spread[:, :, :-gap]) + np.int16(1.5 * reach), 3 * reach)
    is_contour = (step >= least) & (step <= reach * _MAX_STEP)
    return float((is_contour[:, :, 1:] & ~is_contour[:, :, :-1]).mean())


def _measure_over_sharpness(patches: Patches) -> float:
    profiles = np.concatenate(
        [_edge_profiles(_mean_of_row_pairs(patches)), _edge_profiles(_mean_of_row_pairs(patches.swapaxes(1, 2)))]
    )
    bright, dark = _measure_edge_side(profiles[:, _EDGE_REACH:]), _measure_edge_side(-profiles[:, _EDGE_REACH::-1])
    height, rise = bright.level + dark.level, bright.peak + dark.peak
    roughness = np.maximum(bright.spread, dark.spread) / np.maximum(rise, 1)
    halo = np.minimum(bright.peak - bright.level, dark.peak - dark.level) / np.maximum(height, _MIN_EDGE_HEIGHT)
    excess = np.maximum(halo - _CLEAN_HALO - 0.2 * roughness, 0)
    weight = np.exp(-np.square(roughness / _MAX_ROUGHNESS)) * np.clip(height, 0, _MAX_EDGE_HEIGHT)
    weight[(height <= _MIN_EDGE_HEIGHT) | (height <= 0.4 * rise)] = 0
    strength = float((weight * excess / (excess + _HALF_HALO)).sum()) / (float(weight.sum()) + _CLEAN_WEIGHT)
    return 1 / (1 + math.pow(_HALF_STRENGTH / strength, 2.5)) if strength else 0.0


def _mean_of_row_pairs(patches: Patches) -> Patches:
    """Every third row averaged with the next one, against noise: (patches, rows / 3, columns)."""
    return np.ascontiguousarray(np.right_shift(patches[:, :-1:3] + patches[:, 1::3], 1))


def _edge_profiles(lines: Patches) -> NDArray[np.float32]:
    """(edges, 37): the pixels across the strongest edges, the edge in the middle, rising from left to right."""
    reach = _EDGE_REACH
    if lines.shape[2] < 2 * reach + 4:
        return np.empty((0, 2 * reach + 1), np.float32)
    rise = np.abs(lines[:, :, 4:] - lines[:, :, :-4])
    margin = reach - 2
    here = rise[:, :, margin:-margin]
    is_edge = (here >= 24) & (here > rise[:, :, margin - 1 : -margin - 1])
    is_edge &= here >= rise[:, :, margin + 1 : rise.shape[2] - margin + 1]
    edges = np.flatnonzero(is_edge)
    if len(edges) > _MAX_EDGES:
        edges = edges[np.argpartition(-here.ravel()[edges], _MAX_EDGES)[:_MAX_EDGES]]
    patch, row, column = np.unravel_index(edges, here.shape)
    profiles = sliding_window_view(lines, 2 * reach + 1, axis=2)[patch, row, column]
    rising: NDArray[np.float32] = (profiles * np.sign(profiles[:, reach + 2] - profiles[:, reach - 2])[:, None]).astype(
        np.float32
    )
    return rising


class _EdgeSide(NamedTuple):
    """One side of each edge, (edges,) each, in levels; those of the dark side are negated."""

    peak: NDArray[np.float32]
    # mean and range of the plateau behind the halo
    level: NDArray[np.float32]
    spread: NDArray[np.float32]


def _measure_edge_side(outwards: NDArray[np.float32]) -> _EdgeSide:
    """`outwards` (edges, 19): pixels from the middle of the edge to one side, rising at first."""
    falls = np.diff(outwards[:, : _MAX_HALF_WIDTH + 2], axis=1) <= 0
    half_width = np.where(falls.any(axis=1), falls.argmax(axis=1), _MAX_HALF_WIDTH).clip(1, _MAX_HALF_WIDTH)
    edges = np.arange(len(outwards))
    plateau_start = half_width + np.maximum(half_width, _MIN_HALO_WIDTH)
    plateau = outwards[edges[:, None], plateau_start[:, None] + np.arange(_PLATEAU_WIDTH)]
    return _EdgeSide(outwards[edges, half_width], plateau.mean(axis=1), np.ptp(plateau, axis=1))


TEXTURE_SIGNALS: Mapping[str, Callable[[Patches], float]] = {
    "blockiness": _measure_blockiness,
    "blur": _measure_blur,
    "noise": _measure_noise,
    "banding": _measure_banding,
    "over_sharpness": _measure_over_sharpness,
}
