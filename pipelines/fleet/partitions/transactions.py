"""What one partition has committed, and its next transactions: outcomes with their offset, and states alone."""

import asyncio
import logging
import time
from collections.abc import Sequence

from pipelines.fleet.partitions.context import GroupOffsets, PartitionContext
from pipelines.fleet.partitions.offsets import NEXT_OFFSET_KEY, OVERTAKEN_KEY, Position, encode_overtaken
from pipelines.fleet.partitions.stopped import STOPPED_KEY, resolved_alert, stopped_alert
from pipelines.fleet.partitions.trials import TRIALS_KEY, RecordTrials
from vqmon.core.types import Alert
from vqmon.errors import BrokerError, FencedError, RecordTooLargeError
from vqmon.telemetry.logs import log_event
from vqmon.transport.kafka.records import CommittedOffset, PartitionOffsets, ProducerRecord, TransactionBatch
from vqmon.transport.kafka.transactions import write_exactly_once
from vqmon.transport.wire.operator_alerts import encode_open_alert

log = logging.getLogger("vqmon.fleet")


class PartitionTransactions:
    """Writes the transactions of one partition, one at a time, each with the offset that is committed after it."""

    def __init__(self, partition: int, context: PartitionContext, group: GroupOffsets) -> None:
        self._partition, self._context, self._group = partition, context, group
        self._writer = context.open_writer(partition)
        self._turn = asyncio.Lock()
        self._is_broken = False
        self.committed: CommittedOffset | None = None
        # of the first record that is still stored
        self.oldest_offset = 0
        self.position = Position(next_offset=None)
        # the open alert that this partition is stopped
        self.stopped_alert: Alert | None = None
        self.trials: RecordTrials | None = None

    @property
    def next_offset(self) -> int | None:
        """The committed offset; None before the first commit."""
        return self.committed.offset if self.committed else None

    async def open(self) -> PartitionOffsets:
        """Fence the last owner, then read its offset; the other order misses its commits."""
        await self._writer.open()
        offsets = await self._group.partition_offsets(self._partition)
        self.committed, self.oldest_offset = offsets.committed, offsets.beginning
        return offsets

    async def kill(self) -> None:
        """Give up a transaction that may have been cut short."""
        await self._writer.kill()

    async def close(self) -> None:
        """Stop using the producer."""
        await self._writer.close()

    async def guard_offset(self) -> None:
        """Commit the offset of the state topic anew when the group's was lost or set back."""
        offset = self.position.next_offset
        if offset is None or offset == self.next_offset:
            return
        if self.next_offset is None or self.next_offset < offset:
            fields = {"partition": self._partition, "group_offset": self.next_offset, "stored_offset": offset}
            remedy = "to read the records again on purpose, set another kafka.group"
            log.warning(**log_event("partition.offset_restored", **fields, remedy=remedy))
        await self.write([], self.position)

    async def write(self, records: Sequence[ProducerRecord], position: Position) -> None:
        """Write what came of the records before this position; resolves the alert that the partition is stopped."""
        started_at = time.monotonic()
        async with self._turn:
            records = [*records, self._state_record(NEXT_OFFSET_KEY, str(position.next_offset or 0).encode())]
            overtaken = encode_overtaken(position)
            if overtaken != encode_overtaken(self.position):
                records.append(self._state_record(OVERTAKEN_KEY, overtaken))
            if self.stopped_alert is not None:
                records += [self._resolved(self.stopped_alert), self._stopped_state(None)]
            commit = CommittedOffset(offset=position.next_offset or 0, metadata=position.metadata)
            await self._write(records, commit)
            self.position, self.stopped_alert = position, None
        self._context.meters.record("vqmon.kafka.transaction.duration", time.monotonic() - started_at)

    async def write_trials(self) -> None:
        """Write what is known of records under suspicion, and move no offset."""
        async with self._turn:
            try:
                await self._write([], self._stays_at)
            except BaseException:
                # It may have been cut short.
                await self._writer.kill()
                raise

    async def announce_stopped(self, problem: str) -> bool:
        """Write the alert that this partition is stopped, unless it is open already; moves no offset.

        False when the brokers did not take it, and it is to be tried again.
        """
        alert = self.stopped_alert
        if alert is not None and alert.summary == problem:
            return True
        committed, stays_at = self.committed, self._stays_at
        records = [] if alert is None else [self._resolved(alert)]
        alert = stopped_alert(self._context.topic, self._partition, stays_at.offset, problem)
        records += [self._context.encode_alert(self._partition, alert), self._stopped_state(alert)]
        batch = TransactionBatch(records=records, next_offset=stays_at.offset, metadata=stays_at.metadata)
        try:
            await self._writer.kill()
            await self._writer.open()
            if await self._group.committed(self._partition) not in (committed, stays_at):
                raise FencedError("another worker has committed an offset")
            await self._writer.write(batch)
        except FencedError:
            raise
        except RecordTooLargeError as error:
            log.error(**log_event("partition.alert_too_large", partition=self._partition, error=error))
        except BrokerError as error:
            self.report_broken(error)
            return False
        else:
            self._context.on_publish([], [alert])
        self.stopped_alert = alert
        return True

    def report_broken(self, error: BrokerError) -> None:
        """Count an error of the brokers; only the first one in a row is logged."""
        self._context.meters.count("vqmon.kafka.broken")
        if not self._is_broken:
            self._is_broken = True
            log.warning(**log_event("partition.broken", partition=self._partition, error=error))

    def report_mended(self) -> None:
        """The brokers do what they are asked for."""
        if self._is_broken:
            self._is_broken = False
            log.info(**log_event("partition.mended", partition=self._partition))

    @property
    def _stays_at(self) -> CommittedOffset:
        """What a transaction commits that moves no offset."""
        return self.committed or CommittedOffset(offset=self.oldest_offset)

    async def _write(self, records: Sequence[ProducerRecord], commit: CommittedOffset) -> None:
        trials = None if self.trials is None else self.trials.encoded
        if self.trials is not None and trials != self.trials.written:
            records = [*records, self._state_record(TRIALS_KEY, trials)]
        await write_exactly_once(
            self._writer,
            TransactionBatch(records=records, next_offset=commit.offset, metadata=commit.metadata),
            previous=self.committed,
            committed=lambda: self._group.committed(self._partition),
            on_error=self.report_broken,
        )
        self.report_mended()
        self.committed = commit
        if self.trials is not None:
            self.trials.written = trials

    def _resolved(self, alert: Alert) -> ProducerRecord:
        return self._context.encode_alert(self._partition, resolved_alert(alert))

    def _stopped_state(self, alert: Alert | None) -> ProducerRecord:
        return self._state_record(STOPPED_KEY, None if alert is None else encode_open_alert(alert))

    def _state_record(self, key: str, value: bytes | None) -> ProducerRecord:
        topic = self._context.state_topic
        return ProducerRecord(topic=topic, partition=self._partition, key=key.encode(), value=value)
