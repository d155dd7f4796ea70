"""Judges the group rules of a fleet: a partition of the gathered topic holds whole groups, whatever their streams."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipelines.fleet.judging.records import JudgedRecords, ProducerIdentity
from pipelines.fleet.judging.states import encode_states, parse_states
from vqmon.core.alerts.regression.groups.detector import GroupJudge, MemberValue
from vqmon.core.alerts.rules import AlertRule
from vqmon.core.types import Alert
from vqmon.errors import SettingsError, WireError
from vqmon.transport.kafka.records import ProducerRecord, Record
from vqmon.transport.wire import cloudevents
from vqmon.transport.wire.member_values import parse_member_values

MAX_WAITING = 2000
"""The most records that are judged and written at once; none of them needs an observation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatheredRecord:
    """A record of the gathered topic, and the values in it."""

    record: Record
    values: Sequence[MemberValue]


async def parse_gathered_record(record: Record) -> GatheredRecord:
    """Parse what a worker wrote to the gathered topic; raises SettingsError when another version of vqmon wrote it."""
    try:
        return GatheredRecord(record=record, values=parse_member_values(record.value or b""))
    except WireError as error:
        raise SettingsError(
            f"record {record.offset} of partition {record.partition} of the gathered topic was written by another "
            f'version of vqmon ({error}); run that version, or set kafka.when_unreadable = "go_on" to leave it out'
        ) from error


class GroupPartitionJudge:
    """Judges the groups in one partition; writes their alerts, and those of series that groups may mute."""

    is_halted = False

    def __init__(
        self, partition: int, identity: ProducerIdentity, *, rules: Sequence[AlertRule], stored: Mapping[str, bytes]
    ) -> None:
        """`stored` is the partition's state topic."""
        self._partition, self._identity = partition, identity
        self._judge = GroupJudge(rules, parse_states(stored))

    def judge_records(self, ready: Sequence[GatheredRecord]) -> JudgedRecords:
        """Judge records in order: alerts and changed states to write, and no outcome."""
        names = self._identity.names
        records: list[ProducerRecord] = []
        alerts: list[Alert] = []
        for entry in ready:
            for alert in self._judge.judge(entry.values):
                alerts.append(alert)
                records.append(self._encode_alert(alert, entry.record))
        records += [
            ProducerRecord(topic=names.gathered_state, partition=self._partition, key=key.encode(), value=value)
            for key, value in encode_states(self._judge.drain_changes())
        ]
        return JudgedRecords(count=len(ready), records=records, alerts=alerts)

    def _encode_alert(self, alert: Alert, record: Record) -> ProducerRecord:
        return ProducerRecord(
            topic=self._identity.names.alerts,
            partition=self._partition,
            key=alert.series.encode(),
            value=cloudevents.encode_alert(alert, source=self._identity.source),
            headers=record.headers,
        )
