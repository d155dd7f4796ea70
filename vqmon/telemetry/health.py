"""Reports the daemon's health to systemd (sd_notify), to probes (/healthz, /readyz) and to Prometheus (/metrics)."""

import os
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest


def sd_notify(state: str, *, address: str | None = None) -> bool:
    """Send one sd_notify(3) datagram, such as `READY=1`; False when there is no receiver.

    `address` is a path, by default `$NOTIFY_SOCKET`; a leading `@` means the abstract namespace.
    """
    address = os.environ.get("NOTIFY_SOCKET") if address is None else address
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
        try:
            out.sendto(state.encode(), address)
        except OSError:
            return False
    return True


class ProgressTracker:
    """Tracks the work in flight; the daemon is alive while none of it is older than `stall_seconds`. Thread-safe."""

    def __init__(self, now: Callable[[], float], *, stall_seconds: float = 120.0) -> None:
        self._now = now
        self._stall_seconds = stall_seconds
        self._started_at: dict[int, float] = {}
        self._last_ticket = 0
        self._lock = threading.Lock()
        self.is_ready = False
        # what keeps a daemon that has started from being ready; "" = nothing
        self.problem = ""

    def begin(self) -> int:
        """Add work that starts now; returns the ticket to pass to `end`."""
        with self._lock:
            self._last_ticket += 1
            self._started_at[self._last_ticket] = self._now()
            return self._last_ticket

    def end(self, ticket: int) -> None:
        """Remove the work of a ticket."""
        with self._lock:
            self._started_at.pop(ticket, None)

    @property
    def in_flight(self) -> int:
        """How many pieces of work have begun and not ended."""
        return len(self._started_at)

    @property
    def oldest_seconds(self) -> float:
        """The age of the oldest work in flight; 0 when idle."""
        with self._lock:
            return self._now() - min(self._started_at.values(), default=self._now())

    @property
    def is_alive(self) -> bool:
        """Whether no work in flight is older than `stall_seconds`."""
        return self.oldest_seconds <= self._stall_seconds


class HealthServer:
    """Serves /healthz, /readyz and /metrics in a thread of its own, so that it answers while the event loop is busy."""

    def __init__(self, host: str, port: int, *, progress: ProgressTracker) -> None:
        self._server = ThreadingHTTPServer((host, port), _handler(progress))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)

    @property
    def port(self) -> int:
        """The port that the server listens on, also when 0 was asked for."""
        return int(self._server.server_address[1])

    def __enter__(self) -> "HealthServer":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)


def _handler(progress: ProgressTracker) -> type[BaseHTTPRequestHandler]:
    def respond(path: str) -> tuple[int, str, bytes]:
        """(status, content type, body)."""
        if path == "/metrics":
            return 200, CONTENT_TYPE_LATEST, generate_latest(REGISTRY)
        if path == "/healthz":
            text = f"oldest work {progress.oldest_seconds:.1f} s\n"
            return (200 if progress.is_alive else 503), "text/plain", text.encode()
        if path == "/readyz":
            problem = progress.problem or ("" if progress.is_ready else "starting")
            return (503 if problem else 200), "text/plain", f"{problem or 'ready'}\n".encode()
        return 404, "text/plain", b"try /healthz, /readyz or /metrics\n"

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, content_type, body = respond(self.path.split("?")[0])
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return

    return Handler
