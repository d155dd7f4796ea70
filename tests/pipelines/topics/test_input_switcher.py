"""The outcomes of a fleet on an in-memory Kafka lead to decisions at a real receiver."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipelines.topics import input_switcher
from tests import factories
from tests.pipelines.memory_fleet import NAMES, until
from tests.pipelines.service.delivery.test_inputs import SECRET
from tests.receivers import receiving
from vqmon.core.alerts.annotations import stream_end
from vqmon.core.types import Outcome
from vqmon.errors import NoHistoryError, SettingsError
from vqmon.settings.load import Settings, load_settings
from vqmon.transport.history.history import open_history
from vqmon.transport.kafka.in_memory import MemoryBroker, MemoryTopicConsumer
from vqmon.transport.kafka.records import Record
from vqmon.transport.wire import cloudevents
from vqmon.transport.wire.control_messages import control_message_headers, encode_control_message

SETTINGS = """
[source]
kind = "kafka"
[kafka]
group = "g"
[history]
path = "vqmon.db"
[inputs.hooks.matrix]
url = "{url}/hook"
secret_variables = ["MATRIX_KEY"]
backup = "{{stream}}-backup"
for_seconds = 8
"""


class OutcomesTopic:
    """Gets its records when it is opened."""

    def __init__(self) -> None:
        self.broker = MemoryBroker(2)
        self.put(outcome("news-1", 0, 10.0))

    def put(self, value: Outcome) -> None:
        document = cloudevents.encode_outcome(value, source="test")
        partition = 1 if value.segment.rendition.stream_id.endswith("-backup") else 0
        self.broker.append(NAMES.quality, partition, b"key", document)

    @asynccontextmanager
    async def open(
        self, config: object, topic: str, *, offsets: Mapping[int, int], start: str
    ) -> AsyncIterator["OutcomesTopic"]:
        assert (topic, start, dict(offsets)) == (NAMES.quality, "newest", {})
        self.consumer = MemoryTopicConsumer(self.broker, topic, start="newest")
        at = datetime.now(UTC)
        end = stream_end("news-0", "1080p", at, announced_at=at)
        self.broker.append(
            topic, 0, b"news-0", encode_control_message(end, source="test"), control_message_headers(end)
        )
        for number in (1, 2):
            self.put(outcome("news-1-backup", number, 80.0))
        for number in (1, 2):
            self.put(outcome("news-1", number, 20.0))
        yield self

    async def poll(self, *, seconds: float) -> Sequence[Record]:
        return await self.consumer.poll(seconds=0.01)


def outcome(stream: str, number: int, score: float) -> Outcome:
    """The outcome of a segment of 4 s; number 2 ends now."""
    starts_at = datetime.now(UTC) - timedelta(seconds=4 * (3 - number))
    rendition = factories.rendition(stream=stream)
    return factories.event(
        segment=factories.segment(sequence=number, rendition=rendition, starts_at=starts_at), score=score
    )


def settings_in(folder: Path, *, url: str) -> Settings:
    file = folder / "vqmon.toml"
    file.write_text(SETTINGS.format(url=url), encoding="utf-8")
    return load_settings(file)


async def test_decisions_need_streams_of_all_partitions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The backup's scores are in another partition; what was published before the start counts for nothing."""
    monkeypatch.setenv("MATRIX_KEY", SECRET)
    with open_history(tmp_path / "vqmon.db", "write") as recorder, receiving() as receiver:
        monkeypatch.setattr(input_switcher, "open_topic_consumer", OutcomesTopic().open)
        program = asyncio.create_task(input_switcher.run(settings_in(tmp_path, url=receiver.url)))
        await until(lambda: any(each.delivery == "delivered" for each in recorder.decisions.newest()))
        program.cancel()
        with pytest.raises(asyncio.CancelledError):
            await program
        # beside the recorder, which has the file open all the time
        record, *earlier = recorder.decisions.newest()
    # the hold is there when the primary's partition was read first
    assert [each.decision.reason for each in earlier] in ([], ["backup_unknown"])
    assert (record.decision.kind, record.decision.stream_id, record.delivery) == ("switch", "news-1", "delivered")
    assert (record.decision.value, record.decision.backup_value) == (20.0, 80.0)
    assert receiver.notifications[-1]["id"] == record.decision.id


async def test_it_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook, a fleet, or the history in which decisions are recorded."""
    monkeypatch.setenv("MATRIX_KEY", SECRET)
    with pytest.raises(SettingsError, match="there is no hook"):
        await input_switcher.run(Settings())
    settings = settings_in(tmp_path, url="http://127.0.0.1:9")
    alone = settings.model_copy(update={"source": Settings().source})
    with pytest.raises(SettingsError, match="on one host"):
        await input_switcher.run(alone)
    with pytest.raises(NoHistoryError):
        await input_switcher.run(settings)
