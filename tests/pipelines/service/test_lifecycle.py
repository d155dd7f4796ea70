"""Opening, stopping and draining of a long-running command, and what it counts."""

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.request import urlopen

import pytest

from pipelines.service.lifecycle import Service, call_every, counting_callback, open_service, release_signals
from tests import factories
from tests.otlp_receiver import OtlpReceiver
from tests.ports import free_port
from tests.receivers import served
from vqmon.core.types import Alert, Outcome
from vqmon.settings.load import Settings
from vqmon.settings.sections import DaemonSettings, MetricsSettings
from vqmon.telemetry.health import ProgressTracker
from vqmon.telemetry.metrics import Meters, MetricName
from vqmon.telemetry.otlp import span

FAILURE = factories.failure(reason="file")
EVENT = factories.event()
ALERT = factories.alert()


class CountingMeters(Meters):
    """Remembers what was counted."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[tuple[str, ...], float] = {}
        self.supplied: dict[str, Callable[[], Iterable[tuple[float, Mapping[str, str]]]]] = {}

    def count(self, name: MetricName, amount: int = 1, **labels: str) -> None:
        key = (name, *labels.values())
        self.counts[key] = self.counts.get(key, 0) + amount

    def supply(self, name: MetricName, read: Callable[[], Iterable[tuple[float, Mapping[str, str]]]]) -> None:
        self.supplied[name] = read


def make_service() -> Service:
    return Service(meters=CountingMeters(), progress=ProgressTracker(lambda: 0.0))


async def test_a_body_that_ends_by_itself_is_not_stopped() -> None:
    """The end of every source ends the command."""
    service = make_service()
    async with service.serving(for_seconds=None, drain_seconds=30.0):
        pass
    assert not service.stop.is_set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_asks_the_body_to_stop(number: signal.Signals) -> None:
    """The body sees the stop and ends in its own time, and the handlers are gone afterwards."""
    service = make_service()
    async with service.serving(for_seconds=None, drain_seconds=30.0):
        os.kill(os.getpid(), number)
        async with asyncio.timeout(20):
            await service.stop.wait()
    assert not asyncio.get_running_loop().remove_signal_handler(number)


async def test_a_reload_stops_the_body_and_not_the_command() -> None:
    """Only when the settings are in order; the signals stay caught for the next turn, and a stop wins."""
    service, answers = make_service(), [False, True]
    async with service.serving(for_seconds=None, drain_seconds=30.0, request_reload=lambda: answers.pop(0)):
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0.05)
        assert not service.stop.is_set()
        os.kill(os.getpid(), signal.SIGHUP)
        async with asyncio.timeout(20):
            await service.stop.wait()
    assert not service.ending.is_set()
    os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(20):
        await service.ending.wait()
    os.kill(os.getpid(), signal.SIGHUP)
    await asyncio.sleep(0.05)
    assert answers == []
    release_signals()
    for number in (signal.SIGTERM, signal.SIGHUP):
        assert not asyncio.get_running_loop().remove_signal_handler(number)


async def test_a_body_that_does_not_stop_is_cancelled_when_the_drain_time_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log says how many segments are left to the next start."""
    service = make_service()
    service.progress.begin()
    async with asyncio.timeout(20), service.serving(for_seconds=0.0, drain_seconds=0.0):
        await asyncio.Event().wait()
    assert service.stop.is_set()
    (record,) = [record for record in caplog.records if record.getMessage() == "daemon.drain_cut"]
    assert record.levelno == logging.WARNING


async def test_a_timeout_of_the_body_itself_is_an_error() -> None:
    """Only the end of the drain time ends the command in good order."""
    with pytest.raises(TimeoutError, match="own"):
        async with make_service().serving(for_seconds=None, drain_seconds=30.0):
            raise TimeoutError("own")


async def test_the_health_server_reports_readiness() -> None:
    """It runs while the service is open, and only when the settings give it a port."""
    with open_service(DaemonSettings()) as service:
        assert not service.progress.is_ready
    port = free_port()
    with open_service(DaemonSettings(health_port=port)) as service:
        service.progress.is_ready = True
        answer = await asyncio.to_thread(lambda: urlopen(f"http://127.0.0.1:{port}/readyz").read())
    assert answer == b"ready\n"


