"""Black bars are found and left out; dark pictures are not taken for bars."""

import av
import numpy as np
import pytest

from vqmon.media.images.active_area import ActiveArea, find_active_area


def _frame(luma: np.ndarray, pixel_format: str = "yuv420p") -> av.VideoFrame:
    planes = np.concatenate([luma, np.full((luma.shape[0] // 2, luma.shape[1]), 128)]).astype(np.uint8)
    frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
    return frame if pixel_format == "yuv420p" else frame.reformat(format=pixel_format)


def _picture(height: int = 360, width: int = 640) -> np.ndarray:
    return np.random.default_rng(1).integers(40, 200, (height, width))


def test_exactly_the_bars_are_cut_off() -> None:
    """Another canvas than that of the picture without bars would have other tiles. Of an odd bar no line is left."""
    luma = np.full((360, 640), 16)
    luma[40:300, 80:600] = _picture(260, 520)
    area = find_active_area(_frame(luma), is_full_range=False)
    assert area == ActiveArea(left=80, top=40, width=520, height=260)
    luma[40:43] = 16
    area = find_active_area(_frame(luma), is_full_range=False)
    assert area == ActiveArea(left=80, top=44, width=520, height=256)


def test_what_coding_left_in_a_bar_is_part_of_it() -> None:
    """Ringing beside the picture: some pixels of the last lines of a bar."""
    luma = np.full((360, 640), 16)
    luma[60:340] = _picture(280)
    luma[56:60, 100:120] = luma[340:344, 300:320] = 60
    assert find_active_area(_frame(luma), is_full_range=False) == ActiveArea(left=0, top=60, width=640, height=280)


@pytest.mark.parametrize("level", [16, 24, 40])
def test_a_pair_of_bars_may_be_grey_and_noisy_and_hold_subtitles(level: int) -> None:
    luma = np.random.default_rng(3).integers(level - 6, level + 7, (360, 640))
    luma[60:300, 120:520] = _picture(240, 400)
    luma[20:50, 20:100] = 235
    luma[310:330, 200:440:3] = luma[310:330, 201:440:3] = 235
    area = find_active_area(_frame(luma), is_full_range=False)
    assert area == ActiveArea(left=120, top=60, width=400, height=240)


def test_unequal_grey_ends_are_part_of_the_picture() -> None:
    """A dusky sky above a dark road is no pair of bars: neither length nor level is the same."""
    luma = np.full((360, 640), 30)
    luma[60:340] = _picture(280)
    assert find_active_area(_frame(luma), is_full_range=False).height == 360
    luma[300:] = 40
    assert find_active_area(_frame(luma), is_full_range=False).height == 360


@pytest.mark.parametrize("lines", [3, 4, 5])
def test_something_is_left_of_a_picture_of_a_few_lines(lines: int) -> None:
    """Bars are cut in pairs of lines."""
    frame = av.VideoFrame(64, lines, "yuv420p")
    plane = np.frombuffer(frame.planes[0], np.uint8).reshape(lines, -1)
    plane[:] = 16
    plane[lines // 2] = 200
    area = find_active_area(frame, is_full_range=False)
    assert min(area.width, area.height) > 0


def test_a_picture_without_bars_is_kept_whole() -> None:
    whole = ActiveArea(left=0, top=0, width=640, height=360)
    assert find_active_area(_frame(_picture()), is_full_range=False) == whole


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p", "yuv420p10le", "nv12"])
def test_pixel_formats_do_not_matter(pixel_format: str) -> None:
    luma = np.full((360, 640), 16)
    luma[60:300] = _picture(240)
    area = find_active_area(_frame(luma, pixel_format), is_full_range=False)
    assert area == ActiveArea(left=0, top=60, width=640, height=240)


def test_black_of_full_range_is_darker() -> None:
    luma = np.zeros((360, 640))
    luma[60:300] = _picture(240)
    assert find_active_area(_frame(luma), is_full_range=True).height == 240
    luma[:60] = 14
    assert find_active_area(_frame(luma), is_full_range=True).top == 0


def test_a_dark_scene_is_not_a_bar() -> None:
    """A night sky over a lit street: the sky is dark, but more than a bar would be."""
    luma = np.full((360, 640), 16)
    luma[200:] = _picture(160)
    assert find_active_area(_frame(luma), is_full_range=False).height == 360
    noisy = np.random.default_rng(2).integers(16, 36, (360, 640))
    noisy[100:] = _picture(260)
    assert find_active_area(_frame(noisy), is_full_range=False).height == 360


def test_a_subtitle_in_a_bar_that_stands_alone_is_part_of_the_picture() -> None:
    luma = np.full((360, 640), 16)
    luma[:300] = _picture(300)
    luma[320:330, 200:440:3] = 235
    area = find_active_area(_frame(luma), is_full_range=False)
    assert (area.top, area.height) == (0, 330)


def test_a_black_picture_is_kept_whole() -> None:
    assert find_active_area(_frame(np.full((360, 640), 16)), is_full_range=False).height == 360


def test_packed_rgb_is_kept_whole() -> None:
    frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
    assert find_active_area(frame, is_full_range=True) == ActiveArea(left=0, top=0, width=64, height=64)
