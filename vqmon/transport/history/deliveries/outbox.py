"""The outbox of a history: alerts that receivers still have to be notified of."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from vqmon.core.alerts.reactions.notifications import NotifiedState, QueuedAlert
from vqmon.core.types import Alert
from vqmon.transport.history.backends.base import Database, Transaction, retry_until_reachable
from vqmon.transport.history.rows import from_microseconds, to_microseconds
from vqmon.transport.wire import cloudevents

_SELECT = (
    "SELECT o.queued_at, o.changed_at, o.opened, o.told, a.document, a.number"
    " FROM outbox o JOIN alert a ON a.id = o.alert_id WHERE a.number > ? ORDER BY a.number"
)


class Outbox:
    """Reads the queued alerts and records what receivers were notified of.

    Reads and writes are idempotent, so both wait up to `retry_timeout_seconds` for a database that is away.
    """

    def __init__(self, database: Database, *, retry_timeout_seconds: float) -> None:
        self._database = database
        self._retry_timeout_seconds = retry_timeout_seconds

    def queued_alerts(self, *, after: int = 0) -> Sequence[QueuedAlert]:
        """Queued alerts that were written after this number, the oldest change first."""
        queued_alerts: list[QueuedAlert] = []
        retry_until_reachable(
            lambda: queued_alerts.extend(_queued_alert_from_row(row) for row in self._database.query(_SELECT, after)),
            timeout_seconds=self._retry_timeout_seconds,
        )
        return queued_alerts

    def record_deliveries(self, deliveries: Mapping[str, Mapping[str, NotifiedState] | None]) -> None:
        """Store, by alert id, the last state that each receiver was notified of; None removes the alert."""
        updated = [
            (json.dumps(dict(states)), alert_id) for alert_id, states in deliveries.items() if states is not None
        ]
        removed = [(alert_id,) for alert_id, states in deliveries.items() if states is None]

        def write() -> None:
            with self._database.transaction() as transaction:
                transaction.executemany("UPDATE outbox SET told = ? WHERE alert_id = ?", updated)
                transaction.executemany("DELETE FROM outbox WHERE alert_id = ?", removed)

        retry_until_reachable(write, timeout_seconds=self._retry_timeout_seconds)


def enqueue(transaction: Transaction, alert: Alert, queued_at: datetime) -> None:
    """Queue an alert that was just written; its opening is fixed once a receiver was notified of it."""
    queued_us = to_microseconds(queued_at)
    if alert.state == "open":
        document = cloudevents.encode_alert(alert, source="vqmon:history").decode()
        transaction.execute(
            "INSERT INTO outbox VALUES (?, ?, ?, ?, '{}') ON CONFLICT (alert_id) DO UPDATE SET"
            " changed_at = excluded.changed_at,"
            " opened = CASE WHEN outbox.told = '{}' THEN excluded.opened ELSE outbox.opened END",
            (alert.id, queued_us, queued_us, document),
        )
    else:
        # An alert that is not queued was never sent, so no receiver needs to hear that it is resolved.
        transaction.execute("UPDATE outbox SET changed_at = ? WHERE alert_id = ?", (queued_us, alert.id))


def _queued_alert_from_row(row: Sequence[Any]) -> QueuedAlert:
    queued_at, changed_at, opened, told, document, number = row
    return QueuedAlert(
        alert=cloudevents.parse_alert(document),
        opened=cloudevents.parse_alert(opened),
        queued_at=from_microseconds(queued_at),
        changed_at=from_microseconds(changed_at),
        notified_states=json.loads(told),
        number=int(number),
    )
