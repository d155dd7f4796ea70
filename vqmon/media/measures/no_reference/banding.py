"""CAMBI: banding of a picture alone, with the constants and the order of steps of libvmaf's version.

Tandon, Afonso, Sole, Krasula, "CAMBI: contrast-aware multiscale banding index", PCS 2021. Luma (BT.709, limited range,
10 bits) of 8-bit pictures is smoothed over 2 x 2 pixels, against dithering. What is flat but for steps (7 x 7 pixels,
nearly all equal to their neighbours to the right and below) is measured at five scales: in a window around each pixel,
how many pixels have its value and how many one that is 1 to 4 steps away, as long as such a step is visible on a
BT.1886 display. The mean of the upper 60 % of each scale, weighted 16 to 1, is the value: 0 without banding, about 5
where it annoys, at most 24.
"""

import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vqmon.media.measures.measure import Measure, Picture

_SCALE_WEIGHTS = (16, 8, 4, 2, 1)
# of steps of 1 to 4 levels
_STEP_WEIGHTS = (1, 2, 3, 4)
_STEPS = len(_STEP_WEIGHTS)
_VISIBLE_STEP = 0.019
_MASK_SIDE = 7
_POOLED_SHARE = 0.6
_WINDOW_4K = 65
_LOWEST, _HIGHEST = 64, 940
_BT709 = np.array([0.2126, 0.7152, 0.0722], np.float32) * np.float32(219 / 255)

Levels = NDArray[np.int32]
"""(height, width): luma in limited range, 64..940, and 10 bits."""

_Mask = NDArray[np.bool_]


