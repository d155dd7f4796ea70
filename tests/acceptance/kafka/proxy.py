"""A TCP proxy in front of each broker that can stall, swallow replies, delay and reset: what networks do."""

import asyncio
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Literal

Mode = Literal["pass", "stall", "drop_replies", "delay"]
DELAY_SECONDS = 0.3


class Proxy:
    """Stands on `port` of 127.0.0.1 and passes everything to `target_port`, as its mode says."""

    def __init__(self, target_port: int) -> None:
        self.mode: Mode = "pass"
        self.port = 0
        self._target_port = target_port
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def start(self, port: int) -> None:
        """Listen; the port must be free."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Listen no more and end what is open."""
        self.reset()
        if self._server is not None:
            self._server.close()

    def reset(self) -> None:
        """Break every connection at once, without a goodbye."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            target = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, target[1]}
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass_on(reader, target[1], is_reply=False))
                group.create_task(self._pass_on(target[0], writer, is_reply=True))
        except* (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            for peer in (writer, target[1]):
                self._writers.discard(peer)
                peer.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_reply: bool) -> None:
        while True:
            chunk = await reader.read(1 << 16)
            while self.mode == "stall":  # noqa: ASYNC110 - the mode is set by another thread
                await asyncio.sleep(0.05)
            if self.mode == "delay":
                await asyncio.sleep(DELAY_SECONDS)
            if not chunk:
                raise ConnectionResetError
            if not (is_reply and self.mode == "drop_replies"):
                writer.write(chunk)
                await writer.drain()


class Proxies:
    """One proxy per broker, in a thread with a loop of its own, so that they run whatever the test does."""

    def __init__(self, ports: list[int], target_ports: list[int]) -> None:
        self.all = [Proxy(target) for target in target_ports]
        self._ports = ports
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies", daemon=True)

    def __enter__(self) -> "Proxies":
        self._thread.start()
        for proxy, port in zip(self.all, self._ports, strict=True):
            self._run(proxy.start(port))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for proxy in self.all:
            self._run(proxy.stop())
        self._run(asyncio.sleep(0.2))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()

    def reset(self, number: int) -> None:
        """Break every connection of one proxy."""
        self._loop.call_soon_threadsafe(self.all[number].reset)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=10)
