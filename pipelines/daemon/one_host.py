"""The daemon on one host: watches streams, publishes one outcome per segment, alerts when quality gets worse."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from pipelines.daemon.deploy_markers import follow_markers
from pipelines.daemon.history_writer import HistoryWriter
from pipelines.daemon.judge_again import StoredProgress, is_announced, judge_again, read_progress
from pipelines.daemon.live_queue import LiveQueue, RenditionSource
from pipelines.daemon.overload import CHECK_SECONDS, OverloadMonitor
from pipelines.daemon.partial_verdicts import OnPartial, counting_partials, watch_open_segments
from pipelines.daemon.stream_ends import publish_requested_ends
from pipelines.observe.observer import Observation
from pipelines.observe.playlists.partial_verdicts import PartialObserver
from pipelines.observe.poison import PoisonGuard
from pipelines.observe.scoring_tiers import RecordStage
from pipelines.service.arm_media import with_arm_media
from pipelines.service.delivery.inputs import InputDecider, open_input_decider, refuse_scorers_that_do_not_run
from pipelines.service.delivery.notifications import AlertNotifier, open_notifier
from pipelines.service.history_thread import HistoryThread, OpenThread, open_history_thread, start_history_thread
from pipelines.service.lifecycle import UNLISTED_RENDITION, OnPublish, Service, counting_callback, open_service
from pipelines.service.reload import SettingsReload, serve_reloading, stop_when_signalled
from pipelines.service.retention import regular_pruning
from pipelines.service.wiring import (
    fetch_policy,
    load_rules,
    open_observer,
    open_sources,
    open_spool,
    state_file,
    utc_now,
)
from vqmon.core.alerts.annotations import ALL_RENDITIONS, EndReason, StreamEnd, stream_end
from vqmon.core.alerts.judge import Judge
from vqmon.core.alerts.reactions.notifications import OWN_STREAM
from vqmon.core.alerts.rules import AlertRule
from vqmon.core.alerts.state import State, StateKey
from vqmon.core.timeline import Thumbnails
from vqmon.core.types import Alert, LaneCursor, Outcome, Rendition, Segment, SegmentFailure, failure_from_error
from vqmon.errors import SegmentError
from vqmon.flow import FairSlots, NamedTasks, map_in_order, run_concurrently, wait_or_stop
from vqmon.media.fetch.fetcher import Fetcher
from vqmon.media.sources.folder import FolderSource
from vqmon.settings.load import Settings
from vqmon.telemetry.bottleneck import OVERLOADED_RULE
from vqmon.telemetry.logs import log_event
from vqmon.telemetry.otlp import span
from vqmon.transport.recovery.spool import HistoryWrite, Spool

log = logging.getLogger("vqmon.live")

_RETRY_SECONDS = 5.0
"""How long to wait before the playlist of a stream that cannot be listed is fetched again."""

_HISTORY_POLL_SECONDS = 1.0
"""How often to ask whether a history is open that could not be opened at the start."""


class _StreamSource(Protocol):
    """Where the segments of one stream come from; raises SegmentError while its renditions cannot be listed."""

    @property
    def address(self) -> str:
        """Its URL, without secrets."""
        ...

    async def lanes(self) -> Sequence[RenditionSource]: ...


class _SegmentObserver(Protocol):
    """Turns segments into outcomes; failures of the source stay what they are."""

    async def observe(self, item: Segment | SegmentFailure) -> Observation: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _WatchContext:
    """What the watchers of all renditions share."""

    observer: _SegmentObserver
    guard: PoisonGuard
    sink: "OutcomeSink"
    # bounds the segments that are observed at once; each stream gets its share
    running: FairSlots
    overload: OverloadMonitor
    service: Service
    on_publish: OnPublish
    # None = segments that are being made are not looked at
    partial: PartialObserver | None = None
    on_partial: OnPartial = lambda verdict: None


async def run(
    settings: Settings,
    *,
    for_seconds: float | None = None,
    on_publish: OnPublish | None = None,
    on_partial: OnPartial | None = None,
    load: Callable[[], Settings] | None = None,
    open_thread: OpenThread = start_history_thread,
) -> None:
    """Watch every stream of the settings until SIGTERM, SIGINT, the end of every source, or `for_seconds`.

    On a stop the sources end, and what is in flight is finished and published; what is not done after `drain_seconds`
    is left to the next start. With `load`, SIGHUP does the same and then goes on with the settings that it returns:
    streams, rules, scorers, all but those of the health port and the log. Wrong ones are logged and change nothing.
    A history that cannot be opened is waited for, as one that cannot be written, unless `open_thread` refuses that.
    """
    with open_service(settings.daemon) as service:
        await serve_reloading(
            settings,
            partial(_watch, on_publish=on_publish, on_partial=on_partial, open_thread=open_thread),
            service=service,
            for_seconds=for_seconds,
            load=load,
            # what waits for a history that cannot be written is in memory alone when the spool cannot be either
            hindrance=lambda: service.progress.problem,
        )
    log.info(**log_event("daemon.stopped"))


async def _watch(
    settings: Settings,
    service: Service,
    *,
    for_seconds: float | None,
    reload: SettingsReload | None,
    on_publish: OnPublish | None,
    on_partial: OnPartial | None,
    open_thread: OpenThread,
) -> None:
    """Watch until a stop or a reload. Parts open in the order in which a segment passes them, and close in reverse."""
    daemon, history = settings.daemon, settings.history
    async with AsyncExitStack() as stack:
        if reload is not None and reload.is_on_trial:
            # another history that cannot be opened is a wrong setting, rather
            open_thread = open_history_thread
        thread = stack.enter_context(
            open_thread(history.location, mode="write", evidence_max_bytes=history.evidence_max_bytes)
        )
        sources, context = await _open_parts(stack, settings, thread, service=service, on_publish=on_publish)
        context = replace(context, on_partial=counting_partials(service.meters, on_partial))
        stack.enter_context(regular_pruning(thread, history))
        stack.enter_context(service.watchdog_pings())
        async with service.serving(
            for_seconds=for_seconds,
            drain_seconds=daemon.drain_seconds,
            request_reload=reload.request if reload else None,
        ):
            service.progress.is_ready = True
            log.info(**log_event("daemon.ready", streams=len(sources), in_flight=settings.in_flight))
            if reload is not None:
                reload.prove()
            stop_when_signalled(service, reload)
            await _watch_all(sources, context, thread)


async def _open_parts(
    stack: AsyncExitStack, settings: Settings, thread: HistoryThread, *, service: Service, on_publish: OnPublish | None
) -> tuple[Sequence[tuple[str, _StreamSource]], _WatchContext]:
    """Open the sources and what their watchers share. Only the writer keeps what the spool holds, while it waits."""
    fetcher = await stack.enter_async_context(Fetcher(fetch_policy(settings)))
    spool = open_spool(settings, identity=thread.history.queries.identity() if thread.is_open else "")
    stack.enter_context(spool.held())
    unwritten = spool.read()
    sources = open_sources(settings, fetcher=fetcher, thread=thread, stop=service.stop, unwritten=unwritten)
    overload = _overload_monitor(thread, service, unwritten)
    observer = await stack.enter_async_context(
        open_observer(settings, fetcher=fetcher, meters=service.meters, on_stage=overload.record_stage)
    )
    observer = with_arm_media(observer, settings)
    scorers = [scorer.id for scorer in observer.judged]
    rules = load_rules(settings, scorers=scorers)
    refuse_scorers_that_do_not_run(settings.inputs, scorers)
    context = _WatchContext(
        observer=observer,
        guard=stack.enter_context(PoisonGuard(state_file(settings, "in-flight"), now=utc_now)),
        sink=await _open_sink(
            stack,
            settings,
            thread,
            rules=rules,
            service=service,
            overload=overload,
            spool=spool,
            unwritten=unwritten,
        ),
        running=FairSlots(settings.in_flight),
        overload=overload,
        service=service,
        on_publish=counting_callback(service, on_publish, settings),
        partial=observer.partial,
    )
    return sources, context


def _overload_monitor(thread: HistoryThread, service: Service, unwritten: Sequence[HistoryWrite]) -> OverloadMonitor:
    stored = thread.history.queries.alerts(open_only=True, stream_id=OWN_STREAM) if thread.is_open else []
    alerts = {alert.id: alert for alert in stored}
    alerts |= {alert.id: alert for write in unwritten for alert in write.alerts if alert.stream_id == OWN_STREAM}
    return OverloadMonitor(
        meters=service.meters,
        progress=service.progress,
        now=utc_now,
        monotonic=time.monotonic,
        open_alert=next(
            (alert for alert in alerts.values() if (alert.rule, alert.state) == (OVERLOADED_RULE, "open")), None
        ),
    )


async def _open_sink(
    stack: AsyncExitStack,
    settings: Settings,
    thread: HistoryThread,
    *,
    rules: Sequence[AlertRule],
    service: Service,
    overload: OverloadMonitor,
    spool: Spool,
    unwritten: Sequence[HistoryWrite],
) -> "OutcomeSink":
    """Open where outcomes go: the history, with deploy markers read from it and alerts delivered from it."""

    def make_judge(states: Mapping[StateKey, State]) -> Judge:
        return Judge(rules, states=states, retention=settings.alerts.retention)

    stream_ids = sorted({stream.id for stream in settings.source.streams})
    judge, unwritten = _start_judge(thread, unwritten, make_judge, stream_ids=stream_ids)

    def take_up(writes: Sequence[HistoryWrite], progress: StoredProgress) -> Sequence[HistoryWrite]:
        for alert in progress.own_alerts:
            if alert.rule == OVERLOADED_RULE:
                overload.take_over(alert)
        sink.judge, judged = _judged_again(writes, progress, make_judge)
        return judged

    writer = HistoryWriter(
        thread,
        meters=service.meters,
        progress=service.progress,
        max_waiting_bytes=settings.history.max_waiting_bytes,
        spool=spool,
        unwritten=unwritten,
        stream_ids=stream_ids,
        judge_again=take_up,
    )
    sink = OutcomeSink(writer, judge, record_stage=overload.record_stage)
    await stack.enter_async_context(writer.retrying())
    sink.notifier = await stack.enter_async_context(
        open_notifier(settings, thread, meters=service.meters, waiting=writer)
    )
    sink.decider = await stack.enter_async_context(open_input_decider(settings, thread, meters=service.meters))
    stack.enter_context(follow_markers(thread, lambda marker: sink.judge.add_marker(marker)))
    return sink


def _start_judge(
    thread: HistoryThread,
    unwritten: Sequence[HistoryWrite],
    make_judge: Callable[[Mapping[StateKey, State]], Judge],
    *,
    stream_ids: Sequence[str],
) -> tuple[Judge, Sequence[HistoryWrite]]:
    """The judge to begin with, and what of an earlier run is to be written."""
    if thread.is_open and any(write.is_provisional for write in unwritten):
        return _judged_again(unwritten, read_progress(thread.history, stream_ids, unwritten), make_judge)
    states = dict(thread.history.queries.states()) if thread.is_open else {}
    for key, state in (change for write in unwritten for change in write.states.items()):
        if state is None:
            states.pop(key, None)
        else:
            states[key] = state
    return make_judge(states), unwritten


def _judged_again(
    writes: Sequence[HistoryWrite],
    progress: StoredProgress,
    make_judge: Callable[[Mapping[StateKey, State]], Judge],
) -> tuple[Judge, Sequence[HistoryWrite]]:
    """A judge that goes on from the stored states, and the writes as it judges them."""
    judge = make_judge(progress.states)
    for marker in progress.markers:
        judge.add_marker(marker)
    judged = judge_again(writes, judge, progress.cursors, now=utc_now(), stored_alert_ids=progress.alert_ids)
    return judge, judged


async def _watch_all(
    sources: Sequence[tuple[str, _StreamSource]], context: _WatchContext, thread: HistoryThread
) -> None:
    """Watch every stream until its source ends, and publish the ends that people request meanwhile."""
    watched = {stream_id for stream_id, _ in sources}
    context.on_publish([], await context.sink.end_unwatched(watched))
    sources_ended = asyncio.Event()
    async with NamedTasks() as tasks:
        tasks.start(
            "requested ends",
            publish_requested_ends(thread, context.sink.publish_end, on_publish=context.on_publish, stop=sources_ended),
        )
        tasks.start("overload", _watch_overload(context, stop=sources_ended))
        if context.sink.is_provisional:
            tasks.start("unwatched", _end_unwatched_later(context, watched, stop=sources_ended))
        await run_concurrently(_watch_stream(stream_id, source, context) for stream_id, source in sources)
        sources_ended.set()


async def _end_unwatched_later(context: _WatchContext, watched: Collection[str], *, stop: asyncio.Event) -> None:
    """End the streams that only the history knows, once it can be opened."""
    await _wait_for_history(context, stop)
    if not stop.is_set():
        context.on_publish([], await context.sink.end_unwatched(watched))


async def _wait_for_history(context: _WatchContext, stop: asyncio.Event) -> None:
    while context.sink.is_provisional and not stop.is_set():
        await wait_or_stop(stop, _HISTORY_POLL_SECONDS)


async def _watch_overload(context: _WatchContext, *, stop: asyncio.Event) -> None:
    """Publish the alert about vqmon itself when it opens or resolves."""
    while not stop.is_set():
        await wait_or_stop(stop, CHECK_SECONDS)
        alert = context.overload.check()
        if alert is not None:
            await context.sink.publish_alert(alert)
            context.on_publish([], [alert])


async def _watch_stream(stream_id: str, source: _StreamSource, context: _WatchContext) -> None:
    """Watch a stream until its source ends; while its renditions cannot be listed, publish that and try again."""
    stop = context.service.stop
    if isinstance(source, FolderSource):
        # the history alone knows which files were taken, and they stay
        await _wait_for_history(context, stop)
    while not stop.is_set():
        try:
            renditions = await source.lanes()
        except SegmentError as error:
            await _publish_unlisted(stream_id, source.address, error, context)
            await wait_or_stop(stop, _RETRY_SECONDS)
        else:
            await run_concurrently(_watch_rendition(stream_id, rendition, context) for rendition in renditions)
            return


async def _watch_rendition(stream_id: str, rendition: RenditionSource, context: _WatchContext) -> None:
    """Walk the segments of one rendition: observe in parallel, then judge and publish one by one in source order."""
    progress, count = context.service.progress, 0
    queue = LiveQueue(
        rendition,
        now=utc_now,
        monotonic=time.monotonic,
        stop=context.service.stop,
        on_passed=context.overload.record_passed,
    )

    async def observe(item: Segment | SegmentFailure) -> Observation:
        # only what is observed is in flight: the watchdog does not count the time until its turn
        async with context.guard.turn(item) as allowed:
            ticket = progress.begin()
            try:
                begun = queue.begin(item)
                return await context.observer.observe(begun if allowed is item else allowed)
            finally:
                progress.end(ticket)

    async def publish(ready: Sequence[tuple[Segment | SegmentFailure, Observation]]) -> None:
        nonlocal count
        observations = [observation for _, observation in ready]
        count += len(observations)
        alerts = await context.sink.publish(rendition.name, observations)
        context.on_publish([observation.outcome for observation in observations], alerts)

    running = context.running.of(stream_id)
    works = [queue.fill(), map_in_order(queue, observe, publish, running=running)]
    if context.partial is not None:
        works.append(
            watch_open_segments(rendition, context.partial, queue, running=running, on_partial=context.on_partial)
        )
    with context.overload.watching(queue):
        await run_concurrently(works)
    if not context.service.stop.is_set():
        log.info(
            **log_event("rendition.ended", rendition=rendition.name, segments=count, why="its playlist is complete")
        )
        context.on_publish([], await context.sink.end(stream_id, rendition.name.removeprefix(f"{stream_id}/")))


class OutcomeSink:
    """Judges observations and publishes them: outcomes, alerts, alert states and cursor in one transaction.

    `judge` may be replaced by one that goes on where it is.
    """

    def __init__(
        self,
        writer: HistoryWriter,
        judge: Judge,
        *,
        notifier: AlertNotifier | None = None,
        decider: InputDecider | None = None,
        record_stage: RecordStage = lambda stage, seconds: None,
    ) -> None:
        self.judge = judge
        self.notifier = notifier
        self._record_stage = record_stage
        self._writer = writer
        self.decider = decider

    @property
    def is_provisional(self) -> bool:
        """Whether outcomes are judged without what the history holds, as it could not be opened yet."""
        return self._writer.is_provisional

    async def publish(self, rendition_key: str, observations: Sequence[Observation]) -> Sequence[Alert]:
        """Judge and write consecutive observations of one rendition."""
        outcomes: list[Outcome] = []
        alerts: list[Alert] = []
        links = [observation.span_context for observation in observations]
        with span("publish", links=links, segments=len(observations)):
            with span("judge"):
                for observation in observations:
                    outcome = self.judge.label(observation.outcome)
                    outcomes.append(outcome)
                    alerts += self.judge.judge(outcome)
            cursor = _cursor_after(rendition_key, outcomes)
            thumbnails = {seen.outcome.id: seen.thumbnails for seen in observations if seen.thumbnails}
            with span("write"):
                await self._write(outcomes, alerts, cursors=[cursor] if cursor else [], thumbnails=thumbnails)
        return alerts

    async def end(
        self, stream_id: str, rendition: str = ALL_RENDITIONS, *, why: EndReason = "ended"
    ) -> Sequence[Alert]:
        """Publish that a stream or rendition has ended, which resolves its alerts; once, and only if it was seen."""
        last_seen_at = self.judge.active_until(stream_id, rendition)
        if last_seen_at is None:
            return ()
        return await self.publish_end(stream_end(stream_id, rendition, last_seen_at, announced_at=utc_now(), why=why))

    async def end_unwatched(self, watched: Collection[str]) -> Sequence[Alert]:
        """End every stream with alert state that is not among the watched ones."""
        unwatched = sorted(self.judge.active_streams().difference(watched))
        return [alert for stream_id in unwatched for alert in await self.end(stream_id, why="unwatched")]

    async def publish_end(self, end: StreamEnd) -> Sequence[Alert]:
        """Judge an end and write it with the alerts that it resolves, dated by the last segment that was seen."""
        end = replace(end, at=self.judge.active_until(end.stream_id, end.rendition) or end.at)
        alerts = self.judge.end_stream(end)
        await self._write([], alerts, ends=[end])
        return alerts

    async def publish_alert(self, alert: Alert) -> None:
        """Write an alert that no rule has raised."""
        await self._write([], [alert])

    async def _write(
        self,
        outcomes: Sequence[Outcome],
        alerts: Sequence[Alert],
        *,
        ends: Sequence[StreamEnd] = (),
        cursors: Sequence[LaneCursor] = (),
        thumbnails: Mapping[str, Thumbnails] | None = None,
    ) -> None:
        write = HistoryWrite(
            outcomes=outcomes,
            ends=ends,
            alerts=alerts,
            states=self.judge.drain_changes(),
            cursors=cursors,
            thumbnails=thumbnails or {},
            queued_at=utc_now() if self.notifier else None,
        )
        began_at = time.monotonic()
        await self._writer.write(write)
        self._record_stage("history", time.monotonic() - began_at)
        if self.notifier:
            self.notifier.on_publish(outcomes, alerts)
        if self.decider:
            self.decider.consider(outcomes)


def _cursor_after(rendition_key: str, outcomes: Sequence[Outcome]) -> LaneCursor | None:
    """Return how far a rendition was read with these outcomes; None when the playlist announced none of them."""
    for outcome in reversed(outcomes):
        if is_announced(outcome):
            segment = outcome.segment
            return LaneCursor(
                lane=rendition_key, sequence=segment.sequence, segment_key=segment.key, ends_at=segment.ends_at
            )
    return None


async def _publish_unlisted(stream_id: str, address: str, error: SegmentError, context: _WatchContext) -> None:
    """Publish that a stream's playlist cannot be had, as a rendition of its own, because no other is known yet."""
    now = utc_now()
    rendition = Rendition(stream_id=stream_id, name=UNLISTED_RENDITION)
    segment = Segment(rendition=rendition, sequence=int(now.timestamp()), url=address, starts_at=now)
    failure = failure_from_error(segment, SegmentError("playlist", error.detail), observed_at=now)
    alerts = await context.sink.publish(rendition.key, [Observation(outcome=failure)])
    context.on_publish([failure], alerts)
