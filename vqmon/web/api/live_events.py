"""Server-sent events: an open page is told what was written, as it is written."""

import json
from collections.abc import AsyncIterator

import anyio
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from vqmon.core.timeline import HistoryChanges
from vqmon.errors import StoreError
from vqmon.web.addresses import count_of
from vqmon.web.charts.series import live_point, mark_of
from vqmon.web.site import Site, site_of

MAX_LISTENERS = 100
MAX_CHANGES = 1000
"""What a page missed beyond this is not told one by one: it is told to ask for everything again."""

HEARTBEAT_SECONDS = 15.0
RETRY_MILLISECONDS = 3000


class Listeners:
    """How many pages listen; a bound, since each asks the history once in a while."""

    def __init__(self) -> None:
        self.count = 0


async def live(request: Request) -> Response:
    """Answer `/live?stream=&after=`; `Last-Event-ID` wins over `after`."""
    site, listeners = site_of(request), request.app.state.listeners
    if listeners.count >= MAX_LISTENERS:
        raise HTTPException(503, "Too many pages are open.", headers={"Retry-After": "30"})
    told = request.headers.get("last-event-id") or request.query_params.get("after") or ""
    newest = await site.ask(site.history.tip)
    # A number from before the history was made anew is no place to go on from.
    number = count_of(told)
    after = number if number is not None and number <= newest else newest
    events = _events(site, listeners, after, request.query_params.get("stream") or None)
    return StreamingResponse(events, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def _events(site: Site, listeners: Listeners, after: int, stream_id: str | None) -> AsyncIterator[str]:
    listeners.count += 1
    try:
        yield f"retry: {RETRY_MILLISECONDS}\n: connected\n\n"
        silent_seconds = 0.0
        while not site.is_stopping():
            changes = await site.ask(_changes, site, after)
            if not changes.is_complete:
                # Drop to the latest: the page asks for everything anyway.
                after, silent_seconds = await site.ask(site.history.tip), 0.0
                yield _event("behind", after, {})
            elif changes.tip != after:
                after, silent_seconds = changes.tip, 0.0
                for event in _told(changes, stream_id):
                    yield event
            elif silent_seconds >= HEARTBEAT_SECONDS:
                silent_seconds = 0.0
                yield ": still here\n\n"
            silent_seconds += site.poll_seconds
            await anyio.sleep(site.poll_seconds)
    except StoreError:
        # The page comes back by itself, and is answered 503 until the history can be read again.
        return
    finally:
        listeners.count -= 1


def _changes(site: Site, after: int) -> HistoryChanges:
    return site.history.changes_since(after, limit=MAX_CHANGES)


def _told(changes: HistoryChanges, stream_id: str | None) -> list[str]:
    """The events that a page about this stream, or about all, wants to hear."""
    points = [live_point(point) for point in changes.points if stream_id in (None, point.stream_id)]
    alerts = [mark_of(alert) for alert in changes.alerts]
    named = (("outcomes", points), ("alerts", alerts))
    return [_event(name, changes.tip, items) for name, items in named if items]


def _event(name: str, number: int, content: object) -> str:
    return f"event: {name}\nid: {number}\ndata: {json.dumps(content, separators=(',', ':'))}\n\n"
