"""Telling of a fleet's alerts, on a real broker: from the beginning, over a kill, and without its file."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from tests.acceptance.kafka.broker import Cluster
from tests.acceptance.kafka.fleet import ROOT, make_topics, read_all
from tests.receivers import Receiver, receiving, wait_until
from tests.transport.wire.test_cloudevents import ALERT
from vqmon.core.types import Alert
from vqmon.transport.kafka import TopicNames
from vqmon.transport.wire import cloudevents
from vqmon.transport.wire.control_messages import parse_control_message

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

NAMES = TopicNames.from_prefix("notified", "notified")
CONFIG = """
[source]
kind = "kafka"
[kafka]
bootstrap = ["{bootstrap}"]
prefix = "notified"
group = "notified"
[notify]
path = "vqmon-notify.db"
[notify.webhooks.hook]
url = "{hook}"
"""


def alert(name: str, age: timedelta) -> Alert:
    """An alert that opened so long ago."""
    opened_at = datetime.now(UTC) - age
    series = f"{name}/720p/lite"
    return replace(
        ALERT, id=name.ljust(32, "0"), series=series, stream_id=name, began_at=opened_at, opened_at=opened_at
    )


def over(alert: Alert) -> Alert:
    return replace(alert, state="resolved", resolved_at=alert.opened_at + timedelta(minutes=1))


async def put(bootstrap: str, *alerts: tuple[Alert, timedelta]) -> None:
    """Put alerts on the topic as workers did so long ago."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    try:
        for number, (alert, age) in enumerate(alerts):
            stamp = int((datetime.now(UTC) - age).timestamp() * 1000)
            value = cloudevents.encode_alert(alert, source="test")
            await producer.send_and_wait(NAMES.alerts, value, alert.series.encode(), number % 2, timestamp_ms=stamp)
    finally:
        await producer.stop()


@contextmanager
def notifying(folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-m", "vqmon", "--config", str(folder / "vqmon.toml"), "notify"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (
        (folder / "log").open("ab") as log,
        subprocess.Popen(command, stderr=log, env=environment, cwd=ROOT) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def forget(folder: Path) -> None:
    for file in folder.glob("vqmon-notify.db*"):
        file.unlink()


def heard(hook: Receiver) -> list[str]:
    """What came, each message once: at a kill the last one may come again."""
    came = [(headers["webhook-id"], json.loads(body)) for _, headers, body, _ in list(hook.came)]
    by_id = {id: f"{message['data']['stream_id']} {message['data']['state']}" for id, message in came}
    assert all(id == message["id"] for id, message in came)
    return list(by_id.values())


async def test_fleet_alerts_are_notified_once_over_a_kill_and_a_lost_file(cluster: Cluster, tmp_path: Path) -> None:
    """Open alerts are notified, those that began and ended long ago are not, nor late ones; a kill loses nothing."""
    await make_topics(cluster.bootstrap, NAMES, partitions=2, copies=1)
    day, now = timedelta(days=1), timedelta()
    past, lasting, late = alert("past", day), alert("lasting", day), alert("late", day)
    await put(cluster.bootstrap, (past, day), (lasting, day), (over(past), day), (late, now))
    with receiving() as hook:
        (tmp_path / "vqmon.toml").write_text(CONFIG.format(bootstrap=cluster.bootstrap, hook=hook.url))
        with notifying(tmp_path) as daemon:
            wait_until(lambda: hook.came, seconds=60)
            fresh = alert("fresh", now)
            await put(cluster.bootstrap, (fresh, now))
            wait_until(lambda: len(heard(hook)) == 2, seconds=20)
            daemon.kill()
            daemon.wait()
        assert heard(hook) == ["lasting open", "fresh open"]

        await put(cluster.bootstrap, (over(fresh), now), (over(lasting), now), (over(late), now))
        with notifying(tmp_path) as daemon:
            wait_until(lambda: len(heard(hook)) == 4, seconds=60)
            await put(cluster.bootstrap, (alert("last", now), now))
            wait_until(lambda: len(heard(hook)) == 5, seconds=20)
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(timeout=30) == 0
        assert sorted(heard(hook)[2:4]) == ["fresh resolved", "lasting resolved"]
        assert heard(hook)[4:] == ["last open"]
        assert len(hook.came) <= 6

        forget(tmp_path)
        hook.came.clear()
        with notifying(tmp_path):
            wait_until(lambda: "last open" in heard(hook), seconds=60)


def run_vqmon(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "vqmon", "--config", str(folder / "vqmon.toml"), *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    return run.stdout


async def test_a_marker_reaches_every_partition(cluster: Cluster, tmp_path: Path) -> None:
    """`vqmon deploy` puts the same marker on each."""
    await make_topics(cluster.bootstrap, NAMES, partitions=2, copies=1)
    (tmp_path / "vqmon.toml").write_text(CONFIG.format(bootstrap=cluster.bootstrap, hook="http://127.0.0.1:9/"))
    output = run_vqmon(tmp_path, "deploy", "encoder 4.2", "--stream", "news-*", "--at", "2026-12-01T02:00:00")
    assert "2 partitions" in output
    records = await read_all(cluster.bootstrap, NAMES.segments)
    assert [record.partition for record in records] == [0, 1]
    (marker,) = {parse_control_message(record.value) for record in records}
    assert (marker.name, marker.stream, marker.at) == ("encoder 4.2", "news-*", datetime(2026, 12, 1, 2, tzinfo=UTC))
    assert json.loads(records[0].value)["type"] == "org.vqmon.marker.v1"
