"""Outcomes as the recorder reads them: between them, in the order of judging, the ends and markers of their own topic.

A worker writes what came of a partition in one transaction after the other, in the order of each stream, and every
record names its input record. A transaction becomes visible on one topic earlier than on another, and one topic may be
read further than the other. So outcomes wait until the control records are read up to the high watermark that the
control partition had when the outcomes were polled: all that were written before them are among these. An end waits
until an outcome of a later input record of its stream comes, or outcomes are read up to the high watermark that they
had when the end was read: all that were written before it are among these.
"""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Protocol

from pipelines.fleet.membership import ConsumerGroup
from pipelines.topics.topic_reader import OpenGroup, TopicReader
from vqmon.core.alerts.annotations import StreamEnd
from vqmon.errors import WireError
from vqmon.telemetry.logs import log_event
from vqmon.transport.history.ingest import OffsetCommit, RecordBatch, RecordKind
from vqmon.transport.kafka.records import INPUT_HEADER, OnAssigned, OnRevoked, Record
from vqmon.transport.wire.control_messages import parse_control_message

log = logging.getLogger("vqmon.record")

_CONTROL_SECONDS = 0.1
"""How long a poll waits for control records that outcomes wait for."""


class AssignedPartitions(ConsumerGroup, Protocol):
    """Partitions of a topic that the caller assigns."""

    def assign(self, partitions: Collection[int]) -> None: ...
    async def high_watermarks(self, topic: str, partitions: Collection[int]) -> Mapping[int, int]: ...


OpenAssigned = Callable[[str], AssignedPartitions]
"""Makes a consumer of a topic that reads what it is assigned."""

OpenReader = Callable[[str, RecordKind, OpenGroup], TopicReader]


@dataclass(slots=True, kw_only=True)
class _WaitingEnd:
    """An end whose place among the outcomes is not reached yet."""

    record: Record
    # of the input record
    input_offset: int
    # high watermark of the outcomes after the end was read
    outcomes_end: int | None = None


@dataclass(slots=True)
class _PartitionRecords:
    """What was polled of a partition and is not passed on yet."""

    outcomes: Sequence[Record] = ()
    # high watermark of the control partition after the outcomes were polled
    control_end: int | None = None
    # markers, and records that cannot be read: their place among the outcomes does not matter
    unordered: list[Record] = field(default_factory=list)
    # key of the stream -> its ends, in order
    ends: dict[bytes | None, list[_WaitingEnd]] = field(default_factory=dict)
    # after the last control record that was polled
    control_offset: int = 0
    # how far the control partition was read when last asked; markers of transactions count
    control_position: int = 0

    @property
    def waiting_ends(self) -> Iterator[_WaitingEnd]:
        return (end for ends in self.ends.values() for end in ends)

    def add_control_record(self, record: Record) -> None:
        """Add the next record of the control topic."""
        self.control_offset = record.offset + 1
        try:
            message = parse_control_message(record.value or b"")
        except WireError:
            message = None
        if isinstance(message, StreamEnd):
            end = _WaitingEnd(record=record, input_offset=_input_offset(record))
            self.ends.setdefault(message.stream_id.encode(), []).append(end)
        else:
            self.unordered.append(record)

    def pop_in_order(self, *, next_offset: int) -> list[tuple[RecordKind, Record]]:
        """Take the outcomes, read up to `next_offset`, with what belongs before, between and after them."""
        merged: list[tuple[RecordKind, Record]] = [("control", record) for record in self.unordered]
        for outcome in self.outcomes:
            if outcome.key in self.ends:
                merged += self._pop_ends(outcome.key, before=_input_offset(outcome))
            merged.append(("outcome", outcome))
        for key in list(self.ends):
            merged += self._pop_ends(key, read_up_to=next_offset)
        self.outcomes, self.control_end, self.unordered = (), None, []
        return merged

    def _pop_ends(
        self, key: bytes | None, *, before: int = -1, read_up_to: int = -1
    ) -> list[tuple[RecordKind, Record]]:
        """Take the ends of a stream before an input offset, and those whose outcomes were read."""
        ends = self.ends[key]
        count = 0
        for end in ends:
            if end.input_offset >= before and (end.outcomes_end is None or end.outcomes_end > read_up_to):
                break
            count += 1
        self.ends[key] = ends[count:]
        if not self.ends[key]:
            del self.ends[key]
        return [("control", end.record) for end in ends[:count]]

    @property
    def committable_control_offset(self) -> int:
        """The control offset before which nothing waits any more."""
        return min((end.record.offset for end in self.waiting_ends), default=self.control_offset)


