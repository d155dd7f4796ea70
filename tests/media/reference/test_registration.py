"""Black borders, and whether two pictures show the same part of the scene."""

from dataclasses import replace

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from vqmon.media.images.colour import describe_frame_colour
from vqmon.media.images.resampling import Orientation
from vqmon.media.reference.canvas import SideFrame
from vqmon.media.reference.registration import (
    NO_BORDERS,
    Borders,
    are_registered,
    border_choices,
    border_shares,
    describe_area,
    find_borders,
    have_same_shape,
    have_same_shape_inside,
)


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


def test_borders_of_a_letterboxed_picture_are_counted_to_the_pixel() -> None:
    """Rows above and below, columns beside; none in a picture without them, or one that is black."""
    barred = np.full((360, 640), 16, np.uint8)
    barred[41:300, 10:633] = PICTURE[41:300, 10:633].clip(60)

    assert find_borders(barred) == Borders(top=41, bottom=60, left=10, right=7)
    assert find_borders(PICTURE) == Borders()
    assert find_borders(np.full((36, 64), 16, np.uint8)) == Borders()


@pytest.mark.parametrize("damage", ["none", "noise", "blur"])
def test_damage_is_no_displacement(damage: str) -> None:
    """Noise and blur leave a picture where it is."""
    rng = np.random.default_rng(1)
    damaged = PICTURE.astype(np.float64)
    if damage == "noise":
        damaged += rng.normal(0, 15, PICTURE.shape)
    if damage == "blur":
        damaged = sum(np.roll(damaged, (y, x), (0, 1)) for y in range(-2, 3) for x in range(-2, 3)) / 25

    assert are_registered(damaged.clip(0, 255).astype(np.uint8), PICTURE)


@pytest.mark.parametrize("shift", [(0, 2), (3, 0), (5, 9)])
def test_a_shift_of_two_pixels_is_noticed(shift: tuple[int, int]) -> None:
    """In either direction."""
    rows, columns = shift
    shifted = WIDE[16 + rows : 376 + rows, 16 + columns : 656 + columns]

    assert not are_registered(shifted, PICTURE)


def test_a_crop_is_noticed_although_its_centre_stays_in_place() -> None:
    """12 px less on every side, stretched back to the size."""
    rows = np.linspace(12, 347, 360).round().astype(int)
    columns = np.linspace(12, 627, 640).round().astype(int)

    assert not are_registered(PICTURE[np.ix_(rows, columns)], PICTURE)


def side(width: int, height: int) -> SideFrame:
    frame = av.VideoFrame(width, height, "yuv420p")
    return SideFrame(0.0, frame, describe_frame_colour(frame), Orientation(), 1.0)


def test_bars_that_give_the_shape_of_the_other_side_come_before_all_that_is_dark() -> None:
    """A letterboxed night sky is dark beyond its bars."""
    dark = Borders(top=60, bottom=24)
    choices = border_choices(side(256, 192), dark, side(256, 144), NO_BORDERS)
    assert choices[0] == (NO_BORDERS, NO_BORDERS)
    assert choices[1] == (Borders(top=24, bottom=24), NO_BORDERS)
    assert (dark, NO_BORDERS) in choices


def test_a_letterbox_by_the_coded_size_is_found() -> None:
    """176x144 with wide pixels was scaled to 440x360 and padded; its square pixels would be 193x144."""
    ours = replace(side(176, 144), sample_aspect_ratio=128 / 117)
    borders = (NO_BORDERS, Borders(left=100, right=100))

    assert borders in border_choices(ours, NO_BORDERS, side(640, 360), borders[1])
    assert have_same_shape_inside(ours, side(640, 360), borders)
    assert not have_same_shape_inside(ours, side(640, 360), (NO_BORDERS, NO_BORDERS))


def test_bars_around_a_rounded_size_are_those_that_are_dark() -> None:
    """176x144 in 480x480 is 392.7 lines high: rounded to 393 by one scaler, to 392 by another."""
    for dark in (Borders(top=42, bottom=45), Borders(top=44, bottom=44)):
        choices = border_choices(side(176, 144), NO_BORDERS, side(480, 480), dark)
        assert choices[1] == (NO_BORDERS, dark)


def test_the_picture_inside_the_borders_is_described() -> None:
    """As a size and a position, and as shares."""
    letterboxed, borders = side(256, 192), Borders(top=24, bottom=24)
    assert describe_area(letterboxed, borders) == "256x144+0+24 of 256x192"
    assert describe_area(letterboxed, NO_BORDERS) == ""
    shares = border_shares(letterboxed, borders)
    assert (shares.top, shares.bottom, shares.left) == (0.125, 0.125, 0.0)
    assert have_same_shape(letterboxed.active_size(borders), (1920, 1080))
    assert not have_same_shape(letterboxed.active_size(NO_BORDERS), (1920, 1080))
