"""One input record becomes one outcome or a note, and a run of them becomes one batch to write."""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256

from pipelines.observe.observer import Observation
from vqmon.core.alerts.annotations import End, Marker
from vqmon.core.alerts.judge import AlertRule, Judge, State, over_all_streams
from vqmon.core.types import Alert, AlertEvidence, Outcome, Rendition, Segment, alert_id, failure_from_error
from vqmon.errors import SegmentError, SettingsError, WireError
from vqmon.transport.kafka.records import Headers, ProducerRecord, Record, TopicNames, TransactionBatch
from vqmon.transport.wire import cloudevents
from vqmon.transport.wire.control_messages import (
    ControlMessage,
    control_message_headers,
    encode_control_message,
    is_control_message,
    parse_control_message,
)
from vqmon.transport.wire.segment_messages import (
    STRUCTURED_CONTENT_TYPE,
    encode_rejections,
    parse_rejections,
    parse_segment,
    parse_trace_context,
)

REJECTED_RULE = "rejected-messages"
REJECTIONS_KEY = "rejections"
"""Its state key; those of the rules have a bar in them."""

MAX_STREAM_ID = 200
MAX_KEY_BYTES = 4000
MAX_HEADERS_BYTES = 16_000
SLACK_BYTES = 32_000
"""For the key, the headers as they came, and ours, in a record of the rejected topic."""