class OutcomeReader:
    """Reads the outcomes of the partitions that are assigned to us, and their ends and markers in order."""

    def __init__(
        self,
        topic: str,
        control_topic: str,
        *,
        open_reader: OpenReader,
        open_group: OpenGroup,
        open_assigned: OpenAssigned,
    ) -> None:
        self._open_group = open_group
        # replaced when positions are set anew: what was polled before then is polled again
        self._partitions: dict[int, _PartitionRecords] = {}
        # partitions that the control topic has
        self._control_count = 0
        self._lacking: Collection[int] = ()
        self._consumer = open_assigned(control_topic)
        self._control = open_reader(control_topic, "control", lambda *_: self._consumer)
        self._outcomes = open_reader(topic, "outcome", self._join_group)

    def _join_group(self, topic: str, assigned: OnAssigned, revoked: OnRevoked) -> ConsumerGroup:
        """Join the group of the outcomes; who has a partition of them reads the same one of the control topic."""

        def on_assigned(partitions: Collection[int]) -> None:
            self._partitions = {}
            self._control.assigned(partitions)
            self._assign_control()
            assigned(partitions)

        async def on_revoked(partitions: Collection[int]) -> None:
            self._partitions = {}
            self._control.forget(partitions)
            await revoked(partitions)

        return self._open_group(topic, on_assigned, on_revoked)

    def _assign_control(self) -> None:
        # A client that waits for a partition that does not exist asks for metadata without pause.
        lacking = self._lacking_partitions()
        self._consumer.assign([partition for partition in self._control.partitions if partition not in lacking])

    def _lacking_partitions(self) -> Collection[int]:
        """The assigned partitions that the control topic does not have."""
        return [partition for partition in self._control.partitions if partition >= self._control_count]

    @property
    def is_settled(self) -> bool:
        """Whether the group has assigned partitions to us, be it none, and all of them are being read."""
        return self._outcomes.is_settled and self._control.is_settled

    async def start(self) -> None:
        await self._control.start()
        self._control_count = await self._control.partition_count(self._control.topic)
        await self._outcomes.start()

    async def stop(self) -> None:
        await self._outcomes.stop()
        await self._control.stop()

    def reset_positions(self) -> None:
        """Read the offsets of all partitions from the history again before the next poll."""
        self._partitions = {}
        self._control.reset_positions()
        self._outcomes.reset_positions()

    def advance(self, steps: Sequence[OffsetCommit]) -> None:
        """Move the positions of partitions whose new offsets are in the history now."""
        self._control.advance(steps)
        self._outcomes.advance(steps)

    async def resume_assigned(self) -> None:
        """Start to read newly assigned partitions from the offsets in the history."""
        # A rebalance while they are resumed may leave one that waits on one of the topics alone.
        if not self._outcomes.waiting and not self._control.waiting:
            return
        count = await self._outcomes.partition_count(self._control.topic)
        if count != self._control_count:
            self._control_count = count
            self._assign_control()
            self.reset_positions()
        lacking = self._lacking_partitions()
        if set(lacking) - set(self._lacking):
            remedy = f"give {self._control.topic} as many partitions as {self._outcomes.topic} has"
            log.warning(**log_event("record.no_control_partition", partitions=sorted(lacking), remedy=remedy))
        self._lacking = lacking
        await self._control.resume_assigned(skip=lacking)
        await self._outcomes.resume_assigned(skip=self._control.waiting)

    def deletions(self) -> Sequence[OffsetCommit]:
        """Those of both topics."""
        return [*self._control.deletions(), *self._outcomes.deletions()]

    async def poll(self, *, seconds: float, max_records: int) -> Sequence[RecordBatch]:
        """Return the records that have arrived and whose place is known, in order partition by partition."""
        partitions = self._partitions
        held = [number for number, records in partitions.items() if records.outcomes]
        skip = [*held, *self._control.waiting]
        polled = await self._outcomes.poll_records(seconds=0.0 if held else seconds, max_records=max_records, skip=skip)
        for number, outcomes in polled.items():
            partitions.setdefault(number, _PartitionRecords()).outcomes = outcomes
        incomplete = await self._read_control(partitions, max_records=max_records)
        next_offsets = {}
        for number, records in partitions.items():
            if partitions is not self._partitions:
                # They were revoked, and are polled again by whoever has them next.
                return []
            if number not in incomplete:
                # Asked only where it matters: where an end waits.
                next_offsets[number] = await self._outcomes.next_offset(number) if records.ends else 0
        if partitions is not self._partitions:
            return []
        return [batch for number, offset in next_offsets.items() for batch in self._batches(number, next_offset=offset)]

    async def _read_control(self, partitions: dict[int, _PartitionRecords], *, max_records: int) -> Collection[int]:
        """Poll control records; returns the partitions whose outcomes must wait for more of them."""
        fresh = [number for number, records in partitions.items() if records.outcomes and records.control_end is None]
        if fresh:
            for number, end in (await self._consumer.high_watermarks(self._control.topic, fresh)).items():
                partitions[number].control_end = end
        incomplete: Collection[int] = ()
        for seconds in (0.0, _CONTROL_SECONDS):
            polled = await self._control.poll_records(seconds=seconds, max_records=max_records)
            for number, control_records in polled.items():
                records = partitions.setdefault(number, _PartitionRecords())
                for record in control_records:
                    records.add_control_record(record)
            incomplete = await self._incomplete(partitions)
            if not incomplete:
                break
        await self._bound_ends(partitions)
        return incomplete

    async def _incomplete(self, partitions: Mapping[int, _PartitionRecords]) -> Collection[int]:
        """The partitions whose control records are not read as far as their outcomes need."""
        incomplete = []
        for number, records in partitions.items():
            if partitions is not self._partitions:
                return ()
            if records.control_end is not None and records.control_position < records.control_end:
                records.control_position = await self._control.next_offset(number)
                if records.control_position < records.control_end:
                    incomplete.append(number)
        return incomplete

    async def _bound_ends(self, partitions: Mapping[int, _PartitionRecords]) -> None:
        """Note for new ends how far outcomes must be read at most before they are passed on."""
        unbounded = {
            number: [end for end in records.waiting_ends if end.outcomes_end is None]
            for number, records in partitions.items()
        }
        numbers = [number for number, ends in unbounded.items() if ends]
        if numbers:
            for number, offset in (await self._consumer.high_watermarks(self._outcomes.topic, numbers)).items():
                for end in unbounded[number]:
                    end.outcomes_end = offset

    def _batches(self, number: int, *, next_offset: int) -> Iterator[RecordBatch]:
        """Take what is in order of a partition whose outcomes were polled up to `next_offset`."""
        records = self._partitions[number]
        merged = records.pop_in_order(next_offset=next_offset)
        readers: Mapping[RecordKind, TopicReader] = {"control": self._control, "outcome": self._outcomes}
        previous = {kind: reader.stored_offset(number) for kind, reader in readers.items()}
        for kind, group in groupby(merged, key=lambda entry: entry[0]):
            run = [record for _, record in group]
            after = run[-1].offset + 1 if kind == "outcome" else records.committable_control_offset
            yield readers[kind].batch(number, run, previous[kind], after)
            previous[kind] = after

    async def marker_batches(self) -> Sequence[RecordBatch]:
        """Those of both topics, for partitions of which nothing waits."""
        partitions = self._partitions
        held = [number for number, records in partitions.items() if records.outcomes or records.ends]
        readers = (self._outcomes, self._control)
        batches = [batch for reader in readers for batch in await reader.marker_batches(skip=held)]
        return batches if partitions is self._partitions else []

    async def lags_by_topic(self) -> Mapping[str, Mapping[int, int]]:
        """Topic -> partition -> records not in the history yet, those that wait for their place among them."""
        outcome_lags = dict(await self._outcomes.lags())
        control_lags = dict(await self._control.lags(skip=self._lacking_partitions()))
        partitions = self._partitions
        for number, records in partitions.items():
            if records.outcomes and number in outcome_lags and partitions is self._partitions:
                outcome_lags[number] += await self._outcomes.next_offset(number) - records.outcomes[0].offset
            if number in control_lags:
                control_lags[number] += records.control_offset - records.committable_control_offset
        return {self._outcomes.topic: outcome_lags, self._control.topic: control_lags}


def _input_offset(record: Record) -> int:
    """The offset of the input record for which a record was written; -1 when it does not say."""
    place = record.headers_by_name().get(INPUT_HEADER, b"").rpartition(b"/")[2]
    return int(place) if place.isdigit() else -1
