"""The daemon's own numbers, its log lines and its signs of life."""

import io
import json
import logging
import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from vqmon.telemetry.health import HealthServer, ProgressTracker, sd_notify
from vqmon.telemetry.logs import configure_logging, log_event
from vqmon.telemetry.metrics import METRICS, Meters


def test_every_metric_can_be_used_and_is_read_back_with_its_unit() -> None:
    """Each name of the list arrives at a reader as it is documented."""
    reader = InMemoryMetricReader()
    meters = Meters(reader)
    for name, metric in METRICS.items():
        {"counter": meters.count, "gauge": meters.set, "histogram": meters.record}[metric.kind](name, 1)
    data = reader.get_metrics_data()
    assert data is not None
    read = {m.name: m.unit for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics}
    meters.close()

    assert read == {name: metric.unit for name, metric in METRICS.items()}


def test_the_docs_name_every_metric() -> None:
    """The docs list every metric."""
    text = "".join(file.read_text(encoding="utf-8") for file in (Path(__file__).parents[2] / "docs").glob("*.md"))

    assert [name for name in METRICS if f"`{name}`" not in text] == []


@pytest.mark.parametrize("form", ["text", "json"])
def test_log_lines_carry_their_facts(form: str) -> None:
    """A line has the event's name and its facts, for people or for machines."""
    stream = io.StringIO()
    configure_logging("info", form, stream=stream)  # type: ignore[arg-type]
    logging.getLogger("vqmon.test").warning(**log_event("segment.failed", stage="decode", detail="two words"))
    line = stream.getvalue()
    logging.basicConfig(force=True)

    if form == "text":
        assert 'segment.failed stage=decode detail="two words"' in line
    else:
        assert line.startswith("<4>")
        assert json.loads(line[3:])["stage"] == "decode"


def test_notify_reaches_a_path_and_an_abstract_socket(tmp_path: Path) -> None:
    """One datagram arrives at either kind of address; nobody listening is no error."""
    for address in (str(tmp_path / "n"), "@vqmon-test-notify"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            listener.bind(address.replace("@", "\0"))
            listener.settimeout(5)

            assert sd_notify("READY=1", address=address)
            assert listener.recv(100) == b"READY=1"
    assert not sd_notify("READY=1", address=str(tmp_path / "gone"))
    assert not sd_notify("READY=1", address="")


def test_progress_stalls_only_with_old_work_in_flight() -> None:
    """Idle is alive; work that does not end within the limit is not."""
    now = [0.0]
    progress = ProgressTracker(lambda: now[0], stall_seconds=10)
    now[0] = 100
    assert progress.is_alive

    ticket = progress.begin()
    now[0] = 105
    assert (progress.is_alive, progress.in_flight, progress.oldest_seconds) == (True, 1, 5)
    now[0] = 111
    assert not progress.is_alive
    progress.end(ticket)
    assert (progress.is_alive, progress.in_flight) == (True, 0)


def test_the_health_server_answers_probes_and_scrapes() -> None:
    """/readyz follows readiness, /healthz follows progress, /metrics is text, anything else is a hint."""
    now = [0.0]
    progress = ProgressTracker(lambda: now[0], stall_seconds=10)

    def status(path: str) -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    with HealthServer("127.0.0.1", 0, progress=progress) as server:
        assert [status(p) for p in ("/readyz", "/healthz", "/metrics", "/x")] == [503, 200, 200, 404]
        progress.is_ready = True
        progress.begin()
        now[0] = 11
        assert [status(p) for p in ("/readyz", "/healthz")] == [200, 503]
