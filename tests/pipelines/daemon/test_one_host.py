"""Watching and publishing on one host: order, cursors, ends, streams that cannot be listed, and failed writes."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines.daemon import one_host
from pipelines.daemon.history_writer import HistoryWriter
from pipelines.daemon.one_host import (
    OutcomeSink,
    _cursor_after,
    _overload_monitor,
    _watch_all,
    _watch_rendition,
    _watch_stream,
    _WatchContext,
)
from pipelines.daemon.overload import OverloadMonitor
from pipelines.observe.observer import Observation
from pipelines.observe.poison import PoisonGuard
from pipelines.service.history_thread import HistoryThread, open_history_thread
from pipelines.service.lifecycle import Service
from tests import factories
from tests.factories import RENDITION, START
from tests.transport.wire.test_cloudevents import ALERT
from vqmon.core.alerts.annotations import StreamEnd, stream_end
from vqmon.core.alerts.judge import Judge
from vqmon.core.types import Alert, LaneCursor, Outcome, Segment, SegmentFailure
from vqmon.errors import SegmentError
from vqmon.flow import FairSlots
from vqmon.settings.rules_file import parse_rules
from vqmon.telemetry.health import ProgressTracker
from vqmon.telemetry.metrics import Meters
from vqmon.transport.recovery.spool import HistoryWrite

RULES = parse_rules(
    """
