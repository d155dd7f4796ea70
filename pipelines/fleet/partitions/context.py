"""What the workers of all partitions of a topic share, and what one of them leaves to the next."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pipelines.fleet.judging.records import JudgedRecords
from pipelines.fleet.partitions.offsets import Position
from pipelines.service.brokers import WhenLost
from pipelines.service.lifecycle import OnPublish
from vqmon.core.types import Alert
from vqmon.telemetry.metrics import Meters
from vqmon.transport.kafka.records import BatchWriter, CommittedOffset, PartitionOffsets, ProducerRecord, Record

PartitionState = Literal["opening", "ready", "halted"]
"""Opening: being fenced and restored. Ready: records are read. Halted: it waits until somebody acts."""

WhenTooLarge = Literal["stop", "go_on"]
"""What to do when a topic does not take an outcome: stop the partition, or publish a failure in its place."""


class GroupOffsets(Protocol):
    """The offsets of a consumer group, and where it reads on."""

    async def partition_offsets(self, partition: int) -> PartitionOffsets: ...
    async def committed(self, partition: int) -> CommittedOffset | None: ...
    async def partition_counts(self, topics: Collection[str]) -> Mapping[str, int]: ...
    def resume(self, partition: int, *, offset: int) -> None: ...


class RecordJudge(Protocol):
    """Judges the records of one partition in order and holds the partition's alert states."""

    is_halted: bool

    def judge_records(self, ready: Sequence[Any]) -> JudgedRecords: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionContext:
    """What the workers of all partitions of a topic share."""

    topic: str
    # the topics that must have as many partitions as `topic`
    companions: Sequence[str]
    # reads a record, and observes the segment that it announces; gives what the judge takes
    observe: Callable[[Record], Awaitable[object]]
    # partition, and key -> value of its state topic -> its judge
    open_judge: Callable[[int, Mapping[str, bytes]], RecordJudge]
    open_writer: Callable[[int], BatchWriter]
    state_topic: str
    # partition and alert -> the record to produce
    encode_alert: Callable[[int, Alert], ProducerRecord]
    # partition, and what to call with the share that is read, 0..1
    read_state: Callable[[int, Callable[[float], None]], Awaitable[Mapping[str, bytes]]]
    running: asyncio.Semaphore
    meters: Meters
    on_publish: OnPublish
    # most records that a partition holds unfinished
    max_waiting: int
    # least time from one transaction to the next
    gather_seconds: float
    when_lost: WhenLost
    when_too_large: WhenTooLarge = "stop"
    # a record that takes longer no longer holds back those with other keys; None = it always does
    overtake_seconds: float | None = None
    # after so long without records, a partition commits past offsets that hold none
    idle_seconds: float = 5.0
    # names this process among all that ever worked for the group; None = no record can end a process
    process_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionHandover:
    """What a worker that ended in good order leaves to the next one; valid if that one resumes at the same position."""

    committed: CommittedOffset | None
    position: Position
    judge: RecordJudge
    # what the state topic has of records under suspicion
    trials: bytes | None
    # the open alert about the partition itself
    stopped_alert: Alert | None


@dataclass(frozen=True, slots=True)
class OffsetAdvance:
    """Stands for offsets without a record, such as transaction markers, up to this one (exclusive)."""

    offset: int
