"""Receivers of alerts on loopback: a real Alertmanager, and an HTTP server that notes what it is sent."""

import gzip
import json
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.ports import free_port

GROUPING = """
route:
  receiver: hook
  group_by: [{by}]
  group_wait: {wait}
  group_interval: {interval}
  repeat_interval: 4h
receivers:
  - name: hook
    webhook_configs:
      - url: {url}
        send_resolved: true
"""


class Receiver:
    """What came, as (path, headers, body, seconds), and how it is answered."""

    def __init__(self) -> None:
        self.came: list[tuple[str, dict[str, str], bytes, float]] = []
        # status and headers of the next answers; then 200
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.url = ""

    @property
    def notifications(self) -> list[dict[str, Any]]:
        """The bodies as JSON."""
        return [json.loads(body) for _, _, body, _ in list(self.came)]

    @property
    def firing(self) -> set[str]:
        """The ids of alerts that a notification of Alertmanager said were firing."""
        alerts = (alert for notification in self.notifications for alert in notification["alerts"])
        return {alert["annotations"]["alert_id"] for alert in alerts if alert["status"] == "firing"}


def posted_body(handler: BaseHTTPRequestHandler) -> bytes:
    """The body of the request that a handler answers, decompressed."""
    body = handler.rfile.read(int(handler.headers["Content-Length"]))
    return gzip.decompress(body) if handler.headers.get("Content-Encoding") == "gzip" else body


@contextmanager
def served(server: ThreadingHTTPServer) -> Iterator[None]:
    """The server answers in a thread of its own meanwhile."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()


@contextmanager
def receiving() -> Iterator[Receiver]:
    """An HTTP server on a free loopback port; a GET answers with `firing`, for other processes."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.came.append((self.path, dict(self.headers), body, time.monotonic()))
            status, headers = receiver.answers.pop(0) if receiver.answers else (200, {})
            self.send_response(status)
            for name, value in {"Content-Length": "2", **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"ok")

        def do_GET(self) -> None:
            body = json.dumps(sorted(receiver.firing)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            # Who is killed while it sends leaves a broken connection.
            return

    with Server(("127.0.0.1", 0), Handler) as server:
        receiver.url = f"http://127.0.0.1:{server.server_address[1]}"
        with served(server):
            yield receiver


class RunningAlertmanager:
    """One replica; its API as tests ask it."""

    def __init__(self, url: str) -> None:
        self.url = url

    def alerts(self, query: str = "") -> list[dict[str, Any]]:
        """What it holds as active."""
        with urllib.request.urlopen(f"{self.url}/api/v2/alerts{query}", timeout=5) as answer:
            alerts: list[dict[str, Any]] = json.load(answer)
        return alerts

    def metric(self, name: str) -> float:
        """The sum of one of its own metrics."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.split("{")[0].split(" ")[0] == name)


@contextmanager
def alertmanager_at(
    program: str,
    folder: Path,
    *,
    hook: str = "http://127.0.0.1:9/",
    wait: str = "1s",
    interval: str = "1s",
    by: str = "stream, alertname",
    port: int = 0,
) -> Iterator[RunningAlertmanager]:
    """Start a replica that tells a webhook of groups, on a port of its own unless one is given."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "alertmanager.yml"
    config.write_text(GROUPING.format(url=hook, wait=wait, interval=interval, by=by), encoding="utf-8")
    port = port or free_port()
    command = [
        program,
        f"--config.file={config}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
        "--log.level=error",
    ]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            running = RunningAlertmanager(f"http://127.0.0.1:{port}")
            wait_until(lambda: _is_ready(running.url), seconds=120)
            yield running
        finally:
            process.kill()


def wait_until(holds: Callable[[], object], *, seconds: float = 20.0) -> None:
    """Wait until something holds; TimeoutError when it does not."""
    ends = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > ends:
            raise TimeoutError(f"does not hold within {seconds:g} s")
        time.sleep(0.02)


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
