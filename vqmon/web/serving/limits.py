"""Holds requests to limits: the size of their body, and the time in which it must arrive."""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vqmon.connections import ConnectionTable


class RequestLimits:
    """ASGI middleware, outermost: from its last byte to its answer, a request's connection does not wait for one.

    A body that announces more than `body_bytes` is answered 413. One that turns out larger, or is incomplete after
    `body_seconds`, ends as if the client had gone: the endpoint that reads it gets `ClientDisconnect`.
    """

    def __init__(self, app: ASGIApp, *, connections: ConnectionTable, body_bytes: int, body_seconds: float) -> None:
        self._app = app
        self._connections = connections
        self._body_bytes = body_bytes
        self._body_seconds = body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        # h11 lets through numbers only, of at most 20 digits
        announced_bytes = int(headers.get("content-length", "0"))
        if announced_bytes > self._body_bytes:
            text = f"The body of the request is larger than {self._body_bytes} bytes.\n"
            await PlainTextResponse(text, 413, headers={"Connection": "close"})(scope, receive, send)
            return
        with ExitStack() as lease:
            request = self._connections.request(scope["client"])
            if announced_bytes or "transfer-encoding" in headers:
                bounded = self._bounded(receive, on_complete=lambda: lease.enter_context(request))
                await self._app(scope, bounded, send)
            else:
                lease.enter_context(request)
                await self._app(scope, receive, send)

    def _bounded(self, receive: Receive, *, on_complete: Callable[[], None]) -> Receive:
        deadline = asyncio.get_running_loop().time() + self._body_seconds
        received_bytes, is_complete = 0, False

        async def receive_in_time() -> Message:
            nonlocal received_bytes, is_complete
            if is_complete:
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                return {"type": "http.disconnect"}
            received_bytes += len(message.get("body", b""))
            is_complete = not message.get("more_body", False)
            if is_complete:
                on_complete()
            return message if received_bytes <= self._body_bytes else {"type": "http.disconnect"}

        return receive_in_time
