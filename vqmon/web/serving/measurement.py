"""Counts and times the requests of the pages, and answers the probes and Prometheus."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import anyio
import anyio.to_thread
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vqmon.errors import StoreError
from vqmon.telemetry.health import metrics_text
from vqmon.telemetry.metrics import Meters

_PROBE_SECONDS = 0.9
"""How long a probe waits for the history."""

_MAX_READS = 2
"""Threads that wait for the history, those included that no probe waits for any more."""

_METHODS = ("GET", "HEAD", "POST")
"""Others are counted as one, since a client may invent any."""


class Measurement:
    """ASGI middleware: counts each request by route, method and status, and times it; live events are not timed.

    Must be outside everything that refuses requests. The route of those that reach none is "none".
    """

    def __init__(self, app: ASGIApp, *, meters: Meters, live_count: Callable[[], int]) -> None:
        self._app = app
        self._meters = meters
        self._live_count = live_count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, started_at = 500, time.monotonic()

        async def send_and_see(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._meters.set("vqmon.web.live", self._live_count())
            await send(message)

        try:
            await self._app(scope, receive, send_and_see)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._meters.count("vqmon.web.request.count", route=route, method=method, status=str(status))
            self._meters.set("vqmon.web.live", self._live_count())
            if route != "/live":
                self._meters.record("vqmon.web.request.duration", time.monotonic() - started_at, route=route)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """The answers to probes and to Prometheus, in threads apart from those of the pages."""

    # the number of the newest write of the history; raises StoreError
    read_tip: Callable[[], int]
    meters: Meters
    _thread_limiter: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(_MAX_READS))
    # held until the history answers: the limiter is free again when the probe ends
    _reads: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(_MAX_READS))

    async def healthz(self, request: Request) -> Response:
        """Answer `/healthz`: 200 when the history can be read."""
        tip, problem = await self._read_history()
        return PlainTextResponse(f"{problem or f'history at {tip}'}\n", 503 if problem else 200)

    async def readyz(self, request: Request) -> Response:
        """Answer `/readyz`: 200 when the pages can be served, else 503 with the reason."""
        _, problem = await self._read_history()
        return PlainTextResponse(f"{problem or 'ready'}\n", 503 if problem else 200)

    async def metrics(self, request: Request) -> Response:
        """Answer `/metrics` with the text of Prometheus."""
        await self._read_history()
        content_type, text = await anyio.to_thread.run_sync(metrics_text, limiter=self._thread_limiter)
        return Response(text, headers={"Content-Type": content_type})

    async def _read_history(self) -> tuple[int, str]:
        """(number of the newest write, "") or (0, why the history cannot be read)."""
        tip, problem = 0, f"the history has not answered for {_PROBE_SECONDS} s"
        with anyio.move_on_after(_PROBE_SECONDS):
            try:
                tip = await anyio.to_thread.run_sync(
                    self._read_tip, limiter=self._thread_limiter, abandon_on_cancel=True
                )
                problem = ""
            except StoreError as error:
                problem = f"The history cannot be read: {error}"
        self.meters.set("vqmon.web.history.readable", 0 if problem else 1)
        if not problem:
            self.meters.set("vqmon.web.history.number", tip)
        return tip, problem

    def _read_tip(self) -> int:
        if not self._reads.acquire(blocking=False):
            raise StoreError("earlier probes still wait for it")
        try:
            return self.read_tip()
        finally:
            self._reads.release()
