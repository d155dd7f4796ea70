"""Writes the batches of one input partition, each in one transaction, and can always be got rid of."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import ProducerClosed

from vqmon.errors import BrokerError, FencedError
from vqmon.flow import apart
from vqmon.transport.kafka.connection import REQUEST_SECONDS, Connection, translated
from vqmon.transport.kafka.records import Batch, Outgoing, Transactions

FIRST_BACKOFF_SECONDS = 0.2
LAST_BACKOFF_SECONDS = 5.0


async def write_once(
    writer: Transactions,
    batch: Batch,
    *,
    before: int | None,
    committed: Callable[[], Awaitable[int | None]],
    broken: Callable[[BrokerError], None] = lambda error: None,
) -> None:
    """Write the batch, and after any error find out from the committed offset whether it is already there.

    `before` is the committed offset that the batch follows. Goes on until the batch is visible; raises FencedError when
    somebody else has moved the offset or taken over the id. `broken` is told of each error.
    """
    try:
        await writer.write(batch)
        return
    except FencedError:
        await writer.kill()
        raise
    except BrokerError as error:
        broken(error)
        await writer.kill()
    seconds = FIRST_BACKOFF_SECONDS
    while True:
        try:
            # Opening fences our own last transaction first: only then does the committed offset tell the truth.
            await writer.open()
            offset = await committed()
            if offset == batch.next_offset and offset != before:
                return
            if offset != before:
                raise FencedError(f"the committed offset is {offset}, neither {before} nor {batch.next_offset}")
            await writer.write(batch)
            return
        except FencedError:
            await writer.kill()
            raise
        except BrokerError as error:
            broken(error)
            await writer.kill()
        await asyncio.sleep(seconds)
        seconds = min(seconds * 2, LAST_BACKOFF_SECONDS)


log = logging.getLogger("vqmon.kafka")

OPEN_SECONDS = 20.0
WRITE_SECONDS = 8.0
"""Below REQUEST_SECONDS, so that no request is silently sent a second time within a transaction that counts as good."""
CLOSE_SECONDS = 2.0
TRANSACTION_SECONDS = 20.0
"""After which the broker itself aborts a transaction that was left open."""
MAX_RECORD_BYTES = 8 << 20


class TransactionWriter:
    """One transactional producer for one input partition.

    The transactional id names the partition, not the worker: whoever opens it fences whoever had it before. After any
    error the writer is worth nothing: `kill` it and open another, which ends what was left open.
    """

    def __init__(
        self, connection: Connection, *, transactional_id: str, group: str, topic: str, partition: int
    ) -> None:
        self._connection = connection
        self._transactional_id = transactional_id
        self._group = group
        self._input = TopicPartition(topic, partition)
        self._producer: AIOKafkaProducer | None = None
        self._is_doubtful = False

    async def open(self) -> None:
        """Fence earlier holders and end what they left open."""
        producer = AIOKafkaProducer(
            **self._connection.options(),
            transactional_id=self._transactional_id,
            transaction_timeout_ms=int(TRANSACTION_SECONDS * 1000),
            request_timeout_ms=int(REQUEST_SECONDS * 1000),
            max_request_size=MAX_RECORD_BYTES + (1 << 20),
            max_batch_size=256 << 10,
            compression_type="lz4",
            retry_backoff_ms=50,
        )
        self._producer = producer
        try:
            with translated("open the producer"):
                await apart(producer.start(), within_seconds=OPEN_SECONDS)
        except BaseException:
            await self.kill()
            raise
        self._watch_for_doubt(producer)

    async def write(self, batch: Batch) -> None:
        """Write a batch and the offset that goes with it; raises BrokerError when it is not known what happened."""
        producer = self._opened()
        with translated("write a transaction"):
            async with asyncio.timeout(WRITE_SECONDS):
                await producer.begin_transaction()
                await self._send_all(producer, batch.records)
                await producer.send_offsets_to_transaction({self._input: batch.next_offset}, self._group)
                self._is_doubtful = False
                await producer.commit_transaction()
        if self._is_doubtful:
            raise BrokerError("write a transaction: its end was sent twice")

    async def _send_all(self, producer: AIOKafkaProducer, records: Sequence[Outgoing]) -> None:
        sent = []
        try:
            for record in records:
                future = await producer.send(
                    record.topic, record.value, record.key, partition=record.partition, headers=list(record.headers)
                )
                sent.append(future)
            # Each future must be looked at: the commit would succeed over a record that was refused.
            await asyncio.gather(*sent)
        except BaseException:
            for future in sent:
                _look_at(future)
            raise

    def _watch_for_doubt(self, producer: AIOKafkaProducer) -> None:
        """Note when the coordinator was lost: aiokafka then sends the end of a transaction again without a word."""
        sender = producer._sender
        lost = sender._coordinator_dead

        def note(kind: object) -> None:
            self._is_doubtful = True
            lost(kind)

        sender._coordinator_dead = note

    def _opened(self) -> AIOKafkaProducer:
        if self._producer is None:
            raise BrokerError("write a transaction: the producer is not open")
        return self._producer

    async def close(self) -> None:
        """Let go of the id in peace; what is not done in time is killed."""
        producer = self._producer
        if producer is None:
            return
        try:
            await apart(producer.stop(), within_seconds=CLOSE_SECONDS)
        except (Exception, asyncio.CancelledError) as error:
            log.debug("producer did not stop: %r", error)
        await self.kill()

    async def kill(self) -> None:
        """End every task and connection of the producer, however it hangs; it never waits for the broker."""
        producer, self._producer = self._producer, None
        if producer is None:
            return
        # These are private names: aiokafka 0.14 has no public way out of a pending batch, commit, abort or offset.
        producer._closed = True
        accumulator = producer._message_accumulator
        for batch in (*accumulator._pending_batches, *(one for some in accumulator._batches.values() for one in some)):
            _look_at(batch._drain_waiter)
        accumulator.fail_all(ProducerClosed())
        sender = producer._sender.sender_task if producer._sender is not None else None
        for _ in range(2):
            if sender is not None and not sender.done():
                sender.cancel()
                await asyncio.wait([sender], timeout=CLOSE_SECONDS)
        try:
            await apart(producer.client.close(), within_seconds=CLOSE_SECONDS)
        except (Exception, asyncio.CancelledError) as error:
            log.debug("connections did not close: %r", error)


def _look_at(future: "asyncio.Future[object]") -> None:
    """See its error once, so that nobody reports it as forgotten."""
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
