"""Whether vqmon keeps up with its live streams, and what is short when it does not: an alert about vqmon itself."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

from pipelines.daemon.live_queue import LiveQueue
from vqmon.core.alerts.reactions.notifications import OWN_STREAM
from vqmon.core.types import Alert, AlertEvidence, alert_id
from vqmon.plurals import plural
from vqmon.telemetry.bottleneck import OVERLOADED_RULE, Bottleneck
from vqmon.telemetry.health import ProgressTracker
from vqmon.telemetry.metrics import Meters

CHECK_SECONDS = 5.0

_MAX_AGE_SECONDS = 60.0
"""Segments of the live edge that wait longer are an overload; so is one that is passed."""

_HOLD_SECONDS = 20.0
"""An overload that lasts no longer, as at a start, is no alert."""

_CALM_SECONDS = 60.0
"""So long without one, and the alert resolves."""


class OverloadMonitor:
    """Checks the queues of all renditions every few seconds, and opens and resolves the alert `overloaded`.

    `monotonic` is in seconds; `open_alert` is the one that an earlier run has left open.
    """

    def __init__(
        self,
        *,
        meters: Meters,
        progress: ProgressTracker,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        open_alert: Alert | None = None,
    ) -> None:
        self._meters = meters
        self._progress = progress
        self._now = now
        self._monotonic = monotonic
        self._alert = open_alert
        self._superseded: list[Alert] = []
        self._queues: list[LiveQueue] = []
        # when segments were passed
        self._passed_at: deque[float] = deque()
        self._bottleneck = Bottleneck(monotonic)
        self._began_at: float | None = None
        self._last_at = monotonic()

    @contextmanager
    def watching(self, queue: LiveQueue) -> Iterator[None]:
        """Look at a queue while the context lasts."""
        self._queues.append(queue)
        try:
            yield
        finally:
            self._queues.remove(queue)

    def take_over(self, alert: Alert) -> None:
        """Go on with the alert of an earlier run that was not known at the start; it resolves if another one opened."""
        if self._alert is None:
            self._alert = alert
        else:
            self._superseded.append(alert)

    def record_passed(self) -> None:
        """A segment was passed because nobody was free to take it."""
        self._passed_at.append(self._monotonic())

    def record_stage(self, stage: str, seconds: float) -> None:
        """A segment was so long in a stage of its observation, or in being written to the history."""
        self._bottleneck.record_stage(stage, seconds)

    def check(self) -> Alert | None:
        """Look at all queues; the alert when it opens or resolves now. To be called every `CHECK_SECONDS`."""
        if self._superseded:
            return replace(self._superseded.pop(), state="resolved", resolved_at=self._now())
        at = self._monotonic()
        while self._passed_at and self._passed_at[0] < at - _CALM_SECONDS:
            self._passed_at.popleft()
        age_seconds = max((queue.oldest_seconds for queue in self._queues), default=0.0)
        if age_seconds > _MAX_AGE_SECONDS or (self._passed_at and self._passed_at[-1] > at - 2 * CHECK_SECONDS):
            self._began_at = at if self._began_at is None else self._began_at
            self._last_at = at
        elif at - self._last_at >= _CALM_SECONDS:
            self._began_at = None
        transition = self._transition(age_seconds, at=at)
        self._report(age_seconds)
        return transition

    def _transition(self, age_seconds: float, *, at: float) -> Alert | None:
        if self._alert is None:
            if self._began_at is not None and self._last_at == at and at - self._began_at >= _HOLD_SECONDS:
                self._alert = self._opened(age_seconds)
                return self._alert
        elif self._began_at is None and at - self._last_at >= _CALM_SECONDS:
            resolved, self._alert = replace(self._alert, state="resolved", resolved_at=self._now()), None
            return resolved
        return None

    def _opened(self, age_seconds: float) -> Alert:
        at, count = self._now(), len(self._passed_at)
        series = f"{OWN_STREAM}/daemon/{OVERLOADED_RULE}"
        passed = f"{plural(count, 'segment')} {'was' if count == 1 else 'were'} passed within a minute"
        return Alert(
            id=alert_id(OVERLOADED_RULE, series, at),
            rule=OVERLOADED_RULE,
            series=series,
            stream_id=OWN_STREAM,
            rendition="daemon",
            severity="page",
            state="open",
            began_at=at,
            opened_at=at,
            resolved_at=None,
            summary=self._bottleneck.describe(f"{passed}, the oldest waits for {age_seconds:.0f} s"),
            evidence=AlertEvidence(
                event_id="", reading=f"{self._bottleneck.stage} is short", value=age_seconds, threshold=None
            ),
        )

    def _report(self, age_seconds: float) -> None:
        self._meters.set("vqmon.queue.waiting", sum(queue.count for queue in self._queues))
        self._meters.set("vqmon.queue.age", age_seconds)
        self._bottleneck.report(self._meters, is_overloaded=self._alert is not None)
        self._progress.warning = self._alert.summary if self._alert else ""
