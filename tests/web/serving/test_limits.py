"""Limits of requests, and the pages under a flood."""

import asyncio
import re
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from urllib.request import urlopen

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from tests.web.serving.running import running_pages
from tests.web.stored_history import StoredHistory
from vqmon.connections import ConnectionLimits, ConnectionTable
from vqmon.settings.sections import WebLimits, WebSettings
from vqmon.web.serving.limits import RequestLimits

# ---- the body of a request


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the size of the body."""
    body = await Request(scope, receive).body()
    await PlainTextResponse(str(len(body)))(scope, receive, send)


def limited(body_seconds: float = 5.0) -> RequestLimits:
    limits = ConnectionLimits(total=10, per_client=10, request_seconds=5.0, write_seconds=5.0)
    return RequestLimits(echo, connections=ConnectionTable(limits), body_bytes=100, body_seconds=body_seconds)


@pytest.mark.parametrize(("size", "status"), [(100, 200), (101, 413)])
async def test_a_body_that_announces_too_much_is_refused(size: int, status: int) -> None:
    """The largest one passes."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(limited()), base_url="http://a") as client:
        assert (await client.post("/", content=b"x" * size)).status_code == status


async def read_messages(app: RequestLimits, messages: Sequence[Message]) -> list[Message]:
    """What an endpoint receives of a body that comes in these messages, and then no more."""
    received: list[Message] = []
    waiting = iter(messages)

    async def receive() -> Message:
        message = next(waiting, None)
        return message if message is not None else await asyncio.Event().wait()  # type: ignore[return-value]

    async def endpoint(scope: Scope, receive: Receive, send: Send) -> None:
        while not received or received[-1].get("more_body"):
            received.append(await receive())

    app._app = endpoint
    headers = [(b"transfer-encoding", b"chunked")]
    await app({"type": "http", "client": None, "headers": headers}, receive, echo)  # type: ignore[arg-type]
    return received


async def test_a_body_that_is_too_large_or_too_late_ends_the_request() -> None:
    """As if the client had gone."""
    part = {"type": "http.request", "body": b"x" * 60, "more_body": True}
    assert [m["type"] for m in await read_messages(limited(), [part, part])] == ["http.request", "http.disconnect"]
    late = await read_messages(limited(body_seconds=0.01), [part])
    assert [m["type"] for m in late] == ["http.request", "http.disconnect"]


# ---- floods


def connect(port: int, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=5, source_address=(source, 0))


def answers(port: int, *paths: str) -> list[str]:
    """Each is answered 200, soon: a page that is locked out is not answered at all."""
    texts = []
    for path in paths:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            texts.append(answer.read().decode())
    return texts


LIMITS = WebLimits(connections=120, connections_per_client=60, live=25, live_per_client=20)


def test_floods_do_not_keep_the_pages_from_others(history: StoredHistory) -> None:
    """200 half-open requests, 100 half-sent forms and 60 pages that wait for live events."""
    with running_pages(history.path, WebSettings(limits=LIMITS)) as port, ExitStack() as stack:
        for number in range(300):
            client = stack.enter_context(connect(port))
            length = b"\r\nContent-Length: 90\r\nHost: localhost\r\n\r\nx" if number % 3 == 0 else b""
            client.sendall(b"POST /experiments/a/b/review HTTP/1.1" + length)
        assert answers(port, "/healthz", "/")

        statuses = []
        for source in ("127.0.0.2", "127.0.0.3"):
            for _ in range(30):
                client = stack.enter_context(connect(port, source))
                client.sendall(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")
                answer = client.recv(200)
                statuses.append(re.match(rb"HTTP/1.1 (\d+)", answer)[1].decode())  # type: ignore[index]
        assert statuses == ["200"] * 20 + ["429"] * 10 + ["200"] * 5 + ["503"] * 25
        metrics, *_ = answers(port, "/metrics", "/readyz", "/")
        assert re.search(r"vqmon_web_live\{.*\} 25\.0", metrics)
        dropped = re.search(r'vqmon_web_connection_dropped_total\{.*reason="client".*\} (\d+)', metrics)
        assert dropped
        assert int(dropped[1]) >= 240
