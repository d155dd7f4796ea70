"""The generated AsyncAPI description agrees with the topics, the schemas and the files in config."""

import json
from pathlib import Path

from vqmon.transport.kafka.records import TopicNames
from vqmon.transport.kafka.topics import topic_specs
from vqmon.transport.wire.asyncapi import MESSAGES, asyncapi_document, generated_files

CONFIG = Path(__file__).parents[3] / "config"
NAMES = TopicNames.from_prefix("tv", "g")
DOCUMENT = asyncapi_document(NAMES, topic_specs(NAMES, partitions=6, replication_factor=2, max_message_bytes=1000))


def test_every_generated_file_is_up_to_date() -> None:
    """`python -m vqmon.transport.wire.asyncapi config` writes them."""
    for name, text in generated_files().items():
        assert (CONFIG / name).read_text(encoding="utf-8") == text, name


def test_channels_are_the_topics_of_the_deployment() -> None:
    """With their names, partitions and replicas."""
    assert {kind: channel["address"] for kind, channel in DOCUMENT["channels"].items()} == {
        "segments": "tv.segments.v1",
        "quality": "tv.quality.v1",
        "control": "tv.control.v1",
        "alerts": "tv.alerts.v1",
        "rejected": "tv.rejected.v1",
    }
    kafka = DOCUMENT["channels"]["alerts"]["bindings"]["kafka"]
    assert (kafka["partitions"], kafka["replicas"]) == (6, 2)


def test_vqmon_receives_segments_and_sends_all_else() -> None:
    """From the side of vqmon."""
    actions = {kind: operation["action"] for kind, operation in DOCUMENT["operations"].items()}
    assert actions == {
        "segments": "receive",
        "quality": "send",
        "control": "send",
        "alerts": "send",
        "rejected": "send",
    }


def test_every_message_of_a_channel_is_described_with_a_schema_that_exists() -> None:
    """Except rejected records, which are arbitrary bytes."""
    messages = DOCUMENT["components"]["messages"]
    assert set(messages) == {name for names in MESSAGES.values() for name in names}
    for name, message in messages.items():
        if name == "rejected":
            assert message["contentType"] == "application/octet-stream"
            continue
        schema = json.loads((CONFIG / message["payload"]["$ref"]).read_text(encoding="utf-8"))
        assert schema["title"] == name