[rules.low]
kind = "floor"
severity = "page"
scorer = "lite"
below = 40
recover_above = 45
for_seconds = 8
"""
)
KEY = RENDITION.key


@dataclass(frozen=True)
class ListedSegments:
    """A rendition whose playlist lists these items and no more."""

    name: str
    items: Sequence[Segment | SegmentFailure]
    oldest_available: int | None = None

    async def __aiter__(self) -> AsyncIterator[Segment | SegmentFailure]:
        for item in self.items:
            yield item


class Daemon:
    """A sink over a real history, and everything that was published through it."""

    def __init__(self, thread: HistoryThread) -> None:
        self.thread = thread
        self.judge = Judge(RULES)
        self.writer = HistoryWriter(thread, meters=Meters(), progress=ProgressTracker(lambda: 0.0))
        self.sink = OutcomeSink(self.writer, self.judge)
        self.service = Service(meters=Meters(), progress=ProgressTracker(lambda: 0.0))
        self.published: list[Outcome] = []
        self.alerts: list[Alert] = []
        self.in_flight: list[int] = []
        # sequence -> the event after which its observation ends
        self.gates: dict[int, asyncio.Event] = {}
        self.context = _WatchContext(
            observer=SimpleNamespace(observe=self._observe),  # type: ignore[arg-type]
            guard=PoisonGuard(Path("never-opened"), now=lambda: START),
            sink=self.sink,
            running=FairSlots(4),
            overload=OverloadMonitor(
                meters=Meters(),
                progress=ProgressTracker(lambda: 0.0),
                now=lambda: START,
                monotonic=lambda: 0.0,
            ),
            service=self.service,
            on_publish=self._on_publish,
        )

    async def _observe(self, item: Segment | SegmentFailure) -> Observation:
        self.in_flight.append(self.service.progress.in_flight)
        if isinstance(item, SegmentFailure):
            return Observation(outcome=item)
        if item.sequence in self.gates:
            await self.gates[item.sequence].wait()
        event = factories.event(segment=item, score=20.0)
        for gate in self.gates.values():
            gate.set()
        return Observation(outcome=event)

    def _on_publish(self, outcomes: Sequence[Outcome], alerts: Sequence[Alert]) -> None:
        self.published += outcomes
        self.alerts += alerts

    async def publish(self, *outcomes: Outcome) -> Sequence[Alert]:
        return await self.sink.publish(KEY, [Observation(outcome=outcome) for outcome in outcomes])

    @property
    def stored(self) -> list[Outcome]:
        return list(self.thread.history.documents.outcomes_in_write_order())

    @property
    def ends(self) -> list[StreamEnd]:
        return [entry for entry in self.thread.history.documents.judge_inputs() if isinstance(entry, StreamEnd)]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with open_history_thread(tmp_path / "vqmon.db", mode="write") as thread:
        yield Daemon(thread)


def low_events(count: int, *, first: int = 0) -> list[Outcome]:
    return [factories.event(sequence=sequence, score=20.0) for sequence in range(first, first + count)]


def cursor(outcome: Outcome) -> LaneCursor:
    segment = outcome.segment
    return LaneCursor(lane=KEY, sequence=segment.sequence, segment_key=segment.key, ends_at=segment.ends_at)


EVENT, NOT_FOUND = factories.event(sequence=4), factories.failure(sequence=5, reason="not_found")
STALE, UNLISTED = factories.failure(sequence=6, reason="stale"), factories.failure(sequence=7, reason="playlist")


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([], None),
        ([EVENT], cursor(EVENT)),
        ([EVENT, NOT_FOUND], cursor(NOT_FOUND)),
        ([EVENT, STALE, UNLISTED], cursor(EVENT)),
        ([STALE, NOT_FOUND], cursor(NOT_FOUND)),
        ([STALE, UNLISTED], None),
    ],
)
def test_the_cursor_is_the_last_segment_that_the_playlist_announced(
    outcomes: list[Outcome], expected: LaneCursor | None
) -> None:
    """A failure of the playlist itself is no segment to continue from."""
    assert _cursor_after(KEY, outcomes) == expected


async def test_outcomes_alerts_thumbnails_and_cursor_are_in_the_history(daemon: Daemon) -> None:
    """And the alert states, so that the next start judges on."""
    events = low_events(3)
    observations = [Observation(outcome=event, thumbnails=((0.0, b"\xff\xd8"),)) for event in events]
    alerts = await daemon.sink.publish(KEY, observations)
    queries = daemon.thread.history.queries
    assert [alert.state for alert in alerts] == ["open"]
    assert daemon.stored == events
    assert [alert.id for alert in queries.alerts()] == [alerts[0].id]
    assert queries.cursors("news-1") == {KEY: cursor(events[-1])}
    assert [len(queries.thumbnails(event.id)) for event in events] == [1, 1, 1]
    assert queries.states() == daemon.judge.states()


async def test_the_notifier_hears_of_what_is_already_written(daemon: Daemon) -> None:
    """It reads the alerts from the history."""
    heard: list[tuple[list[Outcome], int, int]] = []

    def on_publish(outcomes: Sequence[Outcome], alerts: Sequence[Alert]) -> None:
        heard.append((list(outcomes), len(alerts), len(daemon.stored)))

    notifier = SimpleNamespace(on_publish=on_publish)
    sink = OutcomeSink(daemon.writer, daemon.judge, notifier=notifier)  # type: ignore[arg-type]
    events = low_events(3)
    await sink.publish(KEY, [Observation(outcome=event) for event in events])
    assert heard == [(events, 1, 3)]
    assert [queued.alert.rule for queued in daemon.thread.history.outbox.queued_alerts(after=0)] == ["low"]


async def test_without_a_notifier_no_alert_is_queued(daemon: Daemon) -> None:
    """Nobody would take it out of the outbox."""
    await daemon.publish(*low_events(3))
    assert list(daemon.thread.history.outbox.queued_alerts(after=0)) == []


async def test_the_end_of_a_stream_is_published_once_and_only_if_it_was_seen(daemon: Daemon) -> None:
    """It resolves the alerts that are open."""
    assert await daemon.sink.end("news-1") == ()
    events = low_events(3)
    (opened,) = await daemon.publish(*events)
    (resolved,) = await daemon.sink.end("news-1")
    assert (resolved.id, resolved.state) == (opened.id, "resolved")
    assert await daemon.sink.end("news-1") == ()
    assert [(end.stream_id, end.rendition, end.at) for end in daemon.ends] == [
        ("news-1", "*", events[-1].segment.ends_at)
    ]


async def test_a_requested_end_is_dated_by_the_last_segment(daemon: Daemon) -> None:
    """Of the rendition that it names; of a stream that was never seen it keeps its own time."""
    events = low_events(2)
    await daemon.publish(*events)
    for stream_id in ("news-1", "unknown"):
        await daemon.sink.publish_end(stream_end(stream_id, "*", START, announced_at=START))
    assert [(end.stream_id, end.at) for end in daemon.ends] == [
        ("news-1", events[-1].segment.ends_at),
        ("unknown", START),
    ]


async def test_streams_that_are_no_longer_watched_are_ended(daemon: Daemon) -> None:
    """With the reason in the alert; those that are watched go on."""
    for stream_id in ("old", "news-1"):
        await daemon.publish(*(factories.event(sequence=n, score=20.0, stream=stream_id) for n in range(3)))
    alerts = await daemon.sink.end_unwatched(["news-1"])
    assert [(alert.stream_id, alert.state) for alert in alerts] == [("old", "resolved")]
    assert alerts[0].summary.endswith("the stream is no longer watched")
    assert daemon.judge.active_streams() == {"news-1"}


async def test_segments_are_published_in_order_whatever_is_observed_first(
    daemon: Daemon, caplog: pytest.LogCaptureFixture
) -> None:
    """Then the end of the rendition, which resolves its alerts and is said; the work in flight is tracked meanwhile."""
    caplog.set_level("INFO", logger="vqmon")
    daemon.gates = {0: asyncio.Event()}
    segments = [factories.segment(sequence=sequence) for sequence in range(5)]
    await _watch_rendition("news-1", ListedSegments(KEY, segments), daemon.context)
    assert [outcome.segment.sequence for outcome in daemon.published] == [0, 1, 2, 3, 4]
    assert daemon.stored == daemon.published
    assert [alert.state for alert in daemon.alerts] == ["open", "resolved"]
    assert [(end.stream_id, end.rendition) for end in daemon.ends] == [("news-1", RENDITION.name)]
    assert "rendition.ended" in caplog.text
    assert max(daemon.in_flight) > 1
    assert daemon.service.progress.in_flight == 0


async def test_a_segment_that_waits_for_its_turn_is_not_in_flight(daemon: Daemon) -> None:
    """So the watchdog does not count the wait; and one that is passed is published as the failure."""
    waiting: list[int] = []

    @asynccontextmanager
    async def turn(item: Segment) -> AsyncIterator[Segment | SegmentFailure]:
        waiting.append(daemon.service.progress.in_flight)
        yield item if item.sequence == 0 else factories.failure(sequence=1, reason="poison")

    context = replace(daemon.context, guard=SimpleNamespace(turn=turn), running=FairSlots(1))  # type: ignore[arg-type]
    await _watch_rendition("news-1", ListedSegments(KEY, [factories.segment(sequence=n) for n in (0, 1)]), context)
    assert (waiting, daemon.in_flight) == ([0, 0], [1, 1])
    assert [getattr(outcome, "reason", "scored") for outcome in daemon.published] == ["scored", "poison"]


async def test_a_failure_of_the_source_is_published_as_it_is(daemon: Daemon) -> None:
    """In its place among the segments."""
    failure = factories.failure(sequence=1, reason="stale")
    items = [factories.segment(sequence=0), failure]
    await _watch_rendition("news-1", ListedSegments(KEY, items), daemon.context)
    assert daemon.stored[1] == failure
    assert daemon.thread.history.queries.cursors("news-1")[KEY].sequence == 0


async def test_a_stop_is_no_end(daemon: Daemon) -> None:
    """The next start watches on, and alerts stay open."""
    segments = [factories.segment(sequence=sequence) for sequence in range(3)]

    class Live(ListedSegments):
        async def __aiter__(self) -> AsyncIterator[Segment | SegmentFailure]:
            for item in self.items:
                yield item
            while len(daemon.published) < 3:  # noqa: ASYNC110 - the daemon has no events
                await asyncio.sleep(0.001)
            daemon.service.stop.set()

    await _watch_rendition("news-1", Live(KEY, segments), daemon.context)
    assert [alert.state for alert in daemon.alerts] == ["open"]
    assert daemon.ends == []


async def test_work_in_flight_is_forgotten_when_an_observation_fails(daemon: Daemon) -> None:
    """Or the daemon would look stalled."""

    async def fail(item: object) -> Observation:
        raise ZeroDivisionError

    context = replace(daemon.context, observer=SimpleNamespace(observe=fail))  # type: ignore[arg-type]
    with pytest.raises(ZeroDivisionError):
        await _watch_rendition("news-1", ListedSegments(KEY, [factories.segment()]), context)
    assert daemon.service.progress.in_flight == 0
    assert daemon.stored == []


class FlakySource:
    """A stream whose renditions can be listed after some failures."""

    address = "https://origin.example/live.m3u8"

    def __init__(self, failure_count: int, *renditions: ListedSegments) -> None:
        self.failure_count = failure_count
        self.renditions = renditions
        self.attempt_count = 0

    async def lanes(self) -> Sequence[ListedSegments]:
        self.attempt_count += 1
        if self.attempt_count <= self.failure_count:
            raise SegmentError("timeout", "no answer")
        return self.renditions


async def test_a_stream_that_cannot_be_listed_is_tried_again_and_published_as_a_failure(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a rendition named `playlist`; once the renditions are known, they are watched."""
    monkeypatch.setattr(one_host, "_RETRY_SECONDS", 0.0)
    source = FlakySource(2, ListedSegments(KEY, [factories.segment()]))
    await _watch_stream("news-1", source, daemon.context)
    assert source.attempt_count == 3
    assert [
        (outcome.segment.rendition.key, outcome.reason, outcome.detail)
        for outcome in daemon.published
        if isinstance(outcome, SegmentFailure)
    ] == [("news-1/playlist", "playlist", "no answer")] * 2
    assert daemon.published[-1].segment.rendition.key == KEY


