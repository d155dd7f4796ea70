"""Segment messages as producers write them: what is taken, and what is refused with field and value."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from vqmon.errors import WireError
from vqmon.transport.wire.segment_messages import parse_segment

DATA: dict[str, Any] = {
    "rendition": {"stream_id": "news", "name": "720p"},
    "sequence": 1,
    "url": "https://origin.example.org/1.ts",
    "starts_at": "2026-11-29T01:00:00Z",
}
BASE = {
    "specversion": "1.0",
    "type": "org.vqmon.segment.v1",
    "source": "test",
    "id": "1",
    "data": DATA,
}
TAKEN: dict[str, dict[str, Any]] = {
    "an offset to the east": {"starts_at": "2026-11-29T02:00:00+01:00"},
    "an offset to the west": {"starts_at": "2026-11-28T19:30:00-05:30"},
    "no offset known": {"starts_at": "2026-11-29T01:00:00-00:00"},
    "small letters": {"starts_at": "2026-11-29t01:00:00z"},
    "nanoseconds": {"starts_at": "2026-11-29T02:00:00.000000000+01:00"},
    "nulls for what is not set": {
        "duration_seconds": None,
        "labels": None,
        "prompt": None,
        "is_discontinuity": None,
        "init_url": None,
        "byte_range": None,
        "mirrors": None,
        "rendition": {"stream_id": "news", "name": "720p", "width": None, "codecs": None, "labels": None},
    },
}


@pytest.mark.parametrize("change", TAKEN.values(), ids=TAKEN)
def test_other_ways_to_say_the_same_are_taken(change: dict[str, Any]) -> None:
    """The segment is the one that the plain message names."""
    plain = parse_segment(b"news", json.dumps(BASE).encode(), {})
    assert parse_segment(b"news", json.dumps({**BASE, "data": {**DATA, **change}}).encode(), {}) == plain
    assert plain.starts_at == datetime(2026, 11, 29, 1, tzinfo=UTC)


def test_a_leap_second_and_a_byte_order_mark_are_taken() -> None:
    """RFC 3339 5.6 and RFC 8259 8.1."""
    leap = {**BASE, "data": {**DATA, "starts_at": "2016-12-31T23:59:60Z"}}
    segment = parse_segment(b"news", b"\xef\xbb\xbf" + json.dumps(leap).encode(), {})
    assert segment.starts_at == datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC)


SOUND = {"url": "https://a/b.mp4"}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "an empty address": ({"url": ""}, 'data.url: "" is empty'),
    "a blank address": ({"url": " "}, 'data.url: "" is empty'),
    "a host that is none": ({"url": "http://u:s3cr3t@h\u2100/x"}, "data.url: the host of this address is invalid"),
    "a relative address": ({"url": "seg/1.ts?token=x"}, 'data.url: "seg/1.ts" is a relative address'),
    "a path": ({"init_url": "/init.mp4"}, 'data.init_url: "/init.mp4" is a relative address'),
    "a relative reference": ({"reference": {"url": "a.ts"}}, 'data.reference.url: "a.ts" is a relative'),
    "relative sound": ({"audio": {"url": "https://a/b.mp4", "init_url": "a.mp4"}}, 'data.audio.init_url: "a.mp4" is'),
    "a boolean range of sound": (
        {"audio": {"url": "https://a/b.mp4", "byte_range": {"offset_bytes": False, "length_bytes": 1}}},
        "data.audio.byte_range.offset_bytes: false is a boolean",
    ),
    "a boolean range of further sound": (
        {"audio": {**SOUND, "more": [SOUND, {**SOUND, "byte_range": {"offset_bytes": True, "length_bytes": 1}}]}},
        "data.audio.more.1.byte_range.offset_bytes: true is a boolean",
    ),
    "further sound that is relative": (
        {"audio": {**SOUND, "more": [SOUND, {"url": "c.mp4"}]}},
        'data.audio.more.1.url: "c.mp4" is a relative',
    ),
    "further sound that is a list": ({"audio": {**SOUND, "more": [[True]]}}, "data.audio.more.0"),
    "too much sound": ({"audio": {**SOUND, "more": [SOUND] * 16}}, "data.audio.more: 16 addresses; at most 15"),
    "sound of another day": (
        {"audio": {**SOUND, "starts_seconds": -1e5}},
        "data.audio.starts_seconds: not within a day",
    ),
    "boolean times of sound": (
        {"audio": {**SOUND, "ends_seconds": True}},
        "data.audio.ends_seconds: true is a boolean",
    ),
    "a relative mirror": ({"mirrors": [{"url": "a.ts"}]}, 'data.mirrors.0.url: "a.ts" is a relative'),
    "too many mirrors": ({"mirrors": [{"url": "https://a/b.ts"}] * 9}, "data.mirrors: 9 addresses; at most 8"),
    "no width": ({"rendition": {"stream_id": "news", "name": "x", "width": 0}}, "data.rendition.width: 0 is no size"),
    "a negative height": (
        {"rendition": {"stream_id": "news", "name": "x", "height": -1}},
        "data.rendition.height: -1 is no size",
    ),
    "an empty range": ({"byte_range": {"offset_bytes": 0, "length_bytes": 0}}, "data.byte_range: .*0\\+0"),
    "a boolean number": ({"sequence": True}, "data.sequence: true is a boolean, not a number"),
    "a boolean number in place of the flag": (
        {"sequence": True, "labels": {"x": "is_discontinuity"}},
        "data.sequence: true is a boolean",
    ),
    "a boolean duration": ({"duration_seconds": False}, "data.duration_seconds: false is a boolean"),
    "a boolean size": (
        {"rendition": {"stream_id": "news", "name": "x", "width": True}},
        "data.rendition.width: true is a boolean",
    ),
    "a number for a boolean": ({"is_discontinuity": 1}, "data.is_discontinuity: 1 is not true or false"),
    "a negative rate": (
        {"rendition": {"stream_id": "news", "name": "x", "bitrate_kbps": -5}},
        "data.rendition.bitrate_kbps: -5 is negative",
    ),
    "a null that is needed": ({"sequence": None}, "data.sequence: Field required"),
    "a time without an offset": ({"starts_at": "2026-11-29T01:00:00"}, "data.*aware UTC"),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_nonsense_is_refused_with_field_and_value(change: dict[str, Any], message: str) -> None:
    """Never guessed, and no query of an address is shown."""
    with pytest.raises(WireError, match=message) as caught:
        parse_segment(b"news", json.dumps({**BASE, "data": {**DATA, **change}}).encode(), {})
    assert "token" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"\x00\x00\x00\x00\x07" + json.dumps(BASE).encode(), "Confluent schema registry serializer.*schema id 7"),
        (b"\x03\x00" + b"u" * 16 + json.dumps(BASE).encode(), "AWS Glue"),
        (b"\x1f\x8b\x08rest", "gzip"),
        (json.dumps(BASE).encode("utf-16"), "UTF-16"),
        (json.dumps(json.dumps(BASE)).encode(), "encoded twice"),
        (b"[" * 100_000, "JSON"),
    ],
)
def test_what_a_serializer_did_is_named(value: bytes, message: str) -> None:
    """The producer's settings are the remedy, and the message says which."""
    with pytest.raises(WireError, match=message):
        parse_segment(b"news", value, {})
