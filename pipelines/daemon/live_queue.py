"""The segments of one rendition that wait to be observed; those that a live playlist has lost meanwhile are passed."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from vqmon.core.types import Segment, SegmentFailure, failure_from_error
from vqmon.errors import SegmentError

_MAX_WAITING = 64
"""Segments of a playlist that loses none are not taken ahead of time by more than this."""

_MAX_WAITING_LIVE = 1000
"""Nor are those of a live playlist by more than this, as while the history takes nothing."""

_BACKLOG_SECONDS = 1.0
"""What is announced so soon after the first segment was there at the start: a backlog, not the live edge."""


class RenditionSource(Protocol):
    """The segments of one rendition, in order, and failures in place of those that cannot be had."""

    @property
    def name(self) -> str: ...
    @property
    def oldest_available(self) -> int | None: ...
    def __aiter__(self) -> AsyncIterator[Segment | SegmentFailure]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    item: Segment | SegmentFailure
    # by the clock that nobody sets
    announced_at: float
    is_backlog: bool


class LiveQueue:
    """Takes segments from a source as they are announced, and gives them on in order as places become free.

    When the oldest that waits cannot be fetched any more, because it has left its live playlist, all that wait but the
    newest are given on as failures with the reason `overloaded`: so the live edge is observed, and everything is
    accounted for. `on_passed` is called for each. Segments that are not lost wait.
    """

    def __init__(
        self,
        source: RenditionSource,
        *,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        stop: asyncio.Event,
        on_passed: Callable[[], object] = lambda: None,
    ) -> None:
        self._source = source
        self._now = now
        self._monotonic = monotonic
        self._stop = stop
        self._on_passed = on_passed
        self._waiting: deque[_Waiting] = deque()
        # given on, and not begun
        self._given: dict[int, _Waiting] = {}
        self._is_complete = False
        self._changed = asyncio.Event()

    @property
    def count(self) -> int:
        """How many segments wait."""
        return len(self._waiting) + len(self._given)

    @property
    def _max_waiting(self) -> int:
        return _MAX_WAITING if self._source.oldest_available is None else _MAX_WAITING_LIVE

    @property
    def oldest_seconds(self) -> float:
        """For how long the oldest segment of the live edge has waited; 0 when none waits."""
        entries = (*self._given.values(), *self._waiting)
        now = self._monotonic()
        return now - min((entry.announced_at for entry in entries if not entry.is_backlog), default=now)

    async def fill(self) -> None:
        """Take what the source announces until it has ended."""
        began_at: float | None = None
        async for item in self._source:
            now = self._monotonic()
            began_at = now if began_at is None else began_at
            is_backlog = isinstance(item, SegmentFailure) or now - began_at < _BACKLOG_SECONDS
            self._waiting.append(_Waiting(item=item, announced_at=now, is_backlog=is_backlog))
            self._changed.set()
            while len(self._waiting) >= self._max_waiting:
                if self._stop.is_set():
                    return
                await self._wait_for_change()
        self._is_complete = True
        self._changed.set()

    async def __aiter__(self) -> AsyncIterator[Segment | SegmentFailure]:
        while not self._stop.is_set():
            self._pass_lost()
            if self._waiting:
                entry = self._waiting.popleft()
                self._given[id(entry.item)] = entry
                self._changed.set()
                yield entry.item
            elif self._is_complete:
                return
            else:
                await self._wait_for_change()
        # `fill` may wait for a place
        self._changed.set()

    def begin(self, item: Segment | SegmentFailure) -> Segment | SegmentFailure:
        """The item that was given on, as it is to be observed now: the failure when it was lost since."""
        self._given.pop(id(item), None)
        return self._passed(item) if self._is_lost(item) else item

    async def _wait_for_change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _is_lost(self, item: Segment | SegmentFailure) -> bool:
        oldest = self._source.oldest_available
        return isinstance(item, Segment) and oldest is not None and item.sequence < oldest

    def _pass_lost(self) -> None:
        # sequences rise: when the first is not lost, none is
        if not self._waiting or not self._is_lost(self._waiting[0].item):
            return
        newest = next(entry for entry in reversed(self._waiting) if isinstance(entry.item, Segment))
        self._waiting = deque(
            replace(entry, item=self._passed(entry.item)) if entry is not newest or self._is_lost(entry.item) else entry
            for entry in self._waiting
        )

    def _passed(self, item: Segment | SegmentFailure) -> SegmentFailure:
        if isinstance(item, SegmentFailure):
            return item
        self._on_passed()
        return failure_from_error(item.without_secrets(), SegmentError("overloaded"), observed_at=self._now())
