"""What a worker reports of its partitions: lag, state and readiness, measured from outside its own progress."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from pipelines.fleet.membership import SILENT_SECONDS, GroupMember
from pipelines.fleet.partition import PartitionState, PartitionWorker
from vqmon.errors import BrokerError
from vqmon.telemetry.health import ProgressTracker
from vqmon.telemetry.logs import log_event
from vqmon.telemetry.metrics import Meters

log = logging.getLogger("vqmon.fleet")

_MEASURE_SECONDS = 2.0
_REOPEN_SECONDS = 5.0
_MAX_PROBLEMS = 3
"""How many problems /readyz lists before it counts the others."""

_ReportedState = PartitionState | Literal["stalled"]


class LagReader(Protocol):
    """Reads how far a consumer group has come in a topic, whatever its members are doing."""

    async def end_offsets(self, partitions: Collection[int]) -> Mapping[int, int]: ...
    async def next_offsets(self, partitions: Collection[int]) -> Mapping[int, int]: ...
    async def timestamps_ms(self, offsets: Mapping[int, int]) -> Mapping[int, int]: ...


OpenLagReader = Callable[[], AbstractAsyncContextManager[LagReader]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionLag:
    """How far behind one assigned partition is."""

    partition: int
    # end offset minus committed offset; None while the end offset cannot be read
    records: int | None
    # age of the oldest record that is not committed, by its timestamp; None while it is not known
    seconds: float | None


async def measure_lag(
    workers: Sequence[PartitionWorker], reader: LagReader, *, now_ms: float, known: dict[tuple[int, int], int]
) -> Sequence[PartitionLag]:
    """Measure the lag of assigned partitions, ready or not.

    `now_ms` is the wall clock in milliseconds. `known` holds timestamps of records by partition and offset, between
    calls; it keeps those that this call used.
    """
    end_offsets = await reader.end_offsets([worker.partition for worker in workers])
    next_offsets = dict(
        await reader.next_offsets([worker.partition for worker in workers if worker.next_offset is None])
    )
    next_offsets |= {worker.partition: worker.next_offset for worker in workers if worker.next_offset is not None}
    held = {
        worker.partition: worker.oldest_record.timestamp_ms for worker in workers if worker.oldest_record is not None
    }
    unknown = {
        partition: offset
        for partition, offset in next_offsets.items()
        if partition not in held and (partition, offset) not in known and end_offsets.get(partition, 0) > offset
    }
    peeked = await reader.timestamps_ms(unknown) if unknown else {}
    fresh = known | {(partition, unknown[partition]): timestamp for partition, timestamp in peeked.items()}
    known.clear()
    known |= {key: fresh[key] for key in next_offsets.items() if key in fresh}
    lags = []
    for partition, offset in next_offsets.items():
        end_offset = end_offsets.get(partition)
        records = None if end_offset is None else max(0, end_offset - offset)
        timestamp = held.get(partition, known.get((partition, offset)))
        seconds = None if timestamp is None else max(0.0, (now_ms - timestamp) / 1000)
        lags.append(PartitionLag(partition=partition, records=records, seconds=0.0 if records == 0 else seconds))
    return lags


class MembershipMonitor:
    """Measures the current membership of each topic, and reports readiness, lags and lost brokers."""

    def __init__(self, progress: ProgressTracker, meters: Meters, *, stalled_seconds: float) -> None:
        """A partition whose oldest record is held for longer than `stalled_seconds` is stalled, and not ready."""
        self._progress = progress
        self._meters = meters
        self._stalled_seconds = stalled_seconds
        # topic -> its newest membership
        self._members: dict[str, GroupMember] = {}
        self._is_connected = True
        # topic -> what was measured last
        self._lags: dict[str, Sequence[PartitionLag]] = {}

    def follow(self, topic: str, member: GroupMember) -> None:
        """Measure this membership of the topic from now on."""
        self._members[topic] = member

    def stuck_seconds(self) -> float:
        """How long polling has stood still, 0 before the first membership."""
        return max((member.stuck_seconds() for member in self._members.values()), default=0.0)

    def update(self) -> None:
        """Set readiness and gauges; log when the brokers become unreachable and when they answer again."""
        if not self._members:
            return
        members = list(self._members.values())
        silent_seconds = max(member.silent_seconds() for member in members)
        is_connected = silent_seconds < SILENT_SECONDS
        if is_connected != self._is_connected:
            self._is_connected = is_connected
            name = "kafka.connected" if is_connected else "kafka.unreachable"
            log.warning(**log_event(name, silent_seconds=silent_seconds))
        problems = [] if is_connected else [f"no broker has answered for {silent_seconds:.0f} s"]
        problems += [problem for topic, member in self._members.items() for problem in self._problems(topic, member)]
        self._progress.is_ready = not problems
        self._progress.problem = _summary(problems)
        self._meters.set("vqmon.kafka.connected", int(is_connected))
        halted_count = sum(worker.is_halted for member in members for worker in member.workers)
        self._meters.set("vqmon.kafka.halted", halted_count)
        self._set_partition_gauges()

    async def measure_topic(self, topic: str, open_reader: OpenLagReader) -> None:
        """Measure the lag of the topic's assigned partitions every few seconds, until cancelled."""
        while True:
            try:
                async with open_reader() as reader:
                    known: dict[tuple[int, int], int] = {}
                    while True:
                        if member := self._members.get(topic):
                            now_ms = time.time() * 1000
                            self._lags[topic] = await measure_lag(member.workers, reader, now_ms=now_ms, known=known)
                        await asyncio.sleep(_MEASURE_SECONDS)
            except BrokerError as error:
                # Figures that nobody has measured are not shown; `vqmon.kafka.connected` tells that brokers are away.
                self._lags.pop(topic, None)
                log.debug(**log_event("lag.unknown", topic=topic, error=error))
                await asyncio.sleep(_REOPEN_SECONDS)

    def _problems(self, topic: str, member: GroupMember) -> list[str]:
        """Say what keeps a membership from being ready, a sentence per partition."""
        if not member.has_assignment:
            return [f"{topic}: waiting for the group to assign partitions"]
        return [
            f"{topic}/{worker.partition}: {self._describe(worker)}"
            for worker in member.workers
            if self._state_of(worker) != "ready"
        ]

    def _state_of(self, worker: PartitionWorker) -> _ReportedState:
        return "stalled" if worker.state == "ready" and worker.held_seconds > self._stalled_seconds else worker.state

    def _describe(self, worker: PartitionWorker) -> str:
        if self._state_of(worker) == "stalled" and worker.oldest_record is not None:
            return (
                f"stalled: the record at offset {worker.oldest_record.offset} is held for {worker.held_seconds:.0f} s"
            )
        return worker.status

    def _set_partition_gauges(self) -> None:
        workers = [
            (worker, {"topic": topic, "partition": str(worker.partition)})
            for topic, member in self._members.items()
            for worker in member.workers
        ]
        lags = {(topic, lag.partition): lag for topic, topic_lags in self._lags.items() for lag in topic_lags}
        known = [(lag, labels) for worker, labels in workers if (lag := lags.get((labels["topic"], worker.partition)))]
        replace = self._meters.replace
        replace("vqmon.kafka.lag", [(lag.records, labels) for lag, labels in known if lag.records is not None])
        replace("vqmon.kafka.lag_time", [(lag.seconds, labels) for lag, labels in known if lag.seconds is not None])
        replace("vqmon.kafka.oldest", [(worker.held_seconds, labels) for worker, labels in workers])
        replace(
            "vqmon.kafka.partition", [(1, {**labels, "state": self._state_of(worker)}) for worker, labels in workers]
        )


def _summary(problems: Sequence[str]) -> str:
    shown, others = "; ".join(problems[:_MAX_PROBLEMS]), len(problems) - _MAX_PROBLEMS
    return f"{shown}; and {others} more" if others > 0 else shown
