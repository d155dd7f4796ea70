"""The life of every long-running command: opening, readiness, stopping on signals, and counting what it publishes."""

import asyncio
import itertools
import logging
import os
import re
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import get_args

from opentelemetry.exporter.prometheus import PrometheusMetricReader

from pipelines.service.objective import Objective
from vqmon.core.alerts.media_timeline import NOT_JUDGED
from vqmon.core.types import Alert, Outcome, QualityEvent, SegmentFailure, Severity
from vqmon.errors import REASONS
from vqmon.settings.load import Settings
from vqmon.settings.sections import DaemonSettings
from vqmon.telemetry.health import HealthServer, ProgressTracker, sd_notify
from vqmon.telemetry.logs import log_event
from vqmon.telemetry.metrics import Meters
from vqmon.telemetry.otlp import exported_logs, exported_traces, metric_readers, service_resource
from vqmon.telemetry.stream_metrics import StreamMetrics, StreamSelection

log = logging.getLogger("vqmon.daemon")

_WATCHDOG_PING_SECONDS = 5.0

OnPublish = Callable[[Sequence[Outcome], Sequence[Alert]], None]
"""Called with what was just published; must return at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What every long-running command reports to and is stopped by."""

    meters: Meters
    progress: ProgressTracker
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    # the command ends; `stop` alone may be set for a reload
    ending: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def serving(
        self, *, for_seconds: float | None, drain_seconds: float, request_reload: Callable[[], bool] | None = None
    ) -> AsyncIterator[None]:
        """Report READY to systemd and run the body, which ends soon after `stop` is set.

        SIGTERM, SIGINT and the end of `for_seconds` set `stop`; `drain_seconds` later the body is cancelled. SIGHUP
        calls `request_reload`, and sets `stop` when that returns True; whoever gives it serves again afterwards, so
        the signals stay caught until `release_signals`.
        """
        handlers = _SignalHandlers(self, drain_seconds=drain_seconds, request_reload=request_reload)
        with handlers.installed(for_seconds=for_seconds) as drain_limit:
            # Ready even when brokers or origins are away: a restart would not help, and /readyz tells.
            sd_notify("READY=1")
            try:
                async with drain_limit:
                    yield
            except TimeoutError:
                if not self.stop.is_set():
                    raise
                log.warning(**log_event("daemon.drain_cut", left=self.progress.in_flight))

    @contextmanager
    def watchdog_pings(self) -> Iterator[None]:
        """Tell systemd every few seconds that the loop runs and that work in flight gets on."""
        with call_every(_WATCHDOG_PING_SECONDS, lambda: self.progress.is_alive and sd_notify("WATCHDOG=1")):
            yield


@contextmanager
def open_service(daemon: DaemonSettings) -> Iterator[Service]:
    """Open the metrics and, if the settings give it a port, the server of /healthz, /readyz and /metrics."""
    resource = service_resource(version("vqmon"))
    meters = Meters(PrometheusMetricReader(), *metric_readers(), resource=resource)
    service = Service(meters=meters, progress=ProgressTracker(time.monotonic))
    if os.geteuid() == 0:
        log.warning(
            **log_event("daemon.runs_as_root", remedy="run vqmon as a user of its own, as the systemd units do")
        )
    with ExitStack() as stack:
        closes = stack.enter_context(_closing_together())
        closes.append(service.meters.close)
        for exported in (exported_traces(version("vqmon")), exported_logs(version("vqmon"))):
            export = ExitStack()
            export.enter_context(exported)
            closes.append(export.close)
        if daemon.health_port:
            stack.enter_context(HealthServer(daemon.health_host, daemon.health_port, progress=service.progress))
        yield service


UNLISTED_RENDITION = "playlist"
"""Name of the rendition of what is published about a stream whose renditions cannot be listed."""


@contextmanager
def _closing_together() -> Iterator[list[Callable[[], None]]]:
    """Call what is in the list at the end, in threads: a receiver that is away delays that once, not by each signal."""
    closes: list[Callable[[], None]] = []
    try:
        yield closes
    finally:
        with ThreadPoolExecutor(len(closes) or 1, "closing") as executor:
            list(executor.map(lambda close: close(), closes))


class _PlaylistProblems:
    """Logs that a playlist cannot be used, and why, and that it can be again: one line for each change."""

    def __init__(self) -> None:
        # by rendition
        self._problems: dict[str, str] = {}

    def record(self, outcomes: Sequence[Outcome]) -> None:
        """Take outcomes in the order in which they are published."""
        for outcome in outcomes:
            rendition = outcome.segment.rendition
            if isinstance(outcome, SegmentFailure) and outcome.reason in ("playlist", "stale"):
                # how long it has been so is no change
                problem = re.sub(r"\d+", "", f"{outcome.reason}: {outcome.detail}")
                if self._problems.get(rendition.key) != problem:
                    self._problems[rendition.key] = problem
                    fields = {"reason": outcome.reason, "why": outcome.detail or REASONS[outcome.reason]}
                    log.warning(**log_event("playlist.failed", rendition=rendition.key, **fields))
                continue
            for key in (rendition.key, f"{rendition.stream_id}/{UNLISTED_RENDITION}"):
                if self._problems.pop(key, None) is not None:
                    log.info(**log_event("playlist.mended", rendition=key))


