"""One worker of the fleet: the daemon as a member of a Kafka consumer group."""

import gc
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from functools import partial
from uuid import uuid4

from pipelines.fleet.judging.records import Observe
from pipelines.fleet.monitoring import LagTrend, MembershipMonitor
from pipelines.fleet.origin_backoff import MediaMemoryLimit, OriginBackoff
from pipelines.fleet.subscriptions import Subscriptions, producer_identity
from pipelines.observe.observer import Observation
from pipelines.service.brokers import (
    connection_of,
    quiet_client_log,
    retry_until_reachable,
    topic_names,
    wait_for_topics,
)
from pipelines.service.lifecycle import OnPublish, Service, call_every, counting_callback, open_service
from pipelines.service.reload import SettingsReload, serve_reloading, stop_when_signalled
from vqmon.core.alerts.rules import AlertRule
from vqmon.core.types import Segment
from vqmon.flow import NamedTasks, run_concurrently
from vqmon.settings.load import Settings
from vqmon.telemetry.bottleneck import Bottleneck
from vqmon.telemetry.health import sd_notify
from vqmon.telemetry.logs import log_event
from vqmon.telemetry.watchdog import Heartbeat, Watchdog, WatchdogLimit
from vqmon.transport.kafka import ClientConfig, max_record_bytes

log = logging.getLogger("vqmon.fleet")

_LEAVE_GROUP_SECONDS = 8.0
"""The part of the time for draining that is kept for closing producers and leaving the group."""

_PROCESS_ID = uuid4().hex[:12]

_MONITOR_SECONDS = 1.0
_BEAT_SECONDS = 0.5

_OBJECTS_PER_COLLECTION = 20_000
"""So many more objects than before start a garbage collection; the hundreds of segments in flight have that many.

Python's own 700 start one for every few dozen segments of a catch-up, which frees nothing: no segment leaves a cycle.
"""

_MAX_LOOP_SECONDS = 5.0
_MAX_WORK_SECONDS = 120.0
_POLL_GRACE_SECONDS = 60.0
"""How much longer than a rebalance polling may stand still before the watchdog ends the process."""


async def run(
    settings: Settings,
    *,
    for_seconds: float | None = None,
    on_publish: OnPublish | None = None,
    load: Callable[[], Settings] | None = None,
) -> None:
    """Work for the group until SIGTERM, SIGINT or `for_seconds`.

    On a stop nothing more is read, what is in flight is finished and written, and the partitions go to other workers.
    With `load`, SIGHUP does the same, and then joins the group again with the settings and rules that it returns.
    """
    with open_service(settings.daemon) as service:
        await serve_reloading(
            settings, partial(_work, on_publish=on_publish), service=service, for_seconds=for_seconds, load=load
        )
    log.info(**log_event("daemon.stopped"))


async def _work(
    settings: Settings,
    service: Service,
    *,
    for_seconds: float | None,
    reload: SettingsReload | None,
    on_publish: OnPublish | None,
) -> None:
    """Open decoders and scorers, and work until a stop or a reload."""
    # Imported late: decoders and scorers load slowly, and `serve` does without them.
    from pipelines.service.wiring import load_rules

    bottleneck = Bottleneck(time.monotonic)
    async with AsyncExitStack() as stack:
        observe = await _open_observe(stack, settings, service, on_stage=bottleneck.record_stage)
        await serve(
            settings,
            service,
            observe=observe,
            rules=load_rules(settings),
            on_publish=on_publish,
            for_seconds=for_seconds,
            reload=reload,
            bottleneck=bottleneck,
        )


async def _open_observe(
    stack: AsyncExitStack, settings: Settings, service: Service, *, on_stage: Callable[[str, float], None]
) -> Observe:
    """Open what observes segments: with bounded memory, as often as their origin needs, alone under suspicion."""
    from pipelines.observe.poison import PoisonGuard
    from pipelines.service.arm_media import with_arm_media
    from pipelines.service.wiring import fetch_policy, open_observer, state_file, utc_now
    from vqmon.media.fetch.fetcher import Fetcher

    fetcher = await stack.enter_async_context(Fetcher(fetch_policy(settings)))
    observer = await stack.enter_async_context(
        open_observer(settings, fetcher=fetcher, meters=service.meters, on_stage=on_stage)
    )
    memory_limit = MediaMemoryLimit(observer.fetch, max_bytes=settings.kafka.max_media_bytes)
    observer = with_arm_media(replace(observer, fetch=memory_limit.fetch), settings)
    guard = stack.enter_context(PoisonGuard(state_file(settings, "in-flight"), now=utc_now))

    async def observe(segment: Segment) -> Observation:
        try:
            return await observer.observe(segment)
        finally:
            memory_limit.release(segment)

    backoff = OriginBackoff(
        observe,
        turn=guard.turn,
        progress=service.progress,
        now=time.monotonic,
        retry_seconds=settings.kafka.patience_seconds,
        away_seconds=settings.kafka.origin_wait_seconds,
        slots=settings.in_flight,
        on_change=partial(service.meters.set, "vqmon.origin.closed"),
    )
    return backoff.observe


