"""Deploy markers as rows of a history, and as records that reach every partition of a topic."""

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from vqmon.core.planned import Marker
from vqmon.errors import WireError
from vqmon.transport.database import Connection
from vqmon.transport.documents import Ask
from vqmon.transport.rows import microseconds, moment_of, text

TYPE: Literal["org.vqmon.marker.v1"] = "org.vqmon.marker.v1"
HEADER = "vqmon-type"
"""Tells a marker from segment messages without looking into the value."""


class _Event(BaseModel):
    """A CloudEvent in structured mode."""

    model_config = ConfigDict(extra="ignore")

    specversion: Literal["1.0"] = "1.0"
    type: Literal["org.vqmon.marker.v1"] = TYPE
    source: str
    id: str
    datacontenttype: str | None = "application/json"
    data: Marker


_EVENT = TypeAdapter(_Event)


def insert_marker(connection: Connection, marker: Marker) -> None:
    """Nothing when it is there."""
    connection.execute(
        "INSERT INTO marker VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
        (marker.id, microseconds(marker.at), text(marker.name), text(marker.stream), text(marker.rendition)),
    )


def read_markers(ask: Ask, limit: int) -> Sequence[Marker]:
    """The newest `limit` markers, oldest first."""
    rows = ask("SELECT id, at, name, stream, rendition FROM marker ORDER BY at DESC, id LIMIT ?", limit)
    return [
        Marker(id=id, at=moment_of(at), name=name, stream=stream, rendition=rendition)
        for id, at, name, stream, rendition in reversed(rows)
    ]


def encode_marker(marker: Marker, *, source: str) -> bytes:
    """A marker as one line of JSON."""
    return _Event(source=source, id=marker.id, data=marker).model_dump_json().encode()


def is_marker(headers: Mapping[str, bytes]) -> bool:
    """Whether a record announces a marker and no segment; cheap, as every record is asked."""
    return headers.get(HEADER) == TYPE.encode()


def parse_marker(value: bytes) -> Marker:
    """The marker in a record; raises WireError."""
    try:
        return _EVENT.validate_json(value).data
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        raise WireError(f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}") from None


def marker_schema() -> dict[str, object]:
    """The JSON Schema of a deploy marker."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:vqmon:schema:{TYPE}",
        **_Event.model_json_schema(mode="validation"),
        "title": TYPE,
    }