Observe = Callable[[Segment], Awaitable[Observation]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What came of one input record."""

    record: Record
    outcome: Outcome
    # why the record is no segment message, None when it is one
    rejected: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """A record that is an end or a deploy marker: it is judged and passed on in its place, and is no outcome."""

    record: Record
    note: ControlMessage


@dataclass(frozen=True, slots=True, kw_only=True)
class Speaker:
    """Who speaks where: what every record that leaves us needs to know."""

    names: TopicNames
    source: str
    group: str
    version: str
    max_message_bytes: int
    # the largest record that the rejected topic takes
    max_rejected_bytes: int


async def look_at(record: Record, observe: Observe, speaker: Speaker, *, now: Callable[[], datetime]) -> Looked | Noted:
    """Observe the segment that a record announces, or read the note that it is.

    A record that is neither is rejected, with an outcome too.
    """
    try:
        if len(record.value or b"") > speaker.max_message_bytes:
            raise WireError(f"the record is larger than {speaker.max_message_bytes} bytes")
        if record.value and is_control_message(dict(record.headers)):
            return Noted(record=record, note=_note_in(record.key, record.value))
        segment = parse_segment(record.key, record.value, dict(record.headers))
    except WireError as error:
        return Looked(record=record, outcome=_unreadable(record, str(error), speaker, now()), rejected=str(error))
    return Looked(record=record, outcome=(await observe(segment)).outcome)


class Verdicts:
    """The memory of one partition, and what it makes of outcomes; worth nothing once a batch did not get through.

    Rules over all streams are not judged here: what they need goes to the gathered topic.
    """

    def __init__(
        self, partition: int, speaker: Speaker, *, rules: Sequence[AlertRule], stored: Mapping[str, bytes], limit: float
    ) -> None:
        self._partition = partition
        self._speaker = speaker
        self._limit = limit
        elsewhere = over_all_streams(rules)
        here = [rule for rule in rules if rule not in elsewhere]
        self._gathered = speaker.names.gathered if elsewhere else None
        self._judge = Judge(here, stored_states(stored, but=REJECTIONS_KEY))
        self._rejections = parse_rejections(stored.get(REJECTIONS_KEY))
        self.is_halted = False

    def fold(
        self, ready: Sequence[Looked | Noted]
    ) -> tuple[TransactionBatch | None, Sequence[Looked], Sequence[Alert]]:
        """Judge looked-at records in order: the batch to write, which outcomes are in it, and the alerts.

        Sets `is_halted` when so much is rejected that nothing more may be drained away; what follows is not taken.
        """
        before = self._rejections
        records: list[ProducerRecord] = []
        taken: list[Looked] = []
        told: list[Alert] = []
        last: Record | None = None
        for looked in ready:
            if self.is_halted:
                break
            if isinstance(looked, Noted):
                note, alerts = self._judge_note(looked.note)
                records += self._passed_on(looked.record, note, alerts)
                last = looked.record
                told += alerts
                continue
            if looked.rejected and self._rejections.exceeds(self._limit):
                self.is_halted = True
            if self.is_halted:
                break
            alerts = self._judge_one(looked)
            records += self._outgoing(looked, alerts)
            taken.append(looked)
            last = looked.record
            told += alerts
        if last is None:
            return None, [], []
        records += [self._state_record(key, value) for key, value in encoded_states(self._judge.take_changed())]
        if self._rejections != before:
            records.append(self._state_record(REJECTIONS_KEY, encode_rejections(self._rejections)))
        return TransactionBatch(records=records, next_offset=last.offset + 1), taken, told

    def _judge_note(self, note: ControlMessage) -> tuple[ControlMessage, Sequence[Alert]]:
        """The alerts that it closes, and the note as it is passed on: an end is dated by what was seen here."""
        if isinstance(note, Marker):
            self._judge.mark(note)
            return note, ()
        until = self._judge.until(note.stream_id, note.rendition)
        return replace(note, at=until or note.at), self._judge.end(note)

    def _judge_one(self, looked: Looked) -> list[Alert]:
        was = self._rejections.alert
        if looked.rejected is None:
            self._rejections = replace(self._rejections.after_accepted(), alert=None)
            return [*([_ended(was, looked)] if was else []), *self._judge.judge(looked.outcome)]
        self._rejections = self._rejections.after_rejected()
        if was or not self._rejections.exceeds(self._limit):
            return []
        alert = self._halt_alert(looked)
        self._rejections = replace(self._rejections, alert=alert)
        return [alert]

    def _halt_alert(self, looked: Looked) -> Alert:
        topic, at = self._speaker.names.segments, looked.record.at
        series = f"{topic}/{self._partition}/{REJECTED_RULE}"
        share = self._rejections.share
        return Alert(
            id=alert_id(REJECTED_RULE, f"{series}/{looked.record.offset}", at),
            rule=REJECTED_RULE,
            series=series,
            stream_id=topic,
            rendition=f"partition-{self._partition}",
            severity="page",
            state="open",
            began_at=at,
            opened_at=at,
            resolved_at=None,
            summary=f"{topic} partition {self._partition} is stopped: nearly every record is rejected; "
            f"the latest: {looked.rejected}",
            evidence=AlertEvidence(
                event_id=looked.outcome.id,
                reading=f"{share:.0%} of the latest records rejected",
                value=share,
                threshold=self._limit,
            ),
        )

    def _outgoing(self, looked: Looked, alerts: Sequence[Alert]) -> list[ProducerRecord]:
        headers = self._headers(looked.record)
        outcome = cloudevents.encode_outcome(looked.outcome, source=self._speaker.source)
        published = self._published(looked.record, outcome, headers)
        beside = self._gathered_too(published) if looked.rejected is None else [self._rejected_record(looked)]
        return [published, *beside, *self._alert_records(alerts, headers)]

    def _passed_on(self, record: Record, note: ControlMessage, alerts: Sequence[Alert]) -> list[ProducerRecord]:
        """So that who reads the outcomes in order can judge as we did."""
        headers = self._headers(record)
        value = encode_control_message(note, source=self._speaker.source)
        passed = self._published(record, value, (*headers, control_message_headers(note)[-1]))
        return [passed, *self._gathered_too(passed), *self._alert_records(alerts, headers)]

    def _headers(self, record: Record) -> Headers:
        return (
            ("content-type", STRUCTURED_CONTENT_TYPE),
            ("vqmon-input", f"{self._speaker.names.segments}/{record.partition}/{record.offset}".encode()),
            *parse_trace_context(dict(record.headers)).headers(),
        )

    def _alert_records(self, alerts: Sequence[Alert], headers: Headers) -> list[ProducerRecord]:
        topic, source = self._speaker.names.alerts, self._speaker.source
        return [
            self._to(topic, alert.series.encode(), cloudevents.encode_alert(alert, source=source), headers)
            for alert in alerts
        ]

    def _published(self, record: Record, value: bytes, headers: Headers) -> ProducerRecord:
        return self._to(self._speaker.names.quality, _short(record.key), value, headers)

    def _gathered_too(self, published: ProducerRecord) -> list[ProducerRecord]:
        """The same once more where rules over all streams see it."""
        return [] if self._gathered is None else [replace(published, topic=self._gathered, partition=0)]

    def _rejected_record(self, looked: Looked) -> ProducerRecord:
        record, names = looked.record, self._speaker.names
        key, headers = _short(record.key), record.headers
        if sum(len(name) + len(value) for name, value in headers) > MAX_HEADERS_BYTES:
            headers = ()
        value, room = record.value, self._speaker.max_rejected_bytes - SLACK_BYTES
        facts = {
            "reason": "too_large" if len(value or b"") > self._speaker.max_message_bytes else "message",
            "detail": looked.rejected or "",
            "stage": "source",
            "topic": names.segments,
            "partition": str(record.partition),
            "offset": str(record.offset),
            "timestamp": str(record.timestamp_ms),
            "group": self._speaker.group,
            "version": self._speaker.version,
            "outcome": looked.outcome.id,
        }
        if value is not None and len(value) > room:
            facts |= {"cut": str(len(value)), "sha256": sha256(value).hexdigest()}
            value = value[:room]
        ours = tuple((f"vqmon-rejected-{name}", text.encode()) for name, text in facts.items())
        return self._to(names.rejected, key, value, (*headers, *ours))

    def _state_record(self, key: str, value: bytes | None) -> ProducerRecord:
        return self._to(self._speaker.names.state, key.encode(), value, ())

    def _to(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> ProducerRecord:
        if key is None and value is None:
            # The client refuses a record of nothing at all.
            value = b""
        return ProducerRecord(topic=topic, partition=self._partition, key=key, value=value, headers=headers)


def _note_in(key: bytes | None, value: bytes) -> ControlMessage:
    """The note in a record; an end lies where the segments of its stream lie."""
    note = parse_control_message(value)
    if isinstance(note, End) and key != note.stream_id.encode():
        raise WireError("the record's key must be the stream id")
    return note


def _unreadable(record: Record, why: str, speaker: Speaker, observed_at: datetime) -> Outcome:
    """The outcome of a record that announces no segment; it stands for the record."""
    stream_id = (record.key or b"").decode("utf-8", "replace")[:MAX_STREAM_ID] or "unknown"
    segment = Segment(
        rendition=Rendition(stream_id=stream_id, name="rejected"),
        sequence=record.offset,
        url=f"kafka://{speaker.names.segments}/{record.partition}/{record.offset}",
        starts_at=record.at,
    )
    reason = "too_large" if len(record.value or b"") > speaker.max_message_bytes else "message"
    return failure_from_error(segment, SegmentError(reason, why), observed_at=observed_at)


def _short(key: bytes | None) -> bytes | None:
    """Only a record that is rejected anyway has a longer key."""
    return key if key is None else key[:MAX_KEY_BYTES]


def _ended(alert: Alert, looked: Looked) -> Alert:
    return replace(alert, state="resolved", resolved_at=looked.record.at)


def encoded_states(changed: Mapping[str, State | None]) -> Iterator[tuple[str, bytes | None]]:
    """What is remembered differently, as the state topics keep it; None = forget it."""
    for key, state in changed.items():
        yield key, None if state is None else cloudevents.encode_state(state)


def stored_states(stored: Mapping[str, bytes], *, but: str = "") -> dict[str, State]:
    """What a state topic holds; raises SettingsError when another version wrote it."""
    return {key: _stored_state(key, value) for key, value in stored.items() if key != but}


def _stored_state(key: str, value: bytes) -> State:
    try:
        return cloudevents.parse_state(value)
    except WireError as error:
        raise SettingsError(
            f"the state {key!r} was written by another version of vqmon ({error}); "
            "run that version, or empty the state topic"
        ) from error
