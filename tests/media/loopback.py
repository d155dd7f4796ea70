"""A web server on loopback whose every answer the test scripts."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Script = Callable[["Request", asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True)
class Request:
    """What a client asked for."""

    path: str
    headers: dict[str, str]


@dataclass
class Answer:
    """A plain answer; `headers` come after, and over, the usual ones."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    def on_the_wire(self) -> bytes:
        headers = {"Content-Length": str(len(self.body)), **self.headers}
        lines = [f"HTTP/1.1 {self.status} Scripted", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + self.body


class Server:
    """Serves `answers` by path without query; a list is served one after the other, its last entry for ever."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer | bytes | Script | list[Answer | bytes | Script]] = {}
        self.requests: list[Request] = []
        self.connections = 0
        self.server_names: list[str | None] = []
        self.port = 0

    def url(self, path: str, *, host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    def count(self, path: str) -> int:
        return sum(request.path.split("?")[0] == path for request in self.requests)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while (request := await _read(reader)) is not None:
                self.requests.append(request)
                answer = self._next(request.path.split("?")[0])
                if isinstance(answer, Answer):
                    writer.write(answer.on_the_wire())
                    await writer.drain()
                else:
                    await answer(request, writer)
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    def _next(self, path: str) -> Answer | Script:
        answer = self.answers.get(path, Answer(status=404))
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        return Answer(answer) if isinstance(answer, bytes) else answer


async def _read(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    except asyncio.IncompleteReadError:
        return None
    pairs = (line.split(": ", 1) for line in head[1:] if line)
    return Request(path=head[0].split(" ")[1], headers={name.lower(): value for name, value in pairs})


@asynccontextmanager
async def serving(*, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """A server for the time of the block."""
    server = Server()
    if tls is not None:
        tls.sni_callback = lambda _socket, name, _context: server.server_names.append(name)
    listener = await asyncio.start_server(server.accept, "127.0.0.1", 0, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        # Lets connections that were aborted just now finish closing.
        await asyncio.sleep(0.01)
