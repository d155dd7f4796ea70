"""The daemon: watch streams, publish one outcome per segment, alert on what got worse."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Protocol

from opentelemetry.exporter.prometheus import PrometheusMetricReader

from pipelines.daemon.deploy_markers import marking
from pipelines.daemon.stream_ends import take_up
from pipelines.observe.observer import Observation, Observer
from pipelines.service.lifecycle import Told, every, stopping, telling
from pipelines.service.notifications import Delivery, delivering
from pipelines.service.retention import KEEP_SECONDS, keep
from pipelines.service.wiring import fetch_policy, load_rules, open_observer, open_sources, utc_now
from vqmon.core.alerts.annotations import EVERY, End, Why, end_of
from vqmon.core.alerts.judge import AlertRule, Judge
from vqmon.core.timeline import Thumbnails
from vqmon.core.types import Alert, LaneCursor, Outcome, Rendition, Segment, SegmentFailure, failure_from_error
from vqmon.errors import SegmentError
from vqmon.flow import Crew, in_order, together, wait_or_stop
from vqmon.media.fetch.fetcher import Fetcher
from vqmon.settings.load import Settings
from vqmon.telemetry.health import HealthServer, ProgressTracker, sd_notify
from vqmon.telemetry.logs import log_event
from vqmon.telemetry.metrics import Meters
from vqmon.transport.history.history import History, open_history

log = logging.getLogger("vqmon.live")

RETRY_SECONDS = 5.0
"""How long a stream whose playlist cannot be had at all waits before the next try."""


class Lane(Protocol):
    """The segments of one rendition, in order."""

    @property
    def name(self) -> str: ...
    def __aiter__(self) -> AsyncIterator[Segment | SegmentFailure]: ...


class Source(Protocol):
    """Where the segments of one stream come from."""

    async def lanes(self) -> Sequence[Lane]: ...


class Sink:
    """Judges observations and publishes them: outcomes, alerts, alert memory and cursor in one transaction."""

    def __init__(
        self,
        history: History,
        judge: Judge,
        *,
        thread: ThreadPoolExecutor,
        meters: Meters,
        delivery: Delivery | None = None,
    ) -> None:
        self._history = history
        self._delivery = delivery
        self._judge = judge
        self._thread = thread
        self._meters = meters

    async def publish(self, lane: str, ready: Sequence[Observation]) -> Sequence[Alert]:
        """Judge and write a run of observations of one lane; if this raises, nothing of it is in the history."""
        outcomes = [seen.outcome for seen in ready]
        alerts = [alert for outcome in outcomes for alert in self._judge.judge(outcome)]
        cursor = cursor_after(lane, outcomes)
        thumbnails = {seen.outcome.id: seen.thumbnails for seen in ready if seen.thumbnails}
        await self._write(outcomes, alerts, cursors=[cursor] if cursor else [], thumbnails=thumbnails)
        return alerts

    async def end(self, stream_id: str, rendition: str = EVERY, *, why: Why = "ended") -> Sequence[Alert]:
        """Say once that nothing more is expected of what was seen; that closes its alerts."""
        at = self._judge.until(stream_id, rendition)
        if at is None:
            return ()
        return await self.take_up(end_of(stream_id, rendition, at, told_at=utc_now(), why=why))

    async def leave(self, watched: Collection[str]) -> Sequence[Alert]:
        """End the streams that are watched no more."""
        gone = sorted(self._judge.streams().difference(watched))
        return [alert for stream_id in gone for alert in await self.end(stream_id, why="unwatched")]

    async def take_up(self, end: End) -> Sequence[Alert]:
        """Judge an end, and write it with the alerts that it closes, dated by what was seen."""
        end = replace(end, at=self._judge.until(end.stream_id, end.rendition) or end.at)
        alerts = self._judge.end(end)
        await self._write([], alerts, ends=[end])
        return alerts

    async def _write(
        self,
        outcomes: Sequence[Outcome],
        alerts: Sequence[Alert],
        *,
        ends: Sequence[End] = (),
        cursors: Sequence[LaneCursor] = (),
        thumbnails: Mapping[str, Thumbnails] | None = None,
    ) -> None:
        states = self._judge.take_changed()

        def write() -> None:
            self._history.publish(
                outcomes,
                ends=ends,
                alerts=alerts,
                states=states,
                cursors=cursors,
                thumbnails=thumbnails,
                queued_at=utc_now() if self._delivery else None,
            )

        began = time.perf_counter()
        await asyncio.get_running_loop().run_in_executor(self._thread, write)
        self._meters.record("vqmon.publish.duration", time.perf_counter() - began)
        if self._delivery:
            self._delivery.published(outcomes, alerts)


def cursor_after(lane: str, outcomes: Sequence[Outcome]) -> LaneCursor | None:
    """How far the lane has come with these outcomes; what the playlist did not announce moves nothing."""
    for outcome in reversed(outcomes):
        if not (isinstance(outcome, SegmentFailure) and outcome.reason in ("stale", "playlist")):
            segment = outcome.segment
            return LaneCursor(lane=lane, sequence=segment.sequence, segment_key=segment.key, ends_at=segment.ends_at)
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What all lanes share."""

    observer: Observer
    sink: Sink
    running: asyncio.Semaphore
    progress: ProgressTracker
    stop: asyncio.Event
    told: Told


