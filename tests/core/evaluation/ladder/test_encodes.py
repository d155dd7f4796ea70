"""A ladder needs every value; curves are by rising rate."""

import pytest

from tests.core.evaluation.ladder.ladders import make_ladder
from vqmon.core.evaluation.ladder.encodes import Encode, Ladder, Subject


def test_an_encode_without_a_value_is_refused() -> None:
    encode = Encode(codec="h264", lines=720, setting="CRF 20", rate_kbps=900.0, values={"psnr": 40.0})
    with pytest.raises(ValueError, match=r"h264 720p at CRF 20 has no value of lite@1"):
        Ladder(subjects=[Subject(name="lite@1", is_scorer=True)], encodes=[encode])


def test_curves_are_by_rising_rate_in_the_order_of_the_encodes() -> None:
    curves = make_ladder().curves()
    assert list(curves) == [(codec, lines) for codec in ("h264", "av1") for lines in (1080, 720, 480)]
    assert [encode.setting for encode in curves["av1", 720]] == ["CRF 41", "CRF 34", "CRF 27", "CRF 20"]
