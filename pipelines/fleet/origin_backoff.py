"""Waits for origins that are away, for a bounded time and in no other stream's way, and for memory to hold media."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf
from typing import NamedTuple
from urllib.parse import urlsplit

from pipelines.observe.addresses import Fetch
from pipelines.observe.observer import Observation
from vqmon.core.types import Segment, SegmentFailure, failure_from_error
from vqmon.errors import FetchError, ScoreError, SegmentError
from vqmon.flow import parked
from vqmon.retry import Backoff, Retries
from vqmon.telemetry.health import ProgressTracker
from vqmon.telemetry.logs import log_event

log = logging.getLogger("vqmon.fleet")

_SILENT_REASONS = {"unreachable", "timeout", "too_slow"}
"""The reasons of fetch failures for which the origin has not answered."""

_ORIGIN_FAULTS = {*_SILENT_REASONS, "http_status"}
"""The reasons of fetch failures that may be the origin's fault and not the segment's."""

_FAILURES_UNTIL_AWAY = 3
"""A stream is away after so many different segments failed in a row, an origin after so many of its streams did."""

_BACKOFF = Backoff(first_seconds=0.2, last_seconds=5.0)

_MAX_ATTEMPT_SECONDS = 100.0
"""Less than the watchdog allows, and more than all stages of an observation take at their limits."""

_MAX_IDLE_ORIGINS, _MAX_IDLE_STREAMS = 1000, 10_000
"""How many of them are remembered, beyond those that are away or at work."""


class OriginBackoff:
    """Observes segments behind circuit breakers: one per origin, and one per stream of an origin.

    While an origin, or an origin's stream, is away its segments wait, until `away_seconds` after its first failure;
    those that come later are given up at once, as `origin_away`. Meanwhile it is probed with one segment at a time.
    What has not served its last segment gets only a part of the slots. What waits is parked and has no slot.
    """

    def __init__(
        self,
        observe: Callable[[Segment], Awaitable[Observation]],
        *,
        slots: int,
        progress: ProgressTracker,
        now: Callable[[], float],
        retry_seconds: float,
        away_seconds: float,
        probe_seconds: float = _BACKOFF.last_seconds,
        turn: Callable[[Segment], AbstractAsyncContextManager[Segment | SegmentFailure]] = nullcontext,
        on_change: Callable[[int], None] = lambda away_count: None,
    ) -> None:
        """At most `slots` segments are observed at a time; each is retried for `retry_seconds` while its origin is up.

        `now` is a monotonic clock in seconds; `on_change` gets the number of origins that are away, wholly or for one
        of their streams, whenever it may have changed. A segment is observed in its `turn`, the wait for which is no
        part of the attempt; a failure that it gives is the outcome.
        """
        self._observe = observe
        self._turn = turn
        self._running = asyncio.Semaphore(slots)
        self._slots = slots
        self._progress = progress
        self._now = now
        self._retry_seconds = retry_seconds
        self._away_seconds = away_seconds
        self._probe_seconds = probe_seconds
        self._on_change = on_change
        self._origins: dict[str, _Origin] = {}

    async def observe(self, segment: Segment) -> Observation:
        """Observe a segment as soon as its origin serves it; a failure is returned only after the retries."""
        # Host and port only: the origin is logged, and a name and password may precede the host.
        name = urlsplit(segment.url).netloc.rpartition("@")[2]
        breakers = self._origin(name).breakers(segment.rendition.stream_id)
        began_at, retries, probe_delay = self._now(), Retries(_BACKOFF), 0.0
        failure: SegmentFailure | None = None
        failed_at = inf
        while True:
            ends_at = began_at + self._retry_seconds + self._away_seconds
            if not await self._wait_for_turn(breakers, ends_at=ends_at, probe_delay=probe_delay):
                return self._give_up(segment, name, breakers, failure)
            observation = await self._try_once(segment, breakers)
            failure = _origin_fault(observation)
            self._record(name, segment, is_failure=failure is not None)
            if failure is None:
                return observation
            failed_at = min(failed_at, self._now())
            if any(breaker.is_away for breaker in breakers):
                # The next probe goes to another segment: this one may be the only one that is bad.
                probe_delay = self._probe_seconds / 5
            elif self._now() - began_at < self._retry_seconds:
                with parked():
                    await asyncio.sleep(retries.next_delay_seconds())
            elif failure.reason in _SILENT_REASONS and breakers.stream.failed_at <= failed_at:
                return self._give_up(segment, name, breakers, failure)
            else:
                return observation

    def _origin(self, name: str) -> "_Origin":
        if name not in self._origins:
            if len(self._origins) >= _MAX_IDLE_ORIGINS:
                self._origins = {name: origin for name, origin in self._origins.items() if origin.is_busy}
            self._origins[name] = _Origin(_CircuitBreaker(max_attempts=max(1, self._slots // 2)))
        return self._origins[name]

    async def _wait_for_turn(self, breakers: "_Breakers", *, ends_at: float, probe_delay: float) -> bool:
        """Wait until an attempt may be made, and count it; False when the segment is to be given up instead."""
        while True:
            now = self._now()
            away = [breaker for breaker in breakers if breaker.is_away]
            probe_at = max((breaker.probe_at + probe_delay for breaker in away), default=now)
            crowded = [breaker for breaker in breakers if breaker.is_crowded]
            if probe_at <= now and not crowded:
                for breaker in breakers:
                    breaker.attempts += 1
                    breaker.probe_at = now + self._probe_seconds
                return True
            give_up_at = min([ends_at, *(breaker.failed_at + self._away_seconds for breaker in away)])
            if give_up_at <= now:
                return False
            until = give_up_at if crowded else min(probe_at, give_up_at)
            with parked():
                await (crowded or away)[0].wait_for_change(until - now)

    async def _try_once(self, segment: Segment, breakers: "_Breakers") -> Observation:
        try:
            async with self._running, self._turn(segment) as allowed:
                if isinstance(allowed, SegmentFailure):
                    return Observation(outcome=allowed)
                ticket = self._progress.begin()
                try:
                    async with asyncio.timeout(_MAX_ATTEMPT_SECONDS):
                        return await self._observe(segment)
                finally:
                    self._progress.end(ticket)
        except TimeoutError:
            return _failure(segment, ScoreError("timeout", f"not observed in {_MAX_ATTEMPT_SECONDS:g} s"))
        finally:
            for breaker in breakers:
                breaker.attempts -= 1
                breaker.notify()

    def _give_up(
        self, segment: Segment, name: str, breakers: "_Breakers", failure: SegmentFailure | None
    ) -> Observation:
        failed_at = breakers.origin.failed_at if breakers.origin.is_away else breakers.stream.failed_at
        seconds = self._now() - failed_at if failed_at else self._retry_seconds + self._away_seconds
        what = "no segment" if breakers.origin.is_away else "no segment of this stream"
        last = f"; {failure.detail}" if failure else ""
        return _failure(
            segment,
            FetchError("origin_away", f"{name or 'the file system'} has served {what} for {seconds:.0f} s{last}"),
        )

    def _record(self, name: str, segment: Segment, *, is_failure: bool) -> None:
        """Note the result of an attempt; log and report when an origin or a stream goes away or comes back."""
        origin, stream_id = self._origin(name), segment.rendition.stream_id
        breakers = origin.breakers(stream_id)
        were_away = [breaker.is_away for breaker in breakers]
        if is_failure:
            origin.record_failure(stream_id, segment.key, now=self._now())
        else:
            origin.record_success(stream_id)
        changed = [breaker.is_away != was_away for breaker, was_away in zip(breakers, were_away, strict=True)]
        if any(changed):
            event = "origin.closed" if is_failure else "origin.open"
            log.warning(**log_event(event, origin=name, **({} if changed[0] else {"stream": stream_id})))
            self._on_change(sum(origin.is_away for origin in self._origins.values()))


class _CircuitBreaker:
    """Whether one origin, or one stream of it, serves segments."""

    def __init__(self, *, max_attempts: int) -> None:
        # the most attempts at a time while the last one has not succeeded
        self._max_attempts = max_attempts
        self.attempts = 0
        # whether it has served the last segment that it was asked for
        self.is_proven = False
        self.is_away = False
        # since its last success: the segments that failed, and when the first did (0 = none)
        self.failed_keys: set[str] = set()
        self.failed_at = 0.0
        self.probe_at = 0.0
        self._changed = asyncio.Event()

    @property
    def is_crowded(self) -> bool:
        """Whether no more attempt may be made now."""
        return not self.is_proven and self.attempts >= self._max_attempts

    def notify(self) -> None:
        """Wake those who wait for a change."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_for_change(self, seconds: float) -> None:
        """Return at the next change, or after so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return

    def record_success(self) -> None:
        """It serves segments."""
        self.is_proven = True
        self.is_away = False
        self.failed_keys.clear()
        self.failed_at = 0.0

    def record_failure(self, segment_key: str, *, now: float) -> None:
        """It did not serve this segment."""
        self.is_proven = False
        self.failed_at = self.failed_at or now
        if len(self.failed_keys) < _FAILURES_UNTIL_AWAY:
            self.failed_keys.add(segment_key)


class _Breakers(NamedTuple):
    """Those that a segment must pass."""

    origin: _CircuitBreaker
    stream: _CircuitBreaker


@dataclass(slots=True)
class _Origin:
    """The breaker of an origin and those of its streams."""

    breaker: _CircuitBreaker
    streams: dict[str, _CircuitBreaker] = field(default_factory=dict)
    # those with a failure since the last success of any
    failed_streams: set[str] = field(default_factory=set)

    def breakers(self, stream_id: str) -> _Breakers:
        """The breakers for a segment of this stream."""
        stream = self.streams.get(stream_id)
        if stream is None:
            if len(self.streams) >= _MAX_IDLE_STREAMS:
                self.streams = {
                    key: breaker for key, breaker in self.streams.items() if breaker.is_away or breaker.attempts
                }
            stream = self.streams[stream_id] = _CircuitBreaker(max_attempts=1)
        return _Breakers(self.breaker, stream)

    @property
    def is_away(self) -> bool:
        return self.breaker.is_away or any(breaker.is_away for breaker in self.streams.values())

    @property
    def is_busy(self) -> bool:
        return self.is_away or self.breaker.attempts > 0

    def record_success(self, stream_id: str) -> None:
        """A segment of the stream was served."""
        self.failed_streams.clear()
        for breaker in self.breakers(stream_id):
            breaker.record_success()

    def record_failure(self, stream_id: str, segment_key: str, *, now: float) -> None:
        """A segment of the stream was not served: the stream may be away now, or the whole origin."""
        breakers = self.breakers(stream_id)
        for breaker in breakers:
            breaker.record_failure(segment_key, now=now)
        self.failed_streams.add(stream_id)
        if len(breakers.stream.failed_keys) >= _FAILURES_UNTIL_AWAY:
            breakers.stream.is_away = True
        streams_until_away = min(_FAILURES_UNTIL_AWAY, len(self.streams))
        if len(self.breaker.failed_keys) >= _FAILURES_UNTIL_AWAY and len(self.failed_streams) >= streams_until_away:
            self.breaker.is_away = True


class MediaMemoryLimit:
    """Bounds the bytes that are fetched and not yet decoded: above the limit, fetches wait."""

    def __init__(self, fetch: Fetch, *, max_bytes: int) -> None:
        self._fetch = fetch
        self._max_bytes = max_bytes
        # by rendition and sequence, as a segment may be fetched from several addresses, and its reference with it
        self._held_bytes: dict[tuple[str, int], int] = {}
        self._released = asyncio.Event()

    async def fetch(self, segment: Segment) -> bytes:
        """Fetch as soon as less than the limit is held; the bytes count until `release`.

        A segment that holds bytes already does not wait: it would wait for itself.
        """
        key = _memory_key(segment)
        while key not in self._held_bytes and sum(self._held_bytes.values()) >= self._max_bytes:
            self._released.clear()
            await self._released.wait()
        media = await self._fetch(segment)
        self._held_bytes[key] = self._held_bytes.get(key, 0) + len(media)
        return media

    def release(self, segment: Segment) -> None:
        """Stop counting the bytes of a segment, which has been observed."""
        self._held_bytes.pop(_memory_key(segment), None)
        self._released.set()


def _memory_key(segment: Segment) -> tuple[str, int]:
    return segment.rendition.key, segment.sequence


def _origin_fault(observation: Observation) -> SegmentFailure | None:
    """The failure of an observation when it may be the origin's fault, else None."""
    outcome = observation.outcome
    if isinstance(outcome, SegmentFailure) and outcome.stage == "fetch" and outcome.reason in _ORIGIN_FAULTS:
        return outcome
    return None


def _failure(segment: Segment, error: SegmentError) -> Observation:
    failure = failure_from_error(segment.without_secrets(), error, observed_at=datetime.now(UTC))
    return Observation(outcome=failure)
