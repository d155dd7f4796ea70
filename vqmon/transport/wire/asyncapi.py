"""The AsyncAPI 3.1 description of the topics, made from the code's own plans and schemas.

python -m vqmon.transport.wire.asyncapi config    writes asyncapi.yaml and the schemas of what comes in there
"""

import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from vqmon.transport.kafka.records import TopicNames
from vqmon.transport.kafka.topics import TopicSpec, topic_specs
from vqmon.transport.wire import cloudevents
from vqmon.transport.wire.control_messages import ENDED, MARKER, control_message_schema
from vqmon.transport.wire.segment_messages import SEGMENT_TYPE, segment_schema

_CLOUDEVENT = "application/cloudevents+json"
_INCOMING: dict[str, Callable[[], dict[str, object]]] = {
    SEGMENT_TYPE: segment_schema,
    MARKER: partial(control_message_schema, MARKER),
    ENDED: partial(control_message_schema, ENDED),
}
"""What others may write, and its schema."""

MESSAGES = {
    "segments": [SEGMENT_TYPE, MARKER, ENDED],
    "quality": [cloudevents.QUALITY, cloudevents.UNSCORED],
    "control": [MARKER, ENDED],
    "alerts": [cloudevents.ALERT_OPENED, cloudevents.ALERT_RESOLVED],
    "rejected": ["rejected"],
}
"""What is on which topic; the state topic is the group's own and not described."""

_KEYS = {
    "segments": "the stream id; markers have none, and go to every partition",
    "quality": "the key of the segment message",
    "control": "the type, and the stream id or the id of the marker",
    "alerts": "the series",
    "rejected": "as it was",
}


def asyncapi_document(names: TopicNames, plans: Sequence[TopicSpec]) -> dict[str, Any]:
    """The whole document as plain data."""
    by_name = {plan.name: plan for plan in plans}
    channels = {kind: _channel(kind, by_name[getattr(names, kind)]) for kind in MESSAGES}
    return {
        "asyncapi": "3.1.0",
        "info": {
            "title": "vqmon",
            "version": "1",
            "description": "Segment messages in; outcomes and alerts out, once each for who reads what is committed.",
        },
        "defaultContentType": _CLOUDEVENT,
        "channels": channels,
        "operations": {kind: _operation(kind) for kind in MESSAGES},
        "components": {"messages": {name: _message(name) for names in MESSAGES.values() for name in names}},
    }


def _channel(kind: str, plan: TopicSpec) -> dict[str, Any]:
    return {
        "address": plan.name,
        "description": plan.description,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in MESSAGES[kind]},
        "bindings": {
            "kafka": {
                "topic": plan.name,
                "partitions": plan.partitions,
                "replicas": plan.replication_factor,
                "topicConfiguration": {"cleanup.policy": [plan.required_config["cleanup.policy"]]},
                "bindingVersion": "0.5.0",
            }
        },
    }


def _operation(kind: str) -> dict[str, Any]:
    action = "receive" if kind == "segments" else "send"
    return {"action": action, "channel": {"$ref": f"#/channels/{kind}"}}


def _message(name: str) -> dict[str, Any]:
    kind = next(kind for kind, names in MESSAGES.items() if name in names)
    message: dict[str, Any] = {
        "name": name,
        "bindings": {"kafka": {"key": {"type": "string", "description": _KEYS[kind]}, "bindingVersion": "0.5.0"}},
    }
    if name == "rejected":
        return {**message, "contentType": "application/octet-stream", "summary": "the record's own bytes and headers"}
    file = f"in/{name}.json" if name in _INCOMING else f"{name}.json"
    return {**message, "contentType": _CLOUDEVENT, "payload": {"$ref": f"schemas/{file}"}}


def generated_files() -> dict[str, str]:
    """File name under config/ -> its text. The YAML is written as JSON, which is YAML too."""
    names = TopicNames.from_prefix("vqmon", "vqmon")
    plans = topic_specs(names, partitions=12, replication_factor=3, max_message_bytes=1_000_000)
    return {
        "asyncapi.yaml": json.dumps(asyncapi_document(names, plans), indent=2) + "\n",
        **{f"schemas/in/{name}.json": json.dumps(schema(), indent=2) + "\n" for name, schema in _INCOMING.items()},
    }


if __name__ == "__main__":
    for name, text in generated_files().items():
        (Path(sys.argv[1]) / name).write_text(text, encoding="utf-8")
