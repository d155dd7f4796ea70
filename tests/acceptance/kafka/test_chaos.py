"""Three brokers, three workers, faults at random moments: exactly one outcome per input record."""

import asyncio
import os
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.acceptance.kafka.broker import REMEDY, Cluster, is_available
from tests.acceptance.kafka.chaos import Chaos, Plan, Visible, find, is_gathered
from tests.acceptance.kafka.fleet import Worker, make_topics, message_of, until, woven
from tests.acceptance.kafka.proxy import Proxies
from tests.conftest import need
from tests.ports import free_port
from vqmon.transport.kafka import ClientConfig, IdempotentProducer, TopicNames

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(1800)]

PARTITIONS = 8
STREAMS = 20
FULL = {"worker_kills": 20, "broker_kills": 5, "stalls": 5, "freezes": 4}
SMALL = {"worker_kills": 4, "broker_kills": 1, "stalls": 2}


def settings_of(bootstrap: str) -> dict[str, object]:
    """Settings of a worker that notices quickly when another is gone."""
    return {
        "bootstrap": bootstrap.split(","),
        "group": "g",
        "partitions": PARTITIONS,
        "session_seconds": 6,
        "rebalance_seconds": 12,
        "max_message_bytes": 100_000,
    }


async def test_nothing_is_missing_and_nothing_is_doubled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever is killed or stalled, each input record has one outcome, in order, and alerts are as undisturbed."""
    need("kafka", present=is_available(), remedy=REMEDY)
    is_full = os.environ.get("VQMON_CHAOS") == "full"
    plan = Plan(seed=int(os.environ.get("VQMON_SEED", "1")), **(FULL if is_full else SMALL))
    each = 250 if is_full else 60
    ports = [free_port() for _ in range(6)]
    with (
        Proxies(ports[:3], ports[3:]) as proxies,
        Cluster(tmp_path, brokers=3, client_ports=ports[3:], advertised_ports=ports[:3]) as cluster,
    ):
        names = TopicNames.from_prefix("vqmon", "g")
        await make_topics(cluster.bootstrap, names, partitions=PARTITIONS, copies=3)
        kafka = settings_of(cluster.bootstrap)
        workers = [Worker(tmp_path / f"worker-{n}.log", kafka, most_seconds=0.2, seed=n) for n in range(3)]
        began = time.monotonic()
        try:
            for worker in workers:
                worker.start()
            chaos = await _break(plan, workers, cluster, proxies, names, each)
        finally:
            for worker in workers:
                worker.stop()
        finding = await find(cluster.bootstrap, names)
    with capsys.disabled():
        print(f"\nchaos, seed {plan.seed}, {time.monotonic() - began:.0f} s:\n{chaos.summary()}")  # noqa: T201
        print("  " + ", ".join(f"{name} {value}" for name, value in asdict(finding).items()))  # noqa: T201
    assert finding.inputs == each * STREAMS
    assert finding.is_perfect


async def _break(
    plan: Plan, workers: list[Worker], cluster: Cluster, proxies: Proxies, names: TopicNames, each: int
) -> Chaos:
    segments = woven([f"stream-{number:02}" for number in range(STREAMS)], each)
    connection = ClientConfig(bootstrap=tuple(cluster.bootstrap.split(",")))
    async with (
        Visible(cluster.bootstrap, names.quality, PARTITIONS) as visible,
        IdempotentProducer(connection) as publisher,
    ):
        chaos = Chaos(plan, workers, cluster.brokers, proxies, visible)
        counting = asyncio.create_task(visible.count_on())
        breaking = asyncio.create_task(chaos.run())
        try:
            for first in range(0, len(segments), STREAMS):
                messages = [message_of(segment) for segment in segments[first : first + STREAMS]]
                chaos.published += await publisher.publish(names.segments, messages)
                expected_seconds = len(plan.faults()) * sum(plan.pause_seconds) / 2
                await asyncio.sleep(expected_seconds / each)
            chaos.all_published = True
            await breaking

            async def all_there() -> bool:
                return visible.count >= len(segments)

            await until(all_there, seconds=180)
            await until(lambda: is_gathered(cluster.bootstrap, names, "g"), seconds=120, every=1.0)
        finally:
            breaking.cancel()
            counting.cancel()
            with suppress(asyncio.CancelledError):
                await counting
    return chaos
