"""Encodes outcomes, alerts and decisions as CloudEvents 1.0 JSON, parses them, and writes their JSON Schemas.

Every message is one JSON object (structured mode, `application/cloudevents+json`); `data` holds the dataclass of
`core.types` field by field. Schemas only gain fields: a reader ignores fields that it does not know.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from vqmon.core.alerts.reactions.input_switching import InputDecision
from vqmon.core.alerts.state import State
from vqmon.core.types import Alert, Outcome, QualityEvent, SegmentFailure
from vqmon.errors import WireError
from vqmon.transport.wire.alert_states.states import StoredState, pack_state, unpack_state

MEDIA_TYPE = "application/cloudevents+json"

QUALITY = "org.vqmon.quality.v1"
UNSCORED = "org.vqmon.unscored.v1"
ALERT_OPENED = "org.vqmon.alert.opened.v1"
ALERT_RESOLVED = "org.vqmon.alert.resolved.v1"
_INPUT_DECISION = "org.vqmon.input.decision.v1"

_Data = TypeVar("_Data")
_Type = TypeVar("_Type")


class _Message(BaseModel, Generic[_Type, _Data]):
    """The envelope; its attributes are those of CloudEvents 1.0.2."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="ignore", allow_inf_nan=False, ser_json_inf_nan="constants"
    )

    specversion: Literal["1.0"] = "1.0"
    type: _Type
    # unique together with `source`; the same segment or alert always gets the same id
    id: str
    source: str
    subject: str | None = None
    time: datetime
    datacontenttype: Literal["application/json"] = "application/json"
    dataschema: str | None = None
    data: _Data


_Quality = _Message[Literal["org.vqmon.quality.v1"], QualityEvent]
_Unscored = _Message[Literal["org.vqmon.unscored.v1"], SegmentFailure]
_Opened = _Message[Literal["org.vqmon.alert.opened.v1"], Alert]
_Resolved = _Message[Literal["org.vqmon.alert.resolved.v1"], Alert]
_Decision = _Message[Literal["org.vqmon.input.decision.v1"], InputDecision]

_MESSAGES: Mapping[str, type[BaseModel]] = {
    QUALITY: _Quality,
    UNSCORED: _Unscored,
    ALERT_OPENED: _Opened,
    ALERT_RESOLVED: _Resolved,
    _INPUT_DECISION: _Decision,
}

_OUTCOME: TypeAdapter[_Quality | _Unscored] = TypeAdapter(Annotated[_Quality | _Unscored, Field(discriminator="type")])
_ALERT: TypeAdapter[_Opened | _Resolved] = TypeAdapter(Annotated[_Opened | _Resolved, Field(discriminator="type")])
_DECISION: TypeAdapter[_Decision] = TypeAdapter(_Decision)
_STATE: TypeAdapter[StoredState] = TypeAdapter(StoredState)


def encode_outcome(outcome: Outcome, *, source: str) -> bytes:
    """An outcome as one line of JSON; `source` is its CloudEvents source, e.g. "vqmon://host".

    Raises ValueError when a number is not finite.
    """
    message_type = QUALITY if isinstance(outcome, QualityEvent) else UNSCORED
    return _encode(
        message_type, outcome, id=outcome.id, source=source, subject=_subject(outcome), time=outcome.observed_at
    )


def parse_outcome(document: bytes | str) -> Outcome:
    """The outcome in a message; raises WireError, which names the invalid field."""
    return _parse(_OUTCOME, document).data


def encode_alert(alert: Alert, *, source: str) -> bytes:
    """An alert as one line of JSON; its opened and resolved messages share `data.id` but not `id`."""
    is_open = alert.resolved_at is None
    return _encode(
        ALERT_OPENED if is_open else ALERT_RESOLVED,
        alert,
        id=f"{alert.id}.{alert.state}",
        source=source,
        subject=alert.series,
        time=alert.resolved_at or alert.opened_at,
    )


def parse_alert(document: bytes | str) -> Alert:
    """The alert in a message; raises WireError, which names the invalid field."""
    return _parse(_ALERT, document).data


def encode_decision(decision: InputDecision, *, source: str) -> bytes:
    """A decision about the input of a stream as one line of JSON."""
    return _encode(
        _INPUT_DECISION,
        decision,
        id=decision.id,
        source=source,
        subject=decision.stream_id,
        time=decision.decided_at,
    )


def parse_decision(document: bytes | str) -> InputDecision:
    """The decision in a message; raises WireError, which names the invalid field."""
    return _parse(_DECISION, document).data


def encode_state(state: State) -> bytes:
    """The state of an alert rule as JSON, for vqmon's own storage only; not a CloudEvent."""
    stored = pack_state(state)
    try:
        return _STATE.dump_json(stored)
    except PydanticSerializationError:
        return _compact_json(_STATE.dump_python(stored, mode="json"))


def parse_state(document: bytes | str) -> State:
    """The state in a stored document; raises WireError, which names the invalid field."""
    stored = _parse(_STATE, document)
    try:
        return unpack_state(stored)
    except ValueError as error:
        raise WireError(str(error)) from error


def schemas() -> dict[str, dict[str, Any]]:
    """Message type -> JSON Schema (2020-12) of the whole message."""
    return {
        name: {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": _schema_id(name),
            **model.model_json_schema(mode="serialization"),
            "title": name,
        }
        for name, model in _MESSAGES.items()
    }


def write_schemas(folder: Path) -> None:
    """Write every schema to `folder`, one file per message type."""
    for name, schema in schemas().items():
        (folder / f"{name}.json").write_text(json.dumps(schema, indent=2) + "\n", encoding="utf-8")


def _schema_id(name: str) -> str:
    return f"urn:vqmon:schema:{name}"


def _subject(outcome: Outcome) -> str:
    return outcome.segment.rendition.key


def _encode(
    message_type: str, data: Outcome | Alert | InputDecision, *, id: str, source: str, subject: str, time: datetime
) -> bytes:
    # Copying is faster: to construct a message takes as long as to serialize it.
    message = _envelope(message_type).model_copy(
        update={"id": id, "source": source, "subject": subject, "time": time, "data": data}
    )
    try:
        document = message.model_dump_json().encode()
        if not _contains(document, b"NaN") and not _contains(document, b"Infinity"):
            return document
    except PydanticSerializationError:
        pass
    return _compact_json(message.model_dump(mode="json"))


def _contains(document: bytes, word: bytes) -> bool:
    """Equal to `word in document`, but ten times as fast when the first letter of the word is rare."""
    index = document.find(word[:1])
    while index >= 0 and not document.startswith(word, index):
        index = document.find(word[:1], index + 1)
    return index >= 0


@cache
def _envelope(message_type: str) -> BaseModel:
    """A message with the attributes that all messages of a type share."""
    return _MESSAGES[message_type].model_construct(
        specversion="1.0",
        type=message_type,
        id="",
        source="",
        subject=None,
        time=None,
        datacontenttype="application/json",
        dataschema=f"{_schema_id(message_type)}#/properties/data",
        data=None,
    )


def _compact_json(tree: Any) -> bytes:
    """JSON of a tree whose text pydantic cannot encode, such as a file name with lone surrogates."""
    return json.dumps(tree, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode(errors="replace")


_Parsed = TypeVar("_Parsed")


def _parse(adapter: TypeAdapter[_Parsed], document: bytes | str) -> _Parsed:
    try:
        return adapter.validate_json(document)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        # The path into a union begins with the discriminator's value, which is not part of the document.
        path = ".".join(str(part) for part in problem["loc"] if part not in _MESSAGES)
        raise WireError(f"{path or 'document'}: {problem['msg']}") from error
