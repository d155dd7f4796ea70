"""A member of a consumer group, over a fake aiokafka consumer; the real one is in tests/acceptance/kafka."""

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError
from aiokafka.structs import OffsetAndMetadata

from vqmon.errors import BrokerError
from vqmon.transport.kafka import consumer_group
from vqmon.transport.kafka.connection import ClientConfig
from vqmon.transport.kafka.consumer_group import GroupConsumer, to_record
from vqmon.transport.kafka.records import CommittedOffset


class FakeConsumer:
    """Notes calls; knows three records of partition 1."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.commits: dict[TopicPartition, OffsetAndMetadata] = {}
        self._coordinator = self
        self.error: Exception | None = None

    async def getmany(self, *partitions: TopicPartition, **_: object) -> dict[TopicPartition, list[Any]]:
        self.calls.append(("getmany", partitions))
        if self.error:
            raise self.error
        record = SimpleNamespace(partition=1, offset=4, key=b"k", value=b"v", headers=(("a", None),), timestamp=5)
        return {TopicPartition("in", 1): [record]}

    async def fetch_committed_offsets(
        self, partitions: list[TopicPartition]
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        return {partition: self.commits[partition] for partition in partitions if partition in self.commits}

    async def beginning_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 2)

    async def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 9)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.calls.append(("seek", (partition.partition, offset)))

    def pause(self, *partitions: TopicPartition) -> None:
        self.calls.append(("pause", [partition.partition for partition in partitions]))

    def resume(self, *partitions: TopicPartition) -> None:
        self.calls.append(("resume", [partition.partition for partition in partitions]))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeConsumer:
    fake = FakeConsumer()
    monkeypatch.setattr(consumer_group, "AIOKafkaConsumer", lambda **options: fake)
    return fake


def member(fake: FakeConsumer) -> GroupConsumer:
    async def revoked(partitions: object) -> None:
        fake.calls.append(("revoked", list(partitions)))  # type: ignore[call-overload]

    return GroupConsumer(
        ClientConfig(bootstrap=("127.0.0.1:1",)),
        topic="in",
        group="g",
        session_seconds=10.0,
        rebalance_seconds=20.0,
        assigned=lambda partitions: fake.calls.append(("assigned", list(partitions))),
        revoked=revoked,
    )


async def test_assigned_partitions_are_paused_before_the_callback(fake: FakeConsumer) -> None:
    """No record may come before the caller has chosen an offset; an empty assignment pauses nothing."""
    listener = member(fake)._listener
    listener.on_partitions_assigned([TopicPartition("in", 0), TopicPartition("in", 2)])
    listener.on_partitions_assigned([])
    await listener.on_partitions_revoked([TopicPartition("in", 2)])
    assert fake.calls == [("pause", [0, 2]), ("assigned", [0, 2]), ("assigned", []), ("revoked", [2])]


async def test_a_partition_resumes_at_the_given_offset(fake: FakeConsumer) -> None:
    """The seek comes before the resume."""
    member(fake).resume(1, offset=7)
    assert fake.calls == [("seek", (1, 7)), ("resume", [1])]


async def test_polling_no_partitions_fetches_nothing(fake: FakeConsumer) -> None:
    """For aiokafka, no partitions would mean all of them."""
    assert await member(fake).poll([], seconds=0.0, max_records=5) == {}
    assert fake.calls == []


async def test_polled_records_are_by_partition(fake: FakeConsumer) -> None:
    """Only the given partitions are polled; a lost broker is a BrokerError."""
    fetched = await member(fake).poll([1, 3], seconds=0.0, max_records=5)
    assert [(record.offset, record.value) for record in fetched[1]] == [(4, b"v")]
    assert fake.calls == [("getmany", (TopicPartition("in", 1), TopicPartition("in", 3)))]
    fake.error = KafkaConnectionError("away")
    with pytest.raises(BrokerError, match=r"^poll: KafkaConnectionError"):
        await member(fake).poll([1], seconds=0.0, max_records=5)


@pytest.mark.parametrize(
    ("commit", "committed"),
    [
        (None, None),
        (OffsetAndMetadata(-1, ""), None),
        (OffsetAndMetadata(0, ""), CommittedOffset(offset=0)),
        (OffsetAndMetadata(5, "done"), CommittedOffset(offset=5, metadata="done")),
    ],
)
async def test_offsets_of_a_partition(
    fake: FakeConsumer, commit: OffsetAndMetadata | None, committed: CommittedOffset | None
) -> None:
    """A group that never committed has no offset, which is not offset 0."""
    fake.commits = {TopicPartition("in", 1): commit} if commit else {}
    offsets = await member(fake).partition_offsets(1)
    assert (offsets.committed, offsets.beginning, offsets.end) == (committed, 2, 9)


def test_a_header_without_a_value_stays_null() -> None:
    """It reads as empty, and is passed on as it came."""
    record = SimpleNamespace(partition=1, offset=4, key=None, value=None, headers=(("a", None),), timestamp=5)
    assert to_record(record).headers == (("a", None),)  # type: ignore[arg-type]
    assert to_record(record).headers_by_name() == {"a": b""}  # type: ignore[arg-type]
