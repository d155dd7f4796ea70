"""Judges the records of one partition in order, and holds its alert states."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from urllib.parse import urlsplit

from pipelines.fleet.judging.encoding import GatheredValues, RecordEncoder
from pipelines.fleet.judging.records import ControlRecord, JudgedRecords, ObservedRecord, ProducerIdentity
from pipelines.fleet.judging.states import OUTAGES_KEY, OVERLOAD_KEY, REJECTIONS_KEY, encode_states, parse_states
from vqmon.core.alerts.annotations import DeployMarker
from vqmon.core.alerts.judge import Judge
from vqmon.core.alerts.media_timeline import DUPLICATE
from vqmon.core.alerts.rules import AlertRule
from vqmon.core.alerts.state import StateRetention
from vqmon.core.types import Alert, AlertEvidence, QualityEvent, SegmentFailure, Severity, alert_id, failure_from_error
from vqmon.errors import SegmentError
from vqmon.telemetry.bottleneck import OVERLOADED_RULE
from vqmon.transport.kafka.records import ProducerRecord, Record
from vqmon.transport.wire.control_messages import ControlMessage
from vqmon.transport.wire.operator_alerts import (
    OriginOutage,
    encode_open_alert,
    encode_outages,
    parse_open_alert,
    parse_outages,
)
from vqmon.transport.wire.segment_messages import encode_rejections, parse_rejections

REJECTED_RULE = "rejected-messages"
_ORIGIN_RULE = "origin-away"
_MAX_OUTAGE_STREAMS = 100
"""So many streams of an origin that is away are waited for before its alert resolves."""


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
        self._encoder = RecordEncoder(partition, identity)
        self._rejected_limit = rejected_limit
        self._gathered = GatheredValues(identity.names.gathered)
        self._overload = overload
        self._overload_alert = parse_open_alert(stored.get(OVERLOAD_KEY))
        states = parse_states(stored, exclude=(REJECTIONS_KEY, OUTAGES_KEY, OVERLOAD_KEY))
        self._judge = Judge(rules, states, gather=self._gathered.add, retention=retention)
        self._outages = parse_outages(stored.get(OUTAGES_KEY))
        self._rejections = parse_rejections(stored.get(REJECTIONS_KEY))
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
                headers = self._encoder.headers(entry.record)
                if message is not None:
                    outgoing += self._encoder.encode_control_message(message, entry_alerts, headers)
            else:
                entry = self._labelled(self._without_second_verdict(entry))
                entry_alerts = self._judge_observed(entry)
                headers = self._encoder.headers(entry.record)
                outgoing += self._encoder.encode_observed(entry, entry_alerts, headers)
                judged.append(entry)
            self._gathered.set_headers(headers)
            alerts += entry_alerts
            count += 1
        changed = self._judge_overload(judged)
        if changed:
            outgoing += [*self._encoder.encode_alerts([changed], ()), self._overload_state()]
            alerts.append(changed)
        outgoing += self._gathered.pop_records()
        outgoing += [
            self._encoder.encode_state(key, value) for key, value in encode_states(self._judge.drain_changes())
        ]
        if self._rejections != rejections_before:
            outgoing.append(self._encoder.encode_state(REJECTIONS_KEY, encode_rejections(self._rejections)))
        if self._outages is not outages_before:
            outgoing.append(self._encoder.encode_state(OUTAGES_KEY, encode_outages(self._outages)))
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
        return self._encoder.encode_state(OVERLOAD_KEY, None if alert is None else encode_open_alert(alert))

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

    def _labelled(self, observed: ObservedRecord) -> ObservedRecord:
        """Label the outcome of a segment in an ad break; nothing is copied for any other."""
        outcome = self._judge.label(observed.outcome)
        return observed if outcome is observed.outcome else replace(observed, outcome=outcome)

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
