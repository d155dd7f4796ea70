"""One worker of the fleet: joins the group, keeps a lane per assigned partition, polls what has room."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from pipelines.fleet.partition import Floor, Kept, Lane, Membership, Step
from vqmon.errors import BrokerError, FencedError
from vqmon.flow import Backoff, Crew, Retries, wait_or_stop
from vqmon.telemetry.logs import log_event
from vqmon.transport.kafka.records import Record

log = logging.getLogger("vqmon.fleet")

POLL_SECONDS = 0.2
FULL_POLL_SECONDS = 0.02
PULSE_SECONDS = 3.0
SILENT_SECONDS = 10.0
"""Brokers that have not answered for so long are away."""

BACKOFF = Backoff(first_seconds=1.0, last_seconds=5.0)
CALM_SECONDS = 60.0
"""A membership that lasted so long was good: the next failure is the first again."""


class GroupPort(Membership, Protocol):
    """The group as a member sees it."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def poll(
        self, partitions: Collection[int], *, seconds: float, max_records: int
    ) -> Mapping[int, Sequence[Record]]: ...
    async def ping(self) -> bool: ...
    async def read_up_to(self, partition: int) -> int: ...
    def lag_records(self, partition: int, *, next_offset: int) -> int | None: ...


Assigned = Callable[[Collection[int]], None]
OpenGroup = Callable[["Member"], GroupPort]


class Member:
    """One membership: from joining until leaving, or until something broke that only a new start mends."""

    def __init__(self, floor: Floor, open_group: OpenGroup, *, stop: asyncio.Event, revoke_seconds: float) -> None:
        self._floor = floor
        self._stop = stop
        self._revoke_seconds = revoke_seconds
        self._crew = Crew()
        self._lanes: dict[int, tuple[str, Lane]] = {}
        self._kept: dict[int, Kept] = {}
        self._epoch = 0
        self._heard_at = self._polled_at = self._answering_since = time.monotonic()
        # True once the group has told us what is ours, be it nothing
        self._is_placed = False
        self._is_leaving = False
        self._group = open_group(self)

    @property
    def lanes(self) -> Sequence[Lane]:
        return [lane for _, lane in self._lanes.values()]

    @property
    def is_settled(self) -> bool:
        """Whether the group has placed us and every lane of ours is up."""
        return self._is_placed and all(lane.is_ready for lane in self.lanes)

    def silent_seconds(self) -> float:
        """How long no broker has answered."""
        return time.monotonic() - self._heard_at

    def stuck_seconds(self) -> float:
        """How long polling has stood still although the brokers answer; waiting for brokers is not being stuck."""
        if self._is_leaving or self.silent_seconds() > SILENT_SECONDS:
            return 0.0
        return time.monotonic() - max(self._polled_at, self._answering_since)

    def lags(self) -> Mapping[int, int]:
        """Partition -> records that wait there, as far as is known."""
        found = {
            lane.partition: self._group.lag_records(lane.partition, next_offset=lane.next_offset or 0)
            for lane in self.lanes
            if lane.is_ready
        }
        return {partition: lag for partition, lag in found.items() if lag is not None}

    async def run(self) -> None:
        """Work until the stop; raises BrokerError when this membership is spent."""
        async with self._crew:
            try:
                await self._group.start()
                self._crew.begin("pulse", self._feel_pulse())
                while not self._stop.is_set():
                    await self._poll_once()
                self._is_leaving = True
                await self._end_lanes(within_seconds=3600.0)
            finally:
                self._is_leaving = True
                await self._group.stop()

    def assigned(self, partitions: Collection[int]) -> None:
        """Begin a lane for each partition; returns at once. Who is leaving begins nothing more."""
        if self._is_leaving:
            return
        self._epoch += 1
        self._is_placed = True
        for partition in partitions:
            lane = Lane(partition, self._floor, self._group, kept=self._kept.pop(partition, None))
            name = f"lane-{partition}-{self._epoch}"
            self._lanes[partition] = (name, lane)
            self._crew.begin(name, self._live(lane))
        # What was not given back to us is somebody else's now, and so is its memory.
        self._kept.clear()
        self._floor.meters.count("vqmon.kafka.rebalance")
        log.info(**log_event("group.assigned", partitions=sorted(partitions)))

    async def revoked(self, partitions: Collection[int]) -> None:
        """Finish and write what is in flight, within the time that the group grants."""
        if partitions:
            began = time.monotonic()
            await self._end_lanes(within_seconds=self._revoke_seconds)
            seconds = time.monotonic() - began
            log.info(**log_event("group.revoked", partitions=sorted(partitions), seconds=seconds))

    async def _end_lanes(self, *, within_seconds: float) -> None:
        ending = dict(self._lanes)
        for _, lane in ending.values():
            lane.end()
        await self._crew.end([name for name, _ in ending.values()], within_seconds=within_seconds)
        self._lanes = {number: one for number, one in self._lanes.items() if ending.get(number) != one}

    async def _feel_pulse(self) -> None:
        while not self._stop.is_set():
            if await self._group.ping():
                if self.silent_seconds() > SILENT_SECONDS:
                    self._answering_since = time.monotonic()
                self._heard_at = time.monotonic()
            await wait_or_stop(self._stop, PULSE_SECONDS)

    async def _live(self, lane: Lane) -> None:
        kept = await lane.run()
        if kept is not None:
            self._kept[lane.partition] = kept

    async def _poll_once(self) -> None:
        self._polled_at = time.monotonic()
        # Below half it is not worth asking: what waits here keeps the lane busy.
        most = self._floor.max_waiting
        rooms = {lane.partition: lane.room for lane in self.lanes if lane.room * 2 >= most}
        seconds = POLL_SECONDS if len(rooms) == len(self._lanes) else FULL_POLL_SECONDS
        got = await self._group.poll(rooms, seconds=seconds, max_records=min(rooms.values(), default=1))
        for partition, records in got.items():
            if partition in self._lanes:
                self._lanes[partition][1].offer(records)
        for lane in self.lanes:
            if lane.idle_seconds > self._floor.idle_seconds:
                await self._step_over(lane)

    async def _step_over(self, lane: Lane) -> None:
        """Commit beyond what is no record, or the partition would look behind for ever."""
        offset = await self._group.read_up_to(lane.partition)
        if lane.idle_seconds and offset > (lane.next_offset or -1):
            lane.offer([Step(offset)])


async def stay_member(
    floor: Floor, open_group: OpenGroup, *, stop: asyncio.Event, revoke_seconds: float, seen: Callable[[Member], None]
) -> None:
    """Be a member until the stop; whatever breaks a membership, the next one begins from what is committed."""
    retries = Retries(BACKOFF)
    while not stop.is_set():
        member = Member(floor, open_group, stop=stop, revoke_seconds=revoke_seconds)
        seen(member)
        began = time.monotonic()
        try:
            await member.run()
            return
        except BrokerError as error:
            if time.monotonic() - began > CALM_SECONDS:
                retries.reset()
            seconds = retries.next_delay_seconds()
            name = "fenced" if isinstance(error, FencedError) else "lost"
            floor.meters.count("vqmon.kafka.membership_lost", reason=name)
            log.warning(**log_event(f"group.{name}", error=error, again_seconds=seconds))
            await wait_or_stop(stop, seconds)
