"""Content steering: what a steering server may say, and that it is asked within the fetch policy."""

import json
from datetime import timedelta

import pytest

from tests.media.loopback import Server
from tests.media.sources.rig import NOON, Fetcher, policy
from vqmon.errors import SegmentError
from vqmon.media.sources.media_playlist import Origin
from vqmon.media.sources.steering import ContentSteering, SteeringServer, parse_steering

ORIGINS = (
    Origin(url="https://a.example.com/v.m3u8", pathway="A"),
    Origin(url="https://b.example.com/v.m3u8", pathway="B"),
)


def test_a_steering_manifest_tells_order_time_and_clones() -> None:
    """The time to live is at least ten seconds, and five minutes when nothing is said."""
    body = json.dumps(
        {
            "VERSION": 1,
            "TTL": 1,
            "RELOAD-URI": "/next",
            "PATHWAY-PRIORITY": ["C", "A", 5],
            "PATHWAY-CLONES": [
                {"BASE-ID": "A", "ID": "C", "URI-REPLACEMENT": {"HOST": "c.example.com", "PARAMS": {"k": "v"}}}
            ],
        }
    )
    manifest = parse_steering(body.encode(), "https://s.example.com/steer")
    assert (manifest.ttl_seconds, manifest.priority) == (10.0, ["C", "A"])
    assert manifest.reload_url == "https://s.example.com/next"
    assert manifest.clones[0].clone(ORIGINS[0]) == Origin(url="https://c.example.com/v.m3u8?k=v", pathway="C")
    assert parse_steering(b"{}", "https://s.example.com/steer").ttl_seconds == 300.0


@pytest.mark.parametrize("body", [b"", b"[]", b"[" * 100_000, b'"x"', b"\xff"])
def test_what_is_no_steering_manifest_is_refused(body: bytes) -> None:
    """The order that was in force stays."""
    with pytest.raises(SegmentError, match="not a JSON object"):
        parse_steering(body, "https://s.example.com/steer")


async def test_the_server_is_asked_again_when_its_answer_has_expired(server: Server) -> None:
    """Not before; and an answer that is away changes nothing."""
    server.answers["/steer"] = [
        b'{"TTL": 60, "PATHWAY-PRIORITY": ["B", "A"]}',
        b'{"TTL": 60, "PATHWAY-PRIORITY": ["A", "B"]}',
        b"no",
    ]
    async with Fetcher(policy(server)) as fetcher:
        steering = ContentSteering(fetcher)
        orders = []
        for seconds in (0, 30, 70, 140):
            await steering.refresh(SteeringServer(url=server.url("/steer")), NOON + timedelta(seconds=seconds))
            orders.append("".join(origin.pathway for origin in steering.order(ORIGINS)))
    assert orders == ["BA", "BA", "AB", "AB"]
    assert server.count("/steer") == 3
    assert steering.warning.startswith("content steering:")


async def test_without_an_answer_the_default_pathway_is_first(server: Server) -> None:
    """A steering server at a private address is refused, as every other address."""
    async with Fetcher(policy(server)) as fetcher:
        steering = ContentSteering(fetcher)
        await steering.refresh(SteeringServer(url="http://169.254.169.254/", default="B"), NOON)
        assert [origin.pathway for origin in steering.order(ORIGINS)] == ["B", "A"]
    assert "fetch.allowed_ports" in steering.warning
