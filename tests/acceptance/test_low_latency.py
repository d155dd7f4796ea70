"""Partial verdicts of the daemon on a live low-latency origin, on real media."""

import asyncio
from pathlib import Path

from pipelines.daemon import one_host
from pipelines.observe.playlists.partial_verdicts import PartialVerdict
from tests.acceptance.low_latency import CHUNKS, SEGMENT_SECONDS, DashOrigin, cmaf
from tests.media.loopback import serving
from vqmon.core.types import Outcome, QualityEvent
from vqmon.settings.load import Settings

SEGMENTS = 5


async def test_each_chunk_of_a_live_dash_segment_has_its_verdict_before_the_next_one_is_sent(tmp_path: Path) -> None:
    """The origin holds a chunk back until there is a verdict on the one before; whole segments are scored as ever."""
    cmaf(SEGMENTS)
    partials: list[PartialVerdict] = []
    outcomes: list[Outcome] = []
    async with serving() as server:
        origin = DashOrigin(server, segments=SEGMENTS)
        origin.gates = {(3, chunk): asyncio.Event() for chunk in range(1, CHUNKS)}

        def take(verdict: PartialVerdict) -> None:
            partials.append(verdict)
            number = round((verdict.starts_at - origin.starts_at).total_seconds() / SEGMENT_SECONDS)
            chunk = round(verdict.to_seconds / SEGMENT_SECONDS * CHUNKS) - 1
            if verdict.score is not None and (gate := origin.gates.get((number, chunk + 1))):
                gate.set()

        def publish(published: object, alerts: object) -> None:
            assert isinstance(published, list)
            outcomes.extend(published)

        settings = Settings(
            source={"partial_verdicts": True, "streams": [{"id": "tv", "url": origin.url}]},  # type: ignore[arg-type]
            fetch={  # type: ignore[arg-type]
                "allowed_hosts": ["127.0.0.1"],
                "allowed_networks": ["127.0.0.0/8"],
                "allow_http": True,
                "allowed_ports": [server.port],
            },
            history={"path": tmp_path / "vqmon.db"},  # type: ignore[arg-type]
            daemon={"health_port": 0},  # type: ignore[arg-type]
        )
        await one_host.run(settings, for_seconds=60, on_partial=take, on_publish=publish)
    assert all(gate.is_set() for gate in origin.gates.values())
    scored = [verdict for verdict in partials if verdict.score is not None]
    assert all(0 < verdict.to_seconds <= SEGMENT_SECONDS + 0.01 for verdict in scored)
    assert all(verdict.delay_seconds > 0 for verdict in scored)
    assert {type(outcome) for outcome in outcomes} == {QualityEvent}
    # a growing segment is fetched once, and as a whole once
    assert server.count("/3.m4s") == 2
