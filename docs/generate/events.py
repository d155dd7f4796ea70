"""The page of events: what is published, field by field, from the types and their comments."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from pydantic import TypeAdapter

import vqmon.core.alerts.annotations
import vqmon.core.alerts.reactions.input_switching
import vqmon.core.calibration
import vqmon.core.frames
import vqmon.core.scores
import vqmon.core.types
from docs.generate.markdown import page, paragraphs, sentence, table, type_text
from docs.generate.source_comments import field_comments
from vqmon.core.alerts.annotations import DeployMarker, StreamEnd
from vqmon.core.alerts.reactions.input_switching import InputDecision
from vqmon.core.scores import UNSCORED_REFERENCE
from vqmon.core.types import SUBTITLE_PROBLEMS, UNMEASURED_AUDIO, Alert, QualityEvent, Segment, SegmentFailure
from vqmon.errors import REASONS
from vqmon.transport.wire.control_messages import ENDED, MARKER, control_message_schema
from vqmon.transport.wire.segment_messages import SEGMENT_TYPE, segment_schema

_INTRODUCTION = """\
What vqmon publishes and what it reads from Kafka, field by field. Every message is one JSON object, a
[CloudEvent](https://cloudevents.io) 1.0 in structured mode (`application/cloudevents+json`); `data` holds the
fields below. Fields are only ever added: a reader ignores those that it does not know. JSON Schemas of all
types are in `config/schemas/`, the topics in `config/asyncapi.yaml`; what is on which topic, and what is
guaranteed, is in [](../kafka.md)."""

_TYPES = """\
| `type` | `data` | published when |
|---|---|---|
| `org.vqmon.quality.v1` | [QualityEvent](#qualityevent) | a segment was scored |
| `org.vqmon.unscored.v1` | [SegmentFailure](#segmentfailure) | a segment could not be scored |
| `org.vqmon.alert.opened.v1` | [Alert](#alert) | an alert opened |
| `org.vqmon.alert.resolved.v1` | [Alert](#alert) | it resolved; the same `data.id` |
| `org.vqmon.input.decision.v1` | [InputDecision](#inputdecision) | an input is to be switched; to hooks only |"""

_MODULES = (
    vqmon.core.types,
    vqmon.core.alerts.annotations,
    vqmon.core.alerts.reactions.input_switching,
    vqmon.core.scores,
    vqmon.core.frames,
    vqmon.core.calibration,
)


def events_page() -> str:
    """The page of what is published, of reasons, and of what others may write."""
    definitions: dict[str, Any] = {}
    for cls in (QualityEvent, SegmentFailure, Alert, InputDecision):
        schema = TypeAdapter(cls).json_schema()
        definitions |= {cls.__name__: schema} | schema.get("$defs", {})
    order = ["QualityEvent", "SegmentFailure", "Alert", "InputDecision"]
    order += sorted(name for name in definitions if name not in order)
    links = {name: name.lower() for name in order}
    return page(
        "Events",
        _INTRODUCTION,
        "## Messages",
        _TYPES,
        *(part for name in order for part in _type(name, definitions[name], links)),
        "## Reasons",
        "`reason` of an unscored segment; codes are only ever added.",
        table(("reason", "meaning"), [(f"`{code}`", sentence(text)) for code, text in REASONS.items()]),
        "### Without reference measures",
        "`unscored_reference` of a scored segment that has a reference.",
        table(("code", "meaning"), [(f"`{code}`", sentence(text)) for code, text in UNSCORED_REFERENCE.items()]),
        "### Without sound",
        "`unmeasured_audio` of a scored segment.",
        table(("code", "meaning"), [(f"`{code}`", sentence(text)) for code, text in UNMEASURED_AUDIO.items()]),
        "### Subtitles that are not known",
        "`problem` of a rendition in `subtitles`.",
        table(("code", "meaning"), [(f"`{code}`", sentence(text)) for code, text in SUBTITLE_PROBLEMS.items()]),
        *_incoming(),
        source="vqmon/core/types.py and vqmon/errors.py",
    )


def _type(name: str, schema: Mapping[str, Any], links: Mapping[str, str]) -> Iterator[str]:
    cls = _class_of(name)
    assert cls is not None, name
    yield f"## {name}\n\n{paragraphs(cls.__doc__)}"
    comments = field_comments(cls)
    required = schema.get("required", ())
    names = [field.name for field in fields(cls)] if is_dataclass(cls) else list(schema["properties"])
    rows = []
    for field in names:
        text = type_text(schema["properties"][field], links=links)
        optional = "" if field in required else "; optional"
        meaning = sentence(comments.get(field, "")).replace("None", "null")
        rows.append((f"`{field}`", text + optional, meaning))
    yield table(("field", "type", "meaning"), rows)


def _incoming() -> Iterator[str]:
    yield "## Messages to vqmon"
    yield "What others may write to the segments topic. Unknown fields are ignored at every depth."
    for name, schema, cls in (
        (SEGMENT_TYPE, segment_schema(), Segment),
        (MARKER, control_message_schema(MARKER), DeployMarker),
        (ENDED, control_message_schema(ENDED), StreamEnd),
    ):
        yield f"### `{name}`\n\n{paragraphs(cls.__doc__)} The fields of `data`:"
        definitions: Any = schema.get("$defs", {})
        properties: Any = schema["properties"]
        data = _resolved(properties["data"], definitions)
        yield table(("field", "type", "meaning"), list(_nested(data, definitions, field_comments(cls), "")))


def _resolved(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a reference to a definition, or an optional one, stands for."""
    if "anyOf" in schema:
        return _resolved(schema["anyOf"][0], definitions)
    return definitions[schema["$ref"].rsplit("/", 1)[-1]] if "$ref" in schema else schema


def _nested(
    schema: Mapping[str, Any], definitions: Mapping[str, Any], comments: Mapping[str, str], prefix: str
) -> Iterator[tuple[str, str, str]]:
    """The fields of an object, those within another with a dot."""
    required = schema.get("required", ())
    for name, inner in schema.get("properties", {}).items():
        resolved = _resolved(inner, definitions)
        is_object = "properties" in resolved
        text = "object" if is_object else type_text(inner)
        described = inner.get("description") or comments.get(name) or resolved.get("description", "")
        meaning = sentence(described).replace("None", "null")
        yield f"`{prefix}{name}`", f"{text}; {'required' if name in required else 'optional'}", meaning
        if is_object:
            cls = _class_of(str(resolved.get("title", "")))
            yield from _nested(resolved, definitions, field_comments(cls) if cls else {}, f"{prefix}{name}.")


def _class_of(name: str) -> type | None:
    """The dataclass of this name among the types of events and messages."""
    return next((vars(module)[name] for module in _MODULES if name in vars(module)), None)
