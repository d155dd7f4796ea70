"""An idempotent producer for commands: each record at least once and in order, confirmed by the brokers."""

from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType

from aiokafka import AIOKafkaProducer

from vqmon.flow import run_with_deadline
from vqmon.transport.kafka.connection import REQUEST_TIMEOUT_SECONDS, ClientConfig, start_client, translated_errors
from vqmon.transport.kafka.records import Headers

_START_TIMEOUT_SECONDS = 20.0
_CLOSE_TIMEOUT_SECONDS = 2.0
_SEND_TIMEOUT_SECONDS = 60.0


class IdempotentProducer:
    """A producer that chooses the partition by the key; raises BrokerError."""

    def __init__(self, config: ClientConfig) -> None:
        self._config = config
        self._producer = AIOKafkaProducer(
            **config.client_options(),
            enable_idempotence=True,
            request_timeout_ms=int(REQUEST_TIMEOUT_SECONDS * 1000),
            compression_type="lz4",
            linger_ms=5,
        )

    async def __aenter__(self) -> "IdempotentProducer":
        start = self._producer.start()
        try:
            await start_client(start, self._config, action="open the producer", within_seconds=_START_TIMEOUT_SECONDS)
        except BaseException:
            with suppress(Exception):
                await run_with_deadline(self._producer.stop(), within_seconds=_CLOSE_TIMEOUT_SECONDS)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with translated_errors("close the producer"):
            await run_with_deadline(self._producer.stop(), within_seconds=_START_TIMEOUT_SECONDS)

    async def publish(self, topic: str, records: Iterable[tuple[bytes, bytes, Headers]]) -> int:
        """Send (key, value, headers) and wait until the brokers have confirmed all; returns how many."""

        async def send() -> int:
            confirmations = [
                await self._producer.send(topic, value, key, headers=list(headers)) for key, value, headers in records
            ]
            for confirmation in confirmations:
                await confirmation
            return len(confirmations)

        with translated_errors("publish"):
            return await run_with_deadline(send(), within_seconds=_SEND_TIMEOUT_SECONDS)

    async def publish_to_all_partitions(
        self, topic: str, value: bytes, headers: Headers, *, key: bytes | None = None
    ) -> int:
        """Send one record to every partition, whatever its key, and wait for all; returns the number of partitions."""

        async def send() -> int:
            partitions = await self._producer.partitions_for(topic)
            for partition in sorted(partitions):
                await self._producer.send_and_wait(topic, value, key, partition=partition, headers=list(headers))
            return len(partitions)

        with translated_errors("publish"):
            return await run_with_deadline(send(), within_seconds=_SEND_TIMEOUT_SECONDS)
