"""Colour descriptions of frames, and tone mapping from HDR to SDR."""

import pytest

from vqmon.media.images.colour import describe_colour


@pytest.mark.parametrize(
    ("code_points", "pixel_format", "name"),
    [
        ((1, 1, 1), "yuv420p", "bt709/limited"),
        ((9, 1, 16), "yuv420p10le", "bt2020/limited"),
        ((5, 2, 6), "yuv420p", "bt601/full"),
        ((1, 0, 1), "yuvj420p", "bt709/full"),
        ((2, 0, 2), "yuv420p", "bt601/limited (guessed)"),
        ((2, 0, 16), "yuv420p10le", "bt2020/limited (guessed)"),
        ((0, 0, 18), "yuv420p10le", "bt2020/limited (guessed)"),
        ((0, 0, 13), "gbrp", "rgb/full"),
        ((2, 0, 2), "rgb24", "rgb/full"),
    ],
)
def test_code_points_name_matrix_and_range(code_points: tuple[int, int, int], pixel_format: str, name: str) -> None:
    """Unspecified values are read as FFmpeg reads them, and the name says that they are guessed."""
    colorspace, color_range, color_trc = code_points
    colour = describe_colour(
        colorspace=colorspace, color_range=color_range, color_trc=color_trc, pixel_format=pixel_format
    )
    assert colour.name == name


@pytest.mark.parametrize(
    ("color_trc", "transfer", "name"),
    [(16, "pq", "smpte2084"), (18, "hlg", "arib-std-b67"), (1, "sdr", "bt709"), (99, "sdr", "unspecified")],
)
def test_pq_and_hlg_are_hdr(color_trc: int, transfer: str, name: str) -> None:
    """All other transfer characteristics are SDR."""
    colour = describe_colour(colorspace=9, color_range=1, color_trc=color_trc, pixel_format="yuv420p10le")
    assert (colour.transfer, colour.transfer_name) == (transfer, name)
