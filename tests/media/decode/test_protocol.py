"""Messages between the daemon and a decoder process, and answers of a hostile worker."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vqmon.core.types import ClipSampling, View
from vqmon.errors import DecodeError
from vqmon.media.decode.protocol import (
    FINGERPRINT_DIGITS,
    HEADER,
    MAX_JSON_BYTES,
    DecodeLimits,
    DecodeRequest,
    pack_message_start,
    parse_answer,
    parse_json,
    printable_text,
    unpack_header,
)

VIEW = View(kind="stretch", width=2, height=2)
REQUEST = DecodeRequest(views=(VIEW,), signals=("blur",), thumbnail_width=16)
MEMORY = np.arange(48, dtype=np.uint8)


def answer(**changes: Any) -> dict[str, Any]:
    """A valid answer about two frames, with some fields replaced."""
    media = {
        "container": "mp4", "codec": "h264", "width": 2, "height": 2, "fps": 25.0, "duration_seconds": 2.0,
        "frame_count": 50, "pixel_format": "yuv420p", "colour": "bt709/limited", "transfer": "bt709",
        "rotation_degrees": 0, "is_interlaced": False, "tone_mapping": None, "notes": [],
    }  # fmt: skip
    fields = {
        "ok": True, "times": [0.0, 1.0], "signals": {"blur": [0.1, 0.2]}, "thumbnails": [3, 2], "media": media,
        "edges": ["0" * FINGERPRINT_DIGITS, "f" * FINGERPRINT_DIGITS],
    }  # fmt: skip
    return {**fields, **changes}


def test_a_message_is_header_json_and_raw_bytes() -> None:
    """The header announces the lengths of both parts."""
    message = pack_message_start({"a": 1}, request_id=5, raw_bytes=7)
    assert unpack_header(message[: HEADER.size], max_raw_bytes=7) == (5, len(b'{"a":1}'), 7)
    assert message[HEADER.size :] == b'{"a":1}'


@pytest.mark.parametrize(
    "header",
    [
        HEADER.pack(b"vqm1", 5, 1, 1),
        HEADER.pack(b"vqm2", 5, MAX_JSON_BYTES + 1, 1),
        HEADER.pack(b"vqm2", 5, 1, 11),
    ],
    ids=["magic", "json", "raw"],
)
def test_a_header_that_is_invalid_or_too_large_is_refused(header: bytes) -> None:
    """Before a byte of the content is read."""
    with pytest.raises(ValueError, match="invalid header or is too large"):
        unpack_header(header, max_raw_bytes=10)


@pytest.mark.parametrize("text", [b"[" * 3_800_000, b'{"a":' * 700_000, b"[[[[[[[[[1]]]]]]]]]", b'"]' * 9 + b"[" * 9])
def test_json_that_is_nested_too_deep_is_refused(text: bytes) -> None:
    """Python's own parser ends with an error that is no ValueError there."""
    with pytest.raises(ValueError, match=r"nested|values|Extra data|Expecting"):
        parse_json(text)


@pytest.mark.parametrize("unit", [b"1,", b"[],", b"{},", b'"",'], ids=repr)
def test_json_of_too_many_values_is_refused_before_it_is_parsed(unit: bytes) -> None:
    """The longest segment that is scored has some 60 numbers for each of 3,600 samples."""
    assert len(parse_json(b"[" + b"0.25," * 216_000 + b"1]")) == 216_001  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="more than 250000 values"):
        parse_json(b"[" + unit * 300_000 + b"1]")


@pytest.mark.parametrize("value", [{"a": '[[[[[[[[[[{{{{{{{\\"'}, [[[[[[[[]]]]]]]], '"[', {}, "\\", ["]", "["] * 99])
def test_brackets_within_text_are_no_nesting(value: object) -> None:
    """Eight levels are allowed; an answer has five."""
    assert parse_json(json.dumps(value).encode()) == value


@pytest.mark.parametrize("text", [b"", b"\xff", b"[1", b"1" * 5000, b"[1]]"], ids=repr)
def test_what_is_no_json_is_a_value_error(text: bytes) -> None:
    """Also a number of more digits than Python reads."""
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)


def test_a_request_survives_the_way_to_the_worker() -> None:
    """Views with padding and clips, signals and limits come back as they were."""
    views = (
        View(kind="fit", width=4, height=2, pad_rgb=(1, 2, 3)),
        View(kind="stretch", width=2, height=2, clip=ClipSampling(frames=3, stride=2)),
    )
    request = DecodeRequest(views=views, sampling="keyframes", fps=2.5, seed=9, limits=DecodeLimits(threads=2))
    assert DecodeRequest.from_dict(request.to_dict()) == request
    assert request.bytes_per_sample == 4 * 2 * 3 + 3 * 2 * 2 * 3
    assert request.clips == (ClipSampling(frames=3, stride=2),)


