"""Limits on the connections of a server: how many, how slowly requests may arrive and responses be read."""

import asyncio
import ipaddress
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

DropReason = Literal["total", "client", "slow_request", "slow_reader"]
"""`total`, `client`: more connections than allowed, in all or of one client."""

_MIN_READ_RATE_BYTES = 16_384
"""Bytes per second at which a client must read, beyond `write_seconds`."""

_REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """How many connections are open at a time, and how long they may wait."""

    total: int
    per_client: int
    # from the connection, or from the end of the last request, until a request was received
    request_seconds: float
    # until what was sent has been read; longer for more than 16 kB
    write_seconds: float

    def __post_init__(self) -> None:
        if min(self.total, self.per_client) < 1 or min(self.request_seconds, self.write_seconds) <= 0:
            raise ValueError(f"{self}: every limit must be positive")


class ConnectionTable:
    """The open connections of one event loop, which `guard` holds to the limits.

    A connection above a limit takes the place of the oldest one that waits for a request, as half-open connections do;
    where every connection is at work it is answered 503. Clients are IPv4 addresses and IPv6 networks of 64 bits.
    `is_proxy` tells the addresses of reverse proxies, which have no limit of their own.
    """

    def __init__(
        self,
        limits: ConnectionLimits,
        *,
        is_proxy: Callable[[str], bool] = lambda address: False,
        on_drop: Callable[[DropReason], None] = lambda reason: None,
    ) -> None:
        self._limits = limits
        self._is_proxy = is_proxy
        self._on_drop = on_drop
        self._connections: dict[tuple[str, int], _Connection] = {}
        # without a request, longest first; in all, and by client
        self._waiting: dict[_Connection, None] = {}
        self._waiting_of_client: defaultdict[str, dict[_Connection, None]] = defaultdict(dict)
        self._count_of_client: defaultdict[str, int] = defaultdict(int)
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._connections)

    def guard(self, protocol: asyncio.Protocol) -> asyncio.Protocol:
        """The protocol, whose connection is held to the limits."""
        return _Connection(self, protocol)

    @contextmanager
    def request(self, peer: tuple[str, int] | None) -> Iterator[None]:
        """While a request of a peer (address, port) is answered, its connection does not wait for one."""
        connection = self._connections.get(peer) if peer else None
        if connection is None:
            yield
            return
        self._stop_waiting(connection)
        try:
            yield
        finally:
            if self._connections.get(connection.peer) is connection:
                self._begin_waiting(connection)

    def sweep(self, now: float) -> None:
        """Drop the connections whose time, in seconds of the event loop, is over."""
        for connection in list(self._connections.values()):
            if connection.is_read_too_slowly(now, write_seconds=self._limits.write_seconds):
                self._drop(connection, "slow_reader")
        for connection in list(self._waiting):
            is_sending = connection.behind_since is not None
            if not is_sending and now - connection.waiting_since > self._limits.request_seconds:
                self._drop(connection, "slow_request")

    def admit(self, connection: "_Connection") -> bool:
        """Take a new connection in, in place of another one if need be; False when there is no place."""
        older = self._connections.get(connection.peer)
        if older is not None:
            # its client has closed it, as it uses the port again, and asyncio will say so in a moment
            self.remove(older)
            older.transport.abort()
        client = connection.client
        has_most = self._count_of_client.get(client, 0) >= self._limits.per_client
        is_over = has_most and not self._is_proxy(connection.peer[0])
        if is_over and not self._drop_oldest(self._waiting_of_client[client], "client"):
            return False
        if len(self._connections) >= self._limits.total and not self._drop_oldest(self._waiting, "total"):
            return False
        self._connections[connection.peer] = connection
        self._count_of_client[client] += 1
        self._begin_waiting(connection)
        if self._timer is None:
            self._schedule()
        return True

    def remove(self, connection: "_Connection") -> None:
        """Forget a connection that was closed or dropped."""
        if self._connections.get(connection.peer) is not connection:
            return
        del self._connections[connection.peer]
        self._stop_waiting(connection)
        client = connection.client
        self._count_of_client[client] -= 1
        if not self._count_of_client[client]:
            del self._count_of_client[client]
            self._waiting_of_client.pop(client, None)

    def close(self) -> None:
        """Drop every connection."""
        if self._timer is not None:
            self._timer.cancel()
        for connection in list(self._connections.values()):
            self.remove(connection)
            connection.transport.abort()

    def _drop_oldest(self, waiting: dict["_Connection", None], reason: DropReason) -> bool:
        """Drop the connection that has waited for longest; False when none waits."""
        oldest = next(iter(waiting), None)
        if oldest is None:
            self._on_drop(reason)
            return False
        self._drop(oldest, reason)
        return True

    def _drop(self, connection: "_Connection", reason: DropReason) -> None:
        self.remove(connection)
        self._on_drop(reason)
        connection.transport.abort()

    def _begin_waiting(self, connection: "_Connection") -> None:
        connection.waiting_since = asyncio.get_running_loop().time()
        self._waiting[connection] = None
        self._waiting_of_client[connection.client][connection] = None

    def _stop_waiting(self, connection: "_Connection") -> None:
        self._waiting.pop(connection, None)
        self._waiting_of_client[connection.client].pop(connection, None)

    def _schedule(self) -> None:
        seconds = min(1.0, self._limits.request_seconds / 4, self._limits.write_seconds / 4)
        self._timer = asyncio.get_running_loop().call_later(seconds, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.sweep(asyncio.get_running_loop().time())
        if self._connections:
            self._schedule()


class _Connection(asyncio.Protocol):
    """Passes everything on to the protocol of one connection, unless the table has no place for it."""

    transport: asyncio.Transport
    peer: tuple[str, int]
    client: str

    def __init__(self, table: ConnectionTable, protocol: asyncio.Protocol) -> None:
        self._table = table
        self._protocol = protocol
        self._is_admitted = False
        self.waiting_since = 0.0
        # since when there has always been something that the client has not read, and the most that it was
        self.behind_since: float | None = None
        self._behind_bytes = 0

    def is_read_too_slowly(self, now: float, *, write_seconds: float) -> bool:
        """Whether what was sent has not been read in time."""
        unread = self.transport.get_write_buffer_size()
        if not unread:
            self.behind_since, self._behind_bytes = None, 0
            return False
        self.behind_since = now if self.behind_since is None else self.behind_since
        self._behind_bytes = max(self._behind_bytes, unread)
        return now - self.behind_since > write_seconds + self._behind_bytes / _MIN_READ_RATE_BYTES

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        address = transport.get_extra_info("peername")
        self.peer = (str(address[0]), int(address[1])) if isinstance(address, tuple) else ("", id(self))
        self.client = _client_of_address(self.peer[0])
        self._is_admitted = self._table.admit(self)
        if self._is_admitted:
            self._protocol.connection_made(transport)
        else:
            transport.write(_REFUSAL)
            transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if self._is_admitted:
            self._table.remove(self)
            self._protocol.connection_lost(error)

    def data_received(self, data: bytes) -> None:
        if self._is_admitted:
            self._protocol.data_received(data)

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received() if self._is_admitted else None

    def pause_writing(self) -> None:
        if self._is_admitted:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        if self._is_admitted:
            self._protocol.resume_writing()


def _client_of_address(address: str) -> str:
    """
    >>> _client_of_address("192.0.2.7"), _client_of_address("2001:db8::7")
    ('192.0.2.7', '2001:db8::/64')
    """
    if ":" not in address:
        return address
    return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))
