"""Control messages as CloudEvents: stream ends and deploy markers, which share the topic of the segments."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from vqmon.core.alerts.annotations import DeployMarker, StreamEnd
from vqmon.errors import WireError
from vqmon.transport.wire.segment_messages import STRUCTURED_CONTENT_TYPE
from vqmon.transport.wire.segment_values import MAX_NAME, MAX_YEAR

MARKER: Literal["org.vqmon.marker.v1"] = "org.vqmon.marker.v1"
ENDED: Literal["org.vqmon.ended.v1"] = "org.vqmon.ended.v1"
HEADER = "vqmon-type"
"""The header that marks a record as a control message, so that its value need not be parsed to know."""

ControlMessage = DeployMarker | StreamEnd


class _Event(BaseModel):
    """The attributes that all control messages share, in structured mode."""

    model_config = ConfigDict(extra="ignore")

    specversion: Literal["1.0"] = "1.0"
    source: str
    id: str
    datacontenttype: str | None = "application/json"


class _Marker(_Event):
    type: Literal["org.vqmon.marker.v1"] = MARKER
    data: DeployMarker


class _Ended(_Event):
    type: Literal["org.vqmon.ended.v1"] = ENDED
    data: StreamEnd


_MODELS: Mapping[str, type[BaseModel]] = {MARKER: _Marker, ENDED: _Ended}
_CONTROL_MESSAGE: TypeAdapter[_Marker | _Ended] = TypeAdapter(Annotated[_Marker | _Ended, Field(discriminator="type")])


def encode_control_message(message: ControlMessage, *, source: str) -> bytes:
    """A control message as one line of JSON; `source` is its CloudEvents source, e.g. "vqmon://host"."""
    if isinstance(message, DeployMarker):
        return _Marker(source=source, id=message.id, data=message).model_dump_json().encode()
    return _Ended(source=source, id=message.id, data=message).model_dump_json().encode()


def control_message_headers(message: ControlMessage) -> tuple[tuple[str, bytes], ...]:
    """The record headers that mark this kind of control message."""
    kind = MARKER if isinstance(message, DeployMarker) else ENDED
    return (("content-type", STRUCTURED_CONTENT_TYPE), (HEADER, kind.encode()))


def control_message_key(message: ControlMessage) -> bytes:
    """The key of a control message that was judged: its type, and its stream or the id of the marker."""
    if isinstance(message, DeployMarker):
        return f"{MARKER}/{message.id}".encode()
    return f"{ENDED}/{message.stream_id}".encode()


def is_control_message(headers: Mapping[str, bytes]) -> bool:
    """Whether a record is a control message; cheap, because it is called for every record."""
    return headers.get(HEADER, b"").decode("ascii", "replace") in _MODELS


def parse_control_message(value: bytes) -> ControlMessage:
    """The control message in a record; raises WireError, which names the invalid field."""
    try:
        message = _CONTROL_MESSAGE.validate_json(value).data
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        # The path into a union begins with the discriminator's value, which is not part of the document.
        path = ".".join(str(part) for part in problem["loc"] if part not in _MODELS)
        raise WireError(f"{path or 'document'}: {problem['msg']}") from None
    if not 1970 <= message.at.year <= MAX_YEAR:
        raise WireError(f"data.at: not between 1970 and {MAX_YEAR}")
    if isinstance(message, StreamEnd) and len(message.stream_id) + len(message.rendition) > MAX_NAME:
        raise WireError("data: a name is too long")
    return message


def control_message_schema(kind: str) -> dict[str, object]:
    """The JSON Schema of one type of control message."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:vqmon:schema:{kind}",
        **_MODELS[kind].model_json_schema(mode="validation"),
        "title": kind,
    }
