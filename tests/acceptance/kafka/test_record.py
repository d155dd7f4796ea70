"""`vqmon record` on a real broker and real databases: killed over and over, it loses and doubles nothing."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.kafka.broker import Cluster
from tests.acceptance.kafka.fleet import ROOT, make_topics, segments_of, until
from tests.acceptance.kafka.observers import outcome_of_segment
from vqmon.core.alerts.judge import Judge
from vqmon.core.types import Alert, Outcome
from vqmon.settings.rules_file import parse_rules
from vqmon.transport.history.backends.location import HistoryLocation
from vqmon.transport.history.history import open_history
from vqmon.transport.kafka import ClientConfig, IdempotentProducer, TopicNames
from vqmon.transport.wire import cloudevents
from vqmon.transport.wire.segment_messages import STRUCTURED_CONTENT_TYPE

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

RULES = parse_rules((ROOT / "config" / "rules.toml").read_text(), origin="rules.toml")
STREAMS = tuple(f"stream-{number}" for number in range(6))
EACH = 150
KILLS = 4


def settings_file(folder: Path, cluster: Cluster, prefix: str, history_location: HistoryLocation) -> Path:
    """The settings of a recorder."""
    history = (
        f'path = "{history_location}"'
        if isinstance(history_location, Path)
        else f'url = "{history_location}"\npassword_file = "{history_location.password_file}"'
    )
    file = folder / "vqmon.toml"
    file.write_text(
        f"""[kafka]
bootstrap = ["{cluster.bootstrap}"]
prefix = "{prefix}"
group = "{prefix}"
copies = 1
partitions = 3
session_seconds = 6
rebalance_seconds = 12
[history]
{history}
""",
        encoding="utf-8",
    )
    return file


def recorder(file: Path, number: int) -> "subprocess.Popen[bytes]":
    """A recorder process; it logs to a file."""
    with (file.parent / f"record-{number}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "vqmon", "--config", str(file), "record"],
            cwd=ROOT,
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )


async def publish_outcomes(
    bootstrap: str, names: TopicNames, outcomes: list[Outcome], judge: Judge
) -> dict[str, Alert]:
    """Put outcomes on the topics as a worker would, and the alerts that they give."""
    alerts: dict[str, Alert] = {}
    headers = (("content-type", STRUCTURED_CONTENT_TYPE),)
    messages = [
        (outcome.segment.rendition.stream_id.encode(), cloudevents.encode_outcome(outcome, source="t"), headers)
        for outcome in outcomes
    ]
    alert_messages = []
    for alert in (alert for outcome in outcomes for alert in judge.judge(outcome)):
        alerts[alert.id] = alert
        alert_messages.append((alert.series.encode(), cloudevents.encode_alert(alert, source="t"), headers))
    async with IdempotentProducer(ClientConfig(bootstrap=tuple(bootstrap.split(",")))) as publisher:
        await publisher.publish(names.quality, messages)
        await publisher.publish(names.alerts, alert_messages)
    return alerts


async def test_killed_recorders_lose_and_double_nothing(
    cluster: Cluster, history_location: HistoryLocation, tmp_path: Path
) -> None:
    """After every kill the next one goes on; in the end each outcome is there once, in the order of its stream."""
    prefix = f"record-{'file' if isinstance(history_location, Path) else 'server'}"
    names = TopicNames.from_prefix(prefix, prefix)
    await make_topics(cluster.bootstrap, names, partitions=3, copies=1)
    file = settings_file(tmp_path, cluster, prefix, history_location)
    count = 1 if isinstance(history_location, Path) else 2
    judge, chance = Judge(RULES), random.Random(5)
    outcomes = [
        outcome_of_segment(segment)
        for group in zip(*(segments_of(stream_id, EACH) for stream_id in STREAMS), strict=True)
        for segment in group
    ]
    alerts: dict[str, Alert] = {}
    running = [recorder(file, number) for number in range(count)]
    try:
        part = len(outcomes) // KILLS
        for kill in range(KILLS):
            alerts |= await publish_outcomes(cluster.bootstrap, names, outcomes[part * kill : part * (kill + 1)], judge)
            if kill == 0:
                await until(lambda: _stored(history_location, 1), seconds=60)
            await asyncio.sleep(chance.random())
            victim = kill % count
            running[victim].send_signal(signal.SIGKILL)
            running[victim].wait()
            running[victim] = recorder(file, victim)
        await until(lambda: _stored(history_location, len(outcomes)), seconds=90)
        await until(lambda: _has_alerts(history_location, alerts), seconds=30)
        for process in running:
            process.send_signal(signal.SIGTERM)
        assert [process.wait(timeout=40) for process in running] == [0] * count
    finally:
        for process in running:
            process.kill()
    with open_history(history_location, "read") as history:
        stored = list(history.documents.outcomes_in_write_order())
        counts = history.queries.counts()
        assert len(stored) == len(outcomes) == counts.scored + counts.unscored
        for stream_id in STREAMS:
            mine = [outcome for outcome in stored if outcome.segment.rendition.stream_id == stream_id]
            assert mine == [outcome for outcome in outcomes if outcome.segment.rendition.stream_id == stream_id]
        assert {alert.id: alert for alert in history.queries.alerts(limit=10_000)} == alerts
        assert alerts


async def _stored(history_location: HistoryLocation, count: int) -> bool:
    try:
        with open_history(history_location, "read") as history:
            return (
                history.queries.tip() > 0
                and history.queries.counts().scored + history.queries.counts().unscored >= count
            )
    except Exception:
        # There is none before the first recorder has made it.
        return False


async def _has_alerts(history_location: HistoryLocation, alerts: dict[str, Alert]) -> bool:
    with open_history(history_location, "read") as history:
        return {alert.id: alert for alert in history.queries.alerts(limit=10_000)} == alerts
