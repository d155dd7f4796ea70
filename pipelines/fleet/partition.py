"""One assigned partition: brought up behind a fence, observed in parallel, judged and written in order."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from pipelines.fleet.judging import Looked, Noted
from pipelines.service.lifecycle import Told
from vqmon.core.types import Alert
from vqmon.errors import BrokerError, FencedError, SettingsError
from vqmon.flow import in_order
from vqmon.telemetry.logs import log_event
from vqmon.telemetry.metrics import Meters
from vqmon.transport.kafka.records import BatchWriter, PartitionOffsets, Record, TransactionBatch
from vqmon.transport.kafka.transactions import write_exactly_once

log = logging.getLogger("vqmon.fleet")

BRING_UP_BACKOFF_SECONDS = 1.0


class Membership(Protocol):
    """What a lane asks of the group."""

    async def position(self, partition: int) -> PartitionOffsets: ...
    async def committed(self, partition: int) -> int | None: ...
    def go_on(self, partition: int, *, offset: int) -> None: ...


class Folding(Protocol):
    """The memory of one partition, and what it makes of records in order."""

    is_halted: bool

    def fold(
        self, ready: Sequence[Looked | Noted]
    ) -> tuple[TransactionBatch | None, Sequence[Looked], Sequence[Alert]]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """What all lanes of a membership share."""

    # what a record says, at whatever length that takes
    look: Callable[[Record], Awaitable[Looked | Noted]]
    # from what the state topic holds of a partition
    fold: Callable[[int, Mapping[str, bytes]], Folding]
    open_writer: Callable[[int], BatchWriter]
    read_state: Callable[[int], Awaitable[Mapping[str, bytes]]]
    running: asyncio.Semaphore
    meters: Meters
    told: Told
    max_waiting: int
    gather_seconds: float
    # what to do when records were deleted before we read them
    when_lost: Literal["stop", "go_on"]
    # an idle partition commits over what is no record after so long
    idle_seconds: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What a lane leaves behind when it ended in good order: good for whoever goes on at this very offset."""

    next_offset: int | None
    verdicts: Folding


@dataclass(frozen=True, slots=True)
class Step:
    """No record, but a place further on: what lies before it are markers, or was compacted away."""

    offset: int


