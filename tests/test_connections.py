"""Limits on connections: how many, in all and of one client, and how slowly requests come and responses are read."""

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest

from vqmon.connections import ConnectionLimits, ConnectionTable, DropReason

LIMITS = ConnectionLimits(total=3, per_client=2, request_seconds=10.0, write_seconds=20.0)


class RecordedTransport(asyncio.Transport):
    """A transport of a peer that has not read `unread` bytes."""

    def __init__(self, peer: tuple[str, int]) -> None:
        super().__init__({"peername": peer})
        self.peer = peer
        self.unread = 0
        self.written = b""
        self.end = ""

    def get_write_buffer_size(self) -> int:
        return self.unread

    def write(self, data: object) -> None:
        self.written += cast(bytes, data)

    def close(self) -> None:
        self.end = "closed"

    def abort(self) -> None:
        self.end = "aborted"


class Peers:
    """Connections to a table, and why each was dropped."""

    def __init__(self, *, proxies: Sequence[str] = ()) -> None:
        self.reasons: list[DropReason] = []
        self.table = ConnectionTable(LIMITS, is_proxy=lambda address: address in proxies, on_drop=self.reasons.append)
        self.ports = iter(range(1, 100))

    def connect(self, address: str, port: int = 0) -> RecordedTransport:
        transport = RecordedTransport((address, port or next(self.ports)))
        self.table.guard(asyncio.Protocol()).connection_made(transport)
        return transport


async def test_a_new_connection_takes_the_place_of_the_oldest_half_open_one() -> None:
    """Of its own client when that has too many, else of any."""
    peers = Peers()
    first, second, third = (peers.connect("192.0.2.1") for _ in range(3))
    assert (first.end, second.end, third.end) == ("aborted", "", "")
    other, another = peers.connect("192.0.2.2"), peers.connect("192.0.2.3")
    assert (second.end, third.end, other.end, another.end) == ("aborted", "", "", "")
    assert peers.reasons == ["client", "total"]
    assert len(peers.table) == LIMITS.total


async def test_connections_at_work_are_not_dropped() -> None:
    """The one too many is answered 503, and place is free again once a request has ended."""
    peers = Peers()
    busy = [peers.connect("192.0.2.1") for _ in range(2)]
    with peers.table.request(busy[0].peer), peers.table.request(busy[1].peer):
        refused = peers.connect("192.0.2.1")
        peers.table.sweep(asyncio.get_running_loop().time() + 3600)
    assert refused.written.startswith(b"HTTP/1.1 503 ")
    assert (refused.end, [transport.end for transport in busy]) == ("closed", ["", ""])
    assert peers.connect("192.0.2.1").end == ""
    assert [transport.end for transport in busy].count("aborted") == 1


async def test_a_dropped_connection_whose_request_ends_later_is_forgotten() -> None:
    """Also when its client has connected from the same port meanwhile."""
    peers = Peers()
    slow = peers.connect("192.0.2.1", 5000)
    with peers.table.request(slow.peer):
        slow.unread = 1
        begin = asyncio.get_running_loop().time()
        peers.table.sweep(begin)
        peers.table.sweep(begin + 2 * LIMITS.write_seconds)
        assert slow.end == "aborted"
        again = peers.connect("192.0.2.1", 5000)
    peers.reasons.clear()
    peers.connect("192.0.2.1")
    assert (again.end, peers.connect("192.0.2.1").end, again.end) == ("", "", "aborted")
    peers.table.sweep(asyncio.get_running_loop().time() + 3600)
    assert peers.reasons == ["client", "slow_request", "slow_request"]


async def test_a_client_that_connects_from_the_same_port_again_has_one_connection() -> None:
    """Before the end of the first one was noticed; it does not count for ever."""
    peers = Peers()
    for _ in range(2 * LIMITS.per_client):
        latest = peers.connect("192.0.2.1", 5000)
    assert (len(peers.table), latest.end, peers.reasons) == (1, "", [])
    assert peers.connect("192.0.2.1").end == latest.end == ""
    peers.table.sweep(asyncio.get_running_loop().time() + 3600)
    assert (len(peers.table), peers.reasons) == (0, ["slow_request", "slow_request"])


async def test_clients_are_networks_of_64_bits_and_proxies_have_no_limit_of_their_own() -> None:
    """Another address of the same network is the same client."""
    peers = Peers(proxies=["192.0.2.9"])
    neighbours = [peers.connect(f"2001:db8::{number}") for number in range(3)]
    assert [transport.end for transport in neighbours] == ["aborted", "", ""]
    peers = Peers(proxies=["192.0.2.9"])
    assert [peers.connect("192.0.2.9").end for _ in range(3)] == ["", "", ""]
    assert peers.reasons == []


async def test_a_request_must_arrive_in_time() -> None:
    """Counted from the connection, or from the end of the last request."""
    peers = Peers()
    begin = asyncio.get_running_loop().time()
    late = peers.connect("192.0.2.1")
    peers.table.sweep(begin + LIMITS.request_seconds)
    assert late.end == ""
    peers.table.sweep(begin + LIMITS.request_seconds + 1)
    assert (late.end, peers.reasons) == ("aborted", ["slow_request"])


async def test_what_is_sent_must_be_read_in_time() -> None:
    """At 16 kB a second after `write_seconds`; a client that has read everything starts anew."""
    peers = Peers()
    begin = asyncio.get_running_loop().time()
    slow, quick = peers.connect("192.0.2.1"), peers.connect("192.0.2.2")
    with peers.table.request(slow.peer), peers.table.request(quick.peer):
        slow.unread = quick.unread = 163_840
        peers.table.sweep(begin)
        quick.unread = 0
        peers.table.sweep(begin + 15)
        slow.unread, quick.unread = 1, 163_840
        peers.table.sweep(begin + 29)
        assert (slow.end, quick.end) == ("", "")
        peers.table.sweep(begin + 31)
    assert (slow.end, quick.end, peers.reasons) == ("aborted", "", ["slow_reader"])
    # a response that is still being read is no connection without a request
    peers.table.sweep(begin + 40)
    assert quick.end == ""


def test_a_limit_that_lets_nobody_in_is_refused() -> None:
    """Every limit is positive."""
    with pytest.raises(ValueError, match="must be positive"):
        ConnectionLimits(total=0, per_client=1, request_seconds=1, write_seconds=1)
