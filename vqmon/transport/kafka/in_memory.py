"""An in-memory Kafka that keeps the promises the real one keeps: for tests without a broker."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from vqmon.errors import BrokerError, FencedError
from vqmon.transport.kafka.records import Assigned, Batch, Headers, Outgoing, Position, Record, Revoked

Fault = Literal["refused", "not_written", "written"]
"""What becomes of a transaction: the open is refused; the write fails and is not there; it fails and is there."""


@dataclass
class MemoryBroker:
    """Topics, committed offsets, transactional ids and groups of one cluster."""

    partitions: int
    logs: dict[tuple[str, int], list[Record]] = field(default_factory=lambda: defaultdict(list))
    offsets: dict[tuple[str, str, int], int] = field(default_factory=dict)
    epochs: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    # what goes wrong with the next opens and writes, in order; None = nothing
    faults: deque[Fault | None] = field(default_factory=deque)
    # records before it were deleted
    oldest: dict[tuple[str, int], int] = field(default_factory=lambda: defaultdict(int))
    # offsets at the end that are no record: transaction markers
    markers: dict[tuple[str, int], int] = field(default_factory=lambda: defaultdict(int))
    members: "list[MemoryGroup]" = field(default_factory=list)
    _rebalancing: "asyncio.Task[None] | None" = None
    _is_wanted: bool = False

    def append(self, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: Headers = ()) -> int:
        """Write one record as a producer from outside would; gives its offset."""
        log = self.logs[topic, partition]
        # A step of two: gaps left by markers and compaction are normal, and nobody may count on offset + 1.
        offset = log[-1].offset + 2 if log else 0
        log.append(Record(partition, offset, key, value, headers, 1_767_225_600_000 + offset))
        return offset

    def records(self, topic: str) -> list[Record]:
        """Every record of a topic, partition by partition, in order."""
        return [one for number in range(self.partitions) for one in self.logs[topic, number]]

    def newest(self, topic: str, partition: int) -> int:
        """The offset after the last record."""
        log = self.logs[topic, partition]
        return log[-1].offset + 1 if log else 0

    def next_fault(self) -> Fault | None:
        """What goes wrong now."""
        return self.faults.popleft() if self.faults else None

    async def rebalance(self) -> None:
        """Take everything from everybody and deal it out anew, as the eager protocol does.

        It is the broker who does this: a member that dies meanwhile does not stop it.
        """
        self._is_wanted = True
        if self._rebalancing is None or self._rebalancing.done():
            self._rebalancing = asyncio.get_running_loop().create_task(self._deal(), name="rebalance")
        await asyncio.shield(self._rebalancing)

    async def _deal(self) -> None:
        while self._is_wanted:
            self._is_wanted = False
            for member in list(self.members):
                await member.revoked(sorted(member.owned))
                member.owned.clear()
            groups: dict[str, list[MemoryGroup]] = defaultdict(list)
            for member in self.members:
                groups[member.group].append(member)
            for members in groups.values():
                for number in range(self.partitions):
                    members[number % len(members)].owned.add(number)
            for member in list(self.members):
                member.assigned(sorted(member.owned))

    def read_state(self, topic: str, partition: int) -> dict[str, bytes]:
        """The newest value of every key."""
        values: dict[str, bytes] = {}
        for record in self.logs[topic, partition]:
            key = (record.key or b"").decode()
            values.pop(key, None)
            if record.value is not None:
                values[key] = record.value
        return values


class MemoryWriter:
    """The transactions of one input partition."""

    def __init__(self, broker: MemoryBroker, *, transactional_id: str, group: str, topic: str, partition: int) -> None:
        self._broker = broker
        self._transactional_id = transactional_id
        self._place = (group, topic, partition)
        self._epoch: int | None = None

    async def open(self) -> None:
        """Fence earlier holders."""
        await asyncio.sleep(0)
        if self._broker.next_fault() == "refused":
            raise BrokerError("open the producer: the broker is away")
        self._broker.epochs[self._transactional_id] += 1
        self._epoch = self._broker.epochs[self._transactional_id]

    async def write(self, batch: Batch) -> None:
        """Write a batch and its offset, or nothing."""
        await asyncio.sleep(0)
        if self._epoch is None:
            raise BrokerError("write a transaction: the producer is not open")
        if self._epoch != self._broker.epochs[self._transactional_id]:
            raise FencedError("write a transaction: somebody else has the id")
        fault = self._broker.next_fault()
        if fault in ("refused", "not_written"):
            raise BrokerError("write a transaction: the broker is away")
        for record in batch.records:
            self._append(record)
        self._broker.offsets[self._place] = batch.next_offset
        if fault == "written":
            raise BrokerError("write a transaction: no answer")

    def _append(self, record: Outgoing) -> None:
        self._broker.append(record.topic, record.partition, record.key, record.value, record.headers)

    async def close(self) -> None:
        """Let go."""
        self._epoch = None

    async def kill(self) -> None:
        """The same: here nothing hangs."""
        self._epoch = None


class MemoryGroup:
    """One member of a group."""

    def __init__(self, broker: MemoryBroker, *, topic: str, group: str, assigned: Assigned, revoked: Revoked) -> None:
        self.assigned = assigned
        self.revoked = revoked
        self.owned: set[int] = set()
        self._broker = broker
        self._topic = topic
        self.group = group
        self._positions: dict[int, int] = {}

    async def start(self) -> None:
        """Join; everything is dealt out anew."""
        self._broker.members.append(self)
        await self._broker.rebalance()

    async def stop(self) -> None:
        """Leave; the others get what was ours."""
        if self in self._broker.members:
            self._broker.members.remove(self)
            self.owned.clear()
            await self._broker.rebalance()

    async def poll(
        self, partitions: Collection[int], *, seconds: float, max_records: int
    ) -> Mapping[int, Sequence[Record]]:
        """What has come for these partitions."""
        got: dict[int, Sequence[Record]] = {}
        for number in partitions:
            start = self._positions.get(number)
            if number in self.owned and start is not None:
                log = self._broker.logs[self._topic, number]
                records = [one for one in log if one.offset >= start][:max_records]
                if records:
                    self._positions[number] = records[-1].offset + 1
                    got[number] = records
        await asyncio.sleep(0 if got else min(seconds, 0.005))
        return got

    async def ping(self) -> bool:
        """It always answers."""
        return True

    async def committed(self, partition: int) -> int | None:
        """How far the group has come."""
        await asyncio.sleep(0)
        return self._broker.offsets.get((self.group, self._topic, partition))

    async def position(self, partition: int) -> Position:
        """Where the group stands."""
        return Position(
            committed=await self.committed(partition),
            oldest=self._broker.oldest[self._topic, partition],
            newest=self._broker.newest(self._topic, partition),
        )

    def go_on(self, partition: int, *, offset: int) -> None:
        """Let the records of a partition come, from this offset on."""
        self._positions[partition] = offset

    async def read_up_to(self, partition: int) -> int:
        """The offset of the next poll; beyond everything when all was read."""
        await asyncio.sleep(0)
        position = self._positions[partition]
        newest = self._broker.newest(self._topic, partition)
        return position if position < newest else newest + self._broker.markers[self._topic, partition]

    def lag_records(self, partition: int, *, next_offset: int) -> int | None:
        """How many offsets lie before us."""
        return max(0, self._broker.newest(self._topic, partition) - next_offset)
