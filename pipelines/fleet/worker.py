"""The daemon in its fleet form: a worker of a Kafka consumer group."""

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

from opentelemetry.exporter.prometheus import PrometheusMetricReader

from pipelines.fleet.judging import Observe
from pipelines.fleet.membership import SILENT_SECONDS, Member
from pipelines.fleet.origin_backoff import MediaRoom, Origins
from pipelines.fleet.subscriptions import Memberships, speaker_of
from pipelines.observe.observer import Observation
from pipelines.service.lifecycle import Told, every, stopping, telling
from vqmon.core.alerts.judge import AlertRule
from vqmon.core.types import Segment
from vqmon.errors import BrokerError, SettingsError
from vqmon.flow import together, wait_or_stop
from vqmon.settings.load import Settings
from vqmon.settings.sections import KafkaSettings
from vqmon.telemetry.health import HealthServer, ProgressTracker, sd_notify
from vqmon.telemetry.logs import log_event
from vqmon.telemetry.metrics import Meters
from vqmon.telemetry.watchdog import Heartbeat, Watchdog, WatchdogLimit
from vqmon.transport.kafka import ClientConfig, TopicNames, check_topics, max_record_bytes, topic_specs
from vqmon.transport.secrets import read_secret

log = logging.getLogger("vqmon.fleet")

CLOSING_SECONDS = 8.0
"""Of the time for draining, what closing producers and leaving the group may take."""

LOOK_SECONDS = 1.0
RETRY_SECONDS = 5.0
BEAT_SECONDS = 0.5


async def run(settings: Settings, *, for_seconds: float | None = None, told: Told | None = None) -> None:
    """Work for the group until SIGTERM, SIGINT or `for_seconds`: the map of the fleet form.

    On a stop nothing more is taken, what is in flight is finished and written, and the partitions go to the others.
    """
    from pipelines.service.wiring import fetch_policy, load_rules, open_observer
    from vqmon.media.fetch.fetcher import Fetcher

    progress, meters = ProgressTracker(time.monotonic), Meters(PrometheusMetricReader())
    async with AsyncExitStack() as stack:
        stack.callback(meters.close)
        health = settings.daemon
        if health.health_port:
            stack.enter_context(HealthServer(health.health_host, health.health_port, progress=progress))
        fetcher = await stack.enter_async_context(Fetcher(fetch_policy(settings)))
        observer = await stack.enter_async_context(open_observer(settings, fetcher=fetcher, meters=meters))
        room = MediaRoom(observer.fetch, max_bytes=settings.kafka.max_media_bytes)
        observer = replace(observer, fetch=room.fetch)

        async def observe(segment: Segment) -> Observation:
            try:
                return await observer.observe(segment)
            finally:
                room.release(segment)

        origins = Origins(
            observe,
            places=asyncio.Semaphore(settings.in_flight),
            progress=progress,
            now=time.monotonic,
            patience_seconds=settings.kafka.patience_seconds,
            closed=lambda count: meters.set("vqmon.origin.closed", count),
        )
        await serve(
            settings,
            observe=origins.observe,
            rules=load_rules(settings),
            progress=progress,
            meters=meters,
            told=told,
            for_seconds=for_seconds,
        )


async def serve(
    settings: Settings,
    *,
    observe: Observe,
    rules: Sequence[AlertRule],
    progress: ProgressTracker,
    meters: Meters,
    told: Told | None = None,
    for_seconds: float | None = None,
) -> None:
    """The worker around whatever looks at segments."""
    stop, kafka = asyncio.Event(), settings.kafka
    # What it says while brokers are away is many lines per second; we say it in one.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    connection = connection_of(kafka)
    watch = _Watch(progress, meters)
    told = telling(meters, progress, told, slo_floor=settings.daemon.slo_floor)
    drain_seconds = max(1.0, settings.daemon.drain_seconds - CLOSING_SECONDS)
    beat = Heartbeat()
    with (
        stopping(stop, for_seconds, drain_seconds) as limit,
        every(LOOK_SECONDS, watch.look),
        every(BEAT_SECONDS, beat.beat),
        _watchdog(beat, watch, progress, meters, polls_within=kafka.rebalance_seconds + 60.0),
    ):
        # Up, though perhaps without brokers yet: starting again would not help, and /readyz tells.
        sd_notify("READY=1")
        try:
            async with limit:
                speaker = speaker_of(kafka, max_rejected_bytes=await _wait_for_topics(connection, kafka, stop))
                work = Memberships(kafka, connection, speaker, rules=rules, meters=meters, told=told)
                floors = work.floors(observe)
                await together(work.stay(topic, floor, stop=stop, seen=watch.see) for topic, floor in floors.items())
        except TimeoutError:
            log.warning(**log_event("daemon.drain_cut", left=progress.in_flight))
    log.info(**log_event("daemon.stopped"))


