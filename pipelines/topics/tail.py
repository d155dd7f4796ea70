"""Follows the outcomes and alerts of a fleet on their topics, without a consumer group: `vqmon tail`."""

import logging
import math
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import Literal, Protocol

from pipelines.service.brokers import connection_of, quiet_client_log, topic_names
from vqmon.core.types import Alert, Outcome, SegmentFailure
from vqmon.errors import WireError
from vqmon.settings.load import Settings
from vqmon.telemetry.logs import log_event
from vqmon.transport.kafka import ClientConfig
from vqmon.transport.kafka.reader import open_topic_consumer
from vqmon.transport.kafka.records import Record
from vqmon.transport.wire import cloudevents
from vqmon.transport.wire.control_messages import is_control_message

log = logging.getLogger("vqmon.tail")

_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """An outcome or an alert, and the CloudEvent in which it came."""

    value: Outcome | Alert
    document: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictFilter:
    """Which verdicts are wanted; an empty collection accepts all."""

    streams: Collection[str] = ()
    renditions: Collection[str] = ()
    # "unscored": no scored outcomes and no alerts
    kinds: Literal["all", "unscored"] = "all"

    def accepts(self, value: Outcome | Alert) -> bool:
        """Whether this outcome or alert is wanted."""
        if self.kinds == "unscored" and not isinstance(value, SegmentFailure):
            return False
        if isinstance(value, Alert):
            stream_id, rendition = value.stream_id, value.rendition
        else:
            stream_id, rendition = value.segment.rendition.stream_id, value.segment.rendition.name
        return (not self.streams or stream_id in self.streams) and (not self.renditions or rendition in self.renditions)


class _TopicConsumer(Protocol):
    async def poll(self, *, seconds: float) -> Sequence[Record]: ...


class _OpenConsumer(Protocol):
    def __call__(
        self, config: ClientConfig, topic: str, *, offsets: Mapping[int, int], start: Literal["oldest", "newest"]
    ) -> AbstractAsyncContextManager[_TopicConsumer]: ...


async def follow_fleet(
    settings: Settings,
    *,
    start: Literal["oldest", "newest"],
    wanted: VerdictFilter,
    for_seconds: float | None,
    open_consumer: _OpenConsumer = open_topic_consumer,
) -> AsyncIterator[Verdict]:
    """Yield the wanted verdicts of a fleet as they come, for `for_seconds` from when both topics are open, or for ever.

    It begins with the oldest records that the topics hold, or with those that come from now on. Each partition is in
    its order; outcomes and alerts are two topics, so an alert may come before the outcome that opened it. Raises
    BrokerError when the brokers cannot be reached or a topic does not exist.
    """
    quiet_client_log()
    names, connection = topic_names(settings.kafka), connection_of(settings.kafka)
    async with AsyncExitStack() as stack:
        outcomes, alerts = [
            await stack.enter_async_context(open_consumer(connection, topic, offsets={}, start=start))
            for topic in (names.quality, names.alerts)
        ]
        ends_at = math.inf if for_seconds is None else time.monotonic() + for_seconds
        while (left_seconds := ends_at - time.monotonic()) > 0:
            polled = {
                names.quality: await outcomes.poll(seconds=min(_POLL_SECONDS, left_seconds)),
                # Those that have arrived meanwhile: one wait is enough for both topics.
                names.alerts: await alerts.poll(seconds=0.0),
            }
            for topic, records in polled.items():
                for record in records:
                    verdict = parse_verdict(record, topic, is_alert=topic == names.alerts)
                    if verdict is not None and wanted.accepts(verdict.value):
                        yield verdict


def parse_verdict(record: Record, topic: str, *, is_alert: bool = False) -> Verdict | None:
    """The verdict in a record; None for ends and markers, and, with a warning, for what cannot be read."""
    if is_control_message(record.headers_by_name()):
        return None
    document = record.value or b""
    try:
        value = cloudevents.parse_alert(document) if is_alert else cloudevents.parse_outcome(document)
    except WireError as error:
        place = f"{topic}/{record.partition}/{record.offset}"
        log.warning(**log_event("tail.unreadable", record=place, error=error))
        return None
    return Verdict(value=value, document=document.decode())