def test_a_receiver_that_is_away_delays_the_end_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traces, metrics and logs are sent at the same time when the service closes."""
    all_here = threading.Barrier(3)

    class MeetingReceiver(OtlpReceiver):
        def process_request_thread(self, request: Any, client_address: Any) -> None:
            all_here.wait(timeout=10)
            super().process_request_thread(request, client_address)

    with MeetingReceiver() as server, served(server):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.url)
        with open_service(DaemonSettings()) as service, span("observe"):
            service.meters.count("vqmon.slo.total")
            logging.getLogger("vqmon.daemon").error("daemon.tried")
    assert not all_here.broken
    assert (len(server.spans), len(server.log_records), len(server.metrics)) == (1, 1, 1)


async def test_callbacks_repeat_until_the_context_ends() -> None:
    """Each call schedules the next; after the context nothing is called."""
    calls: list[int] = []
    third = asyncio.Event()

    def callback() -> None:
        calls.append(1)
        if len(calls) == 3:
            third.set()

    with call_every(0.0, callback):
        async with asyncio.timeout(20):
            await third.wait()
    count = len(calls)
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(calls) == count


@pytest.mark.parametrize(("slo_floor", "good"), [(0.0, 1), (100.0, 0)])
def test_outcomes_are_counted_and_passed_on(slo_floor: float, good: int) -> None:
    """An unscored segment never counts as good; a scored one does from the floor on."""
    service = make_service()
    published: list[tuple[Sequence[Outcome], Sequence[Alert]]] = []
    callback = counting_callback(
        service,
        lambda outcomes, alerts: published.append((outcomes, alerts)),
        Settings(daemon=DaemonSettings(slo_floor=slo_floor), metrics=MetricsSettings(streams=("*",))),
    )
    callback([EVENT, FAILURE], [ALERT])
    assert published == [([EVENT, FAILURE], [ALERT])]
    assert isinstance(service.meters, CountingMeters)
    counts = service.meters.counts
    assert [value for value, _ in service.meters.supplied["vqmon.stream.unscored"]()] == [0.5]
    assert counts["vqmon.slo.total",] == 2
    assert counts["vqmon.slo.good",] == good
    assert counts["vqmon.segment.count", "scored", ""] == 1
    assert counts["vqmon.segment.count", "unscored", "file"] == 1
    assert counts["vqmon.alert.transition", ALERT.state, ALERT.severity] == 1


def test_alerts_are_logged_as_warnings_only_when_nobody_else_gets_them(caplog: pytest.LogCaptureFixture) -> None:
    """A callback prints or delivers them itself."""
    caplog.set_level(logging.DEBUG, logger="vqmon.daemon")
    for on_publish in (None, lambda outcomes, alerts: None):
        counting_callback(make_service(), on_publish, Settings())([FAILURE], [ALERT])
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.DEBUG]


def test_a_playlist_that_fails_is_one_line_per_change(caplog: pytest.LogCaptureFixture) -> None:
    """Not one per failure; another reason is a change, how long it lasts is none; the end of it is logged too."""
    caplog.set_level(logging.INFO, logger="vqmon.daemon")
    callback = counting_callback(make_service(), None, Settings())
    listed, unlisted = (factories.rendition(stream="news", name=name) for name in ("720p", "playlist"))
    for rendition, reason, detail in (
        (unlisted, "playlist", "unreachable: origin.example"),
        (unlisted, "playlist", "unreachable: origin.example"),
        (unlisted, "playlist", "not_found: HTTP 404"),
        (listed, "stale", "no new segment for 12 s"),
        (listed, "stale", "no new segment for 24 s"),
    ):
        failure = replace(
            factories.failure(segment=factories.segment(rendition=rendition), reason=reason), detail=detail
        )
        callback([failure], [])
    callback([factories.event(segment=factories.segment(rendition=listed))], [])
    lines = [(record.levelno, record.getMessage()) for record in caplog.records]
    assert [level for level, _ in lines] == [logging.WARNING] * 3 + [logging.INFO] * 2
    assert "not_found: HTTP 404" in str(caplog.records[1].__dict__)
