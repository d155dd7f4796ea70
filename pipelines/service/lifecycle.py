"""What both forms of the daemon share: counting what was published, stopping, doing things every so often."""

import asyncio
import logging
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from vqmon.core.types import Alert, Outcome, QualityEvent
from vqmon.telemetry.health import ProgressTracker, sd_notify
from vqmon.telemetry.logs import log_event
from vqmon.telemetry.metrics import Meters

log = logging.getLogger("vqmon.daemon")

Told = Callable[[Sequence[Outcome], Sequence[Alert]], None]
"""Told what was just published; must return at once."""


def telling(meters: Meters, progress: ProgressTracker, told: Told | None, *, slo_floor: float = 40.0) -> Told:
    """Count what was published, then pass it on; alerts that nobody is told go to the log."""
    level = logging.WARNING if told is None else logging.DEBUG

    def tell(outcomes: Sequence[Outcome], alerts: Sequence[Alert]) -> None:
        for outcome in outcomes:
            meters.count("vqmon.slo.total")
            meters.count("vqmon.slo.good", int(_is_good(outcome, slo_floor)))
            if isinstance(outcome, QualityEvent):
                meters.count("vqmon.segment.count", outcome="scored", reason="")
                for score in outcome.scores:
                    meters.record("vqmon.segment.score", score.value, scorer=score.scorer)
            else:
                meters.count("vqmon.segment.count", outcome="unscored", reason=outcome.reason)
        if outcomes:
            meters.set("vqmon.lag", (datetime.now(UTC) - outcomes[-1].segment.ends_at).total_seconds())
            sd_notify(f"STATUS=last segment {outcomes[-1].segment.key}")
        meters.set("vqmon.in_flight", progress.in_flight)
        for alert in alerts:
            meters.count("vqmon.alert.transition", state=alert.state, severity=alert.severity)
            said = log_event(f"alert.{alert.state}", rule=alert.rule, series=alert.series, summary=alert.summary)
            log.log(level, **said)
        if told is not None:
            told(outcomes, alerts)

    return tell


def _is_good(outcome: Outcome, floor: float) -> bool:
    """Whether viewers had a good picture, as far as can be told: what could not be scored counts as bad."""
    return isinstance(outcome, QualityEvent) and bool(outcome.scores) and outcome.scores[0].value >= floor


@contextmanager
def stopping(stop: asyncio.Event, for_seconds: float | None, drain_seconds: float) -> Iterator[asyncio.Timeout]:
    """SIGTERM, SIGINT or the end of `for_seconds` set `stop` and start the time limit for draining."""
    loop = asyncio.get_running_loop()
    limit = asyncio.timeout(None)

    def begin() -> None:
        if not stop.is_set():
            log.info(**log_event("daemon.stopping"))
            sd_notify("STOPPING=1")
            stop.set()
            limit.reschedule(loop.time() + drain_seconds)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, begin)
    timer = loop.call_later(for_seconds, begin) if for_seconds is not None else None
    try:
        yield limit
    finally:
        if timer:
            timer.cancel()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


@contextmanager
def every(seconds: float, act: Callable[[], object]) -> Iterator[None]:
    """Call `act` on the loop every so often."""
    loop = asyncio.get_running_loop()

    timer: asyncio.TimerHandle

    def again() -> None:
        nonlocal timer
        act()
        timer = loop.call_later(seconds, again)

    timer = loop.call_later(seconds, again)
    try:
        yield
    finally:
        timer.cancel()
