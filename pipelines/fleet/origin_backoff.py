"""Waits instead of giving up: for an origin that is down, and for room for fetched media."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from pipelines.observe.observer import Fetch, Observation
from vqmon.core.types import Segment, SegmentFailure
from vqmon.flow import Backoff, Retries
from vqmon.telemetry.health import ProgressTracker
from vqmon.telemetry.logs import log_event

log = logging.getLogger("vqmon.fleet")

TROUBLE = {"unreachable", "timeout", "too_slow", "http_status"}
"""What may be the origin's fault and not the segment's."""

CLOSING_SEGMENTS = 3
"""So many different segments without a good one between them, and the origin counts as down."""

BACKOFF = Backoff(first_seconds=0.2, last_seconds=5.0)


class Origins:
    """Observes segments; those of an origin that is down wait until it is back, and are not declared unscored.

    A closed origin is probed with one segment at a time, each time with another one. What waits holds no place.
    """

    def __init__(
        self,
        observe: Callable[[Segment], Awaitable[Observation]],
        *,
        places: asyncio.Semaphore,
        progress: ProgressTracker,
        now: Callable[[], float],
        patience_seconds: float,
        probe_seconds: float = BACKOFF.last_seconds,
        closed: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._observe = observe
        self._places = places
        self._progress = progress
        self._now = now
        self._patience_seconds = patience_seconds
        self._probe_seconds = probe_seconds
        self._closed = closed
        self._origins: dict[str, _Origin] = {}

    async def observe(self, segment: Segment) -> Observation:
        """The observation of a segment, as soon as its origin lets us."""
        # Without a name and password that may stand before the host: it is logged.
        name = urlsplit(segment.url).netloc.rpartition("@")[2]
        origin = self._origins.setdefault(name, _Origin())
        began, retries = self._now(), Retries(BACKOFF)
        while True:
            await origin.turn(self._probe_seconds)
            seen = await self._look(segment)
            if not _is_trouble(seen):
                self._told(name, origin, has_turned=origin.good())
                return seen
            self._told(name, origin, has_turned=origin.bad(segment.key))
            if origin.is_closed:
                continue
            if self._now() - began >= self._patience_seconds:
                return seen
            await asyncio.sleep(retries.next_delay_seconds())

    async def _look(self, segment: Segment) -> Observation:
        async with self._places:
            ticket = self._progress.begin()
            try:
                return await self._observe(segment)
            finally:
                self._progress.end(ticket)

    def _told(self, name: str, origin: "_Origin", *, has_turned: bool) -> None:
        if not has_turned:
            return
        log.warning(**log_event("origin.closed" if origin.is_closed else "origin.open", origin=name))
        self._closed(sum(one.is_closed for one in self._origins.values()))


class _Origin:
    """One host: which different segments failed since the last good one."""

    def __init__(self) -> None:
        self._failed: set[str] = set()
        self._open = asyncio.Event()
        self._open.set()
        self._probing = asyncio.Lock()

    @property
    def is_closed(self) -> bool:
        return not self._open.is_set()

    async def turn(self, probe_seconds: float) -> None:
        """Return at once while open; else when it opens, or as the next probe."""
        if not self.is_closed:
            return
        async with self._probing:
            try:
                async with asyncio.timeout(probe_seconds):
                    await self._open.wait()
            except TimeoutError:
                return

    def good(self) -> bool:
        """It gave something: open again; True when it was closed."""
        self._failed.clear()
        was_closed = self.is_closed
        self._open.set()
        return was_closed

    def bad(self, segment_key: str) -> bool:
        """It failed with this segment; True when that closed it."""
        self._failed.add(segment_key)
        if self.is_closed or len(self._failed) < CLOSING_SEGMENTS:
            return False
        self._open.clear()
        return True


class MediaRoom:
    """Bounds the bytes that are fetched and not yet decoded: a fetch waits while there is no room."""

    def __init__(self, fetch: Fetch, *, max_bytes: int) -> None:
        self._fetch = fetch
        self._max_bytes = max_bytes
        self._held: dict[int, int] = {}
        self._freed = asyncio.Event()

    async def fetch(self, segment: Segment) -> bytes:
        """Fetch as soon as there is room; what was fetched counts until `release`."""
        while sum(self._held.values()) >= self._max_bytes:
            self._freed.clear()
            await self._freed.wait()
        media = await self._fetch(segment)
        self._held[id(segment)] = len(media)
        return media

    def release(self, segment: Segment) -> None:
        """The segment was looked at; its bytes are gone."""
        self._held.pop(id(segment), None)
        self._freed.set()


def _is_trouble(seen: Observation) -> bool:
    outcome = seen.outcome
    return isinstance(outcome, SegmentFailure) and outcome.stage == "fetch" and outcome.reason in TROUBLE