async def watch_for_ever(stream_id: str, source: Source, desk: Desk) -> None:
    """Watch a stream until its source ends; a stream that cannot be listed yet is an outcome and is tried again."""
    while not desk.stop.is_set():
        try:
            lanes = await source.lanes()
        except SegmentError as error:
            await _publish_unlisted(stream_id, error, desk)
            await wait_or_stop(desk.stop, RETRY_SECONDS)
        else:
            await together(follow(stream_id, lane, desk) for lane in lanes)
            return


async def follow(stream_id: str, lane: Lane, desk: Desk) -> None:
    """Observe one lane's segments in parallel; judge and publish them in order."""

    async def look(item: Segment | SegmentFailure) -> Observation:
        ticket = desk.progress.begin()
        try:
            return await desk.observer.observe(item)
        finally:
            desk.progress.end(ticket)

    async def finish(ready: Sequence[tuple[Segment | SegmentFailure, Observation]]) -> None:
        seen = [observation for _, observation in ready]
        alerts = await desk.sink.publish(lane.name, seen)
        desk.told([observation.outcome for observation in seen], alerts)

    await in_order(lane, look, finish, running=desk.running)
    if not desk.stop.is_set():
        desk.told([], await desk.sink.end(stream_id, lane.name.removeprefix(f"{stream_id}/")))


async def run(settings: Settings, *, for_seconds: float | None = None, told: Told | None = None) -> None:
    """Watch all that the settings name until SIGTERM, SIGINT, the end of every source, or `for_seconds`.

    This is the map of the daemon: parts open in the order of the journey and close in reverse. On a stop the sources
    end, what is in flight is finished and published; what is not done after `drain_seconds` is left to the next start.
    """
    stop, progress, meters = asyncio.Event(), ProgressTracker(time.monotonic), Meters(PrometheusMetricReader())
    async with AsyncExitStack() as stack:
        stack.callback(meters.close)
        thread = stack.enter_context(ThreadPoolExecutor(1, "history"))
        kept = settings.history
        history = stack.enter_context(
            open_history(kept.place, mode="write", evidence_max_bytes=kept.evidence_max_bytes)
        )
        health = settings.daemon
        if health.health_port:
            stack.enter_context(HealthServer(health.health_host, health.health_port, progress=progress))
        fetcher = await stack.enter_async_context(Fetcher(fetch_policy(settings)))
        sources = open_sources(settings, fetcher=fetcher, history=history, stop=stop)
        observer = await stack.enter_async_context(open_observer(settings, fetcher=fetcher, meters=meters))
        rules = load_rules(settings, scorers=[scorer.id for scorer in observer.judged])
        desk = Desk(
            observer=observer,
            sink=await _open_sink(stack, settings, history, rules=rules, thread=thread, meters=meters),
            running=asyncio.Semaphore(settings.in_flight),
            progress=progress,
            stop=stop,
            told=telling(meters, progress, told, slo_floor=settings.daemon.slo_floor),
        )
        limit = stack.enter_context(stopping(stop, for_seconds, settings.daemon.drain_seconds))
        stack.enter_context(every(KEEP_SECONDS, lambda: thread.submit(keep, history, kept, now=utc_now())))
        stack.enter_context(every(5.0, lambda: progress.is_alive and sd_notify("WATCHDOG=1")))
        progress.is_ready = True
        sd_notify("READY=1")
        log.info(**log_event("daemon.ready", streams=len(sources), in_flight=settings.in_flight))
        desk.told([], await desk.sink.leave(sources))
        done = asyncio.Event()
        try:
            async with limit, Crew() as crew:
                crew.begin("ends", take_up(history, thread, desk.sink.take_up, told=desk.told, done=done))
                await together(watch_for_ever(name, source, desk) for name, source in sources.items())
                done.set()
        except TimeoutError:
            if not stop.is_set():
                raise
            log.warning(**log_event("daemon.drain_cut", left=progress.in_flight))
        log.info(**log_event("daemon.stopped"))


async def _open_sink(
    stack: AsyncExitStack,
    settings: Settings,
    history: History,
    *,
    rules: Sequence[AlertRule],
    thread: ThreadPoolExecutor,
    meters: Meters,
) -> Sink:
    """Where verdicts go: into the history, with deploy markers taken up and alerts delivered beside."""
    judge = Judge(rules, states=history.queries.states())
    stack.enter_context(marking(history, judge, thread))
    delivery = await stack.enter_async_context(delivering(settings, history, thread=thread, meters=meters))
    return Sink(history, judge, thread=thread, meters=meters, delivery=delivery)


async def _publish_unlisted(stream_id: str, error: SegmentError, desk: Desk) -> None:
    """Say that a stream's playlist cannot be had: no lane is known yet, so it stands for the whole stream."""
    now = utc_now()
    rendition = Rendition(stream_id=stream_id, name="playlist")
    segment = Segment(rendition=rendition, sequence=int(now.timestamp()), url="vqmon:unlisted", starts_at=now)
    failure = failure_from_error(segment, SegmentError("playlist", error.detail), observed_at=now)
    alerts = await desk.sink.publish(rendition.key, [Observation(outcome=failure)])
    desk.told([failure], alerts)
