"""Reading a changelog to its end, and following a topic without a group; over a fake aiokafka consumer."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition

from vqmon.errors import BrokerError
from vqmon.transport.kafka import reader
from vqmon.transport.kafka.connection import ClientConfig
from vqmon.transport.kafka.reader import Changelog, open_topic_consumer

CONFIG = ClientConfig(bootstrap=("127.0.0.1:1",))


class FakeConsumer:
    """Partitions with records of (offset, key, value); `end_offset` may lie behind the last record."""

    partitions: Mapping[int, list[tuple[int, bytes | None, bytes | None]]] = {}
    end_offset = 0
    # whether a broker answers polls
    answers = True

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.positions: dict[int, int] = {}
        self.polls = 0
        self.is_stopped = False
        self._fetcher = self._coordinator = None
        self._client = SimpleNamespace(close=self._close, fetch_all_metadata=self._metadata)
        made.append(self)

    async def start(self) -> None: ...

    async def stop(self) -> None:
        self.is_stopped = True

    async def _close(self) -> None: ...

    async def _metadata(self) -> object:
        return SimpleNamespace(partitions_for_topic=lambda topic: set(self.partitions) if topic == "t" else None)

    def assign(self, partitions: list[TopicPartition]) -> None:
        self.positions = {partition.partition: 0 for partition in partitions}

    async def beginning_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    def last_poll_timestamp(self, partition: TopicPartition) -> int | None:
        return self.polls if self.answers else None

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.positions[partition.partition] = offset

    async def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, self.end_offset)

    async def seek_to_end(self, *partitions: TopicPartition) -> None:
        self.positions |= dict.fromkeys((partition.partition for partition in partitions), self.end_offset)

    async def position(self, partition: TopicPartition) -> int:
        return self.positions[partition.partition]

    async def getmany(self, *partitions: TopicPartition, **_: object) -> dict[TopicPartition, list[Any]]:
        self.polls += 1
        fetched = {}
        for partition in partitions:
            position = self.positions[partition.partition]
            rows = [row for row in self.partitions[partition.partition] if row[0] >= position][:2]
            if rows:
                self.positions[partition.partition] = rows[-1][0] + 1
                fetched[partition] = [
                    SimpleNamespace(
                        partition=partition.partition, offset=offset, key=key, value=value, headers=(), timestamp=0
                    )
                    for offset, key, value in rows
                ]
        return fetched


made: list[FakeConsumer] = []


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch) -> None:
    made.clear()
    monkeypatch.setattr(reader, "AIOKafkaConsumer", FakeConsumer)


async def test_a_changelog_gives_the_newest_value_of_every_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tombstone deletes its key; a record without a key has the key ""; bytes that are not text are replaced."""
    records = [(0, b"a", b"1"), (2, b"b", b"2"), (3, b"a", b"3"), (5, b"b", None), (6, None, b"4"), (7, b"\xff", b"5")]
    monkeypatch.setattr(FakeConsumer, "partitions", {4: records})
    monkeypatch.setattr(FakeConsumer, "end_offset", 8)
    assert await Changelog(CONFIG, "t", 4).read() == {"a": b"3", "": b"4", "\N{REPLACEMENT CHARACTER}": b"5"}
    assert made[0].is_stopped
    assert made[0].options["isolation_level"] == "read_committed"


async def test_a_changelog_that_ends_in_compacted_markers_is_read_to_its_last_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The position never reaches the end offset; three answers without progress end the read."""
    monkeypatch.setattr(FakeConsumer, "partitions", {0: [(0, b"a", b"1")]})
    monkeypatch.setattr(FakeConsumer, "end_offset", 9)
    assert await Changelog(CONFIG, "t", 0).read() == {"a": b"1"}
    assert made[0].polls <= 1 + reader.MAX_EMPTY_ANSWERS + 1


async def test_silence_of_the_brokers_is_not_the_end_of_a_changelog(monkeypatch: pytest.MonkeyPatch) -> None:
    """States would be missing; the read fails after a while, and goes on where it stopped when it is repeated."""
    monkeypatch.setattr(FakeConsumer, "partitions", {0: [(0, b"a", b"1"), (1, b"b", b"2"), (2, b"a", None)]})
    monkeypatch.setattr(FakeConsumer, "end_offset", 4)
    monkeypatch.setattr(FakeConsumer, "answers", False)
    monkeypatch.setattr(reader, "_STALLED_SECONDS", 0.01)
    changelog, shares = Changelog(CONFIG, "t", 0), list[float]()
    with pytest.raises(BrokerError, match=r"state in t/0: no record came .* at offset 3 of 4"):
        await changelog.read(report=shares.append)
    assert shares[:2] == [0.0, 0.5]
    monkeypatch.setattr(FakeConsumer, "partitions", {0: [(0, b"c", b"0"), (3, b"c", b"3")]})
    assert await changelog.read(report=shares.append) == {"b": b"2", "c": b"3"}


async def test_an_empty_changelog_is_not_polled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first start of a deployment."""
    monkeypatch.setattr(FakeConsumer, "partitions", {0: []})
    assert await Changelog(CONFIG, "t", 0).read() == {}
    assert made[0].polls == 0


async def test_a_topic_is_consumed_from_the_stored_offsets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Partitions without one from their oldest record; lag counts the offsets to the end."""
    monkeypatch.setattr(FakeConsumer, "partitions", {0: [(0, b"a", b"0"), (1, b"a", b"1")], 1: [(0, b"b", b"2")]})
    monkeypatch.setattr(FakeConsumer, "end_offset", 2)
    async with open_topic_consumer(CONFIG, "t", offsets={0: 1}) as consumer:
        assert await consumer.lag_records() == 1 + 2
        records = await consumer.poll(seconds=0.0)
        assert [(record.partition, record.value) for record in records] == [(0, b"1"), (1, b"2")]
        assert await consumer.lag_records() == 1
    assert made[0].is_stopped


async def test_a_topic_is_consumed_from_now_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """But from a stored offset where there is one."""
    monkeypatch.setattr(FakeConsumer, "partitions", {0: [(0, b"a", b"0"), (1, b"a", b"1")], 1: [(1, b"b", b"2")]})
    monkeypatch.setattr(FakeConsumer, "end_offset", 2)
    async with open_topic_consumer(CONFIG, "t", offsets={0: 1}, start="newest") as consumer:
        assert [record.value for record in await consumer.poll(seconds=0.0)] == [b"1"]


async def test_a_topic_that_does_not_exist_is_an_error_with_a_remedy() -> None:
    """And the consumer is stopped."""
    with pytest.raises(BrokerError, match="topic none does not exist: run `vqmon topics create`"):
        async with open_topic_consumer(CONFIG, "none", offsets={}):
            pass
    assert made[0].is_stopped