def banding(levels: Levels) -> float:
    """CAMBI of luma; that of an 8-bit picture goes through `without_dither` first."""
    height, width = levels.shape
    mask = _flat_mask(levels)
    window = (_WINDOW_4K * (width + height) // 375 >> 4) | 1
    total: float = 0.0
    for scale, weight in enumerate(_SCALE_WEIGHTS):
        if scale:
            levels, mask = levels[::2, ::2], mask[::2, ::2]
        levels = _mode_filtered(levels)
        total += weight * _pooled(levels, mask, reach=window // 2)
    return float(total / window**2)


def _limited_luma(picture: Picture) -> Levels:
    """(height, width), 64..940: BT.709 luma in 10 bits, rounded to 8, as an 8-bit picture is coded."""
    luma = 16 + picture.rgb.astype(np.float32) @ _BT709
    return np.floor(luma + 0.5).astype(np.int32) << 2


def without_dither(levels: Levels) -> Levels:
    """Means over 2 x 2 pixels, rounded down; over two along the last row and column."""
    result = levels.copy()
    result[:-1, :-1] = (levels[:-1, :-1] + levels[:-1, 1:] + levels[1:, :-1] + levels[1:, 1:]) >> 2
    result[:-1, -1] = (levels[:-1, -1] + levels[1:, -1]) >> 1
    result[-1, :-1] = (levels[-1, :-1] + levels[-1, 1:]) >> 1
    return result


def _flat_mask(levels: Levels) -> _Mask:
    """Where more pixels of 7 x 7 equal their neighbours than a number that falls with the size of the picture."""
    height, width = levels.shape
    equal = np.ones(levels.shape, np.int32)
    equal[:, :-1] &= levels[:, :-1] == levels[:, 1:]
    equal[:-1] &= levels[:-1] == levels[1:]
    sums = np.pad(np.pad(equal, _MASK_SIDE // 2).cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    counts = sums[_MASK_SIDE:, _MASK_SIDE:] - sums[:-_MASK_SIDE, _MASK_SIDE:]
    counts = counts - sums[_MASK_SIDE:, :-_MASK_SIDE] + sums[:-_MASK_SIDE, :-_MASK_SIDE]
    size = max(0, math.ceil(math.log2(max(1, (width >> 6) * (height >> 6)))))
    mask: _Mask = counts > (_MASK_SIDE**2 + 3 * (size - 11) - 1) >> 1
    return mask


def _mode_filtered(levels: Levels) -> Levels:
    """The most frequent of three neighbours, across, then down; the lowest of three different ones."""
    across, result = levels.copy(), levels.copy()
    across[:, 1:-1] = _mode(levels[:, :-2], levels[:, 1:-1], levels[:, 2:])
    result[1:-1] = _mode(across[:-2], across[1:-1], across[2:])
    return result


def _mode(first: Levels, second: Levels, third: Levels) -> Levels:
    lowest = np.minimum(np.minimum(first, second), third)
    return np.where((first == second) | (first == third), first, np.where(second == third, second, lowest))


def _pooled(levels: Levels, mask: _Mask, *, reach: int) -> float:
    contrasts = np.zeros(levels.size)
    filled = 0
    for row in _contrast_rows(levels, mask, reach=reach):
        contrasts[filled : filled + len(row)] = row
        filled += len(row)
    count = min(max(int(_POOLED_SHARE * levels.size), 1), levels.size)
    return float(np.sort(contrasts)[-count:].mean())


def _contrast_rows(levels: Levels, mask: _Mask, *, reach: int) -> Iterator[NDArray[np.float64]]:
    """The contrasts of the flat pixels of each row, in windows of `reach` pixels to each side."""
    height, width = levels.shape
    visible = _visible_up_to()
    counted = mask & (levels <= visible[-1] + _STEPS)
    # (level, column): how many counted pixels of the rows within reach
    counts = np.zeros((visible[-1] + 3 * _STEPS, width), np.int32)
    columns = np.arange(width)
    for row in range(-reach, height):
        for changed, change in ((row + reach, 1), (row - reach - 1, -1)):
            if 0 <= changed < height:
                taken = counted[changed]
                counts[levels[changed, taken], columns[taken]] += change
        if row < 0 or not (flat := np.flatnonzero(counted[row])).size:
            continue
        yield _contrasts(counts, levels[row, flat], flat, reach=reach)


def _contrasts(
    counts: NDArray[np.int32], values: Levels, columns: NDArray[np.int64], *, reach: int
) -> NDArray[np.float64]:
    """How much each of some pixels of a row contrasts with those that are 1 to 4 levels away."""
    used = np.zeros(len(counts), np.bool_)
    for step in range(-_STEPS, _STEPS + 1):
        used[values + step] = True
    lines = np.cumsum(counts[used], axis=1)
    lines = np.pad(lines, ((0, 0), (1, 0)))
    position = np.cumsum(used) - 1
    left, right = np.maximum(columns - reach, 0), np.minimum(columns + reach + 1, counts.shape[1])

    def count(step: int) -> NDArray[np.float64]:
        line = position[values + step]
        counted: NDArray[np.float64] = (lines[line, right] - lines[line, left]).astype(np.float64)
        return counted

    same = count(0)
    highest: NDArray[np.float64] = np.zeros(len(values))
    for step, (weight, limit) in enumerate(zip(_STEP_WEIGHTS, _visible_up_to(), strict=True), start=1):
        other = np.maximum(count(step), count(-step))
        contrast = weight * same * other / np.maximum(same + other, 1)
        highest = np.maximum(highest, np.where(values <= limit, contrast, 0))
    return highest


@lru_cache(maxsize=1)
def _visible_up_to() -> tuple[int, ...]:
    """For steps of 1 to 4 levels: the highest level from which the step is visible, 1.9 % of the luminance."""
    base, gamma = 0.01 ** (1 / 2.4), 2.4
    span = 300 ** (1 / 2.4) - base
    levels = np.arange(_LOWEST, _HIGHEST + 1)
    luminance = span**gamma * ((levels - _LOWEST) / (_HIGHEST - _LOWEST) + base / span) ** gamma
    limits = []
    for step in range(1, _STEPS + 1):
        is_visible = luminance[step:] - luminance[:-step] > _VISIBLE_STEP * luminance[:-step]
        limits.append(_LOWEST + int(np.flatnonzero(is_visible)[-1]))
    return tuple(limits)


CAMBI = Measure(
    name="cambi",
    description="visible banding of luma",
    unit="",
    low=0,
    high=24,
    higher_is_better=False,
    needs="nothing",
    source="Tandon, Afonso, Sole and Krasula, PCS 2021",
    min_side_px=216,
    value=lambda _, picture: banding(without_dither(_limited_luma(picture))),
)
