"""Login facts, waiting for brokers, wrong topics, and the offset from which a partition is read on."""

import asyncio
from pathlib import Path

import pytest

from pipelines.service import brokers
from pipelines.service.brokers import (
    connection_of,
    resume_offset,
    retry_until_reachable,
    topic_specs_of,
    wait_for_topics,
)
from vqmon.errors import BrokerError, SettingsError
from vqmon.settings.sections import KafkaSettings
from vqmon.transport.kafka import ClientConfig, TopicProblem, TopicSpec
from vqmon.transport.kafka.records import PartitionOffsets


def partition_offsets(beginning: int, end: int) -> PartitionOffsets:
    return PartitionOffsets(committed=None, beginning=beginning, end=end)


@pytest.mark.parametrize(
    ("stored", "expected"),
    [(None, 10), (10, 10), (15, 15), (20, 20)],
)
def test_a_partition_resumes_at_the_stored_offset_or_at_the_oldest_record(stored: int | None, expected: int) -> None:
    """The end of the topic is a valid offset: the next record is not written yet."""
    assert resume_offset(stored, partition_offsets(10, 20), "stop", partition="t/0") == expected


def test_an_offset_beyond_the_end_of_the_topic_is_retried_as_a_broker_error() -> None:
    """A new leader may not know yet how far the old one was."""
    with pytest.raises(BrokerError, match=r"t/0: the stored offset is 21, but the topic holds offsets 10 to 20"):
        resume_offset(21, partition_offsets(10, 20), "go_on", partition="t/0")


def test_deleted_records_are_refused_unless_the_settings_accept_the_gap() -> None:
    """The message says what to set; with `go_on` reading starts at the oldest record that is left."""
    with pytest.raises(SettingsError, match=r't/0: .* deleted before .* set kafka.when_lost = "go_on"'):
        resume_offset(9, partition_offsets(10, 20), "stop", partition="t/0")
    assert resume_offset(9, partition_offsets(10, 20), "go_on", partition="t/0") == 10


def test_a_login_mechanism_needs_a_user_name_and_a_password_file(tmp_path: Path) -> None:
    """The password is read from its file, without the line end."""
    with pytest.raises(SettingsError, match=r"PLAIN needs kafka.username and kafka.password_file"):
        connection_of(KafkaSettings(mechanism="PLAIN", username="u"))
    file = tmp_path / "password"
    file.write_text("secret\n")
    file.chmod(0o600)
    connection = connection_of(KafkaSettings(mechanism="PLAIN", username="u", password_file=file))
    assert (connection.username, connection.password) == ("u", "secret")
    assert connection_of(KafkaSettings()).password == ""


async def test_a_request_is_repeated_until_a_broker_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every broker error is retried; an answer of None would be an answer too."""
    monkeypatch.setattr(brokers, "RETRY_SECONDS", 0.0)
    errors = [BrokerError("away"), BrokerError("away")]

    async def request() -> str:
        if errors:
            raise errors.pop()
        return "answer"

    assert await retry_until_reachable(request, asyncio.Event()) == "answer"
    assert not errors


async def test_a_stop_ends_the_wait_for_brokers() -> None:
    """A worker that was never connected can be stopped at once."""
    stop = asyncio.Event()

    async def request() -> str:
        stop.set()
        raise BrokerError("away")

    assert await retry_until_reachable(request, stop) is None


async def test_only_the_named_topics_are_checked_and_every_problem_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recorder needs two of the topics and starts without the others."""
    kafka = KafkaSettings(prefix="v", group="g")
    checked: list[str] = []

    async def check_topics(connection: ClientConfig, plans: list[TopicSpec]) -> list[TopicProblem]:
        checked[:] = [plan.name for plan in plans]
        copies = TopicProblem(text="few copies", remedy="add some", is_fatal=False)
        missing = [TopicProblem(text=f"{name} is missing", remedy="create it") for name in checked if "alerts" in name]
        return [copies, *missing]

    monkeypatch.setattr(brokers, "check_topics", check_topics)
    names = brokers.topic_names(kafka)
    connection = connection_of(kafka)
    await wait_for_topics(connection, kafka, asyncio.Event(), only=[names.quality])
    assert checked == [names.quality]
    with pytest.raises(SettingsError, match=rf"^kafka: {names.alerts} is missing\n    create it$"):
        await wait_for_topics(connection, kafka, asyncio.Event())
    assert checked == [plan.name for plan in topic_specs_of(kafka)]
