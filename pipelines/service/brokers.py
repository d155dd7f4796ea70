"""Connects to the Kafka of the settings: waits for brokers, checks topics, decides where a partition resumes."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Literal, TypeVar

from vqmon.errors import BrokerError, SettingsError
from vqmon.flow import wait_or_stop
from vqmon.settings.sections import KafkaSettings
from vqmon.telemetry.logs import log_event
from vqmon.transport.kafka import ClientConfig, TopicNames, TopicSpec, check_topics, topic_specs
from vqmon.transport.kafka.records import PartitionOffsets
from vqmon.transport.secrets import read_secret

log = logging.getLogger("vqmon.fleet")

RETRY_SECONDS = 5.0
"""How long to wait between two attempts to reach the brokers."""

WhenLost = Literal["stop", "go_on"]
"""What to do when the topic deleted records before they were read: refuse to start, or accept the gap."""

Answer = TypeVar("Answer")


def connection_of(kafka: KafkaSettings) -> ClientConfig:
    """Return how to reach the brokers; reads the password file. Raises SettingsError when the login is incomplete."""
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
        password=read_secret(kafka.password_file, setting="kafka.password_file") if kafka.password_file else "",
    )


def topic_names(kafka: KafkaSettings) -> TopicNames:
    """Return the names of the deployment's topics."""
    return TopicNames.from_prefix(kafka.prefix, kafka.group)


def topic_specs_of(kafka: KafkaSettings) -> list[TopicSpec]:
    """Return what each topic of the deployment must be like."""
    plans = topic_specs(
        topic_names(kafka),
        partitions=kafka.partitions,
        replication_factor=kafka.copies,
        max_message_bytes=kafka.max_message_bytes,
    )
    return list(plans)


def quiet_client_log() -> None:
    """Silence the Kafka client: while brokers are away it logs many lines per second, and we log one."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


async def retry_until_reachable(request: Callable[[], Awaitable[Answer]], stop: asyncio.Event) -> Answer | None:
    """Repeat a request until a broker answers it; None when the stop comes first."""
    while not stop.is_set():
        try:
            return await request()
        except BrokerError as error:
            log.warning(**log_event("kafka.unreachable", error=error, again_seconds=RETRY_SECONDS))
            await wait_or_stop(stop, RETRY_SECONDS)
    return None


async def wait_for_topics(
    connection: ClientConfig, kafka: KafkaSettings, stop: asyncio.Event, *, only: Collection[str] = ()
) -> None:
    """Wait until the brokers answer or the stop, then check the topics: those named in `only`, by default all.

    Raises SettingsError with what is wrong and what to run, for problems with which a worker cannot work; others are
    logged.
    """
    plans = [plan for plan in topic_specs_of(kafka) if not only or plan.name in only]
    problems = await retry_until_reachable(lambda: check_topics(connection, plans), stop)
    for problem in problems or ():
        if not problem.is_fatal:
            log.warning(**log_event("topic.problem", problem=problem.text, remedy=problem.remedy))
    if fatal := [problem for problem in problems or () if problem.is_fatal]:
        raise SettingsError("\n".join(f"kafka: {problem}" for problem in fatal))


def resume_offset(stored: int | None, offsets: PartitionOffsets, when_lost: WhenLost, *, partition: str) -> int:
    """Return the offset from which a partition is read on, given the offset that was stored for it.

    None means that nothing was stored: reading starts with the oldest record. An offset above the stored one means that
    records were lost and the settings accept that. Raises BrokerError when the stored offset lies beyond the end of the
    topic: a new leader may not know yet how far the old one was, or it is another topic of the same name. Raises
    SettingsError when records were deleted before they were read and `when_lost` is "stop".
    """
    if stored is None:
        return offsets.beginning
    if offsets.beginning <= stored <= offsets.end:
        return stored
    mismatch = (
        f"{partition}: the stored offset is {stored}, but the topic holds offsets {offsets.beginning} to {offsets.end}"
    )
    if stored > offsets.end:
        raise BrokerError(f"{mismatch}: is it another topic of the same name?")
    if when_lost == "stop":
        raise SettingsError(
            f'{mismatch}: records were deleted before they were read; set kafka.when_lost = "go_on" to accept the gap'
        )
    return offsets.beginning