def _watchdog(
    beat: Heartbeat, watch: "_Watch", progress: ProgressTracker, meters: Meters, *, polls_within: float
) -> Watchdog:
    """Sees a blocked loop, polling that stands still, and work that does not end."""
    return Watchdog(
        [
            WatchdogLimit(name="loop", read=beat.age_seconds, max_seconds=5.0),
            WatchdogLimit(name="poll", read=watch.stuck_seconds, max_seconds=polls_within),
            WatchdogLimit(name="work", read=lambda: progress.oldest_seconds, max_seconds=120.0),
        ],
        on_healthy=lambda: sd_notify("WATCHDOG=1"),
        on_breach=lambda name: meters.count("vqmon.watchdog.breach", what=name),
    )


def connection_of(kafka: KafkaSettings) -> ClientConfig:
    """Where the brokers are; the password is read from its file now."""
    if kafka.mechanism and not (kafka.username and kafka.password_file):
        raise SettingsError(f"kafka.mechanism: {kafka.mechanism} needs kafka.username and kafka.password_file too")
    return ClientConfig(
        bootstrap=kafka.bootstrap,
        is_encrypted=kafka.encrypted,
        ca_file=kafka.ca_file,
        cert_file=kafka.cert_file,
        key_file=kafka.key_file,
        mechanism=kafka.mechanism,
        username=kafka.username,
        password=read_secret(kafka.password_file) if kafka.password_file else "",
    )


async def _wait_for_topics(connection: ClientConfig, kafka: KafkaSettings, stop: asyncio.Event) -> int:
    """Wait for the brokers, then refuse topics that are not what they must be; gives what the rejected topic takes."""
    names = TopicNames.from_prefix(kafka.prefix, kafka.group)
    plans = topic_specs(
        names, partitions=kafka.partitions, replication_factor=kafka.copies, max_message_bytes=kafka.max_message_bytes
    )
    while not stop.is_set():
        try:
            wrong = await check_topics(connection, plans)
            if not wrong:
                return await max_record_bytes(connection, names.rejected)
        except BrokerError as error:
            log.warning(**log_event("kafka.unreachable", error=error, again_seconds=RETRY_SECONDS))
            await wait_or_stop(stop, RETRY_SECONDS)
            continue
        raise SettingsError("\n".join(f"kafka: {problem}" for problem in wrong))
    return kafka.max_message_bytes


class _Watch:
    """Looks at the memberships every so often and says how they are."""

    def __init__(self, progress: ProgressTracker, meters: Meters) -> None:
        self._progress = progress
        self._meters = meters
        # the newest of each topic
        self._members: dict[str, Member] = {}
        self._is_connected = True

    def see(self, topic: str, member: Member) -> None:
        """This is the membership from now on."""
        self._members[topic] = member

    def stuck_seconds(self) -> float:
        """How long polling has stood still."""
        return max((member.stuck_seconds() for member in self._members.values()), default=0.0)

    def look(self) -> None:
        """Set the gauges; say when the brokers fall silent and when they speak again."""
        if not self._members:
            return
        members = list(self._members.values())
        silent_seconds = max(member.silent_seconds() for member in members)
        is_connected = silent_seconds < SILENT_SECONDS
        if is_connected != self._is_connected:
            self._is_connected = is_connected
            told = log_event("kafka.connected" if is_connected else "kafka.unreachable", silent_seconds=silent_seconds)
            log.warning(**told)
        lanes = [lane for member in members for lane in member.lanes]
        is_settled = all(member.is_settled for member in members)
        self._progress.is_ready = is_settled and is_connected and not any(lane.is_halted for lane in lanes)
        self._meters.set("vqmon.kafka.connected", int(is_connected))
        self._meters.set("vqmon.kafka.halted", sum(lane.is_halted for lane in lanes))
        for topic, member in self._members.items():
            for partition, lag in member.lags().items():
                self._meters.set("vqmon.kafka.lag", lag, topic=topic, partition=str(partition))
