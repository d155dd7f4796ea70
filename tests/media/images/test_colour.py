"""Colour descriptions of frames, and tone mapping from HDR to SDR."""

import numpy as np
import pytest

from vqmon.media.images.colour import Colour, describe_colour, tone_map_luma, tone_map_to_sdr


@pytest.mark.parametrize(
    ("code_points", "pixel_format", "name"),
    [
        ((1, 1, 1), "yuv420p", "bt709/limited"),
        ((9, 1, 16), "yuv420p10le", "bt2020/limited"),
        ((5, 2, 6), "yuv420p", "bt601/full"),
        ((1, 0, 1), "yuvj420p", "bt709/full"),
        ((2, 0, 2), "yuv420p", "bt601/limited (guessed)"),
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


@pytest.mark.parametrize("transfer", ["pq", "hlg"])
def test_tone_mapping_keeps_black_white_and_the_order_of_greys(transfer: str) -> None:
    """Black stays black, brighter stays brighter, and the peak becomes white."""
    greys = np.repeat(np.linspace(0, 65535, 200).astype(np.uint16)[:, None], 3, axis=1)
    sdr = tone_map_to_sdr(greys, transfer).astype(int)  # type: ignore[arg-type]
    assert sdr[0].max() == 0
    assert sdr[-1].min() >= 254
    assert (np.diff(sdr[:, 1]) >= 0).all()
    # greys stay grey, within rounding
    assert np.ptp(sdr, axis=1).max() <= 1


def test_diffuse_white_of_pq_stays_bright_but_below_the_peak() -> None:
    """203 nit is code 0.58 in PQ (ITU-R BT.2408); highlights above it keep some room."""
    code = np.full((1, 3), round(0.5807 * 65535), np.uint16)
    white = int(tone_map_to_sdr(code, "pq")[0, 0])
    assert 190 < white < 250


def test_saturated_bt2020_colours_are_clipped_to_bt709() -> None:
    """Pure BT.2020 green lies outside of BT.709: red and blue become 0."""
    green = tone_map_to_sdr(np.array([[0, 38000, 0]], np.uint16), "pq")[0]
    assert green[0] == green[2] == 0
    assert green[1] > 100


def test_luma_of_hdr_becomes_limited_range() -> None:
    """Black is 16 for either range of the source, and no value is above 235."""
    luma = np.array([[0, 16, 128, 235, 255]], np.uint8)
    for range_, black in (("tv", 1), ("pc", 0)):
        colour = Colour("bt2020", range_, "pq", "smpte2084", is_guessed=False)  # type: ignore[arg-type]
        mapped = tone_map_luma(luma, colour)
        assert mapped[0, black] == 16
        assert mapped.max() == 235
