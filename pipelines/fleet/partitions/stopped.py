"""A partition that stops alone: the alert about it, and which record's outcome a topic does not take."""

from dataclasses import replace
from datetime import UTC, datetime

from vqmon.core.types import Alert, AlertEvidence, alert_id
from vqmon.errors import RecordTooLargeError

STOPPED_KEY = "stopped"
"""The key of the open alert about a stopped partition in the state topic; the keys of rules contain a `|`."""

_STOPPED_RULE = "partition-stopped"


def stopped_alert(topic: str, partition: int, offset: int, problem: str) -> Alert:
    """The alert that a partition is stopped; `problem` says where, why and what to do."""
    at, series = datetime.now(UTC), f"{topic}/{partition}/{_STOPPED_RULE}"
    return Alert(
        id=alert_id(_STOPPED_RULE, f"{series}/{offset}", at),
        rule=_STOPPED_RULE,
        series=series,
        stream_id=topic,
        rendition=f"partition-{partition}",
        severity="page",
        state="open",
        began_at=at,
        opened_at=at,
        resolved_at=None,
        summary=problem,
        evidence=AlertEvidence(event_id="", reading="partition stopped", value=float(offset), threshold=None),
    )


def resolved_alert(alert: Alert) -> Alert:
    """The alert, resolved now."""
    return replace(alert, state="resolved", resolved_at=datetime.now(UTC))


def refused_offset(error: RecordTooLargeError, *, topic: str, partition: int) -> int | None:
    """The offset of the input record whose outcome was too large; None when it is not one of this partition."""
    written_topic, _, position = error.written_for.partition("/")
    written_partition, _, offset = position.partition("/")
    return int(offset) if (written_topic, written_partition) == (topic, str(partition)) else None
