"""Thumbnails, alerts, ends and a second stream for the tests of the history."""

from dataclasses import replace
from datetime import timedelta

from tests.factories import START
from tests.transport.wire.test_cloudevents import ALERT
from vqmon.core.alerts.annotations import StreamEnd, stream_end
from vqmon.core.types import Alert, Outcome, Rendition

SPORTS = Rendition(stream_id="sports", name="720p", width=1280, height=720)


def jpegs(event_id: str, count: int = 4) -> dict[str, list[tuple[float, bytes]]]:
    """Thumbnails of an event, one per second."""
    return {event_id: [(float(k), b"\xff\xd8" + bytes([k]) * 100) for k in range(count)]}


def open_alert(event: Outcome, *, name: str = "a", times: tuple[float, ...] = (3.0, 0.0)) -> Alert:
    evidence = replace(ALERT.evidence, event_id=event.id, worst_times_seconds=times)
    return replace(ALERT, id=name * 32, evidence=evidence)


def resolved_alert(alert: Alert) -> Alert:
    return replace(alert, state="resolved", resolved_at=alert.opened_at + timedelta(seconds=40))


def end_after(number: int, stream_id: str = "news-1") -> StreamEnd:
    """The end of a rendition after its first `number` segments."""
    at = START + timedelta(seconds=4 * number)
    return stream_end(stream_id, "1080p", at, announced_at=at)
