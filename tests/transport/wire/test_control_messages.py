"""Ends and deploy markers as records of a topic."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqmon.core.alerts.annotations import DeployMarker, StreamEnd, stream_end
from vqmon.errors import WireError
from vqmon.transport.wire import cloudevents
from vqmon.transport.wire.control_messages import (
    ENDED,
    HEADER,
    MARKER,
    control_message_headers,
    encode_control_message,
    is_control_message,
    parse_control_message,
)

AT = datetime(2026, 11, 20, 20, 0, tzinfo=UTC)
END = stream_end("news", "720p", AT, announced_at=AT)
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
moments = st.datetimes(
    timezones=st.just(UTC),
    min_value=datetime(1970, 1, 1),  # noqa: DTZ001
    max_value=datetime(2999, 1, 1),  # noqa: DTZ001
)


@given(name=texts, stream=texts, at=moments)
def test_a_note_comes_back_as_it_was(name: str, stream: str, at: datetime) -> None:
    """As a CloudEvent, known by its header; it is no outcome."""
    for kind, message in (
        (MARKER, DeployMarker(id="a" * 32, at=at, name=name, stream=stream)),
        (ENDED, stream_end(stream, name, at, announced_at=at, why="unwatched")),
    ):
        value = encode_control_message(message, source="test")
        assert parse_control_message(value) == message
        assert dict(control_message_headers(message))[HEADER] == kind.encode()
        assert is_control_message(dict(control_message_headers(message)))
        assert json.loads(value)["type"] == kind
        with pytest.raises(WireError):
            cloudevents.parse_outcome(value)
    assert not is_control_message({})
    assert not is_control_message({HEADER: b"org.vqmon.segment.v1"})


def test_the_same_end_told_at_another_moment_is_another_end() -> None:
    """So that a stream that comes back can end where it ended before."""
    assert stream_end("news", "720p", AT, announced_at=AT) == END
    assert stream_end("news", "720p", AT, announced_at=AT.replace(second=1)).id != END.id


def changed(**data: Any) -> bytes:
    tree = json.loads(encode_control_message(END, source="test"))
    return json.dumps({**tree, "data": {**tree["data"], **data}}).encode()


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"{}", "type"),
        (b"no json", "JSON"),
        (b'{"type": "org.vqmon.segment.v1"}', "type"),
        (changed(stream_id=""), "needs"),
        (changed(why="tired"), "data.why"),
        (changed(at="2026-11-20T20:00:00"), "aware UTC"),
        (changed(at="3026-11-20T20:00:00Z"), "2999"),
        (changed(rendition="x" * 600), "too long"),
    ],
)
def test_what_is_no_note_is_refused(value: bytes, why: str) -> None:
    """With the place in the document."""
    with pytest.raises(WireError, match=why):
        parse_control_message(value)


def test_what_a_later_version_adds_is_ignored() -> None:
    """As everywhere: schemas only ever grow."""
    assert parse_control_message(changed(colour="blue")) == END
    assert isinstance(parse_control_message(changed(rendition="*")), StreamEnd)