async def serve(
    settings: Settings,
    service: Service,
    *,
    observe: Observe,
    rules: Sequence[AlertRule],
    on_publish: OnPublish | None = None,
    for_seconds: float | None = None,
    reload: SettingsReload | None = None,
    bottleneck: Bottleneck | None = None,
) -> None:
    """Run a worker that observes segments with `observe`; `bottleneck` says which stage of that is short."""
    kafka = settings.kafka
    quiet_client_log()
    connection = connection_of(kafka)
    monitor = MembershipMonitor(
        service.progress,
        service.meters,
        stalled_seconds=kafka.stalled_seconds,
        trend=LagTrend(slots=settings.in_flight),
        bottleneck=bottleneck or Bottleneck(time.monotonic),
        segments_topic=topic_names(kafka).segments,
    )
    drain_seconds = max(1.0, settings.daemon.drain_seconds - _LEAVE_GROUP_SECONDS)
    beat = Heartbeat()
    with (
        _rare_collections(),
        call_every(_MONITOR_SECONDS, monitor.update),
        call_every(_BEAT_SECONDS, beat.beat),
        _watchdog(beat, monitor, service, max_poll_seconds=kafka.rebalance_seconds + _POLL_GRACE_SECONDS),
    ):
        async with service.serving(
            for_seconds=for_seconds,
            drain_seconds=drain_seconds,
            request_reload=reload.request if reload else None,
        ):
            stop_when_signalled(service, reload)
            await _run_members(
                settings,
                service,
                connection,
                monitor=monitor,
                observe=observe,
                rules=rules,
                on_publish=on_publish,
                reload=reload,
            )


async def _run_members(
    settings: Settings,
    service: Service,
    connection: ClientConfig,
    *,
    monitor: MembershipMonitor,
    observe: Observe,
    rules: Sequence[AlertRule],
    on_publish: OnPublish | None,
    reload: SettingsReload | None,
) -> None:
    """Wait for the topics, then be a member of the group of each subscribed topic until the stop."""
    kafka, stop = settings.kafka, service.stop
    await wait_for_topics(connection, kafka, stop)
    rejected_topic = topic_names(kafka).rejected
    max_rejected_bytes = await retry_until_reachable(lambda: max_record_bytes(connection, rejected_topic), stop)
    if max_rejected_bytes is None:
        return
    subscriptions = Subscriptions(
        kafka,
        connection,
        producer_identity(kafka, max_rejected_bytes=max_rejected_bytes),
        rules=rules,
        retention=settings.alerts.retention,
        overload=monitor.overload_of,
        meters=service.meters,
        on_publish=counting_callback(service, on_publish, settings),
        process_id=_PROCESS_ID,
    )
    contexts = subscriptions.contexts(observe)
    if reload is not None:
        reload.prove()
    async with NamedTasks() as measurements:
        for topic in contexts:
            work = monitor.measure_topic(topic, partial(subscriptions.open_lag_reader, topic))
            measurements.start(topic, work)
        await run_concurrently(
            subscriptions.run_member(topic, context, stop=stop, on_join=monitor.follow)
            for topic, context in contexts.items()
        )
        await measurements.wait_or_cancel(contexts, within_seconds=0)


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Collect garbage seldom, and what exists already not at all, while the context lasts."""
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS_PER_COLLECTION, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


def _watchdog(beat: Heartbeat, monitor: MembershipMonitor, service: Service, *, max_poll_seconds: float) -> Watchdog:
    """Return the watchdog over the event loop, the polling, and the work in flight."""
    progress, meters = service.progress, service.meters
    limits = [
        WatchdogLimit(name="loop", read=beat.age_seconds, max_seconds=_MAX_LOOP_SECONDS),
        WatchdogLimit(name="poll", read=monitor.stuck_seconds, max_seconds=max_poll_seconds),
        WatchdogLimit(name="work", read=lambda: progress.oldest_seconds, max_seconds=_MAX_WORK_SECONDS),
    ]
    for limit in limits:
        meters.count("vqmon.watchdog.breach", 0, what=limit.name)
    return Watchdog(
        limits,
        on_healthy=lambda: sd_notify("WATCHDOG=1"),
        on_breach=lambda name: meters.count("vqmon.watchdog.breach", what=name),
    )
