"""A watchdog thread: notices when the event loop, polling or the work is stuck, and ends a process that stays stuck."""

import faulthandler
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType

from vqmon.telemetry.logs import log_event

EXIT_STUCK = 70
"""The exit status of a process that was stuck; its supervisor starts it again."""

_HEALTHY_INTERVAL_SECONDS = 5.0
_STDERR = 2

_log = logging.getLogger("vqmon.watchdog")


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchdogLimit:
    """A duration that must not exceed `max_seconds`; the watchdog's thread calls `read`, which returns seconds."""

    name: str
    read: Callable[[], float]
    max_seconds: float


class Heartbeat:
    """The time of the last beat, which a task of the event loop sets regularly; its age is the lag of the loop."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._beat_at = now()

    def beat(self) -> None:
        """Set the time of the last beat to now."""
        self._beat_at = self._now()

    def age_seconds(self) -> float:
        """Seconds since the last beat."""
        return self._now() - self._beat_at


class Watchdog:
    """Checks limits in a thread of its own, as the event loop may be what is stuck.

    While no limit is exceeded, `on_healthy` is called every few seconds. When one is exceeded, the stacks of all
    threads are written to stderr and `on_breach` is called with its name; when it stays exceeded for
    `grace_seconds`, `exit_process` is called with `EXIT_STUCK`.
    """

    def __init__(
        self,
        limits: Sequence[WatchdogLimit],
        *,
        on_healthy: Callable[[], object],
        on_breach: Callable[[str], object],
        grace_seconds: float = 30.0,
        check_interval_seconds: float = 1.0,
        exit_process: Callable[[int], object] = os._exit,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._on_healthy = on_healthy
        self._on_breach = on_breach
        self._grace_seconds = grace_seconds
        self._check_interval_seconds = check_interval_seconds
        self._exit_process = exit_process
        self._now = now
        # limit -> when it was first seen exceeded
        self._breached_at: dict[str, float] = {}
        self._reported_healthy_at = float("-inf")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def __enter__(self) -> "Watchdog":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=5)

    def check_limits(self) -> None:
        """Check every limit once; called by the thread once per interval."""
        now = self._now()
        for limit in self._limits:
            seconds = limit.read()
            if seconds <= limit.max_seconds:
                if self._breached_at.pop(limit.name, None) is not None:
                    _log.warning(**log_event("watchdog.recovered", limit=limit.name))
            elif limit.name not in self._breached_at:
                self._breached_at[limit.name] = now
                fields = {"limit": limit.name, "seconds": seconds, "max_seconds": limit.max_seconds}
                _log.error(**log_event("watchdog.stuck", **fields))
                faulthandler.dump_traceback(file=_STDERR, all_threads=True)
                self._on_breach(limit.name)
            elif now - self._breached_at[limit.name] >= self._grace_seconds:
                _log.critical(**log_event("watchdog.given_up", limit=limit.name, seconds=seconds))
                self._exit_process(EXIT_STUCK)
        if not self._breached_at and now - self._reported_healthy_at >= _HEALTHY_INTERVAL_SECONDS:
            self._reported_healthy_at = now
            self._on_healthy()

    def _run(self) -> None:
        while not self._stop.wait(self._check_interval_seconds):
            self.check_limits()
