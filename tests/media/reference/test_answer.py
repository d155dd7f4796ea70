"""What a decoder process answers about a reference is checked before it is believed."""

from typing import Any

import numpy as np
import pytest

from vqmon.core.scores import ReferenceScore
from vqmon.media.images.colour import Colour
from vqmon.media.reference.answer import PictureWriter, parse_comparison
from vqmon.media.reference.canvas import Canvas
from vqmon.media.reference.comparison import ReferenceRequest

REQUEST = ReferenceRequest(measures=("psnr", "msad"))
WITH_PICTURES = ReferenceRequest(measures=("psnr", "msad"), picture_sides=(0, 24))
CANVAS = Canvas(
    width=64,
    height=36,
    kernel="bicubic",
    pixel_format="yuv420p",
    colour=Colour(matrix="bt709", range="tv", transfer="sdr", transfer_name="bt709", is_guessed=False),
)


def answer(**changes: Any) -> dict[str, Any]:
    measures = {
        "psnr": {"values": [40.0, 42.0], "components": {"y": 39.0}},
        "msad": {"values": [0, 1], "components": {}},
    }
    facts = {"offset_seconds": 0.04, "confidence": 0.9, "canvas": "c", "segment_area": "", "reference_area": ""}
    return {**facts, "samples": [0, 2], "measures": measures, "pictures": [], **changes}


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


def test_pictures_go_through_the_shared_memory_at_both_sizes() -> None:
    """Behind the views, as they are on the canvas and shrunk to the short side that was asked for."""
    random = np.random.default_rng(3)
    pictures = random.integers(0, 256, (2, 2, 36, 64, 3), dtype=np.uint8)
    memory = np.zeros(1000 + 2 * 4 * 36 * 64 * 3, np.uint8)
    writer = PictureWriter(memory, (0, 24), used_bytes=1000)
    writer.start(CANVAS, [0, 2])
    for sample, (reference, picture) in zip((0, 2), pictures, strict=True):
        writer.add(sample, reference=reference, picture=picture)
    comparison = parse_comparison(answer(pictures=writer.layout()), WITH_PICTURES, sample_count=3, memory=memory)

    whole, small = comparison.pictures[0], comparison.pictures[24]
    assert (whole.samples, small.samples) == ((0, 2), (0, 2))
    np.testing.assert_array_equal(np.stack([whole.reference, whole.segment], 1), pictures)
    assert small.segment.shape == (2, 24, 42, 3)
    assert abs(float(small.segment.mean()) - float(whole.segment.mean())) < 1
    assert not memory[:1000].any()


def test_without_room_for_all_pairs_some_are_written_evenly() -> None:
    """None when there is no room for one; the answer says so where there are no other measures."""
    pair_bytes = 2 * 36 * 64 * 3
    writer = PictureWriter(np.zeros(2 * pair_bytes + 5, np.uint8), (0,), used_bytes=5)
    writer.start(CANVAS, [1, 3, 4, 8, 9])
    assert [sample for sample in range(10) if writer.wants(sample)] == [1, 4]
    none = PictureWriter(np.zeros(pair_bytes, np.uint8), (0,), used_bytes=5)
    none.start(CANVAS, [1])
    assert not none.wants(1)
    only_pictures = ReferenceRequest(measures=(), picture_sides=(0,))
    comparison = parse_comparison(answer(measures={}, pictures=none.layout()), only_pictures, sample_count=3)
    assert comparison.unscored == "failed"


@pytest.mark.parametrize(
    "wrong",
    [
        {"side": 12},
        {"offset": 100},
        {"offset": -1},
        {"height": 10**6},
        {"height": 2},
        {"samples": [1]},
        {"samples": [2, 0]},
        {"samples": []},
        {"samples": "02"},
    ],
)
def test_pictures_that_were_not_asked_for_or_lie_outside_are_refused(wrong: dict[str, Any]) -> None:
    region = {"side": 0, "height": 16, "width": 16, "offset": 0, "samples": [0, 2], **wrong}
    memory = np.zeros(2 * 2 * 16 * 16 * 3, np.uint8)
    with pytest.raises((ValueError, KeyError, TypeError)):
        parse_comparison(answer(pictures=[region]), WITH_PICTURES, sample_count=3, memory=memory)


def test_a_frame_for_which_a_measure_has_no_value_counts_for_nothing() -> None:
    """NIQE of a picture without texture: the others make the mean; without any, the measure is left out."""
    request = ReferenceRequest(measures=("psnr", "niqe"))

    def scores(niqe: list[float | None]) -> list[ReferenceScore]:
        measures = {"psnr": answer()["measures"]["psnr"], "niqe": {"values": niqe, "components": {}}}
        return list(parse_comparison(answer(measures=measures), request, sample_count=3).scores)

    assert scores([None, 5.0])[1].frame_values == (None, None, 5.0)
    assert scores([None, 5.0])[1].value == 5.0
    assert [score.measure for score in scores([None, None])] == ["psnr"]
    alone = answer(measures={"niqe": {"values": [None, None], "components": {}}})
    comparison = parse_comparison(alone, ReferenceRequest(measures=("niqe",)), sample_count=3)
    assert (comparison.unscored, "texture" in comparison.detail) == ("failed", True)
