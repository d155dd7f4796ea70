"""Server-sent events: an open page receives new outcomes and alerts as they are written."""

import json
from collections.abc import AsyncIterator

import anyio
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from vqmon.core.timeline import HistoryChanges
from vqmon.errors import StoreError
from vqmon.web.charts.series import alert_data, point_data
from vqmon.web.site import Site, site_of_request
from vqmon.web.urls import parse_count

_MAX_LISTENERS = 100
"""Pages that may listen at the same time, since each polls the history."""

_MAX_CHANGES = 1000
"""A page that missed more changes than this gets one `behind` event and reloads its data."""

_HEARTBEAT_SECONDS = 15.0
_RETRY_MILLISECONDS = 3000


class ListenerCount:
    """The number of open event streams of an application."""

    def __init__(self) -> None:
        self.count = 0


async def live_events(request: Request) -> Response:
    """Answer `/live?stream=&after=`: changes after a write number; the `Last-Event-ID` header overrides `after`."""
    site, listeners = site_of_request(request), request.app.state.listeners
    if listeners.count >= _MAX_LISTENERS:
        raise HTTPException(503, "Too many pages are open.", headers={"Retry-After": "30"})
    requested = parse_count(request.headers.get("last-event-id") or request.query_params.get("after"))
    newest = await site.run_in_thread(site.history.tip)
    # A number above the newest one comes from an earlier history, since deleted.
    after = requested if requested is not None and requested <= newest else newest
    events = _events(site, listeners, after=after, stream_id=request.query_params.get("stream") or None)
    return StreamingResponse(events, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def _events(site: Site, listeners: ListenerCount, *, after: int, stream_id: str | None) -> AsyncIterator[str]:
    listeners.count += 1
    try:
        yield f"retry: {_RETRY_MILLISECONDS}\n: connected\n\n"
        silent_seconds = 0.0
        while not site.is_stopping():
            changes = await site.run_in_thread(_changes_after, site, after)
            if not changes.is_complete:
                # Skip to the newest write: the page reloads its data anyway.
                after, silent_seconds = await site.run_in_thread(site.history.tip), 0.0
                yield _event("behind", after, {})
            elif changes.tip != after:
                after, silent_seconds = changes.tip, 0.0
                for event in _events_of_changes(changes, stream_id):
                    yield event
            elif silent_seconds >= _HEARTBEAT_SECONDS:
                silent_seconds = 0.0
                yield ": heartbeat\n\n"
            silent_seconds += site.poll_seconds
            await anyio.sleep(site.poll_seconds)
    except StoreError:
        # The browser reconnects by itself, and gets 503 until the history can be read again.
        return
    finally:
        listeners.count -= 1


def _changes_after(site: Site, after: int) -> HistoryChanges:
    return site.history.changes_since(after, limit=_MAX_CHANGES)


def _events_of_changes(changes: HistoryChanges, stream_id: str | None) -> list[str]:
    """The events for a page: outcomes of its stream, or of all if it has none, and all alerts."""
    points = [point_data(point) for point in changes.points if stream_id in (None, point.stream_id)]
    alerts = [alert_data(alert) for alert in changes.alerts]
    batches = (("outcomes", points), ("alerts", alerts))
    return [_event(name, changes.tip, items) for name, items in batches if items]


def _event(name: str, number: int, data: object) -> str:
    return f"event: {name}\nid: {number}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"
