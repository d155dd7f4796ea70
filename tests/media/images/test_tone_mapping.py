"""Tone mapping of PQ and HLG to SDR."""

import numpy as np
import pytest

from vqmon.media.images.colour import Colour
from vqmon.media.images.tone_mapping import tone_map_luma, tone_map_to_sdr


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
