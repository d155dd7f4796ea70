"""A thread that sees when the loop, the polling or the work stand still, and ends a process that does not recover."""

import faulthandler
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType

from vqmon.telemetry.logs import event

log = logging.getLogger("vqmon.watchdog")

EXIT_STUCK = 70
"""The process was stuck; whoever supervises it starts it again."""

ALIVE_SECONDS = 5.0
STDERR = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A time that must not grow beyond `most_seconds`; `read` is called from the watchdog's thread."""

    name: str
    read: Callable[[], float]
    most_seconds: float


class Beat:
    """Touched by the loop every so often; its age is how far the loop lags."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._touched_at = now()

    def touch(self) -> None:
        """The loop runs."""
        self._touched_at = self._now()

    def age_seconds(self) -> float:
        """How long ago it did."""
        return self._now() - self._touched_at


class Watchdog:
    """Looks at the limits from a thread of its own, as the loop may be what is stuck.

    While all is well `alive` is called every few seconds. At the first breach all stacks are written to stderr and
    `breached` is told; a breach that lasts for `grace_seconds` is given up on.
    """

    def __init__(
        self,
        limits: Sequence[Limit],
        *,
        alive: Callable[[], object],
        breached: Callable[[str], object],
        grace_seconds: float = 30.0,
        look_seconds: float = 1.0,
        give_up: Callable[[int], object] = os._exit,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._alive = alive
        self._breached = breached
        self._grace_seconds = grace_seconds
        self._look_seconds = look_seconds
        self._give_up = give_up
        self._now = now
        self._since: dict[str, float] = {}
        self._alive_at = float("-inf")
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

    def look(self) -> None:
        """Look once."""
        now = self._now()
        for limit in self._limits:
            seconds = limit.read()
            if seconds <= limit.most_seconds:
                if self._since.pop(limit.name, None) is not None:
                    log.warning(**event("watchdog.recovered", what=limit.name))
            elif limit.name not in self._since:
                self._since[limit.name] = now
                log.error(**event("watchdog.stuck", what=limit.name, seconds=seconds, most=limit.most_seconds))
                faulthandler.dump_traceback(file=STDERR, all_threads=True)
                self._breached(limit.name)
            elif now - self._since[limit.name] >= self._grace_seconds:
                log.critical(**event("watchdog.given_up", what=limit.name, seconds=seconds))
                self._give_up(EXIT_STUCK)
        if not self._since and now - self._alive_at >= ALIVE_SECONDS:
            self._alive_at = now
            self._alive()

    def _run(self) -> None:
        while not self._stop.wait(self._look_seconds):
            self.look()
