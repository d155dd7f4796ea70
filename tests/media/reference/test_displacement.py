"""Whether two pictures show the same part of the scene."""

import numpy as np
import pytest
from numpy.typing import NDArray

from vqmon.media.reference.registration import are_registered, measure_displacement


def textured(seed: int = 0) -> NDArray[np.uint8]:
    """A picture of 640 x 360 with detail at several scales, and 16 px more on every side."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((392, 672))
    for size in (4, 8, 16):
        coarse = rng.normal(0, 30, (400 // size, 672 // size))
        picture += np.kron(coarse, np.ones((size, size)))[:392]
    return (picture + 120).clip(0, 255).astype(np.uint8)


WIDE = textured()
PICTURE = WIDE[16:-16, 16:-16]


def registered(picture: NDArray[np.uint8]) -> bool:
    """Whether it shows what PICTURE shows."""
    return are_registered([measure_displacement(picture, PICTURE)])


def coded(picture: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    """As a poor encode: of each block of 8 x 8 px the mean is left, with an error."""
    blocks = picture.reshape(45, 8, 80, 8).mean(axis=(1, 3)) + np.random.default_rng(seed).normal(0, 8, (45, 80))
    return np.kron(blocks, np.ones((8, 8))).clip(0, 255).astype(np.uint8)


def zoomed(share: float) -> NDArray[np.uint8]:
    """PICTURE enlarged around its centre, nearest neighbour."""
    rows, columns = (((np.arange(size) - size / 2) / (1 + share) + size / 2).round().astype(int) for size in (360, 640))
    return PICTURE[np.ix_(rows, columns)]


@pytest.mark.parametrize("damage", ["none", "noise", "blur"])
def test_damage_is_no_displacement(damage: str) -> None:
    """Noise and blur leave a picture where it is."""
    rng = np.random.default_rng(1)
    damaged = PICTURE.astype(np.float64)
    if damage == "noise":
        damaged += rng.normal(0, 15, PICTURE.shape)
    if damage == "blur":
        damaged = sum(np.roll(damaged, (y, x), (0, 1)) for y in range(-2, 3) for x in range(-2, 3)) / 25

    assert registered(damaged.clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize("shift", [(0, 2), (3, 0), (5, 9)])
def test_a_shift_of_two_pixels_is_noticed(shift: tuple[int, int]) -> None:
    """In either direction."""
    rows, columns = shift
    shifted = WIDE[16 + rows : 376 + rows, 16 + columns : 656 + columns]

    assert not registered(shifted)


def test_a_crop_is_noticed_although_its_centre_stays_in_place() -> None:
    """12 px less on every side, stretched back to the size."""
    rows = np.linspace(12, 347, 360).round().astype(int)
    columns = np.linspace(12, 627, 640).round().astype(int)

    assert not registered(PICTURE[np.ix_(rows, columns)])


def test_the_displacement_is_that_of_the_content() -> None:
    """In px of the whole picture: a shift, and a zoom by 3 %, at whose edges 320 and 180 px become 3 % more."""
    shifted = measure_displacement(WIDE[18:378, 13:653], PICTURE)
    assert shifted.affine == pytest.approx([-3, 0, 0, 2, 0, 0], abs=0.1)
    assert not shifted.is_none
    assert measure_displacement(zoomed(0.03), PICTURE).affine == pytest.approx(
        [0, -320 * 0.03 / 1.03, 0, 0, 0, -180 * 0.03 / 1.03], abs=0.5
    )
    assert measure_displacement(PICTURE, PICTURE).is_none


@pytest.mark.parametrize("share", [0.01, 0.03, 0.05])
def test_a_zoom_is_told_from_the_damage_of_a_poor_encode(share: float) -> None:
    """By the median of three pairs of pictures."""
    poor = [measure_displacement(coded(PICTURE, seed), PICTURE) for seed in range(3)]
    assert are_registered(poor)
    assert not are_registered([measure_displacement(coded(zoomed(share), seed), PICTURE) for seed in range(3)])


@pytest.mark.parametrize("degrees", [0, 30, 90])
def test_bars_tell_the_displacement_across_them(degrees: int) -> None:
    """Bars of one direction that are moved by 6 px across it; along it nobody could tell."""
    across = np.radians(degrees)
    rows, columns = np.mgrid[:360, :640]
    places = np.cos(across) * columns + np.sin(across) * rows
    levels = np.random.default_rng(3).integers(40, 220, 60)
    noise = np.random.default_rng(4).normal(0, 2, (2, 360, 640))

    def bars(moved: float) -> NDArray[np.uint8]:
        picture = np.interp(places + moved, np.arange(-300, 900, 20), levels)
        return (picture + noise[int(moved > 0)]).clip(0, 255).astype(np.uint8)

    assert not are_registered([measure_displacement(bars(6), bars(0))])
    assert are_registered([measure_displacement(bars(1e-9), bars(0))])


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_a_graphic_over_up_to_half_of_the_picture_is_no_displacement(share: float) -> None:
    """A table of text below, or a column at the side; the rest is where it was, or moved by 4 px."""
    random = np.random.default_rng(5)
    text = np.kron(random.integers(0, 2, (90, 160)), np.ones((4, 4))) * 180 + 30
    for rows, columns in (
        (slice(round(360 * (1 - share)), 360), slice(0, 640)),
        (slice(0, 360), slice(0, round(640 * share))),
    ):
        for moved in (0, 4):
            covered = WIDE[16:376, 16 + moved : 656 + moved].copy()
            covered[rows, columns] = text[rows, columns]
            displacement = measure_displacement(covered, PICTURE)
            assert are_registered([displacement]) == (moved == 0)


def test_flat_pictures_are_not_displaced() -> None:
    """Nothing in them speaks for a displacement, whatever their noise."""
    noise = np.random.default_rng(2).integers(118, 122, (2, 360, 640)).astype(np.uint8)
    assert are_registered([measure_displacement(noise[0], noise[1])])
    black = np.full((360, 640), 16, np.uint8)
    assert measure_displacement(black, black).is_none
