"""Judges the records of one partition, and encodes what is written for them in one transaction."""

import logging
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from itertools import accumulate
from urllib.parse import urlsplit

from opentelemetry.trace import SpanContext

from pipelines.observe.observer import Observation
from pipelines.observe.playlists.ad_breaks import AdBreakLabels
from vqmon.core.alerts.annotations import DeployMarker, StreamEnd
from vqmon.core.alerts.judge import Judge
from vqmon.core.alerts.media_timeline import DUPLICATE
from vqmon.core.alerts.regression.groups.detector import MemberValue
from vqmon.core.alerts.rules import AlertRule
from vqmon.core.alerts.state import State, StateKey, StateRetention
from vqmon.core.types import (
    Alert,
    AlertEvidence,
    Outcome,
    QualityEvent,
    Rendition,
    Segment,
    SegmentFailure,
    Severity,
    alert_id,
    failure_from_error,
)
from vqmon.errors import SegmentError, SettingsError, WireError
from vqmon.telemetry.bottleneck import OVERLOADED_RULE
from vqmon.telemetry.logs import log_event
from vqmon.telemetry.otlp import NO_SPAN, continued_trace, span
from vqmon.transport.kafka.records import INPUT_HEADER, Headers, ProducerRecord, Record, TopicNames
from vqmon.transport.wire import cloudevents
from vqmon.transport.wire.alert_state import state_key
from vqmon.transport.wire.control_messages import (
    ControlMessage,
    control_message_headers,
    control_message_key,
    encode_control_message,
    is_control_message,
    parse_control_message,
)
from vqmon.transport.wire.member_values import encode_member_values
from vqmon.transport.wire.operator_alerts import (
    OriginOutage,
    encode_open_alert,
    encode_outages,
    parse_open_alert,
    parse_outages,
)
from vqmon.transport.wire.segment_messages import (
    STRUCTURED_CONTENT_TYPE,
    encode_rejections,
    parse_rejections,
    parse_segment,
    parse_trace_context,
)

REJECTED_RULE = "rejected-messages"
_ORIGIN_RULE = "origin-away"
log = logging.getLogger("vqmon.fleet")

_REJECTIONS_KEY = "rejections"
"""The key of the rejection counts in the state topic; the keys of rules contain a `|`."""

_OUTAGES_KEY = "origins"
_OVERLOAD_KEY = "overload"
_MAX_OUTAGE_STREAMS = 100
"""So many streams of an origin that is away are waited for before its alert resolves."""

_MAX_STREAM_ID_CHARACTERS = 200
_MAX_KEY_BYTES = 4000
_MAX_HEADERS_BYTES = 16_000
_OVERHEAD_BYTES = 32_000
"""Reserved in a record of the rejected topic for the key, the original headers and our own."""

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


