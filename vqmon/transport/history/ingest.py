"""What was read from topics, on its way into a history: outcomes, notes, alerts, and how far partitions were read."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from vqmon.core.alerts.annotations import End, Marker
from vqmon.core.types import Alert, Outcome
from vqmon.errors import FencedError, WireError
from vqmon.transport.history.backends.base import Connection
from vqmon.transport.wire import cloudevents
from vqmon.transport.wire.control_messages import Note, parse_note

Kind = Literal["outcome", "alert"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One partition was read from `before` on, and goes on at `next_offset`."""

    topic: str
    partition: int
    # as it stands in the history; None when nothing does
    before: int | None
    next_offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Records of one partition in order: offset and value."""

    topic: str
    partition: int
    kind: Kind
    before: int | None
    records: Sequence[tuple[int, bytes | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What goes into a history in one transaction."""

    outcomes: Sequence[Outcome]
    # the events as they came, by event id
    documents: Mapping[str, bytes]
    # each with how many of the outcomes come before it
    ends: Sequence[tuple[int, End]]
    markers: Sequence[Marker]
    alerts: Sequence[Alert]
    steps: Sequence[Step]
    # (topic/partition/offset, why) of records that are neither
    unreadable: Sequence[tuple[str, str]]


def taken_of(batches: Iterable[Batch]) -> Taken:
    """Read what the records say; one that says nothing does not hold up those behind it."""
    outcomes: list[Outcome] = []
    documents: dict[str, bytes] = {}
    ends: list[tuple[int, End]] = []
    markers: list[Marker] = []
    alerts: list[Alert] = []
    steps: list[Step] = []
    unreadable: list[tuple[str, str]] = []
    for batch in batches:
        for offset, value in batch.records:
            try:
                if batch.kind == "alert":
                    alerts.append(cloudevents.parse_alert(value or b""))
                    continue
                said = _said(value or b"")
            except WireError as error:
                unreadable.append((f"{batch.topic}/{batch.partition}/{offset}", str(error)))
                continue
            if isinstance(said, End):
                ends.append((len(outcomes), said))
            elif isinstance(said, Marker):
                markers.append(said)
            else:
                outcomes.append(said)
                documents.setdefault(said.id, value or b"")
        if batch.records:
            last = batch.records[-1][0]
            steps.append(Step(topic=batch.topic, partition=batch.partition, before=batch.before, next_offset=last + 1))
    return Taken(
        outcomes=outcomes,
        documents=documents,
        ends=ends,
        markers=markers,
        alerts=alerts,
        steps=steps,
        unreadable=unreadable,
    )


def _said(value: bytes) -> Outcome | Note:
    """What a record of the topic of outcomes says; raises WireError."""
    try:
        return cloudevents.parse_outcome(value)
    except WireError:
        # Asked second, as one in thousands is a note.
        try:
            return parse_note(value)
        except WireError:
            pass
        raise


def move_on(connection: Connection, steps: Iterable[Step]) -> None:
    """Write how far partitions were read; FencedError when somebody else has read one of them meanwhile."""
    for step in steps:
        place = (step.topic, step.partition)
        ask = "SELECT next_offset FROM record_offset WHERE topic = ? AND partition_number = ?"
        found = connection.execute(ask, place).fetchone()
        stands = None if found is None else int(found[0])
        if stands != step.before:
            raise FencedError(f"{step.topic}/{step.partition}: the history stands at {stands}, not at {step.before}")
        connection.execute(
            "INSERT INTO record_offset VALUES (?, ?, ?) ON CONFLICT (topic, partition_number)"
            " DO UPDATE SET next_offset = excluded.next_offset",
            (*place, step.next_offset),
        )
