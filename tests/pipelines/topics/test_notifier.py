"""The alerts topic on its way into the outbox of a notifier, and when its delivery starts."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines.service.history_thread import HistoryThread, open_history_thread
from pipelines.topics import notifier
from pipelines.topics.notifier import _AlertsTopicReader, run
from tests import factories
from vqmon.core.types import Alert
from vqmon.errors import BrokerError, SettingsError
from vqmon.settings.load import Settings
from vqmon.telemetry.metrics import Meters
from vqmon.transport.kafka.records import Record
from vqmon.transport.wire import cloudevents

SETTINGS = Settings(kafka={"prefix": "v"})  # type: ignore[arg-type]
TOPIC = "v.alerts.v1"
NOW = datetime(2026, 11, 20, 22, 0, tzinfo=UTC)
OPEN = factories.alert(rule="low")
RESOLVED = replace(OPEN, state="resolved", resolved_at=OPEN.opened_at + timedelta(seconds=60))


class AlertsTopic:
    """A topic of one partition whose records are read from an offset on; the second poll without any calls `on_end`."""

    def __init__(self) -> None:
        self.values: list[bytes | None] = []
        self.at = NOW
        self.requested_offsets: list[Mapping[int, int]] = []
        self.outages = 0
        self.on_end: Callable[[], object] = lambda: None

    def add(self, *alerts: Alert) -> None:
        self.values += [cloudevents.encode_alert(alert, source="vqmon:test") for alert in alerts]

    @asynccontextmanager
    async def open(self, config: object, topic: str, *, offsets: Mapping[int, int]) -> AsyncIterator["TopicCursor"]:
        assert topic == TOPIC
        self.requested_offsets.append(dict(offsets))
        if self.outages:
            self.outages -= 1
            raise BrokerError("the brokers are away")
        yield TopicCursor(self, offsets.get(0, 0))


class TopicCursor:
    """One consumer of the topic; stands in for TopicConsumer. It reads two records at a time."""

    def __init__(self, topic: AlertsTopic, offset: int) -> None:
        self._topic = topic
        self._offset = offset
        self._empty_polls = 0

    async def poll(self, *, seconds: float) -> Sequence[Record]:
        await asyncio.sleep(0)
        first, self._offset = self._offset, min(self._offset + 2, len(self._topic.values))
        self._empty_polls = self._empty_polls + 1 if first == self._offset else 0
        if self._empty_polls == 2:
            self._topic.on_end()
        timestamp_ms = int(self._topic.at.timestamp() * 1000)
        return [
            Record(0, offset, b"key", self._topic.values[offset], (), timestamp_ms)
            for offset in range(first, self._offset)
        ]

    async def lag_records(self) -> int:
        return len(self._topic.values) - self._offset


class Reading:
    """A reader of the topic with a history of its own, and what it woke and started."""

    def __init__(self, thread: HistoryThread, topic: AlertsTopic) -> None:
        self.thread = thread
        self.topic = topic
        self.start = asyncio.Event()
        self.wake_count = 0

    async def until_caught_up(self) -> None:
        """Read up to the end of the topic, then stop."""
        stop = asyncio.Event()
        self.start.clear()
        self.topic.on_end = stop.set
        dispatcher = SimpleNamespace(wake=self._wake)
        reader = _AlertsTopicReader(
            SETTINGS,
            self.thread,
            SimpleNamespace(dispatcher=dispatcher),  # type: ignore[arg-type]
            meters=Meters(),
            start=self.start,
        )
        await reader.read_until(stop)

    def _wake(self) -> None:
        self.wake_count += 1

    @property
    def queued(self) -> list[tuple[str, str]]:
        """(rule, state) of the alerts in the outbox."""
        queued = self.thread.history.outbox.queued_alerts(after=0)
        return [(entry.alert.rule, entry.alert.state) for entry in queued]


@pytest.fixture
def topic(monkeypatch: pytest.MonkeyPatch) -> AlertsTopic:
    alerts_topic = AlertsTopic()
    monkeypatch.setattr(notifier, "open_topic_consumer", alerts_topic.open)
    monkeypatch.setattr(notifier, "utc_now", lambda: NOW)
    monkeypatch.setattr(notifier, "RETRY_SECONDS", 0.0)
    return alerts_topic


@pytest.fixture
def reading(topic: AlertsTopic, tmp_path: Path) -> Iterator[Reading]:
    with open_history_thread(tmp_path / "notify.db", mode="write") as thread:
        yield Reading(thread, topic)


async def test_alerts_of_the_topic_are_queued_and_delivery_starts_at_its_end(
    topic: AlertsTopic, reading: Reading
) -> None:
    """The dispatcher is woken after each batch that was stored."""
    topic.add(OPEN, replace(OPEN, id="b" * 32, rule="other"), replace(OPEN, id="c" * 32, rule="third"))
    assert not reading.start.is_set()
    await reading.until_caught_up()
    assert reading.queued == [("low", "open"), ("other", "open"), ("third", "open")]
    assert reading.start.is_set()
    assert reading.wake_count == 2


async def test_reading_resumes_after_the_last_stored_record(topic: AlertsTopic, reading: Reading) -> None:
    """Each record is read once, also over restarts."""
    topic.add(OPEN)
    await reading.until_caught_up()
    topic.add(RESOLVED)
    topic.at = NOW
    await reading.until_caught_up()
    assert topic.requested_offsets == [{}, {0: 1}]
    (alert,) = reading.thread.history.queries.alerts()
    assert (alert.id, alert.state) == (OPEN.id, "resolved")


@pytest.mark.parametrize("value", [b"{}", b"\xff", b"", None])
async def test_a_record_that_is_no_alert_is_passed(value: bytes | None, topic: AlertsTopic, reading: Reading) -> None:
    """It is not read again after a restart either."""
    topic.values.append(value)
    topic.add(OPEN)
    await reading.until_caught_up()
    await reading.until_caught_up()
    assert reading.queued == [("low", "open")]
    assert topic.requested_offsets == [{}, {0: 2}]


@pytest.mark.parametrize(("age_seconds", "queued"), [(899, [("low", "resolved")]), (901, [])])
async def test_alerts_that_resolved_long_ago_notify_nobody(
    age_seconds: float, queued: list[tuple[str, str]], topic: AlertsTopic, reading: Reading
) -> None:
    """Of those read before the end of the topic: a new notifier reads the alerts of days. The age limit is 900 s."""
    topic.add(OPEN, RESOLVED)
    topic.at = NOW - timedelta(seconds=age_seconds)
    await reading.until_caught_up()
    assert reading.queued == queued


async def test_an_alert_that_is_open_since_long_ago_stays_queued(topic: AlertsTopic, reading: Reading) -> None:
    """It still holds."""
    topic.add(OPEN)
    topic.at = NOW - timedelta(days=3)
    await reading.until_caught_up()
    assert reading.queued == [("low", "open")]


async def test_alerts_from_before_the_start_are_not_dropped(topic: AlertsTopic, reading: Reading) -> None:
    """What an earlier run queued is the dispatcher's, however old."""
    old = NOW - timedelta(days=1)
    reading.thread.history.publish([], alerts=[OPEN], queued_at=old)
    reading.thread.history.publish([], alerts=[RESOLVED], queued_at=old)
    await reading.until_caught_up()
    assert reading.queued == [("low", "resolved")]


async def test_a_record_from_the_future_is_queued_now(topic: AlertsTopic, reading: Reading) -> None:
    """The clock of a producer may be ahead."""
    topic.add(OPEN)
    topic.at = NOW + timedelta(hours=5)
    await reading.until_caught_up()
    (queued,) = reading.thread.history.outbox.queued_alerts(after=0)
    assert queued.queued_at == NOW


async def test_delivery_starts_without_brokers_and_the_topic_is_tried_again(
    topic: AlertsTopic, reading: Reading
) -> None:
    """Open alerts must be sent again in time, or Alertmanager resolves them."""
    topic.add(OPEN)
    topic.outages = 2
    await reading.until_caught_up()
    assert reading.start.is_set()
    assert reading.queued == [("low", "open")]
    assert topic.requested_offsets == [{}, {}, {}]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "there is no receiver"),
        ({"notify": {"alertmanagers": ["http://am:9093"]}}, 'for source.kind = "kafka" only'),
    ],
)
async def test_settings_without_a_receiver_or_a_topic_are_refused(settings: dict[str, object], message: str) -> None:
    """With what to set instead."""
    with pytest.raises(SettingsError, match=message):
        await run(Settings(**settings), for_seconds=0.0)  # type: ignore[arg-type]
