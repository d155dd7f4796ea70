"""Segment messages: both CloudEvents modes, trace context, refusals, and schemas that only ever grow."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqmon.core.types import ByteRange, Encryption, Rendition, Segment
from vqmon.errors import WireError
from vqmon.transport.wire.asyncapi import generated_files
from vqmon.transport.wire.control_messages import ENDED, MARKER
from vqmon.transport.wire.rejections import RejectionRate
from vqmon.transport.wire.segment_messages import (
    SEGMENT_TYPE,
    encode_rejections,
    encode_segment,
    parse_rejections,
    parse_segment,
    parse_trace_context,
)

CONFIG = Path(__file__).parents[3] / "config"
FIXTURES = Path(__file__).parent / "fixtures" / "segments"
TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
FULL = Segment(
    rendition=Rendition(
        stream_id="news", name="1080p", width=1920, height=1080, bitrate_kbps=5000.0, codecs="avc1", labels={"arm": "b"}
    ),
    sequence=42,
    url="https://origin.example.org/news/42.m4s",
    starts_at=datetime(2026, 1, 1, tzinfo=UTC),
    duration_seconds=4.0,
    byte_range=ByteRange(offset_bytes=100, length_bytes=2000),
    init_url="https://origin.example.org/news/init.mp4",
    encryption=Encryption(method="AES-128", key_url="https://origin.example.org/key", iv_hex="00" * 16),
    is_discontinuity=True,
    labels={"team": "sr"},
    prompt="A fox in the snow,\n“35 mm” \N{FOX FACE}",
)
BINARY = {
    "ce_specversion": b"1.0",
    "ce_type": SEGMENT_TYPE.encode(),
    "ce_id": b"1",
    "ce_source": b"packager",
    "content-type": b"application/json",
}


def test_structured_mode_comes_back_as_it_went() -> None:
    """Everything that a segment says survives the way out and in."""
    key, value = encode_segment(FULL, source="test")
    assert key == b"news"
    assert parse_segment(key, value, {}) == FULL
    assert parse_segment(key, value, {"content-type": b"Application/CloudEvents+json"}) == FULL


def test_a_message_without_a_prompt_has_none_and_a_long_one_is_refused() -> None:
    """As messages were before; one of more than 2,000 characters says so."""
    message = json.loads(encode_segment(FULL, source="test")[1])
    del message["data"]["prompt"]
    assert parse_segment(b"news", json.dumps(message).encode(), {}).prompt == ""
    message["data"]["prompt"] = "x" * 2001
    with pytest.raises(WireError, match="prompt: 2001 characters; at most 2000"):
        parse_segment(b"news", json.dumps(message).encode(), {})


def test_what_is_not_known_is_ignored_at_every_depth() -> None:
    """A newer producer may say more than we understand."""
    message = json.loads(encode_segment(FULL, source="test")[1])
    message["newer"] = message["data"]["newer"] = message["data"]["rendition"]["newer"] = {"a": 1}
    message["data"]["byte_range"]["newer"] = 2
    assert parse_segment(b"news", json.dumps(message).encode(), {}) == FULL
    assert parse_segment(b"news", json.dumps(message["data"]).encode(), BINARY) == FULL


def test_binary_mode_is_read_too() -> None:
    """Attributes as headers, the data as the value."""
    _, value = encode_segment(FULL, source="test")
    data = json.dumps(json.loads(value)["data"]).encode()
    assert parse_segment(b"news", data, BINARY) == FULL


@pytest.mark.parametrize("missing", ["ce_specversion", "ce_id", "ce_source"])
def test_binary_mode_needs_its_attributes(missing: str) -> None:
    """A required attribute that is not there is named."""
    _, value = encode_segment(FULL, source="test")
    data = json.dumps(json.loads(value)["data"]).encode()
    with pytest.raises(WireError, match=missing):
        parse_segment(b"news", data, {key: attribute for key, attribute in BINARY.items() if key != missing})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"type": "org.example.other"}, "type"),
        ({"data": {}}, "data.rendition"),
        ({"data": {"sequence": "many"}}, "data.sequence"),
    ],
)
def test_a_wrong_message_is_refused_by_the_place_that_is_wrong(change: dict[str, Any], message: str) -> None:
    """The error names the field and shows no bytes of the message."""
    _, value = encode_segment(FULL, source="secret-source")
    with pytest.raises(WireError, match=message) as caught:
        parse_segment(b"news", json.dumps({**json.loads(value), **change}).encode(), {})
    assert "secret-source" not in str(caught.value)


@pytest.mark.parametrize("key", [None, b"", b"sport"])
def test_the_key_must_be_the_stream(key: bytes | None) -> None:
    """Only then are all segments of a stream in one partition, and in order."""
    _, value = encode_segment(FULL, source="test")
    with pytest.raises(WireError, match="key"):
        parse_segment(key, value, {})


@given(st.binary(max_size=200))
def test_no_bytes_do_anything_but_parse_or_be_refused(value: bytes) -> None:
    """Whatever comes, it is a segment or a WireError."""
    for headers in ({}, BINARY):
        with pytest.raises(WireError):
            parse_segment(b"news", value, headers)


def test_trace_context_is_carried_and_malformed_context_is_dropped() -> None:
    """The header wins; the CloudEvents extension is read as well; a tracestate alone means nothing."""
    assert parse_trace_context({"traceparent": TRACE, "tracestate": b"a=b"}).headers() == (
        ("traceparent", TRACE),
        ("tracestate", b"a=b"),
    )
    assert parse_trace_context({"ce_traceparent": TRACE}).traceparent == TRACE
    assert parse_trace_context({"traceparent": b"00-xyz", "tracestate": b"a=b"}).headers() == ()


def test_rejections_come_back() -> None:
    """How a partition fares survives a restart; nothing stored is nothing rejected."""
    bad = RejectionRate().after_rejected().after_rejected()
    assert parse_rejections(encode_rejections(bad)) == bad
    assert parse_rejections(None) == RejectionRate()


@pytest.mark.parametrize(
    "name", ["asyncapi.yaml", *(f"schemas/in/{kind}.json" for kind in (SEGMENT_TYPE, MARKER, ENDED))]
)
def test_the_committed_documents_are_those_of_the_code(name: str) -> None:
    """Regenerate: python -m vqmon.transport.wire.asyncapi config"""
    assert (CONFIG / name).read_text(encoding="utf-8") == generated_files()[name]


def test_every_reference_of_the_description_is_there() -> None:
    """Each message's schema is a file of its own that exists."""
    messages = json.loads(generated_files()["asyncapi.yaml"])["components"]["messages"].values()
    files = [message["payload"]["$ref"] for message in messages if "payload" in message]
    assert len(files) == 7
    assert all((CONFIG / file).is_file() for file in files)


