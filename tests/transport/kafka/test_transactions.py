"""Exactly-once writes over broker errors, and a transactional producer that is closed or killed."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import pytest
from aiokafka.errors import MessageSizeTooLargeError

from vqmon.errors import BrokerError, FencedError, RecordTooLargeError
from vqmon.retry import Backoff
from vqmon.transport.kafka import transactions
from vqmon.transport.kafka.connection import ClientConfig
from vqmon.transport.kafka.in_memory import Fault, MemoryBroker, MemoryTransactionalProducer
from vqmon.transport.kafka.records import INPUT_HEADER, CommittedOffset, ProducerRecord, TransactionBatch
from vqmon.transport.kafka.transactions import TransactionalProducer, write_exactly_once

BATCH = TransactionBatch(
    records=[ProducerRecord(topic="out", partition=0, key=b"k", value=b"v")],
    next_offset=7,
)


@pytest.fixture(autouse=True)
def _short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "_BACKOFF", Backoff(first_seconds=1e-6, last_seconds=1e-6))


def producer(broker: MemoryBroker) -> MemoryTransactionalProducer:
    return MemoryTransactionalProducer(broker, transactional_id="g.in.0", group="g", topic="in", partition=0)


async def write(
    broker: MemoryBroker, batch: TransactionBatch = BATCH, *, previous: CommittedOffset | None = None
) -> list[str]:
    """Open a producer and write BATCH; returns the errors on the way."""
    writer, errors = producer(broker), list[str]()

    async def committed() -> CommittedOffset | None:
        key = ("g", "in", 0)
        if key not in broker.offsets:
            return None
        return CommittedOffset(offset=broker.offsets[key], metadata=broker.commit_metadata.get(key, ""))

    await writer.open()
    await write_exactly_once(
        writer,
        batch,
        previous=previous,
        committed=committed,
        on_error=lambda error: errors.append(str(error)),
    )
    return errors


@pytest.mark.parametrize(
    ("faults", "error_count"),
    [
        ([None, None], 0),
        ([None, "not_written"], 1),
        ([None, "written"], 1),
        ([None, "not_written", "refused", "refused", None, "written"], 4),
    ],
)
async def test_a_batch_is_written_once_whatever_fails(faults: Sequence[Fault | None], error_count: int) -> None:
    """The faults are those of open, write, open, write ...; the committed offset tells whether a write got through."""
    broker = MemoryBroker(1)
    broker.faults.extend(faults)
    assert len(await write(broker)) == error_count
    assert [record.value for record in broker.records("out")] == [b"v"]
    assert broker.offsets["g", "in", 0] == 7


@pytest.mark.parametrize("fault", ["not_written", "written"])
async def test_two_commits_of_one_offset_are_told_apart_by_their_metadata(fault: Fault) -> None:
    """A batch that leaves the offset where it is gets written once, whether or not its first write got through."""
    broker = MemoryBroker(1)
    await write(broker)
    broker.faults.extend([None, fault])
    await write(broker, replace(BATCH, metadata="a"), previous=BATCH.commit)
    assert len(broker.records("out")) == 2


async def test_an_offset_that_another_worker_has_moved_is_fenced() -> None:
    """After an error the committed offset is neither the old nor the new one."""
    broker = MemoryBroker(1)
    broker.offsets["g", "in", 0] = 5
    broker.faults.extend([None, "not_written"])
    with pytest.raises(FencedError, match=r"has committed .*offset=5.*, neither .*offset=3.* nor .*offset=7"):
        await write(broker, previous=CommittedOffset(offset=3))
    assert broker.records("out") == []


async def test_an_id_that_another_producer_has_taken_over_is_fenced() -> None:
    """The earlier producer writes nothing and retries nothing; the later one writes its batch."""
    broker = MemoryBroker(1)
    earlier, later = producer(broker), producer(broker)
    await earlier.open()
    await later.open()

    async def committed() -> CommittedOffset | None:
        raise AssertionError("not asked")

    with pytest.raises(FencedError):
        await write_exactly_once(earlier, BATCH, previous=None, committed=committed)
    assert broker.records("out") == []
    await write_exactly_once(later, BATCH, previous=None, committed=committed)
    assert len(broker.records("out")) == 1


def closed_producer() -> TransactionalProducer:
    config = ClientConfig(bootstrap=("127.0.0.1:1",))
    return TransactionalProducer(config, transactional_id="x", group="g", topic="in", partition=0)


async def test_a_producer_that_is_not_open_writes_nothing() -> None:
    """Closing and killing it does nothing either."""
    writer = closed_producer()
    await writer.close()
    await writer.kill()
    with pytest.raises(BrokerError, match="not open"):
        await writer.write(BATCH)


class FakeBatch:
    """An aiokafka batch builder that takes two records."""

    def __init__(self) -> None:
        self.values: list[bytes | None] = []

    def append(self, *, timestamp: None, key: bytes | None, value: bytes | None, headers: list[object]) -> object:
        if len(self.values) == 2:
            return None
        self.values.append(value)
        return object()

    def close(self) -> None: ...


class FakeProducer:
    """An aiokafka producer that refuses some values."""

    def __init__(self, *, refuses: bytes = b"", loses_coordinator: bool = False) -> None:
        self.calls: list[str] = []
        # topic, partition and values of each batch
        self.batches: list[tuple[str, int | None, list[bytes | None]]] = []
        self._refuses = refuses
        self._loses_coordinator = loses_coordinator
        self._sender = SimpleNamespace(_coordinator_dead=lambda kind: None)

    async def begin_transaction(self) -> None:
        self.calls.append("begin")

    def create_batch(self) -> FakeBatch:
        return FakeBatch()

    async def send_batch(self, batch: FakeBatch, topic: str, *, partition: int) -> "asyncio.Future[None]":
        return self._sent(topic, partition, batch.values)

    async def send(self, topic: str, value: bytes, key: bytes, **_: object) -> "asyncio.Future[None]":
        return self._sent(topic, None, [value])

    def _sent(self, topic: str, partition: int | None, values: list[bytes | None]) -> "asyncio.Future[None]":
        self.batches.append((topic, partition, values))
        future = asyncio.get_running_loop().create_future()
        if self._refuses in values:
            future.set_exception(MessageSizeTooLargeError(values))
        else:
            future.set_result(None)
        return future

    async def send_offsets_to_transaction(self, offsets: object, group: str) -> None:
        self.calls.append("offsets")

    async def commit_transaction(self) -> None:
        self.calls.append("commit")
        if self._loses_coordinator:
            self._sender._coordinator_dead("TRANSACTION")


def opened(fake: FakeProducer) -> TransactionalProducer:
    writer = closed_producer()
    writer._producer = fake  # type: ignore[assignment]
    writer._observe_coordinator_loss(fake)  # type: ignore[arg-type]
    return writer


async def test_a_refused_record_stops_the_commit() -> None:
    """aiokafka alone would commit the other records. Sent one by one, the record that is too large is named."""
    fake = FakeProducer(refuses=b"v")
    writer = opened(fake)
    with pytest.raises(BrokerError, match="one by one"):
        await writer.write(BATCH)
    refused = ProducerRecord(topic="out", partition=3, key=b"k", value=b"v", headers=((INPUT_HEADER, b"in/3/7"),))
    small = replace(refused, partition=2, value=b"x")
    with pytest.raises(RecordTooLargeError, match=r"of 19 bytes for in/3/7 is larger than topic out \(partition 3\)"):
        await writer.write(replace(BATCH, records=[small, refused, small]))
    assert fake.calls == ["begin", "begin"]


async def test_records_are_sent_in_batches_in_their_order_within_each_partition() -> None:
    """Also those without key and value; a record without a partition goes where its key belongs."""
    values = [(topic, value) for value in (b"1", None, b"3") for topic in ("out", "state")]
    records = [ProducerRecord(topic=topic, partition=1, key=None, value=value) for topic, value in values]
    records.insert(1, ProducerRecord(topic="gathered", partition=None, key=b"k", value=b"g"))
    fake = FakeProducer()
    await opened(fake).write(replace(BATCH, records=records))
    assert fake.batches == [
        ("out", 1, [b"1", None]),
        ("state", 1, [b"1", None]),
        ("out", 1, [b"3"]),
        ("state", 1, [b"3"]),
        ("gathered", None, [b"g"]),
    ]


async def test_a_commit_over_a_lost_coordinator_is_uncertain() -> None:
    """aiokafka then sends the commit again without an error; without the loss the write is good."""
    with pytest.raises(BrokerError, match="sent twice"):
        await opened(FakeProducer(loses_coordinator=True)).write(BATCH)
    fake = FakeProducer()
    await opened(fake).write(BATCH)
    assert fake.calls == ["begin", "offsets", "commit"]
