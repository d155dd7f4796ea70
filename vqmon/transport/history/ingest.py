"""Kafka records on their way into a history: parsed outcomes, alerts, ends and markers, and the offsets to commit."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from vqmon.core.alerts.annotations import DeployMarker, StreamEnd
from vqmon.core.types import Alert, Outcome
from vqmon.errors import FencedError, WireError
from vqmon.transport.history.backends.base import Transaction
from vqmon.transport.wire import cloudevents
from vqmon.transport.wire.control_messages import ControlMessage, parse_control_message

RecordKind = Literal["outcome", "control", "alert"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetCommit:
    """Moves the stored offset of one partition from `previous_offset` to `next_offset`."""

    topic: str
    partition: int
    # the offset that the history holds now; None: none
    previous_offset: int | None
    next_offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordBatch:
    """Records of one partition in order, as (offset, value)."""

    topic: str
    partition: int
    kind: RecordKind
    # the offset that the history holds now; None: none
    previous_offset: int | None
    # the offset that it holds once the records are written; not behind a record that is still held back
    next_offset: int
    records: Sequence[tuple[int, bytes | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedRecords:
    """What one transaction writes into a history."""

    outcomes: Sequence[Outcome]
    # event id -> the event as its record holds it
    documents: Mapping[str, bytes]
    # (how many of the outcomes come before it, end)
    ends: Sequence[tuple[int, StreamEnd]]
    markers: Sequence[DeployMarker]
    alerts: Sequence[Alert]
    offset_commits: Sequence[OffsetCommit]
    # (topic/partition/offset, error) of records that cannot be parsed
    unreadable: Sequence[tuple[str, str]]


def parse_record_batches(batches: Iterable[RecordBatch]) -> ParsedRecords:
    """Parse the records of all batches; an unreadable record is listed and passed, so that it blocks none behind it."""
    outcomes: list[Outcome] = []
    documents: dict[str, bytes] = {}
    ends: list[tuple[int, StreamEnd]] = []
    markers: list[DeployMarker] = []
    alerts: list[Alert] = []
    offset_commits: list[OffsetCommit] = []
    unreadable: list[tuple[str, str]] = []
    for batch in batches:
        for offset, value in batch.records:
            try:
                if batch.kind == "alert":
                    alerts.append(cloudevents.parse_alert(value or b""))
                    continue
                parse = parse_control_message if batch.kind == "control" else _parse_outcome_or_control_message
                message = parse(value or b"")
            except WireError as error:
                unreadable.append((f"{batch.topic}/{batch.partition}/{offset}", str(error)))
                continue
            if isinstance(message, StreamEnd):
                ends.append((len(outcomes), message))
            elif isinstance(message, DeployMarker):
                markers.append(message)
            else:
                outcomes.append(message)
                documents.setdefault(message.id, value or b"")
        offset_commits.append(
            OffsetCommit(
                topic=batch.topic,
                partition=batch.partition,
                previous_offset=batch.previous_offset,
                next_offset=batch.next_offset,
            )
        )
    return ParsedRecords(
        outcomes=outcomes,
        documents=documents,
        ends=ends,
        markers=markers,
        alerts=alerts,
        offset_commits=offset_commits,
        unreadable=unreadable,
    )


def _parse_outcome_or_control_message(value: bytes) -> Outcome | ControlMessage:
    """Parse a record of the topic of outcomes; raises WireError."""
    try:
        return cloudevents.parse_outcome(value)
    except WireError:
        # Workers of an earlier version pass control messages on among the outcomes.
        try:
            return parse_control_message(value)
        except WireError:
            pass
        raise


def commit_offsets(transaction: Transaction, commits: Iterable[OffsetCommit]) -> None:
    """Store how far partitions were read; raises FencedError when another recorder has moved one of them."""
    for commit in commits:
        partition = (commit.topic, commit.partition)
        select = "SELECT next_offset FROM record_offset WHERE topic = ? AND partition_number = ?"
        row = transaction.execute(select, partition).fetchone()
        stored_offset = None if row is None else int(row[0])
        if stored_offset != commit.previous_offset:
            raise FencedError(
                f"{commit.topic}/{commit.partition}: the history holds offset {stored_offset}, "
                f"not {commit.previous_offset}"
            )
        transaction.execute(
            "INSERT INTO record_offset VALUES (?, ?, ?) ON CONFLICT (topic, partition_number)"
            " DO UPDATE SET next_offset = excluded.next_offset",
            (*partition, commit.next_offset),
        )
