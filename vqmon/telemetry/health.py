"""Reports the daemon's health to systemd (sd_notify), to probes (/healthz, /readyz) and to Prometheus (/metrics)."""

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Sequence
from http import HTTPStatus
from types import TracebackType

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest

from vqmon.connections import ConnectionLimits, ConnectionTable
from vqmon.errors import SettingsError

_LIMITS = ConnectionLimits(total=64, per_client=64, request_seconds=5.0, write_seconds=5.0)
_MAX_REQUEST_BYTES = 8192


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


def metrics_text() -> tuple[str, bytes]:
    """All metrics of the process as (content type, text) of Prometheus."""
    return CONTENT_TYPE_LATEST, generate_latest(REGISTRY)


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
        # what does not keep it from being ready; "" = nothing
        self.warning = ""

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
    """Serves /healthz, /readyz and /metrics in a thread of its own, so that it answers while the event loop is busy.

    A request must arrive within five seconds and be at most 8 kB; of more than 64 connections the oldest half-open ones
    are dropped. Raises SettingsError for an address that it cannot listen on.
    """

    def __init__(self, host: str, port: int, *, progress: ProgressTracker) -> None:
        self._progress = progress
        try:
            self._socket = socket.create_server((host, port), family=_family(host), backlog=256)
        except OSError as error:
            # the text of a refused address holds it once more
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
            remedy = "set daemon.health_port or daemon.health_host"
            raise SettingsError(f"cannot listen on {host}:{port}: {reason}; {remedy}") from error
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="health", daemon=True)

    @property
    def port(self) -> int:
        """The port that the server listens on, also when 0 was asked for."""
        return int(self._socket.getsockname()[1])

    def __enter__(self) -> "HealthServer":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)

    def _serve(self) -> None:
        loop, connections = self._loop, ConnectionTable(_LIMITS)
        asyncio.set_event_loop(loop)
        server = loop.run_until_complete(
            loop.create_server(lambda: connections.guard(_HealthProtocol(self._progress)), sock=self._socket)
        )
        loop.run_forever()
        server.close()
        connections.close()
        # the loop tells the closed connections
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


class _HealthProtocol(asyncio.Protocol):
    """Answers one GET request, and closes."""

    def __init__(self, progress: ProgressTracker) -> None:
        self._progress = progress
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        self._received += data
        if b"\r\n\r\n" in self._received or b"\n\n" in self._received:
            self._answer(*self._respond(self._received.split(b"\n", 1)[0].decode("latin-1").split()))
        elif len(self._received) > _MAX_REQUEST_BYTES:
            self._answer(431, "text/plain", b"the request is too large\n")

    def _respond(self, request: Sequence[str]) -> tuple[int, str, bytes]:
        """(status, content type, body) for the words of a request line."""
        if len(request) != 3 or not request[2].startswith("HTTP/"):
            return 400, "text/plain", b"this is no HTTP request\n"
        if request[0] not in ("GET", "HEAD"):
            return 405, "text/plain", b"only GET and HEAD are answered\n"
        path, progress = request[1].split("?")[0], self._progress
        if path == "/metrics":
            return 200, *metrics_text()
        if path == "/healthz":
            text = f"oldest work {progress.oldest_seconds:.1f} s\n"
            return (200 if progress.is_alive else 503), "text/plain", text.encode()
        if path == "/readyz":
            problem = progress.problem or ("" if progress.is_ready else "starting")
            ready = f"ready, but {progress.warning}" if progress.warning else "ready"
            return (503 if problem else 200), "text/plain", f"{problem or ready}\n".encode()
        return 404, "text/plain", b"try /healthz, /readyz or /metrics\n"

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: {content_type}\r\n"
        head += f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        self._transport.write(head.encode() + (b"" if self._received.startswith(b"HEAD ") else body))
        self._transport.close()
