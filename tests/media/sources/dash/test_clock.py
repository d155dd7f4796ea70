"""The clock of a live presentation (UTCTiming)."""

from datetime import timedelta

import pytest

from tests.media.loopback import Answer, Server
from tests.media.sources.rig import NOON, Fetcher, policy
from vqmon.media.sources.dash.clock import ClockSource, PresentationClock

LATER = NOON + timedelta(minutes=3)


def source(kind: str, value: str) -> ClockSource:
    return ClockSource(scheme=f"urn:mpeg:dash:utc:{kind}", value=value, base_url="http://127.0.0.1/a.mpd")


@pytest.mark.parametrize("kind", ["direct:2014", "http-iso:2014", "http-xsdate:2014", "http-head:2014"])
async def test_the_presentations_clock_counts(server: Server, kind: str) -> None:
    """By value, by a document, and by the Date header; the answer is used for ten minutes."""
    server.answers["/time"] = Answer(LATER.isoformat().encode(), headers={"Date": "Thu, 01 Jan 2026 12:03:00 GMT"})
    value = LATER.isoformat() if kind.startswith("direct") else server.url("/time")
    async with Fetcher(policy(server)) as fetcher:
        clock = PresentationClock(fetcher)
        for minutes in (0, 9):
            now = NOON + timedelta(minutes=minutes)
            assert await clock.correct(now, [source(kind, value)]) == now + timedelta(minutes=3)
    assert server.count("/time") == (0 if kind.startswith("direct") else 1)


async def test_without_a_usable_clock_our_own_counts(server: Server) -> None:
    """Unknown schemes, servers that are away or forbidden; the next one is tried, and the failure is a warning."""
    server.answers["/time"] = b"noon"
    sources = [source("ntp:2014", "ntp.example.com"), source("http-iso:2014", "http://169.254.169.254/")]
    async with Fetcher(policy(server)) as fetcher:
        clock = PresentationClock(fetcher)
        assert await clock.correct(NOON, [*sources, source("http-iso:2014", server.url("/time"))]) == NOON
        assert clock.warning.startswith("UTCTiming: urn:mpeg:dash:utc:ntp:2014 gives no time")
        assert await PresentationClock(fetcher).correct(NOON, ()) == NOON
