"""Shimmer: what goes up and down from picture to picture, and no movement explains."""

from collections.abc import Callable

import numpy as np
import pytest

from tests.media.images.pictures import Picture, photo
from vqmon.media.images.signals.shimmer import SHIMMER_FRAMES, measure_shimmer

SIZE = (270, 480)


def panned(step: float) -> list[Picture]:
    """Consecutive pictures of a photo that moves by `step` pixels to the left."""
    picture = photo("coffee")
    lefts = [round(20 + step * number) for number in range(SHIMMER_FRAMES)]
    return [picture[40 : 40 + SIZE[0], left : left + SIZE[1]] for left in lefts]


def grain(number: int) -> Picture:
    return np.random.default_rng(number).choice([-1.0, 1.0], SIZE)


def blobs(number: int) -> Picture:
    return np.random.default_rng(number).normal(0, 1, (68, 120)).repeat(4, 0).repeat(4, 1)[: SIZE[0], : SIZE[1]]


def cells(number: int) -> Picture:
    row, column = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.where((row // 32 + column // 32 + number) % 2, 1.0, -1.0)


def waves(number: int) -> Picture:
    row, column = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.sqrt(2) * np.sin(column / 4 + row / 6 + number * 2 * np.pi / 6)


def shimmer_of(pictures: list[Picture], pattern: Callable[[int], Picture], amplitude: float) -> float:
    shaken = [picture + amplitude * pattern(number) for number, picture in enumerate(pictures)]
    return measure_shimmer([np.clip(np.rint(picture), 0, 255).astype(np.uint8) for picture in shaken])


@pytest.mark.parametrize("pattern", [grain, blobs, cells, waves])
@pytest.mark.parametrize("step", [0, 3])
def test_shimmer_rises_with_its_amplitude(pattern: Callable[[int], Picture], step: float) -> None:
    """On a still and on a moving picture, of any grain and also with a period of six pictures; 18 levels are plain."""
    values = [shimmer_of(panned(step), pattern, amplitude) for amplitude in (0, 6, 18)]
    assert values == sorted(values)
    assert values[0] < 0.1
    assert values[-1] > 0.4


def test_independent_grain_reads_its_deviation() -> None:
    """16 levels are half of the range of 32."""
    assert shimmer_of(panned(0), grain, 16) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("step", [0.5, 1, 4, 7])
def test_movement_is_no_shimmer(step: float) -> None:
    """Also by parts of a pixel, which a camera moves too; here they are rounded, which is uneven movement."""
    assert shimmer_of(panned(step), grain, 0) < 0.12


def test_shimmer_in_a_small_part_of_the_picture_is_left_out() -> None:
    """Water or leaves in a fifth of it."""
    fifth = lambda number: grain(number) * (np.arange(SIZE[1]) < SIZE[1] // 5)  # noqa: E731
    assert shimmer_of(panned(0), fifth, 18) < 0.05


def test_too_few_and_too_small_pictures_have_none() -> None:
    """Nothing goes up and down in two pictures."""
    pictures = [np.full((270, 480), level, np.uint8) for level in (0, 200)]
    assert measure_shimmer(pictures) == 0.0
    assert measure_shimmer([picture[:40] for picture in pictures * 4]) == 0.0
    assert measure_shimmer([]) == 0.0
