"""Segments with several addresses: failover, and the memory of servers that failed."""

from dataclasses import replace
from datetime import timedelta

import pytest

from pipelines.observe.addresses import AddressFailover
from tests import factories
from vqmon.core.types import Mirror, Segment
from vqmon.errors import FetchError

SEGMENT = replace(
    factories.segment(),
    url="https://a.example.com/v/1.ts?token=1",
    mirrors=(Mirror(url="https://b.example.com/v/1.ts?token=2"), Mirror(url="https://c.example.com/v/1.ts")),
)


class Servers:
    """Servers of which some are away."""

    def __init__(self, *away: str) -> None:
        self.away = away
        self.asked: list[str] = []

    async def fetch(self, segment: Segment) -> bytes:
        host = segment.url.split("/")[2][0]
        self.asked.append(host)
        if host in self.away:
            raise FetchError("unreachable", f"{host} is away")
        return host.encode()


async def test_the_next_address_serves_where_one_fails() -> None:
    """The event can say which one it was, without its query; the segment's key is that of the first address."""
    fetched = await AddressFailover().fetch(SEGMENT, Servers("a").fetch, lambda: SEGMENT.starts_at)
    assert (fetched.media, fetched.served_url) == (b"b", "https://b.example.com/v/1.ts")
    assert replace(SEGMENT, mirrors=()).key == SEGMENT.key


async def test_a_server_that_failed_is_asked_last_for_a_minute() -> None:
    """Then it is the first one again."""
    servers, failover, now = Servers("a"), AddressFailover(), SEGMENT.starts_at
    for seconds in (0, 59, 61):
        servers.asked.clear()
        await failover.fetch(SEGMENT, servers.fetch, lambda seconds=seconds: now + timedelta(seconds=seconds))
        assert servers.asked == (["b"] if seconds == 59 else ["a", "b"])


async def test_when_all_addresses_fail_the_first_reason_counts() -> None:
    """The detail names all of them; a segment with one address has no served_url."""
    with pytest.raises(FetchError, match="a is away; b is away; c is away") as caught:
        await AddressFailover().fetch(SEGMENT, Servers("a", "b", "c").fetch, lambda: SEGMENT.starts_at)
    assert caught.value.reason == "unreachable"
    one = replace(SEGMENT, mirrors=())
    assert (await AddressFailover().fetch(one, Servers().fetch, lambda: one.starts_at)).served_url == ""


async def test_a_segment_of_many_addresses_tries_three_and_the_next_one_others() -> None:
    """So that servers that hang cost each segment a bounded time."""
    many = replace(SEGMENT, mirrors=tuple(Mirror(url=f"https://{host}.example.com/v/1.ts") for host in "bcdef"))
    servers, failover = Servers(*"abcde"), AddressFailover()
    with pytest.raises(FetchError, match="a is away; b is away; c is away"):
        await failover.fetch(many, servers.fetch, lambda: SEGMENT.starts_at)
    assert (await failover.fetch(many, servers.fetch, lambda: SEGMENT.starts_at)).media == b"f"
    assert servers.asked == list("abcdef")
