"""One membership of a consumer group: joins it, runs a worker per assigned partition, polls records for them."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from pipelines.fleet.partitions.context import GroupOffsets, OffsetAdvance, PartitionContext, PartitionHandover
from pipelines.fleet.partitions.worker import PartitionWorker
from vqmon.errors import BrokerError, FencedError, RecordsDeletedError
from vqmon.flow import NamedTasks, wait_or_stop
from vqmon.retry import Backoff, Retries
from vqmon.telemetry.logs import log_event
from vqmon.transport.kafka.records import Record

log = logging.getLogger("vqmon.fleet")

_POLL_SECONDS = 0.2
_FULL_POLL_SECONDS = 0.02
"""How long a poll waits for records while some partition has a full queue and is left out."""

_PING_SECONDS = 3.0
SILENT_SECONDS = 10.0
"""Brokers that have not answered for so long count as unreachable."""

_BACKOFF = Backoff(first_seconds=1.0, last_seconds=5.0)
_STABLE_SECONDS = 60.0
"""After a membership that lasted so long, the backoff starts over."""

_DRAIN_LIMIT_SECONDS = 3600.0
"""How long partitions may take to finish at a stop; the service's own drain limit is far below."""


class ConsumerGroup(GroupOffsets, Protocol):
    """A consumer group as its member sees it."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def poll(
        self, partitions: Collection[int], *, seconds: float, max_records: int
    ) -> Mapping[int, Sequence[Record]]: ...
    async def ping(self) -> bool: ...
    async def next_fetch_offset(self, partition: int) -> int: ...


OpenGroup = Callable[["GroupMember"], ConsumerGroup]


class GroupMember:
    """One membership, from joining the group until leaving it or until an error that only a new membership mends."""

    def __init__(
        self, context: PartitionContext, open_group: OpenGroup, *, stop: asyncio.Event, revoke_seconds: float
    ) -> None:
        self._context = context
        self._stop = stop
        self._revoke_seconds = revoke_seconds
        self._tasks = NamedTasks()
        # partition -> its task's name, and its worker
        self._workers: dict[int, tuple[str, PartitionWorker]] = {}
        self._handovers: dict[int, PartitionHandover] = {}
        self._assignment_count = 0
        self._answered_at = self._polled_at = self._reachable_since = time.monotonic()
        # True once the group has assigned partitions, even if none
        self._has_assignment = False
        self._is_leaving = False
        self._group = open_group(self)

    @property
    def workers(self) -> Sequence[PartitionWorker]:
        return [worker for _, worker in self._workers.values()]

    @property
    def has_assignment(self) -> bool:
        """Whether the group has assigned partitions to us, be it none."""
        return self._has_assignment

    @property
    def is_settled(self) -> bool:
        """Whether partitions were assigned to us, be it none, and the workers of all are ready."""
        return self._has_assignment and all(worker.is_ready for worker in self.workers)

    def silent_seconds(self) -> float:
        """How long no broker has answered."""
        return time.monotonic() - self._answered_at

    def stuck_seconds(self) -> float:
        """How long nothing was polled although the brokers answer; 0 while they do not."""
        if self._is_leaving or self.silent_seconds() > SILENT_SECONDS:
            return 0.0
        return time.monotonic() - max(self._polled_at, self._reachable_since)

    async def run(self) -> None:
        """Work until the stop; raises BrokerError when the membership is lost."""
        async with self._tasks:
            try:
                await self._group.start()
                self._tasks.start("ping", self._ping_brokers())
                while not self._stop.is_set():
                    await self._poll_once()
                self._is_leaving = True
                await self._stop_workers(within_seconds=_DRAIN_LIMIT_SECONDS)
            finally:
                self._is_leaving = True
                await self._group.stop()

    def assigned(self, partitions: Collection[int]) -> None:
        """Start a worker for each partition, unless we are leaving; returns at once."""
        if self._is_leaving:
            return
        self._assignment_count += 1
        self._has_assignment = True
        for partition in partitions:
            handover = self._handovers.pop(partition, None)
            worker = PartitionWorker(partition, self._context, self._group, handover=handover)
            name = f"partition-{partition}-{self._assignment_count}"
            self._workers[partition] = (name, worker)
            self._tasks.start(name, self._run_worker(worker))
        # The other partitions belong to other members now, who change their alert state.
        self._handovers.clear()
        self._context.meters.count("vqmon.kafka.rebalance")
        log.info(**log_event("group.assigned", partitions=sorted(partitions)))

    async def revoked(self, partitions: Collection[int]) -> None:
        """Finish and write what is in flight, within the time that the group grants."""
        if partitions:
            started_at = time.monotonic()
            await self._stop_workers(within_seconds=self._revoke_seconds)
            seconds = time.monotonic() - started_at
            log.info(**log_event("group.revoked", partitions=sorted(partitions), seconds=seconds))

    async def _stop_workers(self, *, within_seconds: float) -> None:
        stopping = dict(self._workers)
        for _, worker in stopping.values():
            worker.stop()
        await self._tasks.wait_or_cancel([name for name, _ in stopping.values()], within_seconds=within_seconds)
        self._workers = {
            partition: entry for partition, entry in self._workers.items() if stopping.get(partition) != entry
        }

    async def _ping_brokers(self) -> None:
        while not self._stop.is_set():
            if await self._group.ping():
                if self.silent_seconds() > SILENT_SECONDS:
                    self._reachable_since = time.monotonic()
                self._answered_at = time.monotonic()
            await wait_or_stop(self._stop, _PING_SECONDS)

    async def _run_worker(self, worker: PartitionWorker) -> None:
        handover = await worker.run()
        if handover is not None:
            self._handovers[worker.partition] = handover

    async def _poll_once(self) -> None:
        self._polled_at = time.monotonic()
        # A partition is polled once half its queue is free: until then it has enough to do.
        free_slots = {
            worker.partition: worker.free_slots
            for worker in self.workers
            if worker.free_slots * 2 >= self._context.max_waiting
        }
        seconds = _POLL_SECONDS if len(free_slots) == len(self._workers) else _FULL_POLL_SECONDS
        max_records = min(free_slots.values(), default=1)
        generations = {worker.partition: worker.generation for worker in self.workers}
        try:
            records_by_partition = await self._group.poll(free_slots, seconds=seconds, max_records=max_records)
        except RecordsDeletedError as error:
            for worker in self.workers:
                if worker.partition in error.partitions:
                    worker.reopen()
            return
        for partition, records in records_by_partition.items():
            if partition in self._workers and self._workers[partition][1].generation == generations.get(partition):
                self._workers[partition][1].enqueue(records)
        for worker in self.workers:
            if worker.idle_seconds > self._context.idle_seconds:
                await self._advance_idle(worker)

    async def _advance_idle(self, worker: PartitionWorker) -> None:
        """Commit past offsets that hold no record, such as transaction markers, or the lag never becomes 0."""
        offset = await self._group.next_fetch_offset(worker.partition)
        if worker.idle_seconds and offset > (worker.next_offset or -1):
            worker.enqueue([OffsetAdvance(offset)])


async def run_member(
    context: PartitionContext,
    open_group: OpenGroup,
    *,
    stop: asyncio.Event,
    revoke_seconds: float,
    on_join: Callable[[GroupMember], None],
) -> None:
    """Be a member until the stop; after a lost membership a new one resumes from the committed offsets.

    `on_join` is called with each new membership.
    """
    retries = Retries(_BACKOFF)
    while not stop.is_set():
        member = GroupMember(context, open_group, stop=stop, revoke_seconds=revoke_seconds)
        on_join(member)
        started_at = time.monotonic()
        try:
            await member.run()
            return
        except BrokerError as error:
            if time.monotonic() - started_at > _STABLE_SECONDS:
                retries.reset()
            seconds = retries.next_delay_seconds()
            name = "fenced" if isinstance(error, FencedError) else "lost"
            context.meters.count("vqmon.kafka.membership_lost", reason=name)
            log.warning(**log_event(f"group.{name}", error=error, again_seconds=seconds))
            await wait_or_stop(stop, seconds)
