"""The rules over all streams of a fleet: every outcome once more, in one order, held against them by one Judge."""

from collections.abc import Mapping, Sequence

from pipelines.fleet.judging import Looked, Noted, encoded_states, stored_states
from vqmon.core.alerts.annotations import Marker
from vqmon.core.alerts.judge import AlertRule, Judge
from vqmon.core.types import Alert
from vqmon.errors import SettingsError, WireError
from vqmon.transport.kafka.records import ProducerRecord, Record, TopicNames, TransactionBatch
from vqmon.transport.wire import cloudevents
from vqmon.transport.wire.control_messages import is_control_message, parse_control_message

MOST_WAITING = 2000
"""Nothing is looked at here, so many may be judged and written at once."""


async def read_gathered(record: Record) -> Looked | Noted:
    """What a worker put on the gathered topic; raises SettingsError when another version of vqmon wrote it."""
    try:
        if is_control_message(dict(record.headers)):
            return Noted(record=record, note=parse_control_message(record.value or b""))
        return Looked(record=record, outcome=cloudevents.parse_outcome(record.value or b""))
    except WireError as error:
        raise SettingsError(
            f"gathered outcome {record.offset} was written by another version of vqmon ({error}); run that version"
        ) from error


class Gathered:
    """The memory of the rules over all streams; it says alerts alone, as the outcomes are published already."""

    is_halted = False

    def __init__(
        self, names: TopicNames, *, source: str, rules: Sequence[AlertRule], stored: Mapping[str, bytes]
    ) -> None:
        self._names, self._source = names, source
        self._judge = Judge(rules, stored_states(stored))

    def fold(
        self, ready: Sequence[Looked | Noted]
    ) -> tuple[TransactionBatch | None, Sequence[Looked], Sequence[Alert]]:
        """Judge in order: the batch to write, no outcome, and the alerts."""
        if not ready:
            return None, [], []
        records: list[ProducerRecord] = []
        told: list[Alert] = []
        for looked in ready:
            for alert in self._alerts_of(looked):
                told.append(alert)
                records.append(self._told(alert, looked.record))
        records += [
            ProducerRecord(topic=self._names.gathered_state, partition=0, key=key.encode(), value=value)
            for key, value in encoded_states(self._judge.take_changed())
        ]
        return TransactionBatch(records=records, next_offset=ready[-1].record.offset + 1), [], told

    def _alerts_of(self, looked: Looked | Noted) -> Sequence[Alert]:
        if isinstance(looked, Looked):
            return self._judge.judge(looked.outcome)
        if isinstance(looked.note, Marker):
            self._judge.mark(looked.note)
            return ()
        return self._judge.end(looked.note)

    def _told(self, alert: Alert, record: Record) -> ProducerRecord:
        value = cloudevents.encode_alert(alert, source=self._source)
        return ProducerRecord(
            topic=self._names.alerts, partition=0, key=alert.series.encode(), value=value, headers=record.headers
        )
