"""What `vqmon tail` shows of the topics of a fleet, on an in-memory Kafka."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
from click.testing import CliRunner

from pipelines.topics import tail
from pipelines.topics.tail import Verdict, VerdictFilter, follow_fleet
from tests import factories
from tests.pipelines.memory_fleet import NAMES
from vqmon.cli.main import main
from vqmon.core.alerts.annotations import stream_end
from vqmon.core.types import Alert, Outcome
from vqmon.settings.load import Settings
from vqmon.transport.kafka.in_memory import MemoryBroker, MemoryTopicConsumer
from vqmon.transport.wire import cloudevents
from vqmon.transport.wire.control_messages import control_message_headers, encode_control_message

SETTINGS = Settings(kafka={"prefix": "vqmon", "group": "g"})  # type: ignore[arg-type]
ALL = VerdictFilter()
NEWS, SPORT = factories.rendition(stream="news", name="720p"), factories.rendition(stream="sport", name="1080p")
SCORED = factories.event(segment=factories.segment(rendition=NEWS))
UNSCORED = factories.failure(rendition=SPORT)
OPEN = factories.alert(event=SCORED)
RESOLVED = replace(OPEN, state="resolved", resolved_at=OPEN.opened_at + timedelta(seconds=60))


class Topics:
    """The topics of outcomes and alerts, two partitions each."""

    def __init__(self) -> None:
        self.broker = MemoryBroker(2)
        self.opened_count = 0
        self.are_open = asyncio.Event()

    def put(self, *values: Outcome | Alert) -> None:
        for value in values:
            if isinstance(value, Alert):
                document, topic = cloudevents.encode_alert(value, source="test"), NAMES.alerts
            else:
                document, topic = cloudevents.encode_outcome(value, source="test"), NAMES.quality
            self.broker.append(topic, 1 if value is UNSCORED else 0, b"key", document)

    @asynccontextmanager
    async def open(
        self, config: object, topic: str, *, offsets: Mapping[int, int], start: Literal["oldest", "newest"]
    ) -> AsyncIterator[MemoryTopicConsumer]:
        assert not offsets
        consumer = MemoryTopicConsumer(self.broker, topic, start=start)
        self.opened_count += 1
        if self.opened_count == 2:
            self.are_open.set()
        yield consumer

    async def shown(self, wanted: VerdictFilter = ALL) -> list[Outcome | Alert]:
        """What is followed of the records that are there."""
        return [
            verdict.value
            async for verdict in follow_fleet(
                SETTINGS, start="oldest", wanted=wanted, for_seconds=0.02, open_consumer=self.open
            )
        ]


@pytest.fixture
def topics() -> Topics:
    topics = Topics()
    topics.put(SCORED, UNSCORED, OPEN, RESOLVED)
    return topics


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [
        (ALL, [SCORED, UNSCORED, OPEN, RESOLVED]),
        (VerdictFilter(streams=["news"]), [SCORED, OPEN, RESOLVED]),
        (VerdictFilter(streams=["news", "sport"], renditions=["1080p"]), [UNSCORED]),
        (VerdictFilter(kinds="unscored"), [UNSCORED]),
        (VerdictFilter(kinds="unscored", streams=["news"]), []),
    ],
)
async def test_the_wanted_outcomes_and_alerts_are_followed(
    topics: Topics, wanted: VerdictFilter, shown: list[Outcome | Alert]
) -> None:
    """Of all partitions of both topics; nothing is committed for any group."""
    assert await topics.shown(wanted) == shown
    assert topics.broker.offsets == {}
    assert topics.broker.members == []


async def test_from_now_on_only_what_comes_is_followed(topics: Topics) -> None:
    """For ever when no duration is given."""
    verdicts = follow_fleet(SETTINGS, start="newest", wanted=ALL, for_seconds=None, open_consumer=topics.open)
    task = asyncio.ensure_future(anext(verdicts))
    await topics.are_open.wait()
    later = replace(SCORED, id="f" * 32)
    topics.put(later)
    async with asyncio.timeout(10):
        verdict = await task
    await verdicts.aclose()
    assert verdict.value == later
    assert verdict.document == cloudevents.encode_outcome(later, source="test").decode()


async def test_ends_are_passed_and_records_that_cannot_be_read_are_named(
    topics: Topics, caplog: pytest.LogCaptureFixture
) -> None:
    """The others are shown."""
    end = stream_end("news", "720p", SCORED.segment.ends_at, announced_at=SCORED.segment.ends_at)
    document = encode_control_message(end, source="test")
    topics.broker.append(NAMES.quality, 0, b"key", document, control_message_headers(end))
    with caplog.at_level(logging.WARNING, logger="vqmon.tail"):
        assert len(await topics.shown()) == 4
        assert caplog.records == []
        topics.broker.append(NAMES.quality, 1, b"key", None)
        topics.broker.append(NAMES.alerts, 1, b"key", b"{")
        assert len(await topics.shown()) == 4
    places = [vars(record)["fields"]["record"] for record in caplog.records]
    assert places == [f"{NAMES.quality}/1/2", f"{NAMES.alerts}/1/0"]


class FollowCall:
    """Stands in for `follow_fleet`; keeps its arguments."""

    arguments: dict[str, Any]

    async def __call__(self, settings: Settings, **arguments: Any) -> AsyncIterator[Verdict]:
        self.arguments = arguments
        for value in (SCORED, UNSCORED, OPEN):
            encode = cloudevents.encode_alert if isinstance(value, Alert) else cloudevents.encode_outcome
            yield Verdict(value=value, document=encode(value, source="test").decode())  # type: ignore[operator]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FollowCall:
    monkeypatch.chdir(tmp_path)
    call = FollowCall()
    monkeypatch.setattr(tail, "follow_fleet", call)
    return call


def test_the_command_prints_the_lines_of_watch(call: FollowCall) -> None:
    """One per verdict, from now on."""
    result = CliRunner().invoke(main, ["tail"])
    lines = result.stdout.splitlines()
    assert result.exit_code == 0
    assert [line[:5] for line in lines] == [*(f"{o.segment.starts_at:%H:%M}" for o in (SCORED, UNSCORED)), "ALERT"]
    assert UNSCORED.reason in lines[1]
    assert "[/" not in result.stdout
    assert call.arguments == {"start": "newest", "wanted": ALL, "for_seconds": None}


def test_the_command_passes_its_options_on(call: FollowCall) -> None:
    """Streams and renditions may be repeated."""
    options = ["--stream", "a", "--stream", "b", "--rendition", "r", "--unscored", "--from-beginning", "--for", "2"]
    assert CliRunner().invoke(main, ["tail", *options]).exit_code == 0
    wanted = VerdictFilter(streams=("a", "b"), renditions=("r",), kinds="unscored")
    assert call.arguments == {"start": "oldest", "wanted": wanted, "for_seconds": 2.0}
