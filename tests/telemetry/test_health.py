"""Signs of health: sd_notify datagrams, progress of the work, and the HTTP endpoints."""

import socket
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pytest

from vqmon.errors import SettingsError
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


def test_an_address_that_is_taken_or_unknown_is_a_wrong_setting() -> None:
    """Pages and daemon may have been given one port."""
    progress = ProgressTracker(lambda: 0.0, stall_seconds=10)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for host, port in (("127.0.0.1", taken.getsockname()[1]), ("192.0.2.1", 9464), ("no-host.invalid", 9464)):
            with pytest.raises(SettingsError, match=rf"^cannot listen on {host}:{port}: .+; set daemon.health_port"):
                HealthServer(host, port, progress=progress)


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


def test_half_open_connections_do_not_keep_probes_out() -> None:
    """400 clients that never finish their request leave 64 places, of which a probe gets one at once."""
    with HealthServer("127.0.0.1", 0, progress=ProgressTracker(lambda: 0.0)) as server, ExitStack() as stack:
        for _ in range(400):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=5))
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: a")
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/healthz", timeout=5) as answer:
            assert answer.status == 200


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [(b"nonsense\r\n\r\n", 400), (b"POST / HTTP/1.1\r\n\r\n", 405), (b"GET /" + b"a" * 9000, 431)],
)
def test_wrong_requests_are_refused(request_bytes: bytes, status: int) -> None:
    """No request line, another method, a request without an end."""
    with (
        HealthServer("127.0.0.1", 0, progress=ProgressTracker(lambda: 0.0)) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=5) as client,
    ):
        client.sendall(request_bytes)
        assert client.recv(100).startswith(f"HTTP/1.1 {status} ".encode())
