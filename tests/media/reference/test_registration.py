"""Black borders, and what may be cut from two sides."""

from dataclasses import replace

import av
import numpy as np

from vqmon.media.images.colour import describe_frame_colour
from vqmon.media.images.resampling import Orientation
from vqmon.media.reference.canvas import SideFrame
from vqmon.media.reference.registration import (
    NO_BORDERS,
    Borders,
    border_choices,
    border_shares,
    describe_area,
    find_borders,
    have_same_shape,
    have_same_shape_inside,
)

PICTURE = np.random.default_rng(0).integers(60, 255, (360, 640)).astype(np.uint8)


def test_borders_of_a_letterboxed_picture_are_counted_to_the_pixel() -> None:
    """Rows above and below, columns beside; none in a picture without them, or one that is black."""
    barred = np.full((360, 640), 16, np.uint8)
    barred[41:300, 10:633] = PICTURE[41:300, 10:633]

    assert find_borders(barred) == Borders(top=41, bottom=60, left=10, right=7)
    assert find_borders(PICTURE) == Borders()
    assert find_borders(np.full((36, 64), 16, np.uint8)) == Borders()


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
