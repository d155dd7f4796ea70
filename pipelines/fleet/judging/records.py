"""Input records of a partition, what each one announces, and what came of them."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from opentelemetry.trace import SpanContext

from pipelines.observe.observer import Observation
from vqmon.core.alerts.annotations import StreamEnd
from vqmon.core.types import Alert, Outcome, Rendition, Segment, failure_from_error
from vqmon.errors import SegmentError, WireError
from vqmon.telemetry.otlp import NO_SPAN, continued_trace, span
from vqmon.transport.kafka.records import ProducerRecord, Record, TopicNames
from vqmon.transport.wire.control_messages import ControlMessage, is_control_message, parse_control_message
from vqmon.transport.wire.segment_messages import parse_segment

_MAX_STREAM_ID_CHARACTERS = 200

Observe = Callable[[Segment], Awaitable[Observation]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedRecord:
    """An input record and the outcome that it led to."""

    record: Record
    outcome: Outcome
    # why the record is no segment message; None when it is one
    rejected: str | None = None
    # of the span in which it was consumed
    span_context: SpanContext = NO_SPAN


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlRecord:
    """An input record that is an end or a deploy marker: it is judged and passed on in order, and has no outcome."""

    record: Record
    message: ControlMessage


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedRecords:
    """What came of input records, to be written in one transaction."""

    # how many of them were judged; the others stay unread
    count: int
    records: Sequence[ProducerRecord] = ()
    # the records whose outcomes are among `records`
    observed: Sequence[ObservedRecord] = ()
    alerts: Sequence[Alert] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducerIdentity:
    """Who writes to which topics: what goes into every record that a worker writes."""

    names: TopicNames
    source: str
    group: str
    version: str
    max_message_bytes: int
    # the largest record that the rejected topic takes
    max_rejected_bytes: int


async def observe_record(
    record: Record, observe: Observe, identity: ProducerIdentity, *, now: Callable[[], datetime]
) -> ObservedRecord | ControlRecord:
    """Observe the segment that a record announces, or parse the end or marker that it is.

    A record that is neither is rejected and has an outcome too: a failure at the source.
    """
    try:
        if len(record.value or b"") > identity.max_message_bytes:
            raise WireError(f"the record is larger than {identity.max_message_bytes} bytes")
        headers = record.headers_by_name()
        if record.value and is_control_message(headers):
            return ControlRecord(record=record, message=_parse_keyed_message(record.key, record.value))
        segment = parse_segment(record.key, record.value, headers)
    except WireError as error:
        outcome = _rejected_outcome(record, str(error), identity, now())
        return ObservedRecord(record=record, outcome=outcome, rejected=str(error))
    messaging: dict[str, str | int] = {
        "operation.type": "process",
        "destination.name": identity.names.segments,
        "destination.partition.id": str(record.partition),
        "kafka.offset": record.offset,
        "consumer.group.name": identity.group,
    }
    with continued_trace(headers), span("consume", kind="CONSUMER", messaging=messaging) as context:
        return ObservedRecord(record=record, outcome=(await observe(segment)).outcome, span_context=context)


def _parse_keyed_message(key: bytes | None, value: bytes) -> ControlMessage:
    """Parse an end or a marker; an end must have its stream as key, which puts it behind the stream's segments."""
    message = parse_control_message(value)
    if isinstance(message, StreamEnd) and key != message.stream_id.encode():
        raise WireError("the record's key must be the stream id")
    return message


def _rejected_outcome(record: Record, detail: str, identity: ProducerIdentity, observed_at: datetime) -> Outcome:
    """Return the failure that is published for a record that is no segment message."""
    stream_id = (record.key or b"").decode("utf-8", "replace")[:_MAX_STREAM_ID_CHARACTERS] or "unknown"
    segment = Segment(
        rendition=Rendition(stream_id=stream_id, name="rejected"),
        sequence=record.offset,
        url=f"kafka://{identity.names.segments}/{record.partition}/{record.offset}",
        starts_at=record.at,
    )
    reason = "too_large" if len(record.value or b"") > identity.max_message_bytes else "message"
    return failure_from_error(segment, SegmentError(reason, detail), observed_at=observed_at)
