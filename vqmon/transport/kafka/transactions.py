"""Transactions of one input partition: a transactional producer that can always be killed, and exactly-once writes."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import zip_longest
from typing import NamedTuple, NoReturn

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import MessageSizeTooLargeError, ProducerClosed
from aiokafka.producer.message_accumulator import BatchBuilder

from vqmon.errors import BrokerError, FencedError, RecordTooLargeError
from vqmon.flow import run_with_deadline
from vqmon.retry import Backoff, Retries
from vqmon.transport.kafka.connection import REQUEST_TIMEOUT_SECONDS, ClientConfig, end_tasks_of, translated_errors
from vqmon.transport.kafka.records import INPUT_HEADER, BatchWriter, CommittedOffset, ProducerRecord, TransactionBatch

log = logging.getLogger("vqmon.kafka")

_BACKOFF = Backoff(first_seconds=0.2, last_seconds=5.0)
_OPEN_TIMEOUT_SECONDS = 20.0
_WRITE_TIMEOUT_SECONDS = 8.0
"""Below REQUEST_TIMEOUT_SECONDS, so that no request is silently retried within a transaction that counts as good."""

_CLOSE_TIMEOUT_SECONDS = 2.0
_TRANSACTION_TIMEOUT_SECONDS = 20.0
"""After which the broker aborts a transaction that was left open."""

_MAX_RECORD_BYTES = 8 << 20
_MAX_BATCH_BYTES = 256 << 10


async def write_exactly_once(
    writer: BatchWriter,
    batch: TransactionBatch,
    *,
    previous: CommittedOffset | None,
    committed: Callable[[], Awaitable[CommittedOffset | None]],
    on_error: Callable[[BrokerError], None] = lambda error: None,
) -> None:
    """Write a batch; after each error read the committed offset to learn whether the batch was written after all.

    `previous` is the commit that the batch follows, which differs from its own in the offset or the metadata. Retries
    until the batch is visible; raises FencedError when another worker has committed or taken over the transactional id,
    and RecordTooLargeError when one of the records is. `on_error` gets each error.
    """
    is_retry, retries = False, Retries(_BACKOFF)
    while True:
        try:
            if is_retry:
                # Opening fences our own last transaction; before that the committed offset may still change.
                await writer.open()
                commit = await committed()
                if commit == batch.commit and commit != previous:
                    return
                if commit != previous:
                    raise FencedError(f"the group has committed {commit}, neither {previous} nor {batch.commit}")
            await writer.write(batch)
            return
        except (FencedError, RecordTooLargeError):
            await writer.kill()
            raise
        except BrokerError as error:
            on_error(error)
            await writer.kill()
        # The first retry is immediate.
        if is_retry:
            await asyncio.sleep(retries.next_delay_seconds())
        is_retry = True


class TransactionalProducer:
    """The transactional producer of one input partition.

    The transactional id names the partition, not the worker: opening it fences every earlier holder. After an error the
    state of the producer is unknown: `kill` it and open it anew, which aborts the open transaction.
    """

    def __init__(self, config: ClientConfig, *, transactional_id: str, group: str, topic: str, partition: int) -> None:
        self._config = config
        self._transactional_id = transactional_id
        self._group = group
        self._input = TopicPartition(topic, partition)
        self._producer: AIOKafkaProducer | None = None
        self._lost_coordinator = False
        self._max_batch_bytes = _MAX_BATCH_BYTES

    async def open(self) -> None:
        """Fence earlier holders of the id and abort their open transaction."""
        producer = AIOKafkaProducer(
            **self._config.client_options(),
            transactional_id=self._transactional_id,
            transaction_timeout_ms=int(_TRANSACTION_TIMEOUT_SECONDS * 1000),
            request_timeout_ms=int(REQUEST_TIMEOUT_SECONDS * 1000),
            max_request_size=_MAX_RECORD_BYTES + (1 << 20),
            max_batch_size=self._max_batch_bytes,
            compression_type="lz4",
            retry_backoff_ms=50,
        )
        self._producer = producer
        try:
            with translated_errors("open the producer"):
                await run_with_deadline(producer.start(), within_seconds=_OPEN_TIMEOUT_SECONDS)
        except BaseException:
            await self.kill()
            raise
        self._observe_coordinator_loss(producer)

    async def write(self, batch: TransactionBatch) -> None:
        """Write a batch and commit its offset; raises BrokerError when the result is unknown.

        Raises RecordTooLargeError when a topic does not take one of the records.
        """
        if self._producer is None:
            raise BrokerError("write a transaction: the producer is not open")
        producer = self._producer
        with translated_errors("write a transaction"):
            async with asyncio.timeout(_WRITE_TIMEOUT_SECONDS):
                await producer.begin_transaction()
                await self._send(producer, batch.records)
                commit = (batch.next_offset, batch.metadata)
                await producer.send_offsets_to_transaction({self._input: commit}, self._group)
                self._lost_coordinator = False
                await producer.commit_transaction()
        if self._lost_coordinator:
            raise BrokerError("write a transaction: its commit was sent twice")

    async def _send(self, producer: AIOKafkaProducer, records: Sequence[ProducerRecord]) -> None:
        sent: list[_SentBatch] = []
        try:
            # The first batch of every partition before any second one, which waits until the first is on its way.
            for batches in zip_longest(*self._batches(producer, records)):
                sent += [await batch.send(producer) for batch in batches if batch is not None]
            for record in records:
                if record.partition is None:
                    sent.append(await _send_by_key(producer, record))
            # All must be awaited: the commit would succeed although a record was refused.
            await asyncio.gather(*(batch.confirmation for batch in sent))
        except MessageSizeTooLargeError as error:
            await asyncio.wait([batch.confirmation for batch in sent])
            self._raise_refused(sent, error)
        except BaseException:
            for batch in sent:
                _retrieve_exception(batch.confirmation)
            raise

    def _batches(
        self, producer: AIOKafkaProducer, records: Sequence[ProducerRecord]
    ) -> "Iterable[Sequence[_RecordBatch]]":
        """The records whose partition is given, in batches for each partition: one future per record costs too much."""
        batches: dict[tuple[str, int], list[_RecordBatch]] = {}
        for record in records:
            if record.partition is None:
                continue
            if len(record.value or b"") > _MAX_RECORD_BYTES:
                raise _too_large(record)
            of_partition = batches.setdefault((record.topic, record.partition), [])
            if not of_partition or not of_partition[-1].append(record):
                of_partition.append(_RecordBatch(record.topic, record.partition, producer.create_batch()))
                of_partition[-1].append(record)
        return batches.values()

    def _raise_refused(self, sent: "Sequence[_SentBatch]", error: MessageSizeTooLargeError) -> NoReturn:
        """Name the record that is too large, once each is sent by itself: a topic refuses whole batches of records."""
        refused = [
            record
            for batch in sent
            if isinstance(batch.confirmation.exception(), MessageSizeTooLargeError)
            for record in batch.records
        ]
        if self._max_batch_bytes > 1:
            self._max_batch_bytes = 1
            raise BrokerError("write a transaction: a batch of records is too large, they are sent one by one")
        raise _too_large(max(refused, key=_size_bytes)) from error

    def _observe_coordinator_loss(self, producer: AIOKafkaProducer) -> None:
        """Note when the coordinator is lost: aiokafka then silently sends the commit of a transaction again."""
        sender = producer._sender
        coordinator_dead = sender._coordinator_dead

        def note_loss(kind: object) -> None:
            self._lost_coordinator = True
            coordinator_dead(kind)

        sender._coordinator_dead = note_loss

    async def close(self) -> None:
        """Stop the producer in an orderly way; it is killed when that takes too long."""
        producer = self._producer
        if producer is None:
            return
        try:
            await run_with_deadline(producer.stop(), within_seconds=_CLOSE_TIMEOUT_SECONDS)
        except (Exception, asyncio.CancelledError) as error:
            log.debug("producer did not stop: %r", error)
        await self.kill()

    async def kill(self) -> None:
        """End every task and connection of the producer, even if it hangs; never waits for a broker."""
        producer, self._producer = self._producer, None
        if producer is None:
            return
        # Private names: aiokafka 0.14 has no public way out of a pending batch, commit, abort or offset.
        producer._closed = True
        accumulator = producer._message_accumulator
        queued = (batch for batches in accumulator._batches.values() for batch in batches)
        for batch in (*accumulator._pending_batches, *queued):
            _retrieve_exception(batch._drain_waiter)
            _retrieve_exception(batch.future)
        accumulator.fail_all(ProducerClosed())
        await end_tasks_of(producer._sender, accumulator, timeout_seconds=_CLOSE_TIMEOUT_SECONDS)
        # A producer that was fenced fails its transaction too, which nobody waits for once a record has failed.
        if (transaction := producer._txn_manager._transaction_waiter) is not None:
            _retrieve_exception(transaction)
        try:
            await run_with_deadline(producer.client.close(), within_seconds=_CLOSE_TIMEOUT_SECONDS)
        except (Exception, asyncio.CancelledError) as error:
            log.debug("connections did not close: %r", error)


class _SentBatch(NamedTuple):
    """Records that are on their way, and the future that tells whether the topic has taken them."""

    records: Sequence[ProducerRecord]
    confirmation: "asyncio.Future[object]"


class _RecordBatch:
    """Records for one partition that are sent together; the first one always fits."""

    def __init__(self, topic: str, partition: int, builder: BatchBuilder) -> None:
        self._topic = topic
        self._partition = partition
        self._builder = builder
        self._records: list[ProducerRecord] = []

    def append(self, record: ProducerRecord) -> bool:
        """Add a record; False when the batch is full."""
        added = self._builder.append(timestamp=None, key=record.key, value=record.value, headers=list(record.headers))
        if added is None:
            return False
        self._records.append(record)
        return True

    async def send(self, producer: AIOKafkaProducer) -> _SentBatch:
        """Give the batch to the producer, behind those of the same partition."""
        self._builder.close()
        confirmation = await producer.send_batch(self._builder, self._topic, partition=self._partition)
        return _SentBatch(self._records, confirmation)


async def _send_by_key(producer: AIOKafkaProducer, record: ProducerRecord) -> _SentBatch:
    """Send a record to the partition that its key decides."""
    try:
        confirmation = await producer.send(record.topic, record.value, record.key, headers=list(record.headers))
    except MessageSizeTooLargeError as error:
        raise _too_large(record) from error
    return _SentBatch([record], confirmation)


def _size_bytes(record: ProducerRecord) -> int:
    return len(record.key or b"") + len(record.value or b"") + sum(len(n) + len(v or b"") for n, v in record.headers)


def _too_large(record: ProducerRecord) -> RecordTooLargeError:
    return RecordTooLargeError(
        topic=record.topic,
        partition=record.partition,
        size_bytes=_size_bytes(record),
        written_for=(dict(record.headers).get(INPUT_HEADER) or b"").decode(),
    )


def _retrieve_exception(future: "asyncio.Future[object]") -> None:
    """Retrieve the future's exception once, so that asyncio does not report it as never retrieved."""
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
