"""Signs of health: sd_notify datagrams, progress of the work, and the HTTP endpoints."""

import socket
import urllib.error
import urllib.request
from pathlib import Path

from vqmon.telemetry.health import HealthServer, ProgressTracker, sd_notify


def test_sd_notify_reaches_a_path_and_an_abstract_socket(tmp_path: Path) -> None:
    """Without a receiver it returns False."""
    for address in (str(tmp_path / "n"), "@vqmon-test-notify"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            listener.bind(address.replace("@", "\0"))
            listener.settimeout(5)

            assert sd_notify("READY=1", address=address)
            assert listener.recv(100) == b"READY=1"
    assert not sd_notify("READY=1", address=str(tmp_path / "gone"))
    assert not sd_notify("READY=1", address="")


def test_progress_stalls_only_with_old_work_in_flight() -> None:
    """An idle daemon is alive."""
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
    """/readyz follows readiness, /healthz follows progress, any other path is a 404."""
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
        progress.problem = "the history cannot be written"
        assert status("/readyz") == 503
        progress.problem = ""
        assert status("/readyz") == 200
