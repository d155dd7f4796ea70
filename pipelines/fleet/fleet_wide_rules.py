"""Judges the rules over all streams of a fleet: all outcomes, gathered in one partition, against one Judge."""

from collections.abc import Mapping, Sequence

from pipelines.fleet.judging import ControlRecord, JudgedRecords, ObservedRecord, encode_states, parse_states
from vqmon.core.alerts.annotations import DeployMarker
from vqmon.core.alerts.judge import Judge
from vqmon.core.alerts.rules import AlertRule
from vqmon.core.types import Alert
from vqmon.errors import SettingsError, WireError
from vqmon.transport.kafka.records import ProducerRecord, Record, TopicNames
from vqmon.transport.wire import cloudevents
from vqmon.transport.wire.control_messages import is_control_message, parse_control_message

MAX_WAITING = 2000
"""The most records that are judged and written at once; none of them needs an observation."""


async def parse_gathered_record(record: Record) -> ObservedRecord | ControlRecord:
    """Parse what a worker wrote to the gathered topic; raises SettingsError when another version of vqmon wrote it."""
    try:
        if is_control_message(record.headers_by_name()):
            return ControlRecord(record=record, message=parse_control_message(record.value or b""))
        return ObservedRecord(record=record, outcome=cloudevents.parse_outcome(record.value or b""))
    except WireError as error:
        raise SettingsError(
            f"gathered outcome {record.offset} was written by another version of vqmon ({error}); run that version"
        ) from error


class FleetWideJudge:
    """Holds the alert states of the rules over all streams; writes alerts only, the outcomes are published already."""

    is_halted = False

    def __init__(
        self, names: TopicNames, *, source: str, rules: Sequence[AlertRule], stored: Mapping[str, bytes]
    ) -> None:
        self._names, self._source = names, source
        self._judge = Judge(rules, parse_states(stored))

    def judge_records(self, ready: Sequence[ObservedRecord | ControlRecord]) -> JudgedRecords:
        """Judge records in order: alerts and changed states to write, and no outcome."""
        records: list[ProducerRecord] = []
        alerts: list[Alert] = []
        for entry in ready:
            for alert in self._judge_entry(entry):
                alerts.append(alert)
                records.append(self._encode_alert(alert, entry.record))
        records += [
            ProducerRecord(topic=self._names.gathered_state, partition=0, key=key.encode(), value=value)
            for key, value in encode_states(self._judge.drain_changes())
        ]
        return JudgedRecords(count=len(ready), records=records, alerts=alerts)

    def _judge_entry(self, entry: ObservedRecord | ControlRecord) -> Sequence[Alert]:
        if isinstance(entry, ObservedRecord):
            return self._judge.judge(entry.outcome)
        if isinstance(entry.message, DeployMarker):
            self._judge.add_marker(entry.message)
            return ()
        return self._judge.end_stream(entry.message)

    def _encode_alert(self, alert: Alert, record: Record) -> ProducerRecord:
        value = cloudevents.encode_alert(alert, source=self._source)
        return ProducerRecord(
            topic=self._names.alerts, partition=0, key=alert.series.encode(), value=value, headers=record.headers
        )
