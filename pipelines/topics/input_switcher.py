"""Decides about the inputs of the streams of a fleet, by the outcomes on their topic: `vqmon switch-inputs`."""

import logging
from contextlib import AsyncExitStack

from pipelines.service.brokers import RETRY_SECONDS, connection_of, quiet_client_log, topic_names
from pipelines.service.delivery.inputs import InputDecider, open_input_decider
from pipelines.service.history_thread import open_history_thread
from pipelines.service.lifecycle import Service, open_service
from pipelines.topics.tail import parse_verdict
from vqmon.core.types import Alert
from vqmon.errors import BrokerError, SettingsError
from vqmon.flow import wait_or_stop
from vqmon.settings.load import Settings
from vqmon.telemetry.logs import log_event
from vqmon.transport.history.history import open_history
from vqmon.transport.kafka.reader import open_topic_consumer

log = logging.getLogger("vqmon.act")

_POLL_SECONDS = 0.2
_DRAIN_SECONDS = 10.0


async def run(settings: Settings, *, for_seconds: float | None = None) -> None:
    """Read the outcomes of a fleet from now on, and decide about inputs, until SIGTERM, SIGINT or `for_seconds`.

    Decisions are recorded in the history that the recorder writes. Raises SettingsError without a hook or a history.
    """
    if not settings.inputs.hooks:
        raise SettingsError("inputs: there is no hook; set [inputs.hooks.NAME]")
    if settings.source.kind != "kafka":
        raise SettingsError('inputs: for source.kind = "kafka" only; on one host `vqmon run` decides about inputs')
    quiet_client_log()
    with open_history(settings.history.location, mode="read"):
        # raises when the recorder has not made it yet
        pass
    async with AsyncExitStack() as stack:
        service = stack.enter_context(open_service(settings.daemon))
        thread = stack.enter_context(open_history_thread(settings.history.location, mode="annotate"))
        decider = await stack.enter_async_context(open_input_decider(settings, thread, meters=service.meters))
        assert decider is not None
        stack.enter_context(service.watchdog_pings())
        async with service.serving(for_seconds=for_seconds, drain_seconds=_DRAIN_SECONDS):
            while not service.stop.is_set():
                try:
                    await _read_outcomes(settings, decider, service)
                except BrokerError as error:
                    service.progress.is_ready = False
                    service.meters.set("vqmon.kafka.connected", 0)
                    log.warning(**log_event("kafka.unreachable", error=error, again_seconds=RETRY_SECONDS))
                    await wait_or_stop(service.stop, RETRY_SECONDS)
        log.info(**log_event("input.stopped"))


async def _read_outcomes(settings: Settings, decider: InputDecider, service: Service) -> None:
    """Read from the end of the topic on: what was published before is too old to act on."""
    topic = topic_names(settings.kafka).quality
    async with open_topic_consumer(connection_of(settings.kafka), topic, offsets={}, start="newest") as consumer:
        service.meters.set("vqmon.kafka.connected", 1)
        service.progress.is_ready = True
        log.info(**log_event("input.reading", topic=topic))
        while not service.stop.is_set():
            verdicts = [parse_verdict(record, topic) for record in await consumer.poll(seconds=_POLL_SECONDS)]
            outcomes = [verdict.value for verdict in verdicts if verdict is not None]
            decider.consider([outcome for outcome in outcomes if not isinstance(outcome, Alert)])
