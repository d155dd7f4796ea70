"""The idempotent producer, over a fake aiokafka producer."""

import asyncio
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError

from vqmon.errors import BrokerError
from vqmon.transport.kafka import producer
from vqmon.transport.kafka.connection import ClientConfig
from vqmon.transport.kafka.producer import IdempotentProducer


class FakeProducer:
    """Three partitions; confirms records, except those with the key b"lost"."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, ...]] = []

    async def start(self) -> None: ...
    async def stop(self) -> None: ...

    async def send(self, topic: str, value: bytes, key: bytes, *, headers: list[Any]) -> "asyncio.Future[None]":
        self.sent.append((topic, key, value, headers))
        confirmation = asyncio.get_running_loop().create_future()
        if key == b"lost":
            confirmation.set_exception(KafkaTimeoutError())
        else:
            confirmation.set_result(None)
        return confirmation

    async def partitions_for(self, topic: str) -> set[int]:
        return {2, 0, 1}

    async def send_and_wait(
        self, topic: str, value: bytes, key: bytes | None, *, partition: int, headers: list[Any]
    ) -> None:
        self.sent.append((topic, partition, value, key))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeProducer:
    fake = FakeProducer()
    monkeypatch.setattr(producer, "AIOKafkaProducer", lambda **options: fake)
    return fake


def open_producer() -> IdempotentProducer:
    return IdempotentProducer(ClientConfig(bootstrap=("127.0.0.1:1",)))


async def test_records_are_sent_in_order_with_their_keys(fake: FakeProducer) -> None:
    """The key chooses the partition, so none is given."""
    async with open_producer() as idempotent:
        assert await idempotent.publish("t", [(b"k", b"1", ()), (b"k", b"2", (("a", b"b"),))]) == 2
        assert await idempotent.publish("t", []) == 0
    assert fake.sent == [("t", b"k", b"1", []), ("t", b"k", b"2", [("a", b"b")])]


async def test_a_record_that_is_not_confirmed_fails_the_publish(fake: FakeProducer) -> None:
    """Nobody may believe that it is stored."""
    with pytest.raises(BrokerError, match=r"^publish: KafkaTimeoutError"):
        await open_producer().publish("t", [(b"k", b"1", ()), (b"lost", b"2", ())])


async def test_a_control_message_goes_to_every_partition(fake: FakeProducer) -> None:
    """In the order of the partitions, whatever its key; returns how many there are."""
    assert await open_producer().publish_to_all_partitions("t", b"v", (("a", b"b"),), key=b"k") == 3
    assert fake.sent == [("t", partition, b"v", b"k") for partition in range(3)]
