"""`vqmon record` on a real broker and real databases: killed over and over, it loses, doubles and reorders nothing."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.kafka.broker import Cluster
from tests.acceptance.kafka.fleet import ROOT, make_topics, until, woven
from tests.acceptance.kafka.observers import outcome_of_segment
from vqmon.core.alerts.annotations import StreamEnd, stream_end
from vqmon.core.alerts.judge import Judge
from vqmon.core.types import Alert, Outcome
from vqmon.settings.rules_file import parse_rules
from vqmon.transport.history.backends.location import HistoryLocation
from vqmon.transport.history.history import open_history
from vqmon.transport.kafka import ClientConfig, ProducerRecord, TopicNames, TransactionalProducer, TransactionBatch
from vqmon.transport.kafka.records import INPUT_HEADER
from vqmon.transport.wire import cloudevents
from vqmon.transport.wire.control_messages import control_message_key, encode_control_message

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

RULES = parse_rules((ROOT / "config" / "rules.toml").read_text(), origin="rules.toml")
STREAMS = tuple(f"stream-{number}" for number in range(6))
EACH = 150
PARTITIONS = 3
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


def woven_with_ends(chance: random.Random) -> list[Outcome | StreamEnd]:
    """Outcomes of all streams as they come in time; streams end now and then, and go on."""
    items: list[Outcome | StreamEnd] = []
    for segment in woven(STREAMS, EACH):
        items.append(outcome_of_segment(segment))
        if chance.random() < 0.05:
            stream_id, moment = segment.rendition.stream_id, segment.ends_at
            items.append(stream_end(stream_id, "*", moment, announced_at=moment))
    return items


class Publisher:
    """Writes what comes of input records as the workers of all partitions would: transaction by transaction."""

    def __init__(self, bootstrap: str, names: TopicNames) -> None:
        connection = ClientConfig(bootstrap=tuple(bootstrap.split(",")))
        self._names = names
        self._judge = Judge(RULES)
        self._count = 0
        self._writers = [
            TransactionalProducer(
                connection, transactional_id=f"{names.state}.{n}", group="t", topic=names.segments, partition=n
            )
            for n in range(PARTITIONS)
        ]
        self.alerts: dict[str, Alert] = {}

    async def open(self) -> None:
        for writer in self._writers:
            await writer.open()

    async def close(self) -> None:
        for writer in self._writers:
            await writer.close()

    async def publish(self, items: list[Outcome | StreamEnd]) -> None:
        for first in range(0, len(items), 15):
            records: list[list[ProducerRecord]] = [[] for _ in self._writers]
            for item in items[first : first + 15]:
                self._count += 1
                stream_id = _stream_of(item)
                number = STREAMS.index(stream_id) % PARTITIONS
                records[number] += self._records(item, stream_id.encode(), number)
            for number, batch in enumerate(records):
                await self._writers[number].write(TransactionBatch(records=batch, next_offset=self._count))

    def _records(self, item: Outcome | StreamEnd, key: bytes, number: int) -> list[ProducerRecord]:
        headers = ((INPUT_HEADER, f"{self._names.segments}/{number}/{self._count}".encode()),)

        def record(topic: str, key: bytes, value: bytes) -> ProducerRecord:
            return ProducerRecord(topic=topic, partition=number, key=key, value=value, headers=headers)

        if isinstance(item, StreamEnd):
            first = record(self._names.control, control_message_key(item), encode_control_message(item, source="t"))
            alerts = self._judge.end_stream(item)
        else:
            first = record(self._names.quality, key, cloudevents.encode_outcome(item, source="t"))
            alerts = self._judge.judge(item)
        self.alerts |= {alert.id: alert for alert in alerts}
        encoded = [(alert, cloudevents.encode_alert(alert, source="t")) for alert in alerts]
        return [first, *(record(self._names.alerts, alert.series.encode(), value) for alert, value in encoded)]


async def test_killed_recorders_lose_and_double_nothing(
    cluster: Cluster, history_location: HistoryLocation, tmp_path: Path
) -> None:
    """After every kill the next one goes on; in the end each outcome and end is there once, in order of its stream."""
    prefix = f"record-{'file' if isinstance(history_location, Path) else 'server'}"
    names = TopicNames.from_prefix(prefix, prefix)
    await make_topics(cluster.bootstrap, names, partitions=PARTITIONS, copies=1)
    file = settings_file(tmp_path, cluster, prefix, history_location)
    count = 1 if isinstance(history_location, Path) else 2
    chance = random.Random(5)
    items = woven_with_ends(chance)
    outcome_count = len(STREAMS) * EACH
    publisher = Publisher(cluster.bootstrap, names)
    await publisher.open()
    running = [recorder(file, number) for number in range(count)]
    try:
        part = len(items) // KILLS + 1
        for kill in range(KILLS):
            await publisher.publish(items[part * kill : part * (kill + 1)])
            if kill == 0:
                await until(lambda: _stored(history_location, 1), seconds=60)
            await asyncio.sleep(chance.random())
            victim = kill % count
            running[victim].send_signal(signal.SIGKILL)
            running[victim].wait()
            running[victim] = recorder(file, victim)
        await until(lambda: _stored(history_location, outcome_count), seconds=90)
        await until(lambda: _has_alerts(history_location, publisher.alerts), seconds=30)
        await until(lambda: _has_ends(history_location, len(items) - outcome_count), seconds=30)
        for process in running:
            process.send_signal(signal.SIGTERM)
        assert [process.wait(timeout=40) for process in running] == [0] * count
    finally:
        await publisher.close()
        for process in running:
            process.kill()
    with open_history(history_location, "read") as history:
        counts = history.queries.counts()
        assert counts.scored + counts.unscored == outcome_count
        for stream_id in STREAMS:
            mine = [item for item in items if stream_id == _stream_of(item)]
            assert list(history.documents.judge_inputs(stream_id=stream_id)) == mine
        assert {alert.id: alert for alert in history.queries.alerts(limit=10_000)} == publisher.alerts
        assert publisher.alerts


def _stream_of(item: Outcome | StreamEnd) -> str:
    return item.stream_id if isinstance(item, StreamEnd) else item.segment.rendition.stream_id


async def _has_ends(history_location: HistoryLocation, count: int) -> bool:
    with open_history(history_location, "read") as history:
        return sum(isinstance(item, StreamEnd) for item in history.documents.judge_inputs()) == count


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
