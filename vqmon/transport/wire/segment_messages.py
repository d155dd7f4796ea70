"""Reads and writes segment messages (CloudEvents 1.0 in structured or binary mode) and W3C trace contexts."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from vqmon.core.types import Segment
from vqmon.errors import WireError
from vqmon.transport.wire.rejections import RejectionRate
from vqmon.transport.wire.segment_values import check_values, json_bytes, normalise

SEGMENT_TYPE = "org.vqmon.segment.v1"
STRUCTURED_CONTENT_TYPE = b"application/cloudevents+json; charset=UTF-8"
_MAX_DETAIL = 500

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_SEGMENT = TypeAdapter(Segment)
_REJECTIONS = TypeAdapter(RejectionRate)

_Parsed = TypeVar("_Parsed")


class _Event(BaseModel):
    """A structured segment message; unknown fields are ignored at every depth."""

    # Not "allow": it would apply to the dataclasses too, which cannot hold an unknown field.
    model_config = ConfigDict(extra="ignore")

    specversion: Literal["1.0"]
    type: Literal["org.vqmon.segment.v1"]
    source: str
    id: str
    subject: str | None = None
    time: datetime | None = None
    datacontenttype: str | None = None
    partitionkey: str | None = None
    traceparent: str | None = None
    data: Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceContext:
    """The trace that a record belongs to, passed on unchanged."""

    traceparent: bytes | None = None
    tracestate: bytes | None = None

    def headers(self) -> tuple[tuple[str, bytes], ...]:
        pairs = (("traceparent", self.traceparent), ("tracestate", self.tracestate))
        return tuple((name, value) for name, value in pairs if value is not None)


_NO_TRACE = TraceContext()


def parse_segment(key: bytes | None, value: bytes | None, headers: Mapping[str, bytes]) -> Segment:
    """The segment in a record; raises WireError, which names the invalid field."""
    if not value:
        raise WireError("the record is empty")
    if headers.get("content-type", b"").lower().startswith(b"application/cloudevents") or "ce_type" not in headers:
        segment = _validated(_Event.model_validate_json, normalise(json_bytes(value), data_key="data")).data
    else:
        _check_attributes(headers)
        segment = _validated(_SEGMENT.validate_json, normalise(json_bytes(value), data_key=None))
    check_values(segment)
    if key is None or key != segment.rendition.stream_id.encode():
        raise WireError("the record's key must be the stream id")
    return segment


def parse_trace_context(headers: Mapping[str, bytes]) -> TraceContext:
    """The trace context of a record; a malformed one is dropped, as the W3C recommendation requires."""
    traceparent = headers.get("traceparent", headers.get("ce_traceparent", b""))
    if not traceparent or not _TRACEPARENT.fullmatch(traceparent.decode("ascii", "replace")):
        return _NO_TRACE
    return TraceContext(traceparent=traceparent, tracestate=headers.get("tracestate") or headers.get("ce_tracestate"))


def encode_segment(segment: Segment, *, source: str) -> tuple[bytes, bytes]:
    """The record key and the structured value of a segment message; the same segment always gets the same id."""
    event = _Event(
        specversion="1.0",
        type="org.vqmon.segment.v1",
        source=source,
        id=segment.key,
        subject=segment.rendition.key,
        time=segment.starts_at,
        datacontenttype="application/json",
        data=segment,
    )
    return segment.rendition.stream_id.encode(), event.model_dump_json(exclude_none=True).encode()


def encode_rejections(rejections: RejectionRate) -> bytes:
    """A partition's rejection rate as JSON, for the state topic only; not a CloudEvent."""
    return _REJECTIONS.dump_json(rejections)


def parse_rejections(document: bytes | None) -> RejectionRate:
    """The rejection rate in a stored document; None means that nothing was rejected yet."""
    return _validated(_REJECTIONS.validate_json, document) if document else RejectionRate()


def segment_schema() -> dict[str, object]:
    """The JSON Schema of a structured segment message."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:vqmon:schema:{SEGMENT_TYPE}",
        **_Event.model_json_schema(mode="validation"),
        "title": SEGMENT_TYPE,
    }


def _check_attributes(headers: Mapping[str, bytes]) -> None:
    required = {"ce_specversion": b"1.0", "ce_type": SEGMENT_TYPE.encode()}
    for name, value in required.items():
        if headers.get(name) != value:
            raise WireError(f"header {name} must be {value.decode()}")
    for name in ("ce_id", "ce_source"):
        if not headers.get(name):
            raise WireError(f"header {name} is missing")


def _validated(validate: Callable[[bytes], _Parsed], value: bytes) -> _Parsed:
    try:
        return validate(value)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc']) or 'value'}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_input=False, include_context=False)
        )
        raise WireError(problems[:_MAX_DETAIL]) from None