class PartitionJudge:
    """Judges the records of one partition and holds its alert states; discard it when a batch was not written.

    Group rules are not judged here: what they need of each segment is written to the gathered topic.
    """

    def __init__(
        self,
        partition: int,
        identity: ProducerIdentity,
        *,
        rules: Sequence[AlertRule],
        stored: Mapping[str, bytes],
        rejected_limit: float,
        retention: StateRetention | None = None,
        overload: Callable[[int], str | None] = lambda partition: "",
    ) -> None:
        """`stored` is the partition's state topic; `rejected_limit` the share of rejected records, 0..1, that halts.

        `overload` tells what the partition is to say about an overload of its worker; "" = nothing, None = what it has
        said before.
        """
        self._partition = partition
        self._identity = identity
        self._rejected_limit = rejected_limit
        self._gathered = _GatheredValues(identity.names.gathered)
        self._overload = overload
        self._overload_alert = parse_open_alert(stored.get(_OVERLOAD_KEY))
        states = parse_states(stored, exclude=(_REJECTIONS_KEY, _OUTAGES_KEY, _OVERLOAD_KEY))
        self._judge = Judge(rules, states, gather=self._gathered.add, retention=retention)
        self._outages = parse_outages(stored.get(_OUTAGES_KEY))
        self._rejections = parse_rejections(stored.get(_REJECTIONS_KEY))
        self._ad_breaks = AdBreakLabels()
        self.is_halted = False

    def judge_records(self, ready: Sequence[ObservedRecord | ControlRecord]) -> JudgedRecords:
        """Judge records in order and encode what must be written with their offset.

        Sets `is_halted` when so many records are rejected that the topic must hold something else than segment
        messages; the records from there on stay unread.
        """
        rejections_before, outages_before = self._rejections, self._outages
        outgoing: list[ProducerRecord] = []
        judged: list[ObservedRecord] = []
        alerts: list[Alert] = []
        count = 0
        for entry in ready:
            if isinstance(entry, ObservedRecord) and entry.rejected and self._rejections.exceeds(self._rejected_limit):
                self.is_halted = True
            if self.is_halted:
                break
            if isinstance(entry, ControlRecord):
                message, entry_alerts = self._judge_control_message(entry.message)
                headers = self._headers(entry.record)
                if message is not None:
                    outgoing += self._encode_control_message(message, entry_alerts, headers)
            else:
                entry = self._without_second_verdict(entry)
                entry = replace(entry, outcome=self._ad_breaks.label(entry.outcome))
                entry_alerts = self._judge_observed(entry)
                headers = self._headers(entry.record)
                outgoing += self._encode_observed(entry, entry_alerts, headers)
                judged.append(entry)
            self._gathered.set_headers(headers)
            alerts += entry_alerts
            count += 1
        changed = self._judge_overload(judged)
        if changed:
            outgoing += [*self._alert_records([changed], ()), self._overload_state()]
            alerts.append(changed)
        outgoing += self._gathered.pop_records()
        outgoing += [self._state_record(key, value) for key, value in encode_states(self._judge.drain_changes())]
        if self._rejections != rejections_before:
            outgoing.append(self._state_record(_REJECTIONS_KEY, encode_rejections(self._rejections)))
        if self._outages is not outages_before:
            outgoing.append(self._state_record(_OUTAGES_KEY, encode_outages(self._outages)))
        return JudgedRecords(count=count, records=outgoing, observed=judged, alerts=alerts)

    def _judge_overload(self, judged: Sequence[ObservedRecord]) -> Alert | None:
        """The alert about an overload of the worker when it opens or resolves; its times are of the wall clock."""
        text = self._overload(self._partition)
        if text is None or not judged or bool(text) == (self._overload_alert is not None):
            return None
        newest, topic = judged[-1], self._identity.names.segments
        at, alert = newest.outcome.observed_at, self._overload_alert
        if alert is not None:
            self._overload_alert = None
            return _resolve(alert, at=max(at, alert.opened_at))
        opened = _operator_alert(
            OVERLOADED_RULE,
            f"{topic}/{self._partition}/{OVERLOADED_RULE}",
            newest.record,
            topic=topic,
            severity="page",
            summary=text,
            evidence=AlertEvidence(event_id="", reading="the lag grows", value=1.0, threshold=None),
        )
        self._overload_alert = replace(opened, began_at=at, opened_at=at)
        return self._overload_alert

    def _overload_state(self) -> ProducerRecord:
        alert = self._overload_alert
        return self._state_record(_OVERLOAD_KEY, None if alert is None else encode_open_alert(alert))

    def _judge_control_message(self, message: ControlMessage) -> tuple[ControlMessage | None, Sequence[Alert]]:
        """Return the message to pass on and the alerts that it resolves; an end gets the time of the last segment.

        An end is sent to every partition, and only the one that has the stream passes it on: behind its last segment.
        """
        if isinstance(message, DeployMarker):
            self._judge.add_marker(message)
            return message, ()
        if not self._judge.has_stream(message.stream_id):
            return None, ()
        last_seen_at = self._judge.active_until(message.stream_id, message.rendition)
        at = last_seen_at or message.at
        resolved = self._end_outages(message.stream_id, at=at)
        return replace(message, at=at), [*self._judge.end_stream(message), *resolved]

    def _without_second_verdict(self, observed: ObservedRecord) -> ObservedRecord:
        """Replace the verdict on a segment that has one already: it was announced twice."""
        if observed.rejected is not None or not isinstance(observed.outcome, QualityEvent):
            return observed
        segment, observed_at = observed.outcome.segment, observed.outcome.observed_at
        if not self._judge.has_scored(segment):
            return observed
        failure = failure_from_error(segment, SegmentError(DUPLICATE), observed_at=observed_at)
        # An id of its own: that of the segment belongs to the first announcement.
        input_name = f"duplicate {self._identity.names.segments}/{self._partition}/{observed.record.offset}"
        return replace(observed, outcome=replace(failure, id=sha256(input_name.encode()).hexdigest()[:32]))

    def _judge_observed(self, observed: ObservedRecord) -> Sequence[Alert]:
        open_alert = self._rejections.alert
        if observed.rejected is None:
            self._rejections = self._rejections.after_accepted()
            if open_alert:
                self._rejections = replace(self._rejections, alert=None)
            resolved = [_resolve(open_alert, at=observed.record.at)] if open_alert else []
            return [*resolved, *self._judge_origin(observed), *self._judge.judge(observed.outcome)]
        self._rejections = self._rejections.after_rejected()
        if open_alert or not self._rejections.exceeds(self._rejected_limit):
            return []
        alert = self._halt_alert(observed)
        self._rejections = replace(self._rejections, alert=alert)
        return [alert]

    def _halt_alert(self, observed: ObservedRecord) -> Alert:
        topic, share = self._identity.names.segments, self._rejections.share
        return _operator_alert(
            REJECTED_RULE,
            f"{topic}/{self._partition}/{REJECTED_RULE}",
            observed.record,
            topic=topic,
            severity="page",
            summary=f"{topic} partition {self._partition} is stopped: nearly every record is rejected; "
            f"the latest: {observed.rejected}",
            evidence=AlertEvidence(
                event_id=observed.outcome.id,
                reading=f"{share:.0%} of the latest records rejected",
                value=share,
                threshold=self._rejected_limit,
            ),
        )

    def _judge_origin(self, observed: ObservedRecord) -> Sequence[Alert]:
        """Open an alert with the first segment that an origin was waited for in vain, resolve it when all is served."""
        outcome, stream_id = observed.outcome, observed.outcome.segment.rendition.stream_id
        if not self._outages and not isinstance(outcome, SegmentFailure):
            return ()
        origin = urlsplit(outcome.segment.url).netloc
        outage = self._outages.get(origin)
        if not isinstance(outcome, SegmentFailure) or outcome.stage not in ("source", "fetch"):
            return self._end_outages(stream_id, at=observed.record.at)
        if outcome.reason != "origin_away":
            return ()
        if outage is None:
            alert = self._origin_alert(origin, observed, outcome)
            self._outages = {**self._outages, origin: OriginOutage(alert=alert, streams=(stream_id,))}
            return [alert]
        if stream_id not in outage.streams and len(outage.streams) < _MAX_OUTAGE_STREAMS:
            streams = (*outage.streams, stream_id)
            self._outages = {**self._outages, origin: replace(outage, streams=streams)}
        return ()

    def _end_outages(self, stream_id: str, *, at: datetime) -> Sequence[Alert]:
        """A stream is served again, or has ended; returns the alerts that this resolves."""
        affected = {origin: outage for origin, outage in self._outages.items() if stream_id in outage.streams}
        if not affected:
            return ()
        resolved, outages = [], dict(self._outages)
        for origin, outage in affected.items():
            streams = tuple(stream for stream in outage.streams if stream != stream_id)
            outages[origin] = replace(outage, streams=streams)
            if not streams:
                del outages[origin]
                resolved.append(_resolve(outage.alert, at=at))
        self._outages = outages
        return resolved

    def _origin_alert(self, origin: str, observed: ObservedRecord, failure: SegmentFailure) -> Alert:
        topic = self._identity.names.segments
        stream_id = failure.segment.rendition.stream_id
        return _operator_alert(
            _ORIGIN_RULE,
            f"{topic}/{self._partition}/{_ORIGIN_RULE}/{origin}",
            observed.record,
            topic=topic,
            severity="ticket",
            summary=f"{failure.detail}. Segments of {stream_id} in {topic} partition {self._partition} are unscored "
            "(origin_away) until it serves them; other streams go on",
            evidence=AlertEvidence(event_id=failure.id, reading=failure.reason, value=1.0, threshold=1.0),
        )

    def _encode_observed(
        self, observed: ObservedRecord, alerts: Sequence[Alert], headers: Headers
    ) -> list[ProducerRecord]:  # fmt: skip
        outcome = cloudevents.encode_outcome(observed.outcome, source=self._identity.source)
        published = self._published(observed.record, outcome, headers)
        rejected = [] if observed.rejected is None else [self._rejected_record(observed)]
        return [published, *rejected, *self._alert_records(alerts, headers)]

    def _encode_control_message(
        self, message: ControlMessage, alerts: Sequence[Alert], headers: Headers
    ) -> list[ProducerRecord]:
        """Pass the message on among the outcomes, so that whoever reads them in order can judge as we did."""
        value = encode_control_message(message, source=self._identity.source)
        # The key tells it apart from outcomes, so that a sink that keeps the newest value of each key keeps outcomes.
        topic, key = self._identity.names.quality, control_message_key(message)
        published = self._outgoing(topic, key, value, (*headers, control_message_headers(message)[-1]))
        return [published, *self._alert_records(alerts, headers)]

    def _headers(self, record: Record) -> Headers:
        return (
            ("content-type", STRUCTURED_CONTENT_TYPE),
            (INPUT_HEADER, f"{self._identity.names.segments}/{record.partition}/{record.offset}".encode()),
            *parse_trace_context(record.headers_by_name()).headers(),
        )

    def _alert_records(self, alerts: Sequence[Alert], headers: Headers) -> list[ProducerRecord]:
        topic, source = self._identity.names.alerts, self._identity.source
        return [
            self._outgoing(topic, alert.series.encode(), cloudevents.encode_alert(alert, source=source), headers)
            for alert in alerts
        ]

    def _published(self, record: Record, value: bytes, headers: Headers) -> ProducerRecord:
        return self._outgoing(self._identity.names.quality, _truncate_key(record.key), value, headers)

    def _rejected_record(self, observed: ObservedRecord) -> ProducerRecord:
        record, names = observed.record, self._identity.names
        key, headers = record.key, _headers_within(record.headers, _MAX_HEADERS_BYTES)
        value, max_value_bytes = record.value, self._identity.max_rejected_bytes - _OVERHEAD_BYTES
        reasons = {
            "reason": "too_large" if len(value or b"") > self._identity.max_message_bytes else "message",
            "detail": observed.rejected or "",
            "stage": "source",
            "topic": names.segments,
            "partition": str(record.partition),
            "offset": str(record.offset),
            "timestamp": str(record.timestamp_ms),
            "group": self._identity.group,
            "version": self._identity.version,
            "outcome": observed.outcome.id,
        }
        if value is not None and len(value) > max_value_bytes:
            reasons |= {"cut": str(len(value)), "sha256": sha256(value).hexdigest()}
            value = value[:max_value_bytes]
        if key is not None and len(key) > _MAX_KEY_BYTES:
            reasons["key-cut"] = str(len(key))
        if len(headers) < len(record.headers):
            reasons["headers-cut"] = f"{len(headers)} of {len(record.headers)}"
        added = tuple((f"vqmon-rejected-{name}", text.encode()) for name, text in reasons.items())
        return self._outgoing(names.rejected, _truncate_key(key), value, (*headers, *added))

    def _state_record(self, key: str, value: bytes | None) -> ProducerRecord:
        return self._outgoing(self._identity.names.state, key.encode(), value, ())

    def _outgoing(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> ProducerRecord:
        return ProducerRecord(topic=topic, partition=self._partition, key=key, value=value, headers=headers)


class _GatheredValues:
    """Collects what group rules need of consecutive records; shards are spread over partitions by their names."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        # shard -> its values
        self._values: dict[str, list[MemberValue]] = {}
        # records that are complete, without the headers of the input record that completes them
        self._complete: list[tuple[str, list[MemberValue]]] = []
        self._headers: Headers = ()
        self._records: list[ProducerRecord] = []

    def add(self, shard: str, value: MemberValue) -> None:
        """Add a value of the record that is being judged."""
        self._values.setdefault(shard, []).append(value)
        if value.alert is not None:
            # The alert is published with the headers of its own record.
            self._complete.append((shard, self._values.pop(shard)))

    def set_headers(self, headers: Headers) -> None:
        """The record has been judged; what is published because of it gets these headers."""
        self._headers = headers
        self._records += [self._record(shard, values) for shard, values in self._complete]
        self._complete.clear()

    def pop_records(self) -> list[ProducerRecord]:
        """The records to write to the gathered topic."""
        records = self._records + [self._record(shard, values) for shard, values in self._values.items()]
        self._records, self._values = [], {}
        return records

    def _record(self, shard: str, values: list[MemberValue]) -> ProducerRecord:
        return ProducerRecord(
            topic=self._topic,
            partition=None,
            key=shard.encode(errors="replace"),
            value=encode_member_values(values),
            headers=self._headers,
        )


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


def _truncate_key(key: bytes | None) -> bytes | None:
    """Bound the key; only records that are rejected anyway have a longer one."""
    return key if key is None else key[:_MAX_KEY_BYTES]


def _headers_within(headers: Headers, max_bytes: int) -> Headers:
    """Return the first headers, in order, that have so many bytes together."""
    sizes = accumulate(len(name.encode()) + len(value or b"") for name, value in headers)
    return headers[: sum(size <= max_bytes for size in sizes)]


def _operator_alert(
    rule: str, series: str, record: Record, *, topic: str, severity: Severity, summary: str, evidence: AlertEvidence
) -> Alert:
    """An alert about a partition rather than a stream, opened by one of its records."""
    return Alert(
        id=alert_id(rule, f"{series}/{record.offset}", record.at),
        rule=rule,
        series=series,
        stream_id=topic,
        rendition=f"partition-{record.partition}",
        severity=severity,
        state="open",
        began_at=record.at,
        opened_at=record.at,
        resolved_at=None,
        summary=summary,
        evidence=evidence,
    )


def _resolve(alert: Alert, *, at: datetime) -> Alert:
    return replace(alert, state="resolved", resolved_at=at)


def encode_states(changed: Mapping[StateKey, State | None]) -> Iterator[tuple[str, bytes | None]]:
    """Yield key and value of each changed alert state for a state topic; a value of None deletes the key."""
    for key, state in changed.items():
        yield state_key(key), None if state is None else cloudevents.encode_state(state)


def parse_states(stored: Mapping[str, bytes], *, exclude: Collection[str] = ()) -> dict[StateKey, State]:
    """Parse the alert states of a state topic; raises SettingsError when another version of vqmon wrote them."""
    states = (_parse_state(key, value) for key, value in stored.items() if key not in exclude)
    return {state.key: state for state in states}


def _parse_state(key: str, value: bytes) -> State:
    try:
        return cloudevents.parse_state(value)
    except WireError as error:
        raise SettingsError(
            f"the state {key!r} ({len(value)} bytes) was written by another version of vqmon ({error}); run that "
            'version, empty the state topic, or set kafka.when_unreadable = "go_on" to begin such states anew'
        ) from error


def readable_states(stored: Mapping[str, bytes], *, partition: int) -> Mapping[str, bytes]:
    """The entries of a state topic that can be read; the others are logged, and begin anew."""
    parsers: Mapping[str, Callable[[bytes], object]] = {
        _REJECTIONS_KEY: parse_rejections,
        _OUTAGES_KEY: parse_outages,
        _OVERLOAD_KEY: parse_open_alert,
    }
    readable = {}
    for key, value in stored.items():
        try:
            parsers.get(key, cloudevents.parse_state)(value)
        except WireError as error:
            log.error(**log_event("state.dropped", partition=partition, key=key, size_bytes=len(value), error=error))
        else:
            readable[key] = value
    return readable
