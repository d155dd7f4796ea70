"""The outbox of a history: the alerts that targets still have to be told of, as rows."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from vqmon.core.alerts.notifications import Notice, Said
from vqmon.core.types import Alert
from vqmon.transport.history.inserts import Connection
from vqmon.transport.history.rows import microseconds, moment_of
from vqmon.transport.wire import cloudevents

SELECT_NOTICES = (
    "SELECT o.queued_at, o.changed_at, o.opened, o.told, a.document, a.number"
    " FROM outbox o JOIN alert a ON a.id = o.alert_id WHERE a.number > ? ORDER BY a.number"
)
"""Everything that waits and whose alert was written after a number."""


def enqueue(connection: Connection, alert: Alert, queued_at: datetime) -> None:
    """Let targets be told of an alert that has just been written; what names it stays once somebody was told."""
    now = microseconds(queued_at)
    if alert.state == "open":
        document = cloudevents.encode_alert(alert, source="vqmon:history").decode()
        connection.execute(
            "INSERT INTO outbox VALUES (?, ?, ?, ?, '{}') ON CONFLICT (alert_id) DO UPDATE SET"
            " changed_at = excluded.changed_at,"
            " opened = CASE WHEN outbox.told = '{}' THEN excluded.opened ELSE outbox.opened END",
            (alert.id, now, now, document),
        )
    else:
        # What was not there when it opened, nobody needs to hear the end of.
        connection.execute("UPDATE outbox SET changed_at = ? WHERE alert_id = ?", (now, alert.id))


def notice_of(row: Sequence[Any]) -> Notice:
    """A row of SELECT_NOTICES."""
    queued_at, changed_at, opened, told, document, number = row
    return Notice(
        alert=cloudevents.parse_alert(document),
        opened=cloudevents.parse_alert(opened),
        queued_at=moment_of(queued_at),
        changed_at=moment_of(changed_at),
        told=json.loads(told),
        number=int(number),
    )


def write_told(connection: Connection, told: Mapping[str, Mapping[str, Said] | None]) -> None:
    """What targets were told, by alert; None takes the notice out."""
    known = [(json.dumps(dict(by_target)), alert_id) for alert_id, by_target in told.items() if by_target is not None]
    connection.executemany("UPDATE outbox SET told = ? WHERE alert_id = ?", known)
    gone = [(alert_id,) for alert_id, by_target in told.items() if by_target is None]
    connection.executemany("DELETE FROM outbox WHERE alert_id = ?", gone)