@pytest.mark.parametrize(
    "changes",
    [
        {"sampling": "all"},
        {"hdr": "keep"},
        {"fps": 0.0},
        {"thumbnail_width": 2000},
        {"signals": ("joy",)},
        {"views": (VIEW, VIEW)},
        {"seed": 2**32},
        {"density": 2, "sampling": "keyframes"},
        {"from_seconds": 1.0, "sampling": "keyframes"},
        {"from_seconds": -1.0},
    ],
    ids=str,
)
def test_an_impossible_request_is_refused(changes: dict[str, Any]) -> None:
    """Nothing outside of the documented ranges can be sent."""
    with pytest.raises(ValueError, match=r"\w"):
        DecodeRequest(**{"views": (VIEW,), **changes})


def test_limits_must_be_positive() -> None:
    """A limit of zero would refuse every segment."""
    with pytest.raises(ValueError, match="positive"):
        DecodeLimits(max_frames=0)


def test_a_valid_answer_is_parsed() -> None:
    """Views come from the shared memory as copies, thumbnails from the raw bytes."""
    memory = MEMORY.copy()
    decoded = parse_answer(answer(), b"abcde", memory, REQUEST)
    memory[:] = 0
    np.testing.assert_array_equal(decoded.views[VIEW].ravel(), np.arange(24))
    assert not decoded.views[VIEW].flags.writeable
    assert decoded.thumbnails == (b"abc", b"de")
    assert decoded.signals == {"blur": (0.1, 0.2)}
    assert decoded.times_seconds == (0.0, 1.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"times": []},
        {"times": [1.0, 1.0]},
        {"times": [0.0, float("nan")]},
        {"times": [0.0, True]},
        {"times": [float(i) for i in range(601)]},
        {"thumbnails": [5]},
        {"thumbnails": [6, -1]},
        {"thumbnails": [3, 3]},
        {"signals": {"blur": [0.1, 1.5]}},
        {"signals": {"blur": [0.1]}},
        {"signals": {"noise": [0.1, 0.2]}},
        {"edges": ["0" * FINGERPRINT_DIGITS]},
        {"edges": ["0" * FINGERPRINT_DIGITS, "g" * FINGERPRINT_DIGITS]},
        {"media": {**answer()["media"], "width": 0}},
        {"media": {**answer()["media"], "width": "2"}},
        {"media": {}},
        {"media": None},
        {"ok": False, "reason": "hacked"},
        {"ok": False, "reason": "stale"},
        {"ok": False, "reason": ["corrupt"]},
        {"times": [0, 10**400]},
        {"thumbnails": [10**400, 2]},
        {"ok": 1},
    ],
    ids=str,
)
def test_an_answer_that_does_not_fit_the_request_is_refused(changes: dict[str, Any]) -> None:
    """Whatever a hostile worker sends, the daemon gets a documented error."""
    with pytest.raises((ValueError, KeyError, TypeError, OverflowError)):
        parse_answer(answer(**changes), b"abcde", MEMORY, REQUEST)


@pytest.mark.parametrize(
    "content",
    [
        None,
        {},
        {"si": {"values": [1.0, 2.0], "components": {}}, "ti": {"values": [1.0, 2.0], "components": {}}},
        {"si": {"values": [1.0], "components": {}}},
        {"si": {"values": [1.0, -1.0], "components": {}}},
        {"si": {"values": [1.0, float("inf")], "components": {}}},
        {"si": [1.0, 2.0]},
    ],
    ids=str,
)
def test_measures_that_do_not_fit_the_request_are_refused(content: object) -> None:
    request = replace(REQUEST, measures=("si",))
    with pytest.raises((ValueError, KeyError, TypeError)):
        parse_answer(answer(measures=content), b"abcde", MEMORY, request)


def test_views_beyond_the_shared_memory_are_refused() -> None:
    """Two frames need 24 bytes."""
    with pytest.raises(ValueError, match="exceed the shared memory"):
        parse_answer(answer(), b"abcde", MEMORY[:23], REQUEST)


def test_an_error_of_the_worker_is_raised_with_its_reason() -> None:
    """Control characters of its detail are removed."""
    with pytest.raises(DecodeError, match="too bad") as caught:
        parse_answer({"ok": False, "reason": "corrupt", "detail": "too\x1b bad"}, b"", MEMORY, REQUEST)
    assert caught.value.reason == "corrupt"


def test_text_is_short_and_printable() -> None:
    """Anything may be sent where text is expected."""
    assert printable_text("a\nb\x00c") == "abc"
    assert printable_text(None) == "None"
    assert len(printable_text("x" * 1000)) == 200