class Lane:
    """One partition from its assignment until it is taken away."""

    def __init__(self, partition: int, floor: Floor, group: Membership, *, kept: Kept | None) -> None:
        self.partition = partition
        self.is_ready = False
        self.is_halted = False
        self.next_offset: int | None = None
        self._floor = floor
        self._group = group
        self._kept = kept
        self._queue: deque[Record | Step] = deque()
        self._unfinished = 0
        self._idle_since = time.monotonic()
        self._is_broken = False
        self._changed = asyncio.Event()
        self._ended = False
        self._verdicts: Folding | None = None
        self._writer = floor.open_writer(partition)

    @property
    def room(self) -> int:
        """How many more records it takes now."""
        return self._floor.max_waiting - len(self._queue) if self.is_ready and not self._ended else 0

    @property
    def idle_seconds(self) -> float:
        """How long there has been nothing to do."""
        return 0.0 if self._unfinished or not self.is_ready else time.monotonic() - self._idle_since

    def offer(self, records: Sequence[Record | Step]) -> None:
        """Hand over records in order."""
        self._unfinished += len(records)
        self._queue.extend(records)
        self._changed.set()

    def end(self) -> None:
        """Start no more; what is in flight may be finished."""
        self._ended = True
        self._changed.set()

    async def run(self) -> Kept | None:
        """Live until `end`; gives what may be kept, None when it never got ready."""
        try:
            if not await self._bring_up():
                return None
            await in_order(
                self._records(),
                self._look,
                self._finish,
                running=self._floor.running,
                max_waiting=self._floor.max_waiting,
                gather_seconds=self._floor.gather_seconds,
            )
            while not self._ended:
                # Halted: the partition stays ours, so that nobody else drains it away.
                self._changed.clear()
                await self._changed.wait()
        finally:
            self.is_ready = False
            await self._writer.close()
        return Kept(next_offset=self.next_offset, verdicts=self._verdicts) if self._verdicts else None

    async def _bring_up(self) -> bool:
        """Fence, then read the offset, then the memory, then let records come; in this order, or commits are missed."""
        while not self._ended:
            try:
                began = time.monotonic()
                await self._writer.open()
                position = await self._group.position(self.partition)
                start = self._start_of(position)
                if self._kept and self._kept.next_offset == position.committed:
                    self._verdicts = self._kept.verdicts
                else:
                    self._verdicts = await self._restored()
                self._group.go_on(self.partition, offset=start)
            except FencedError:
                raise
            except BrokerError as error:
                self._broken(error)
                await self._writer.kill()
                await asyncio.sleep(BRING_UP_BACKOFF_SECONDS)
                continue
            self._mended()
            self.next_offset = position.committed
            self.is_ready = True
            seconds = time.monotonic() - began
            self._floor.meters.record("vqmon.kafka.bring_up.duration", seconds)
            log.info(**log_event("partition.ready", partition=self.partition, offset=start, seconds=seconds))
            return True
        return False

    def _start_of(self, position: PartitionOffsets) -> int:
        if position.committed is None:
            return position.oldest
        told = (
            f"partition {self.partition}: the group stands at {position.committed}, but the topic holds "
            f"{position.oldest} to {position.newest}"
        )
        if position.committed > position.newest:
            # A new leader may not know yet how far the old one was; nothing may be skipped or done again for that.
            raise BrokerError(told)
        if position.oldest <= position.committed:
            return position.committed
        told += ": records were deleted before they were read"
        if self._floor.when_lost == "stop":
            raise SettingsError(f'{told}; set kafka.when_lost = "go_on" to accept the gap')
        log.error(**log_event("partition.lost_records", told=told))
        return position.oldest

    async def _restored(self) -> Folding:
        return self._floor.fold(self.partition, await self._floor.read_state(self.partition))

    async def _records(self) -> AsyncIterator[Record | Step]:
        while not self._ended and not self.is_halted:
            if self._queue:
                yield self._queue.popleft()
            else:
                self._changed.clear()
                await self._changed.wait()

    async def _look(self, record: Record | Step) -> Looked | Noted | None:
        return None if isinstance(record, Step) else await self._floor.look(record)

    async def _finish(self, ready: Sequence[tuple[Record | Step, Looked | Noted | None]]) -> None:
        assert self._verdicts is not None
        self._unfinished -= len(ready)
        self._idle_since = time.monotonic()
        batch, taken, alerts = self._verdicts.fold([looked for _, looked in ready if looked is not None])
        last = ready[-1][0]
        if batch is None and isinstance(last, Step) and not self._verdicts.is_halted:
            batch = TransactionBatch(records=[], next_offset=last.offset)
        if batch is not None:
            await self._write(batch)
        if taken or alerts:
            self._count(taken)
            self._floor.told([looked.outcome for looked in taken], alerts)
        if self._verdicts.is_halted and not self.is_halted:
            self.is_halted = True
            self._changed.set()
            log.error(**log_event("partition.halted", partition=self.partition, offset=self.next_offset))

    async def _write(self, batch: TransactionBatch) -> None:
        began = time.monotonic()
        await write_exactly_once(
            self._writer,
            batch,
            previous_offset=self.next_offset,
            committed=lambda: self._group.committed(self.partition),
            on_error=self._broken,
        )
        self._mended()
        self.next_offset = batch.next_offset
        self._floor.meters.record("vqmon.kafka.transaction.duration", time.monotonic() - began)

    def _count(self, taken: Sequence[Looked]) -> None:
        for looked in taken:
            if looked.rejected is not None:
                self._floor.meters.count("vqmon.kafka.rejected")
                log.warning(
                    **log_event(
                        "record.rejected",
                        partition=self.partition,
                        offset=looked.record.offset,
                        why=looked.rejected,
                    )
                )

    def _broken(self, error: BrokerError) -> None:
        """Say so once; while the brokers are away it happens over and over."""
        self._floor.meters.count("vqmon.kafka.broken")
        if not self._is_broken:
            self._is_broken = True
            log.warning(**log_event("partition.broken", partition=self.partition, error=error))

    def _mended(self) -> None:
        if self._is_broken:
            self._is_broken = False
            log.info(**log_event("partition.mended", partition=self.partition))
