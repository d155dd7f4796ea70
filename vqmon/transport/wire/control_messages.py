"""Notes: what is said among segments and among outcomes and is neither, as CloudEvents: ends and deploy markers."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from vqmon.core.alerts.annotations import DeployMarker, StreamEnd
from vqmon.errors import WireError
from vqmon.transport.wire.segment_messages import MAX_NAME, MAX_YEAR, STRUCTURED_CONTENT_TYPE

MARKER: Literal["org.vqmon.marker.v1"] = "org.vqmon.marker.v1"
ENDED: Literal["org.vqmon.ended.v1"] = "org.vqmon.ended.v1"
HEADER = "vqmon-type"
"""Tells a note from segment messages and outcomes without looking into the value."""

ControlMessage = DeployMarker | StreamEnd


class _Event(BaseModel):
    """A CloudEvent in structured mode."""

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
_NOTE: TypeAdapter[_Marker | _Ended] = TypeAdapter(Annotated[_Marker | _Ended, Field(discriminator="type")])


def encode_control_message(note: ControlMessage, *, source: str) -> bytes:
    """A note as one line of JSON."""
    if isinstance(note, DeployMarker):
        return _Marker(source=source, id=note.id, data=note).model_dump_json().encode()
    return _Ended(source=source, id=note.id, data=note).model_dump_json().encode()


def control_message_headers(note: ControlMessage) -> tuple[tuple[str, bytes], ...]:
    """What tells that a record is this kind of note."""
    kind = MARKER if isinstance(note, DeployMarker) else ENDED
    return (("content-type", STRUCTURED_CONTENT_TYPE), (HEADER, kind.encode()))


def is_control_message(headers: Mapping[str, bytes]) -> bool:
    """Whether a record is a note and no segment; cheap, as every record is asked."""
    return headers.get(HEADER, b"").decode("ascii", "replace") in _MODELS


def parse_control_message(value: bytes) -> ControlMessage:
    """The note in a record; raises WireError."""
    try:
        note = _NOTE.validate_json(value).data
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        # The discriminator's value leads the path of a union; it is no part of the document.
        path = ".".join(str(part) for part in problem["loc"] if part not in _MODELS)
        raise WireError(f"{path or 'document'}: {problem['msg']}") from None
    if not 1970 <= note.at.year <= MAX_YEAR:
        raise WireError(f"data.at: not between 1970 and {MAX_YEAR}")
    if isinstance(note, StreamEnd) and len(note.stream_id) + len(note.rendition) > MAX_NAME:
        raise WireError("data: a name is too long")
    return note


def control_message_schema(kind: str) -> dict[str, object]:
    """The JSON Schema of one kind of note."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:vqmon:schema:{kind}",
        **_MODELS[kind].model_json_schema(mode="validation"),
        "title": kind,
    }