async def test_a_stop_ends_the_attempts_to_list_a_stream(daemon: Daemon) -> None:
    """At once, however long the wait before the next attempt."""
    source = FlakySource(1_000_000)
    daemon.context = replace(daemon.context, on_publish=lambda outcomes, alerts: daemon.service.stop.set())
    await _watch_stream("news-1", source, daemon.context)
    assert source.attempt_count == 1


async def test_all_streams_are_watched_and_those_left_out_are_ended_first(daemon: Daemon) -> None:
    """Watching ends with the last source."""
    await daemon.publish(*(factories.event(sequence=n, score=20.0, stream="old") for n in range(3)))
    sources = {
        stream_id: FlakySource(
            0,
            ListedSegments(
                f"{stream_id}/hd", [factories.segment(rendition=factories.rendition(stream=stream_id, name="hd"))]
            ),
        )
        for stream_id in ("a", "b")
    }
    await _watch_all(list(sources.items()), daemon.context, daemon.thread)
    assert [(alert.stream_id, alert.state) for alert in daemon.alerts] == [("old", "resolved")]
    assert {outcome.segment.rendition.key for outcome in daemon.published} == {"a/hd", "b/hd"}
    assert sorted((end.stream_id, end.rendition) for end in daemon.ends) == [("a", "hd"), ("b", "hd"), ("old", "*")]


def test_an_overload_that_only_the_spool_knows_is_gone_on_with(daemon: Daemon) -> None:
    """Or nobody would resolve its alert; what the spool has resolved is over."""
    stored, spooled = (
        replace(ALERT, id=name, rule="overloaded", stream_id="vqmon", summary=name, state="open", resolved_at=None)
        for name in ("stored", "spooled")
    )
    over = replace(stored, state="resolved", resolved_at=stored.opened_at)
    daemon.thread.history.publish([], alerts=[stored])
    warnings = []
    for alerts in [], [over], [over, spooled]:
        _overload_monitor(daemon.thread, daemon.service, [HistoryWrite(alerts=[alert]) for alert in alerts]).check()
        warnings.append(daemon.service.progress.warning)
    assert warnings == ["stored", "", "spooled"]
