"""Topic specs, and the problems of topics that differ from them."""

import pytest

from vqmon.transport.kafka.records import TopicNames
from vqmon.transport.kafka.topics import TopicSpec, topic_problems, topic_specs

NAMES = TopicNames.from_prefix("vqmon", "g")
SPECS = topic_specs(NAMES, partitions=6, replication_factor=3, max_message_bytes=1000)
COUNTS = {spec.name: spec.partitions for spec in SPECS}
CONFIGS = {spec.name: dict(spec.required_config) for spec in SPECS}


def spec(name: str) -> TopicSpec:
    return next(spec for spec in SPECS if spec.name == name)


def test_only_the_gathered_topics_have_one_partition() -> None:
    """All others have the input's number of partitions."""
    assert {name: count for name, count in COUNTS.items() if count != 6} == {
        NAMES.gathered: 1,
        NAMES.gathered_state: 1,
    }


def test_states_are_compacted_and_outputs_are_not() -> None:
    """A compacted output would lose outcomes."""
    compacted = {spec.name for spec in SPECS if spec.required_config["cleanup.policy"] == "compact"}
    assert compacted == {NAMES.state, NAMES.gathered_state}


def test_a_rejected_record_fits_whatever_the_input_topic_took() -> None:
    """Twice the bytes, and room for headers."""
    assert spec(NAMES.segments).initial_config["max.message.bytes"] == "1000"
    assert int(spec(NAMES.rejected).initial_config["max.message.bytes"]) > 2000


@pytest.mark.parametrize(("replication_factor", "min_insync_replicas"), [(1, "1"), (2, "1"), (3, "2")])
def test_one_replica_may_be_missing_unless_there_is_only_one(replication_factor: int, min_insync_replicas: str) -> None:
    """`min.insync.replicas` is one below the replication factor, and at least 1."""
    specs = topic_specs(NAMES, partitions=1, replication_factor=replication_factor, max_message_bytes=1000)
    assert {spec.initial_config["min.insync.replicas"] for spec in specs} == {min_insync_replicas}


def test_topics_as_specified_have_no_problems() -> None:
    """What an operator may change is not compared."""
    changed = {name: {**config, "retention.ms": "1"} for name, config in CONFIGS.items()}
    assert topic_problems(SPECS, partition_counts=COUNTS, configs=changed) == []


def test_a_missing_topic_is_named_with_its_remedy() -> None:
    """The others are still checked."""
    counts = {name: count for name, count in COUNTS.items() if name != NAMES.alerts}
    (problem,) = topic_problems(SPECS, partition_counts=counts, configs=CONFIGS)
    assert problem.startswith(f"topic {NAMES.alerts} ")
    assert "vqmon topics create" in problem


def test_different_partition_counts_are_listed() -> None:
    """Outputs and state must stay beside their input partition; a count that all share may be any."""
    assert topic_problems(SPECS, partition_counts=COUNTS | {NAMES.quality: 7}, configs=CONFIGS) == [
        "these topics must have the same number of partitions, but: "
        "vqmon.segments.v1 6, vqmon.quality.v1 7, vqmon.alerts.v1 6, vqmon.state.g.v1 6, vqmon.rejected.v1 6"
    ]
    twelve = {name: 12 if count == 6 else count for name, count in COUNTS.items()}
    assert topic_problems(SPECS, partition_counts=twelve, configs=CONFIGS) == []


def test_a_gathered_topic_with_two_partitions_is_refused() -> None:
    """Rules over all streams need one order."""
    (problem,) = topic_problems(SPECS, partition_counts=COUNTS | {NAMES.gathered: 2}, configs=CONFIGS)
    assert "has 2 partitions, it must have one" in problem


def test_a_wrong_required_config_shows_both_values() -> None:
    """A state topic that is not compacted grows for ever."""
    configs = CONFIGS | {NAMES.state: {"cleanup.policy": "delete"}}
    assert topic_problems(SPECS, partition_counts=COUNTS, configs=configs) == [
        "topic vqmon.state.g.v1 has cleanup.policy=delete, it must be compact (state of the alert rules)"
    ]
