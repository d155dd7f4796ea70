"""One topic as a recorder reads it: which partitions are ours, and where each of them goes on."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pipelines.fleet.membership import GroupPort
from vqmon.errors import BrokerError, SettingsError
from vqmon.telemetry.logs import log_event
from vqmon.transport.history.ingest import OffsetCommit, RecordBatch, RecordKind
from vqmon.transport.kafka.records import OnAssigned, OnRevoked, PartitionOffsets

log = logging.getLogger("vqmon.record")

OpenGroup = Callable[[str, OnAssigned, OnRevoked], GroupPort]
"""Joins the group of a topic."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a partition stands: in the history, and with us."""

    before: int | None
    next_offset: int


class Reader:
    """The partitions of one topic that are ours."""

    def __init__(
        self,
        topic: str,
        kind: RecordKind,
        *,
        open_group: OpenGroup,
        offsets: Callable[[str], Awaitable[Mapping[int, int]]],
        writing: asyncio.Lock,
        revoke_seconds: float,
        when_lost: Literal["stop", "go_on"],
    ) -> None:
        self.topic = topic
        self._kind: RecordKind = kind
        self._offsets = offsets
        self._writing = writing
        self._revoke_seconds = revoke_seconds
        self._when_lost = when_lost
        # None = assigned, and not yet looked up
        self._places: dict[int, Place | None] = {}
        self._is_placed = False
        self._group = open_group(topic, self._assigned, self._revoked)

    @property
    def is_settled(self) -> bool:
        """Whether the group has placed us and every partition of ours is up."""
        return self._is_placed and None not in self._places.values()

    async def start(self) -> None:
        await self._group.start()

    async def stop(self) -> None:
        await self._group.stop()

    def begin_again(self) -> None:
        """Nothing is certain any more: look up anew where every partition goes on."""
        self._places = dict.fromkeys(self._places)

    async def bring_up(self) -> None:
        """Let the records of newly assigned partitions come, from where the history stands."""
        waiting = [partition for partition, place in self._places.items() if place is None]
        if not waiting:
            return
        stands = await self._offsets(self.topic)
        for partition in waiting:
            before = stands.get(partition)
            start = self._start_of(partition, before, await self._group.position(partition))
            if partition in self._places:
                self._group.go_on(partition, offset=start)
                self._places[partition] = Place(before, start)
                log.info(**log_event("record.partition", topic=self.topic, partition=partition, offset=start))

    async def poll(self, *, seconds: float, max_records: int) -> Sequence[RecordBatch]:
        """What has come, by partition."""
        ready = [partition for partition, place in self._places.items() if place is not None]
        got = await self._group.poll(ready, seconds=seconds, max_records=max_records)
        batches = []
        for partition, records in got.items():
            place = self._places.get(partition)
            if place is not None and records:
                batches.append(
                    RecordBatch(
                        topic=self.topic,
                        partition=partition,
                        kind=self._kind,
                        previous_offset=place.before,
                        records=[(record.offset, record.value) for record in records],
                    )
                )
        return batches

    def written(self, steps: Sequence[OffsetCommit]) -> None:
        """These steps are in the history."""
        for step in steps:
            if step.topic == self.topic and self._places.get(step.partition) is not None:
                self._places[step.partition] = Place(step.next_offset, step.next_offset)

    async def lags(self) -> Mapping[int, int]:
        """Partition -> records that wait there, as far as is known; what is no record does not count."""
        lags = {}
        for partition, place in list(self._places.items()):
            if place is not None:
                read = await self._group.read_up_to(partition)
                lag = self._group.lag_records(partition, next_offset=read)
                if lag is not None:
                    lags[partition] = lag
        return lags

    def _start_of(self, partition: int, before: int | None, position: PartitionOffsets) -> int:
        if before is None:
            return position.oldest
        told = (
            f"{self.topic}/{partition}: the history stands at {before}, but the topic holds "
            f"{position.oldest} to {position.newest}"
        )
        if before > position.newest:
            raise BrokerError(f"{told}: is it another topic of the same name?")
        if position.oldest <= before:
            return before
        told += ": records were deleted before they were recorded"
        if self._when_lost == "stop":
            raise SettingsError(f'{told}; set kafka.when_lost = "go_on" to accept the gap')
        log.error(**log_event("record.lost_records", told=told))
        return position.oldest

    def _assigned(self, partitions: Collection[int]) -> None:
        self._places.update(dict.fromkeys(partitions))
        self._is_placed = True
        log.info(**log_event("record.assigned", topic=self.topic, partitions=sorted(partitions)))

    async def _revoked(self, partitions: Collection[int]) -> None:
        """Let a write that has begun come to its end, within the time that the group grants."""
        for partition in partitions:
            self._places.pop(partition, None)
        try:
            async with asyncio.timeout(self._revoke_seconds):
                async with self._writing:
                    pass
        except TimeoutError:
            # Whoever goes on reads the offset in the history, and so do we.
            log.warning(**log_event("record.revoked_while_writing", topic=self.topic))
