"""Writes to the history one after the other, and keeps them in order while it cannot be opened or written."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from itertools import count

from pipelines.daemon.judge_again import StoredProgress, read_progress
from pipelines.service.history_thread import HistoryThread
from pipelines.service.wiring import utc_now
from vqmon.core.alerts.reactions.notifications import QueuedAlert
from vqmon.errors import StoreError
from vqmon.flow import NamedTasks
from vqmon.retry import Backoff, Retries
from vqmon.telemetry.health import ProgressTracker
from vqmon.telemetry.logs import log_event
from vqmon.telemetry.metrics import Meters
from vqmon.transport.recovery.spool import HistoryWrite, Spool

log = logging.getLogger("vqmon.history")

_BACKOFF = Backoff(first_seconds=0.5, last_seconds=15.0)
_LAST_TRY_SECONDS = 10.0
"""How long a daemon that stops tries to write what waits."""

_LAST_DELAY_SECONDS = 1.0
"""Longest delay between these tries."""


JudgeAgain = Callable[[Sequence[HistoryWrite], StoredProgress], Sequence[HistoryWrite]]
"""Returns one write for each, judged with the stored progress; whoever judges from then on goes on from there."""


def _no_judge(writes: Sequence[HistoryWrite], progress: StoredProgress) -> Sequence[HistoryWrite]:
    return [replace(write, is_provisional=False) for write in writes]


class HistoryWriter:
    """The only writer of a daemon's history.

    A write that fails waits in memory and in the spool, and every later one behind it, until the history takes them
    again; meanwhile the daemon goes on, is not ready, and its alerts are delivered from here. When more than
    `max_waiting_bytes` wait, no more are accepted until there is room, so that the sources stand still and nothing is
    lost. `unwritten`, which is what the spool holds of an earlier run, is written first.

    A history that could not be opened at the start is the same, but for what it holds: outcomes are judged without it,
    `is_provisional`, and by `judge_again` when it opens, with the progress of `stream_ids`, before they are written.
    """

    def __init__(
        self,
        thread: HistoryThread,
        *,
        meters: Meters,
        progress: ProgressTracker,
        max_waiting_bytes: int = 256_000_000,
        backoff: Backoff = _BACKOFF,
        spool: Spool | None = None,
        unwritten: Sequence[HistoryWrite] = (),
        stream_ids: Sequence[str] = (),
        judge_again: JudgeAgain = _no_judge,
    ) -> None:
        self._thread = thread
        self._stream_ids = stream_ids
        self._judge_again = judge_again
        self._is_provisional = not thread.is_open
        # writes that wait for their turn, in its order
        self._entering: dict[int, HistoryWrite] = {}
        self._numbers = count()
        self._meters = meters
        self._progress = progress
        self._max_waiting_bytes = max_waiting_bytes
        self._retries = Retries(backoff)
        self._spool = spool
        # held while the waiting writes and the spool change together
        self._spool_lock = asyncio.Lock()
        self._waiting: deque[HistoryWrite] = deque(unwritten)
        self._waiting_bytes = sum(write.size_bytes for write in unwritten)
        # how many of the waiting writes are in the spool, from the first on
        self._spooled = len(unwritten)
        self._spool_error = ""
        self._alerts_on_their_way = [queued for write in unwritten for queued in _queued_alerts(write)]
        # one write at a time, in the order of their calls
        self._turn = asyncio.Lock()
        self._has_waiting = asyncio.Event()
        self._has_room = asyncio.Event()
        self._is_closing = asyncio.Event()
        self._report_beginning()

    @property
    def is_degraded(self) -> bool:
        """Whether writes wait, or the history could not be opened yet."""
        return bool(self._waiting) or self._is_provisional

    @property
    def is_provisional(self) -> bool:
        """Whether what is written now is judged without what the history holds."""
        return self._is_provisional

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
        self._report_left()

    async def write(self, write: HistoryWrite) -> None:
        """Write to the history, or keep the write for later when the history cannot be written."""
        number = next(self._numbers)
        self._entering[number] = replace(write, is_provisional=self._is_provisional)
        try:
            async with self._turn:
                await self._write_in_turn(number)
        finally:
            self._entering.pop(number, None)

    async def _write_in_turn(self, number: int) -> None:
        while self._waiting and self._waiting_bytes + self._entering[number].size_bytes > self._max_waiting_bytes:
            self._has_room.clear()
            await self._has_room.wait()
        if self.is_degraded:
            await self._keep(number)
            return
        try:
            await self._publish(self._entering[number])
        except StoreError as error:
            self._report_degraded(error)
            await self._keep(number)

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

    async def _keep(self, number: int) -> None:
        async with self._spool_lock:
            # only now, as it may have been judged again meanwhile
            write = self._entering.pop(number)
            self._waiting.append(write)
            self._waiting_bytes += write.size_bytes
            await self._spool_waiting()
        self._set_gauges()
        self._alerts_on_their_way += _queued_alerts(write)
        self._has_waiting.set()

    async def _spool_waiting(self) -> None:
        """Write to the spool what waits and is not there: all of it in order, or it would be of no use."""
        if self._spool is None:
            return
        try:
            while self._spooled < len(self._waiting):
                await asyncio.to_thread(self._spool.append, self._waiting[self._spooled])
                self._spooled += 1
        except StoreError as error:
            if not self._spool_error:
                remedy = "set daemon.state_folder to another disk; what waits is in memory alone, and lost in a kill"
                log.error(**log_event("history.spool_failed", error=error, remedy=remedy))
            self._spool_error = str(error)
        else:
            self._spool_error = ""

    async def _remove_first(self) -> None:
        """The history has the first of the waiting writes; after the last one the spool goes before any other write."""
        async with self._spool_lock:
            if len(self._waiting) == 1 and self._spool is not None:
                try:
                    await asyncio.to_thread(self._spool.clear)
                except StoreError as error:
                    log.error(**log_event("history.spool_failed", error=error, remedy="remove the file"))
                self._spooled = 0
            self._waiting_bytes -= self._waiting.popleft().size_bytes
            self._spooled = max(0, self._spooled - 1)

    def _report_left(self) -> None:
        count = sum(len(write.outcomes) for write in self._waiting)
        unspooled = sum(len(write.outcomes) for write in list(self._waiting)[self._spooled :])
        if self._spool is not None and count > unspooled:
            remedy = "they are written at the next start"
            log.warning(
                **log_event("history.spooled", file=self._spool.path, outcomes=count - unspooled, remedy=remedy)
            )
        if unspooled:
            remedy = "they are observed again at the next start"
            log.error(**log_event("history.given_up", outcomes=unspooled, remedy=remedy))
        if self._spool is not None:
            self._spool.close()

    def _report_degraded(self, error: StoreError) -> None:
        self._progress.problem = self._problem(error)
        remedy = "free the disk, end the other writer, or restore the file; outcomes wait, alerts are sent"
        log.error(**log_event("history.degraded", error=error, remedy=remedy))

    def _report_beginning(self) -> None:
        """Say what waits from the beginning on; the problem of an earlier writer, before a reload, is over."""
        self._progress.problem = ""
        if self._waiting:
            count = len(self._waiting)
            self._progress.problem = f"{count} writes of an earlier run are not in the history yet"
            self._has_waiting.set()
            log.warning(**log_event("history.spool_found", file=self._spool and self._spool.path, writes=count))
        if self._is_provisional:
            self._report_unopened()
        self._set_gauges()

    def _report_unopened(self) -> None:
        self._progress.problem = f"the history cannot be opened: {self._thread.problem}"
        remedy = "outcomes wait, alerts are sent; they are judged without what the history holds until it opens"
        log.error(**log_event("history.unopened", error=self._thread.problem, remedy=remedy))
        self._has_waiting.set()

    def _problem(self, error: StoreError) -> str:
        spool = f"; nor can the spool: {self._spool_error}" if self._spool_error else ""
        return f"the history cannot be {'opened' if self._is_provisional else 'written'}: {error}{spool}"

    async def _write_waiting(self) -> None:
        while True:
            await self._has_waiting.wait()
            began_at = utc_now()
            while self.is_degraded:
                if self._is_closing.is_set() and not self._waiting:
                    return
                try:
                    await self._write_first()
                except StoreError as error:
                    async with self._spool_lock:
                        await self._spool_waiting()
                    self._progress.problem = self._problem(error)
                    await self._wait_to_retry()
                    await self._reopen()
                else:
                    self._retries.reset()
                    self._has_room.set()
                    self._set_gauges()
            if self._progress.problem:
                self._progress.problem = ""
                log.warning(**log_event("history.written_again", seconds=(utc_now() - began_at).total_seconds()))
            if self._is_closing.is_set():
                return
            self._has_waiting.clear()

    async def _write_first(self) -> None:
        """Write the first of the writes that wait, once the history is open."""
        if self._is_provisional:
            await self._take_up()
        if not self._waiting:
            return
        await self._publish(self._waiting[0])
        if self._spooled and len(self._waiting) == 1:
            # a power failure may take the last transactions of SQLite, and the spool goes now
            await self._thread.run(self._thread.history.maintenance.checkpoint)
        await self._remove_first()

    async def _take_up(self) -> None:
        """Open the history that could not be opened, and judge everything that waits with what it holds."""
        await self._thread.run(self._thread.open)
        known = [*self._waiting, *self._entering.values()]
        progress = await self._thread.run(lambda: read_progress(self._thread.history, self._stream_ids, known))
        # nothing is awaited from here on, so that no write is judged by two judges
        entering, waiting = list(self._entering), len(self._waiting)
        writes = self._judge_again([*self._waiting, *self._entering.values()], progress)
        self._waiting = deque(writes[:waiting])
        self._waiting_bytes = sum(write.size_bytes for write in self._waiting)
        self._entering = dict(zip(entering, writes[waiting:], strict=True))
        self._is_provisional = False
        log.warning(**log_event("history.opened", judged_again=sum(len(write.outcomes) for write in writes)))

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
        self._meters.set("vqmon.history.degraded", int(self.is_degraded))
        self._meters.set("vqmon.history.waiting", sum(len(write.outcomes) for write in self._waiting))
        self._meters.set("vqmon.history.spool", self._spool.size_bytes if self._spool else 0)


def _queued_alerts(write: HistoryWrite) -> Sequence[QueuedAlert]:
    """The alerts of a write for delivery without the history."""
    if write.queued_at is None:
        return []
    return [
        QueuedAlert(alert=alert, opened=alert, queued_at=write.queued_at, changed_at=write.queued_at)
        for alert in write.alerts
    ]
