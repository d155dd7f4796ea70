"""Server-sent events: an open page receives new outcomes and alerts as they are written."""

import json
import math
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial

import anyio
import anyio.to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from vqmon.core.timeline import HistoryChanges
from vqmon.errors import StoreError
from vqmon.web.charts.series import alert_data, point_data
from vqmon.web.site import Site, site_of_request
from vqmon.web.urls import parse_count

_MAX_CHANGES = 1000
"""A page that missed more changes than this gets one `behind` event and reloads its data."""

_HEARTBEAT_SECONDS = 15.0
_RETRY_MILLISECONDS = 3000


class Listeners:
    """The open event streams of an application: at most `total`, of one client `per_client`; they share their queries.

    A client is known by its address; those whose proxy states none have no limit of their own. One query answers
    all streams that are at the same number.
    """

    def __init__(self, *, total: int, per_client: int) -> None:
        self._total = total
        self._per_client = per_client
        self._count_of_client: Counter[str] = Counter()
        self._lock = anyio.Lock()
        # apart from the threads of the pages, so that neither waits for the other
        self._thread_limiter = anyio.CapacityLimiter(1)
        self._read_at = -math.inf
        self._read_after = -1
        self._changes: HistoryChanges | None = None

    @property
    def count(self) -> int:
        """How many streams are open."""
        return self._count_of_client.total()

    def add(self, client: str) -> None:
        """Count a stream of a client; raises 503 or 429 when there are too many."""
        if self.count >= self._total:
            raise HTTPException(503, "Too many pages are open.", headers={"Retry-After": "30"})
        if client and self._count_of_client[client] >= self._per_client:
            text = f"Your address has {self._per_client} pages open; close some of them."
            raise HTTPException(429, text, headers={"Retry-After": "30"})
        self._count_of_client[client] += 1

    def remove(self, client: str) -> None:
        """Count a stream of a client no longer."""
        self._count_of_client[client] -= 1
        if not self._count_of_client[client]:
            del self._count_of_client[client]

    async def changes_after(self, site: Site, number: int) -> HistoryChanges:
        """The changes after a write number, as of half a poll ago at most; raises StoreError."""
        newest_allowed = anyio.current_time() - site.poll_seconds / 2
        async with self._lock:
            if self._changes is None or self._read_after != number or self._read_at < newest_allowed:
                read_at = anyio.current_time()
                query = partial(site.history.changes_since, number, limit=_MAX_CHANGES)
                self._changes = await anyio.to_thread.run_sync(query, limiter=self._thread_limiter)
                self._read_at, self._read_after = read_at, number
            return self._changes


class _LiveResponse(StreamingResponse):
    """An event stream that is counted until it ends, also when its client leaves before the first event."""

    def __init__(self, events: AsyncIterator[str], *, listeners: Listeners, client: str) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        self._listeners = listeners
        self._client = client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._listeners.remove(self._client)


async def live_events(request: Request) -> Response:
    """Answer `/live?stream=&after=`: changes after a write number; the `Last-Event-ID` header overrides `after`."""
    site, listeners = site_of_request(request), request.app.state.listeners
    client = request.client.host if request.client else ""
    listeners.add(client)
    try:
        requested = parse_count(request.headers.get("last-event-id") or request.query_params.get("after"))
        newest = await site.run_in_thread(site.history.tip)
    except BaseException:
        listeners.remove(client)
        raise
    # A number above the newest one comes from an earlier history, since deleted.
    after = requested if requested is not None and requested <= newest else newest
    events = _events(site, listeners, after=after, stream_id=request.query_params.get("stream") or None)
    return _LiveResponse(events, listeners=listeners, client=client)


async def _events(site: Site, listeners: Listeners, *, after: int, stream_id: str | None) -> AsyncIterator[str]:
    try:
        yield f"retry: {_RETRY_MILLISECONDS}\n: connected\n\n"
        silent_seconds = 0.0
        while not site.is_stopping():
            changes = await listeners.changes_after(site, after)
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


def _events_of_changes(changes: HistoryChanges, stream_id: str | None) -> list[str]:
    """The events for a page: outcomes of its stream, or of all if it has none, and all alerts."""
    points = [point_data(point) for point in changes.points if stream_id in (None, point.stream_id)]
    alerts = [alert_data(alert) for alert in changes.alerts]
    batches = (("outcomes", points), ("alerts", alerts))
    return [_event(name, changes.tip, items) for name, items in batches if items]


def _event(name: str, number: int, data: object) -> str:
    return f"event: {name}\nid: {number}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"
