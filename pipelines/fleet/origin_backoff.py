"""Waits instead of giving up: for an origin that is down, and for memory to hold fetched media."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from pipelines.observe.addresses import Fetch
from pipelines.observe.observer import Observation
from vqmon.core.types import Segment, SegmentFailure
from vqmon.retry import Backoff, Retries
from vqmon.telemetry.health import ProgressTracker
from vqmon.telemetry.logs import log_event

log = logging.getLogger("vqmon.fleet")

_ORIGIN_FAULTS = {"unreachable", "timeout", "too_slow", "http_status"}
"""The reasons of fetch failures that may be the origin's fault and not the segment's."""

_FAILED_SEGMENTS_UNTIL_DOWN = 3
"""After so many different failed segments without a fetched one between them, the origin counts as down."""

_BACKOFF = Backoff(first_seconds=0.2, last_seconds=5.0)


class OriginBackoff:
    """Observes segments behind a circuit breaker per origin: segments of an origin that is down wait until it is back.

    Such an origin is probed with one segment at a time, a different one each time. A segment that waits occupies no
    slot of `running`.
    """

    def __init__(
        self,
        observe: Callable[[Segment], Awaitable[Observation]],
        *,
        running: asyncio.Semaphore,
        progress: ProgressTracker,
        now: Callable[[], float],
        retry_seconds: float,
        probe_seconds: float = _BACKOFF.last_seconds,
        on_change: Callable[[int], None] = lambda down_count: None,
    ) -> None:
        """Each segment is retried for `retry_seconds` while its origin is up.

        `now` is a monotonic clock in seconds; `on_change` gets the number of origins that are down whenever it changes.
        """
        self._observe = observe
        self._running = running
        self._progress = progress
        self._now = now
        self._retry_seconds = retry_seconds
        self._probe_seconds = probe_seconds
        self._on_change = on_change
        self._breakers: dict[str, _CircuitBreaker] = {}

    async def observe(self, segment: Segment) -> Observation:
        """Observe a segment once its origin is up; an origin's failure is returned only after the retries."""
        # Host and port only: the origin is logged, and a name and password may precede the host.
        origin = urlsplit(segment.url).netloc.rpartition("@")[2]
        breaker = self._breakers.setdefault(origin, _CircuitBreaker())
        started_at, retries = self._now(), Retries(_BACKOFF)
        while True:
            await breaker.wait_for_turn(self._probe_seconds)
            observation = await self._try_once(segment)
            if not _is_origin_fault(observation):
                if breaker.record_success():
                    self._report(origin, breaker)
                return observation
            if breaker.record_failure(segment.key):
                self._report(origin, breaker)
            if breaker.is_down:
                continue
            if self._now() - started_at >= self._retry_seconds:
                return observation
            await asyncio.sleep(retries.next_delay_seconds())

    async def _try_once(self, segment: Segment) -> Observation:
        async with self._running:
            ticket = self._progress.begin()
            try:
                return await self._observe(segment)
            finally:
                self._progress.end(ticket)

    def _report(self, origin: str, breaker: "_CircuitBreaker") -> None:
        log.warning(**log_event("origin.closed" if breaker.is_down else "origin.open", origin=origin))
        self._on_change(sum(each.is_down for each in self._breakers.values()))


class _CircuitBreaker:
    """Whether one origin is down, from the segments that failed since the last one that was fetched."""

    def __init__(self) -> None:
        self._failed_keys: set[str] = set()
        self._up = asyncio.Event()
        self._up.set()
        self._probing = asyncio.Lock()

    @property
    def is_down(self) -> bool:
        return not self._up.is_set()

    async def wait_for_turn(self, probe_seconds: float) -> None:
        """Return at once while the origin is up; else when it is up again, or when it is time for the next probe."""
        if not self.is_down:
            return
        async with self._probing:
            try:
                async with asyncio.timeout(probe_seconds):
                    await self._up.wait()
            except TimeoutError:
                return

    def record_success(self) -> bool:
        """Mark the origin as up; True when it was down."""
        self._failed_keys.clear()
        was_down = self.is_down
        self._up.set()
        return was_down

    def record_failure(self, segment_key: str) -> bool:
        """Count a failed segment; True when that marks the origin as down."""
        self._failed_keys.add(segment_key)
        if self.is_down or len(self._failed_keys) < _FAILED_SEGMENTS_UNTIL_DOWN:
            return False
        self._up.clear()
        return True


class MediaMemoryLimit:
    """Bounds the bytes that are fetched and not yet decoded: above the limit, fetches wait."""

    def __init__(self, fetch: Fetch, *, max_bytes: int) -> None:
        self._fetch = fetch
        self._max_bytes = max_bytes
        self._held_bytes: dict[int, int] = {}
        self._released = asyncio.Event()

    async def fetch(self, segment: Segment) -> bytes:
        """Fetch as soon as less than the limit is held; the bytes count until `release`."""
        while sum(self._held_bytes.values()) >= self._max_bytes:
            self._released.clear()
            await self._released.wait()
        media = await self._fetch(segment)
        self._held_bytes[id(segment)] = len(media)
        return media

    def release(self, segment: Segment) -> None:
        """Stop counting the bytes of a segment, which has been observed."""
        self._held_bytes.pop(id(segment), None)
        self._released.set()


def _is_origin_fault(observation: Observation) -> bool:
    outcome = observation.outcome
    return isinstance(outcome, SegmentFailure) and outcome.stage == "fetch" and outcome.reason in _ORIGIN_FAULTS
