"""What a worker reports of its partitions: lag, state and readiness, measured from outside its own progress."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from pipelines.fleet.membership import SILENT_SECONDS, GroupMember
from pipelines.fleet.partitions.context import PartitionState
from pipelines.fleet.partitions.worker import PartitionWorker
from vqmon.errors import BrokerError
from vqmon.telemetry.bottleneck import Bottleneck
from vqmon.telemetry.health import ProgressTracker
from vqmon.telemetry.logs import log_event
from vqmon.telemetry.metrics import Meters

log = logging.getLogger("vqmon.fleet")

_MEASURE_SECONDS = 2.0
_REOPEN_SECONDS = 5.0
_MAX_PROBLEMS = 3
"""How many problems /readyz lists before it counts the others."""

_MAX_LAG_SECONDS = 60.0
"""An older oldest record may be an overload."""

_TREND_SECONDS = 60.0
"""Over so long the lag must grow, and the worker be at its limit."""

_BUSY_SHARE = 0.9
"""Of the time in which all places for segments are taken, for a worker that is at its limit."""

_CALM_SECONDS = 60.0
"""So long without growth, and the overload is over."""

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


class LagTrend:
    """Whether a worker cannot keep up: its oldest record grows older while all its places for segments are taken.

    A backlog that becomes smaller is none, nor is a lag while places are free, as when origins are waited for.
    """

    def __init__(self, *, slots: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._slots = slots
        self._monotonic = monotonic
        # (time, lag in seconds, whether all places were taken) of the last `_TREND_SECONDS`, and one before
        self._samples: deque[tuple[float, float, bool]] = deque()
        self._began_at: float | None = None
        self._last_at: float | None = None
        self.lag_seconds = 0.0

    @property
    def is_known(self) -> bool:
        """Whether it was followed for long enough to tell."""
        return self._began_at is not None and self._monotonic() - self._began_at >= _TREND_SECONDS

    @property
    def is_overloaded(self) -> bool:
        """Whether it was so within the last minute."""
        return self._last_at is not None and self._monotonic() - self._last_at < _CALM_SECONDS

    def record(self, lag_seconds: float, *, in_flight: int) -> None:
        """The age of the oldest record that is not finished, and how many segments are being observed."""
        at = self._monotonic()
        self._began_at = at if self._began_at is None else self._began_at
        self.lag_seconds = lag_seconds
        self._samples.append((at, lag_seconds, in_flight >= self._slots))
        while len(self._samples) > 1 and self._samples[1][0] <= at - _TREND_SECONDS:
            self._samples.popleft()
        first_at, first_lag, _ = self._samples[0]
        busy = sum(is_busy for _, _, is_busy in self._samples) / len(self._samples)
        has_grown = at - first_at >= _TREND_SECONDS and lag_seconds > first_lag
        if lag_seconds > _MAX_LAG_SECONDS and has_grown and busy >= _BUSY_SHARE:
            self._last_at = at


class MembershipMonitor:
    """Measures the current membership of each topic, and reports readiness, lags, overload and lost brokers."""

    def __init__(
        self,
        progress: ProgressTracker,
        meters: Meters,
        *,
        stalled_seconds: float,
        trend: LagTrend,
        bottleneck: Bottleneck,
        segments_topic: str,
    ) -> None:
        """A partition whose oldest record is held for longer than `stalled_seconds` is stalled, and not ready.

        The lag of `segments_topic` tells whether the worker is overloaded.
        """
        self._trend = trend
        self._bottleneck = bottleneck
        self._segments_topic = segments_topic
        self._progress = progress
        self._meters = meters
        self._stalled_seconds = stalled_seconds
        # topic -> its newest membership
        self._members: dict[str, GroupMember] = {}
        self._is_connected = True
        # topic -> what was measured last
        self._lags: dict[str, Sequence[PartitionLag]] = {}
        # the one that says that the worker is overloaded; None when it is not
        self._overload_partition: int | None = None

    def follow(self, topic: str, member: GroupMember) -> None:
        """Measure this membership of the topic from now on."""
        self._members[topic] = member

    def stuck_seconds(self) -> float:
        """How long polling has stood still, 0 before the first membership."""
        return max((member.stuck_seconds() for member in self._members.values()), default=0.0)

    def overload_of(self, partition: int) -> str | None:
        """What this partition is to say about an overload of the worker; "" for nothing, as one of them says it.

        None in the first minute, while nobody can tell: what an earlier worker has said holds.
        """
        if not self._trend.is_known:
            return None
        return self._progress.warning if partition == self._overload_partition else ""

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
        self._report_overload()

    def _report_overload(self) -> None:
        lags = self._lags.get(self._segments_topic, ())
        lag_seconds = max((lag.seconds for lag in lags if lag.seconds is not None), default=0.0)
        self._trend.record(lag_seconds, in_flight=self._progress.in_flight)
        is_overloaded = self._trend.is_overloaded
        consequence = f"the oldest segment waits for {lag_seconds:.0f} s in Kafka, and longer every minute"
        self._progress.warning = self._bottleneck.describe(consequence) if is_overloaded else ""
        self._overload_partition = self._choose_partition(lags) if is_overloaded else None
        self._bottleneck.report(self._meters, is_overloaded=is_overloaded)

    def _choose_partition(self, lags: Sequence[PartitionLag]) -> int | None:
        """The same as before while it is here, else the lowest whose records wait: an alert opens with a record."""
        member = self._members.get(self._segments_topic)
        ready = [worker.partition for worker in member.workers if worker.state == "ready"] if member else []
        if self._overload_partition in ready:
            return self._overload_partition
        waiting = {lag.partition for lag in lags if lag.records}
        return min(waiting.intersection(ready), default=min(ready, default=None))

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
