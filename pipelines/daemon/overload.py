"""Whether vqmon keeps up with its live streams, and what is short when it does not: an alert about vqmon itself."""

from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

from pipelines.daemon.live_queue import LiveQueue
from vqmon.core.alerts.reactions.notifications import OWN_STREAM
from vqmon.core.types import Alert, AlertEvidence, alert_id
from vqmon.plurals import plural
from vqmon.telemetry.health import ProgressTracker
from vqmon.telemetry.metrics import Meters

OVERLOADED_RULE = "overloaded"
CHECK_SECONDS = 5.0

_MAX_AGE_SECONDS = 60.0
"""Segments of the live edge that wait longer are an overload; so is one that is passed."""

_HOLD_SECONDS = 20.0
"""An overload that lasts no longer, as at a start, is no alert."""

_CALM_SECONDS = 60.0
"""So long without one, and the alert resolves."""

_STAGES = {"fetch": "fetch", "fetch_reference": "fetch", "decode": "decode", "decode_again": "decode"} | {
    "score": "score",
    "score_heavy": "score",
    "history": "history",
}

_REMEDIES = {
    "fetch": "the network or the origins are slow: raise daemon.in_flight, or watch fewer renditions",
    "decode": 'add cores or raise decode.workers, set decode.sampling = "keyframes", or watch fewer renditions',
    "score": "use a cheaper scorer, a GPU (scoring.device), or watch fewer renditions",
    "history": "the history is slow or cannot be written: see /readyz, and put it on a faster local disk",
}


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
        self._queues: list[LiveQueue] = []
        # when segments were passed, and when a stage was busy for so many seconds
        self._passed_at: deque[float] = deque()
        self._busy: deque[tuple[float, str, float]] = deque()
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

    def record_passed(self) -> None:
        """A segment was passed because nobody was free to take it."""
        self._passed_at.append(self._monotonic())

    def record_stage(self, stage: str, seconds: float) -> None:
        """A segment was so long in a stage of its observation, or in being written to the history."""
        self._busy.append((self._monotonic(), _STAGES.get(stage, stage), seconds))

    def check(self) -> Alert | None:
        """Look at all queues; the alert when it opens or resolves now. To be called every `CHECK_SECONDS`."""
        at = self._monotonic()
        while self._passed_at and self._passed_at[0] < at - _CALM_SECONDS:
            self._passed_at.popleft()
        while self._busy and self._busy[0][0] < at - _CALM_SECONDS:
            self._busy.popleft()
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

    @property
    def _bottleneck(self) -> str:
        """The stage in which segments spent most of the last minute."""
        seconds: Counter[str] = Counter()
        for _, stage, busy_seconds in self._busy:
            seconds[stage] += busy_seconds  # type: ignore[assignment]
        known = [stage for stage, _ in seconds.most_common() if stage in _REMEDIES]
        # nothing was finished: what is in flight is being fetched, decoded or scored
        return known[0] if known else "decode"

    def _opened(self, age_seconds: float) -> Alert:
        at, short, count = self._now(), self._bottleneck, len(self._passed_at)
        series = f"{OWN_STREAM}/daemon/{OVERLOADED_RULE}"
        passed = f"{plural(count, 'segment')} {'was' if count == 1 else 'were'} passed within a minute"
        summary = f"vqmon cannot keep up, {short} is short; {passed}, the oldest waits for {age_seconds:.0f} s"
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
            summary=f"{summary}; {_REMEDIES[short]}",
            evidence=AlertEvidence(event_id="", reading=f"{short} is short", value=age_seconds, threshold=None),
        )

    def _report(self, age_seconds: float) -> None:
        self._meters.set("vqmon.queue.waiting", sum(queue.count for queue in self._queues))
        self._meters.set("vqmon.queue.age", age_seconds)
        series = [
            (float(self._alert is not None and stage == self._bottleneck), {"short": stage}) for stage in _REMEDIES
        ]
        self._meters.replace("vqmon.overloaded", series)
        self._progress.warning = self._alert.summary if self._alert else ""
