"""Writes to the history one after the other, and keeps them in order while the history cannot be written."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime

from pipelines.service.history_thread import HistoryThread
from pipelines.service.wiring import utc_now
from vqmon.core.alerts.annotations import StreamEnd
from vqmon.core.alerts.notifications import QueuedAlert
from vqmon.core.alerts.state import State, StateKey
from vqmon.core.timeline import Thumbnails
from vqmon.core.types import Alert, LaneCursor, Outcome
from vqmon.errors import StoreError
from vqmon.flow import NamedTasks
from vqmon.retry import Backoff, Retries
from vqmon.telemetry.health import ProgressTracker
from vqmon.telemetry.logs import log_event
from vqmon.telemetry.metrics import Meters

log = logging.getLogger("vqmon.history")

_BACKOFF = Backoff(first_seconds=0.5, last_seconds=15.0)
_OUTCOME_BYTES = 8_000
"""What an outcome without its thumbnails takes in memory, about."""

_LAST_TRY_SECONDS = 10.0
"""How long a daemon that stops tries to write what waits."""

_LAST_DELAY_SECONDS = 1.0
"""Longest delay between these tries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryWrite:
    """What one transaction writes; see `History.publish`."""

    outcomes: Sequence[Outcome] = ()
    ends: Sequence[StreamEnd] = ()
    alerts: Sequence[Alert] = ()
    states: Mapping[StateKey, State | None] = field(default_factory=dict)
    cursors: Sequence[LaneCursor] = ()
    # by event id
    thumbnails: Mapping[str, Thumbnails] = field(default_factory=dict)
    queued_at: datetime | None = None

    @property
    def size_bytes(self) -> int:
        """Roughly what this takes in memory."""
        pictures = sum(len(picture) for thumbnails in self.thumbnails.values() for _, picture in thumbnails)
        return pictures + _OUTCOME_BYTES * (len(self.outcomes) + len(self.alerts) + 1)


class HistoryWriter:
    """The only writer of a daemon's history.

    A write that fails waits in memory, and every later one behind it, until the history takes them again; meanwhile the
    daemon goes on, is not ready, and its alerts are delivered from here. When more than `max_waiting_bytes` wait, no
    more are accepted until there is room, so that the sources stand still and nothing is lost.
    """

    def __init__(
        self,
        thread: HistoryThread,
        *,
        meters: Meters,
        progress: ProgressTracker,
        max_waiting_bytes: int = 256_000_000,
        backoff: Backoff = _BACKOFF,
    ) -> None:
        self._thread = thread
        self._meters = meters
        self._progress = progress
        self._max_waiting_bytes = max_waiting_bytes
        self._retries = Retries(backoff)
        self._waiting: deque[HistoryWrite] = deque()
        self._waiting_bytes = 0
        self._alerts_on_their_way: list[QueuedAlert] = []
        # one write at a time, in the order of their calls
        self._turn = asyncio.Lock()
        self._has_waiting = asyncio.Event()
        self._has_room = asyncio.Event()
        self._is_closing = asyncio.Event()

    @property
    def is_degraded(self) -> bool:
        """Whether writes wait."""
        return bool(self._waiting)

    @asynccontextmanager
    async def retrying(self) -> AsyncIterator[None]:
        """Write what waits, with increasing delays, while the context lasts; at its end for ten more seconds."""
        async with NamedTasks() as tasks:
            tasks.start("waiting writes", self._write_waiting())
            try:
                yield
            finally:
                self._is_closing.set()
                self._has_waiting.set()
                await tasks.wait_or_cancel(["waiting writes"], within_seconds=_LAST_TRY_SECONDS)
        if self._waiting:
            count = sum(len(write.outcomes) for write in self._waiting)
            log.error(
                **log_event("history.given_up", outcomes=count, remedy="they are observed again at the next start")
            )

    async def write(self, write: HistoryWrite) -> None:
        """Write to the history, or keep the write for later when the history cannot be written."""
        async with self._turn:
            while self._waiting and self._waiting_bytes + write.size_bytes > self._max_waiting_bytes:
                self._has_room.clear()
                await self._has_room.wait()
            if self._waiting:
                self._keep(write)
                return
            try:
                await self._publish(write)
            except StoreError as error:
                self._begin_waiting(error)
                self._keep(write)

    def take_alerts(self) -> Sequence[QueuedAlert]:
        """The alerts of waiting writes that were not taken yet, for delivery without the history."""
        taken, self._alerts_on_their_way = self._alerts_on_their_way, []
        return taken

    async def _publish(self, write: HistoryWrite) -> None:
        started_at = time.perf_counter()
        await self._thread.run(
            lambda: self._thread.history.publish(
                write.outcomes,
                ends=write.ends,
                alerts=write.alerts,
                states=write.states,
                cursors=write.cursors,
                thumbnails=write.thumbnails,
                queued_at=write.queued_at,
            )
        )
        self._meters.record("vqmon.publish.duration", time.perf_counter() - started_at)

    def _keep(self, write: HistoryWrite) -> None:
        self._waiting.append(write)
        self._waiting_bytes += write.size_bytes
        self._set_gauges()
        if write.queued_at is not None:
            self._alerts_on_their_way += [
                QueuedAlert(alert=alert, opened=alert, queued_at=write.queued_at, changed_at=write.queued_at)
                for alert in write.alerts
            ]
        self._has_waiting.set()

    def _begin_waiting(self, error: StoreError) -> None:
        self._progress.problem = f"the history cannot be written: {error}"
        remedy = "free the disk, end the other writer, or restore the file; outcomes wait in memory, alerts are sent"
        log.error(**log_event("history.degraded", error=error, remedy=remedy))

    async def _write_waiting(self) -> None:
        while True:
            await self._has_waiting.wait()
            began_at = utc_now()
            while self._waiting:
                try:
                    await self._publish(self._waiting[0])
                except StoreError as error:
                    self._progress.problem = f"the history cannot be written: {error}"
                    await self._wait_to_retry()
                    await self._reopen()
                else:
                    self._waiting_bytes -= self._waiting.popleft().size_bytes
                    self._retries.reset()
                    self._has_room.set()
                    self._set_gauges()
            if self._progress.problem:
                self._progress.problem = ""
                log.warning(**log_event("history.written_again", seconds=(utc_now() - began_at).total_seconds()))
            if self._is_closing.is_set():
                return
            self._has_waiting.clear()

    async def _wait_to_retry(self) -> None:
        """Wait for the next delay; the end of the daemon cuts it short, so that its last seconds see a try."""
        delay_seconds = self._retries.next_delay_seconds()
        if self._is_closing.is_set():
            await asyncio.sleep(min(delay_seconds, _LAST_DELAY_SECONDS))
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(delay_seconds):
                await self._is_closing.wait()

    async def _reopen(self) -> None:
        """Open the history anew: its file may have been deleted, or replaced by a sound one."""
        try:
            await self._thread.run(self._thread.history.reopen)
        except StoreError as error:
            log.debug("the history cannot be opened: %s", error)

    def _set_gauges(self) -> None:
        self._meters.set("vqmon.history.degraded", int(bool(self._waiting)))
        self._meters.set("vqmon.history.waiting", sum(len(write.outcomes) for write in self._waiting))
