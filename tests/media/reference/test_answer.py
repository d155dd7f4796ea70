"""What a decoder process answers about a reference is checked before it is believed."""

from typing import Any

import pytest

from vqmon.media.reference.answer import parse_comparison
from vqmon.media.reference.comparison import ReferenceRequest

REQUEST = ReferenceRequest(measures=("psnr", "msad"))


def answer(**changes: Any) -> dict[str, Any]:
    measures = {
        "psnr": {"values": [40.0, 42.0], "components": {"y": 39.0}},
        "msad": {"values": [0, 1], "components": {}},
    }
    facts = {"offset_seconds": 0.04, "confidence": 0.9, "canvas": "c", "segment_area": "", "reference_area": ""}
    return {**facts, "samples": [0, 2], "measures": measures, **changes}


def test_values_stand_at_their_samples() -> None:
    """A sample without a partner has none; the value is the mean of the others."""
    psnr, msad = parse_comparison(answer(), REQUEST, sample_count=3).scores

    assert psnr.frame_values == (40.0, None, 42.0)
    assert (psnr.value, psnr.unit, psnr.worst, psnr.components) == (41.0, "dB", 40.0, {"y": 39.0})
    assert (msad.value, msad.higher_is_better, msad.worst) == (0.5, False, 1.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"samples": [0, 3]},
        {"samples": [2, 0]},
        {"samples": []},
        {"samples": [0]},
        {"confidence": 1.5},
        {"offset_seconds": float("nan")},
        {"measures": {"psnr": {"values": [1, 2], "components": {}}}},
        {"measures": {"psnr": {"values": [1, 200], "components": {}}, "msad": {"values": [0, 1], "components": {}}}},
        {"measures": {"psnr": {"values": "12", "components": {}}, "msad": {"values": [0, 1], "components": {}}}},
        {"unscored": "because"},
    ],
)
def test_an_answer_that_does_not_fit_the_request_is_refused(wrong: dict[str, Any]) -> None:
    """Samples, numbers, names and reasons that a sound worker cannot send."""
    with pytest.raises((ValueError, KeyError, TypeError)):
        parse_comparison(answer(**wrong), REQUEST, sample_count=3)


def test_text_is_made_printable() -> None:
    """A worker may be under an attacker's control."""
    comparison = parse_comparison(
        {"unscored": "misaligned", "detail": "a\x1b[31mb" + "c" * 500}, REQUEST, sample_count=3
    )

    assert comparison.detail.startswith("a[31mbc")
    assert len(comparison.detail) <= 200