@pytest.mark.parametrize("file", sorted(FIXTURES.glob("*.json")), ids=lambda file: file.stem)
def test_messages_of_the_past_can_still_be_read(file: Path) -> None:
    """A message that was once right stays right."""
    document = file.read_bytes()
    key = json.loads(document)["data"]["rendition"]["stream_id"].encode()
    assert parse_segment(key, document, {}).rendition.stream_id


def test_the_schema_only_grows() -> None:
    """What the frozen first schema requires and describes is still there; nothing new is required."""
    old = json.loads((FIXTURES / "schema-v1.frozen").read_text(encoding="utf-8"))
    new = json.loads(generated_files()[f"schemas/in/{SEGMENT_TYPE}.json"])
    assert set(new["required"]) == set(old["required"])
    for name, part in old["$defs"].items():
        assert set(new["$defs"][name].get("required", [])) == set(part.get("required", []))
        for field, facts in part["properties"].items():
            assert new["$defs"][name]["properties"][field].get("type") == facts.get("type")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ('"duration_seconds": Infinity', "finite"),
        ('"duration_seconds": NaN', "finite"),
        ('"duration_seconds": 1e300', "duration"),
        ('"url": "http://["', "data"),
        ('"url": "' + "x" * 9000 + '"', "too long"),
        ('"sequence": 99999999999999999999999999', "sequence"),
        ('"starts_at": "9999-12-31T23:59:59Z"', "starts_at"),
        ('"starts_at": "2026-01-01T00:00:00"', "starts_at"),
        ('"init_url": "http://["', "data"),
    ],
)
def test_values_that_nothing_could_bear_are_refused(change: str, message: str) -> None:
    """Numbers, dates and addresses that would break what comes behind are a WireError, as a message of one stream."""
    _, value = encode_segment(FULL, source="test")
    text = json.dumps(json.loads(value)["data"])[:-1] + ", " + change + "}"
    with pytest.raises(WireError, match=message):
        parse_segment(b"news", text.encode(), BINARY)
