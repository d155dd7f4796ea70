"""Puts records on a topic from outside the daemon: each at least once, in order, told when it is safe."""

from collections.abc import Iterable
from types import TracebackType

from aiokafka import AIOKafkaProducer

from vqmon.flow import apart
from vqmon.transport.kafka.connection import REQUEST_SECONDS, Connection, translated
from vqmon.transport.kafka.records import Headers

START_SECONDS = 20.0
SEND_SECONDS = 60.0


class Publisher:
    """An idempotent producer; the partition follows from the key."""

    def __init__(self, connection: Connection) -> None:
        self._producer = AIOKafkaProducer(
            **connection.options(),
            enable_idempotence=True,
            request_timeout_ms=int(REQUEST_SECONDS * 1000),
            compression_type="lz4",
            linger_ms=5,
        )

    async def __aenter__(self) -> "Publisher":
        with translated("open the producer"):
            await apart(self._producer.start(), within_seconds=START_SECONDS)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with translated("close the producer"):
            await apart(self._producer.stop(), within_seconds=START_SECONDS)

    async def publish(self, topic: str, records: Iterable[tuple[bytes, bytes, Headers]]) -> int:
        """Send (key, value, headers) and wait until all are safe; gives their number."""

        async def send() -> int:
            sent = [
                await self._producer.send(topic, value, key, headers=list(headers)) for key, value, headers in records
            ]
            for future in sent:
                await future
            return len(sent)

        with translated("publish"):
            return await apart(send(), within_seconds=SEND_SECONDS)

    async def publish_everywhere(self, topic: str, value: bytes, headers: Headers) -> int:
        """Put one record on every partition of a topic and wait until all are safe; gives the number of partitions."""

        async def send() -> int:
            partitions = await self._producer.partitions_for(topic)
            for partition in sorted(partitions):
                await self._producer.send_and_wait(topic, value, partition=partition, headers=list(headers))
            return len(partitions)

        with translated("publish"):
            return await apart(send(), within_seconds=SEND_SECONDS)