def counting_callback(service: Service, on_publish: OnPublish | None, settings: Settings) -> OnPublish:
    """Return a callback that counts what was published, then calls `on_publish`; without one, alerts are logged."""
    meters = service.meters
    objective = Objective(floor=settings.daemon.slo_floor, drop=settings.daemon.slo_drop)
    selection = StreamSelection(**settings.metrics.model_dump())
    streams = StreamMetrics(meters, selection, monotonic=time.monotonic)
    level = logging.WARNING if on_publish is None else logging.DEBUG
    for state, severity in itertools.product(("open", "resolved"), get_args(Severity)):
        # Prometheus sees the first one as an increase only if there was a zero before it
        meters.count("vqmon.alert.transition", 0, state=state, severity=severity)

    playlists = _PlaylistProblems()

    def count(outcomes: Sequence[Outcome], alerts: Sequence[Alert]) -> None:
        if outcomes:
            if on_publish is None:
                playlists.record(outcomes)
            _count_outcomes(outcomes, meters, objective)
            streams.record(outcomes)
            meters.set("vqmon.lag", (datetime.now(UTC) - outcomes[-1].segment.ends_at).total_seconds())
            sd_notify(f"STATUS=last segment {outcomes[-1].segment.key}")
        meters.set("vqmon.in_flight", service.progress.in_flight)
        for alert in alerts:
            meters.count("vqmon.alert.transition", state=alert.state, severity=alert.severity)
            fields = log_event(f"alert.{alert.state}", rule=alert.rule, series=alert.series, summary=alert.summary)
            log.log(level, **fields)
        if on_publish is not None:
            on_publish(outcomes, alerts)

    return count


def _count_outcomes(outcomes: Sequence[Outcome], meters: Meters, objective: Objective) -> None:
    # These say nothing about quality: the segment of a duplicate has been counted, an overload is vqmon's.
    counted = [outcome for outcome in outcomes if getattr(outcome, "reason", "") not in NOT_JUDGED]
    meters.count("vqmon.slo.total", len(counted))
    meters.count("vqmon.slo.good", sum(objective.is_good(outcome) for outcome in counted))
    reasons = Counter("" if isinstance(outcome, QualityEvent) else outcome.reason for outcome in outcomes)
    for reason, amount in reasons.items():
        meters.count("vqmon.segment.count", amount, outcome="unscored" if reason else "scored", reason=reason)
    for outcome in outcomes:
        for score in outcome.scores if isinstance(outcome, QualityEvent) else ():
            meters.record("vqmon.segment.score", score.value, scorer=score.scorer)


class _SignalHandlers:
    """What signals do to a service: they set its `stop`, and from then on limit the time that its body has."""

    def __init__(self, service: Service, *, drain_seconds: float, request_reload: Callable[[], bool] | None) -> None:
        self.drain_limit = asyncio.timeout(None)
        self._service = service
        self._drain_seconds = drain_seconds
        self._request_reload = request_reload

    @contextmanager
    def installed(self, *, for_seconds: float | None) -> Iterator[asyncio.Timeout]:
        """Catch the signals; the end of `for_seconds` acts like SIGTERM."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._begin_stop)
        if self._request_reload is not None:
            loop.add_signal_handler(signal.SIGHUP, self._begin_reload)
        timer = loop.call_later(for_seconds, self._begin_stop) if for_seconds is not None else None
        try:
            yield self.drain_limit
        finally:
            if timer:
                timer.cancel()
            if self._request_reload is None:
                release_signals()

    def _begin_stop(self) -> None:
        if not self._service.ending.is_set():
            log.info(**log_event("daemon.stopping"))
            sd_notify("STOPPING=1")
            self._service.ending.set()
        self._drain()

    def _begin_reload(self) -> None:
        if self._request_reload is not None and not self._service.ending.is_set() and self._request_reload():
            log.info(**log_event("daemon.reloading"))
            sd_notify(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
            self._drain()

    def _drain(self) -> None:
        if not self._service.stop.is_set():
            self._service.stop.set()
            self.drain_limit.reschedule(asyncio.get_running_loop().time() + self._drain_seconds)


def release_signals() -> None:
    """Give the signals that `Service.serving` catches their usual effect again."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.remove_signal_handler(number)


@contextmanager
def call_every(seconds: float, callback: Callable[[], object]) -> Iterator[None]:
    """Call back on the event loop every so many seconds while the context lasts."""
    loop = asyncio.get_running_loop()

    timer: asyncio.TimerHandle

    def call_and_reschedule() -> None:
        nonlocal timer
        callback()
        timer = loop.call_later(seconds, call_and_reschedule)

    timer = loop.call_later(seconds, call_and_reschedule)
    try:
        yield
    finally:
        timer.cancel()
