"""The records that are written for an input record: its outcome, alerts, rejection, states and gathered values."""

from collections.abc import Sequence
from hashlib import sha256
from itertools import accumulate

from pipelines.fleet.judging.records import ObservedRecord, ProducerIdentity
from vqmon.core.alerts.regression.groups.detector import MemberValue
from vqmon.core.types import Alert
from vqmon.transport.kafka.records import INPUT_HEADER, Headers, ProducerRecord, Record
from vqmon.transport.wire import cloudevents
from vqmon.transport.wire.control_messages import (
    ControlMessage,
    control_message_headers,
    control_message_key,
    encode_control_message,
)
from vqmon.transport.wire.member_values import encode_member_values
from vqmon.transport.wire.segment_messages import STRUCTURED_CONTENT_TYPE, parse_trace_context

_MAX_KEY_BYTES = 4000
_MAX_HEADERS_BYTES = 16_000
_OVERHEAD_BYTES = 32_000
"""Reserved in a record of the rejected topic for the key, the original headers and our own."""


class RecordEncoder:
    """Encodes what one partition writes to the topics of its fleet."""

    def __init__(self, partition: int, identity: ProducerIdentity) -> None:
        self._partition = partition
        self._identity = identity

    def encode_observed(
        self, observed: ObservedRecord, alerts: Sequence[Alert], headers: Headers
    ) -> list[ProducerRecord]:
        """The outcome, the copy of a rejected record, and the alerts."""
        outcome = cloudevents.encode_outcome(observed.outcome, source=self._identity.source)
        published = self._published(observed.record, outcome, headers)
        rejected = [] if observed.rejected is None else [self._rejected_record(observed)]
        return [published, *rejected, *self.encode_alerts(alerts, headers)]

    def encode_control_message(
        self, message: ControlMessage, alerts: Sequence[Alert], headers: Headers
    ) -> list[ProducerRecord]:
        """Pass the message on with the place of its input record, so that a reader of outcomes can judge as we did."""
        value = encode_control_message(message, source=self._identity.source)
        topic, key = self._identity.names.control, control_message_key(message)
        published = self._outgoing(topic, key, value, (*headers, control_message_headers(message)[-1]))
        return [published, *self.encode_alerts(alerts, headers)]

    def headers(self, record: Record) -> Headers:
        """The headers of what is published because of this input record: where it is, and its trace."""
        return (
            ("content-type", STRUCTURED_CONTENT_TYPE),
            (INPUT_HEADER, f"{self._identity.names.segments}/{record.partition}/{record.offset}".encode()),
            *parse_trace_context(record.headers_by_name()).headers(),
        )

    def encode_alerts(self, alerts: Sequence[Alert], headers: Headers) -> list[ProducerRecord]:
        """One record of the alerts topic for each, with its series as key."""
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

    def encode_state(self, key: str, value: bytes | None) -> ProducerRecord:
        """A record of the state topic; a value of None deletes the key."""
        return self._outgoing(self._identity.names.state, key.encode(), value, ())

    def _outgoing(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> ProducerRecord:
        return ProducerRecord(topic=topic, partition=self._partition, key=key, value=value, headers=headers)


class GatheredValues:
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


def _truncate_key(key: bytes | None) -> bytes | None:
    """Bound the key; only records that are rejected anyway have a longer one."""
    return key if key is None else key[:_MAX_KEY_BYTES]


def _headers_within(headers: Headers, max_bytes: int) -> Headers:
    """Return the first headers, in order, that have so many bytes together."""
    sizes = accumulate(len(name.encode()) + len(value or b"") for name, value in headers)
    return headers[: sum(size <= max_bytes for size in sizes)]
