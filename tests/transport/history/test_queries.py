"""The read model: changes, renditions, points, buckets and alert states."""

import threading
from dataclasses import replace
from datetime import timedelta

from tests import factories
from tests.factories import RENDITION, START
from tests.transport.history.samples import SPORTS, end_after, open_alert, resolved_alert
from vqmon.core.types import Outcome
from vqmon.transport.history.backends.location import HistoryLocation
from vqmon.transport.history.history import History, open_history

FAR = {"begins_at": START - timedelta(days=1), "ends_at": START + timedelta(days=9)}


def test_changes_come_once_and_in_chunks(history: History) -> None:
    """Going on from `tip` gives everything exactly once; too much is said to be too much."""
    events = [factories.event(sequence=n) for n in range(10)]
    history.publish(events, alerts=[open_alert(events[9])])
    first = history.queries.changes_since(0, limit=4)
    assert (first.tip, first.is_complete, len(first.points), first.alerts) == (4, False, 4, ())
    rest = history.queries.changes_since(first.tip, limit=99)
    assert (rest.tip, rest.is_complete, len(rest.points), len(rest.alerts)) == (11, True, 6, 1)
    assert history.queries.changes_since(rest.tip, limit=99).points == ()
    history.publish([], alerts=[resolved_alert(open_alert(events[9]))])
    assert [alert.state for alert in history.queries.changes_since(rest.tip, limit=99).alerts] == ["resolved"]


def test_changes_never_contain_half_of_a_publish(history: History, history_location: HistoryLocation) -> None:
    """Changes end at a committed number whatever is being written between two questions."""
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            event = factories.event(sequence=number)
            history.publish([event], alerts=[open_alert(event, name=f"{number:032x}"[-1])])
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with open_history(history_location, "read") as reader:
            tip, event_ids = 0, []
            while len(event_ids) < 60:
                changes = reader.queries.changes_since(tip, limit=7)
                tip = changes.tip
                event_ids += [point.event_id for point in changes.points]
    finally:
        stop.set()
        writer.join()
    assert event_ids == [factories.event(sequence=number).id for number in range(len(event_ids))]


def test_the_state_of_each_rendition(history: History) -> None:
    """The last outcome by time, its scores or reason, and the trend before it."""
    history.publish(
        [factories.event(sequence=n, score=60 + n) for n in range(5)]
        + [factories.failure(sequence=5, reason="timeout")]
    )
    history.publish(
        [
            factories.event(sequence=1, score=12.5, rendition=SPORTS),
            factories.event(sequence=0, score=99, rendition=SPORTS),
        ]
    )
    news, sports = history.queries.renditions()
    assert (news.stream_id, news.rendition, news.width, news.bitrate_kbps) == ("news-1", "1080p", 1920, 5000.0)
    assert (news.last_event_id, news.last_reason, news.last_scores) == (factories.failure(sequence=5).id, "timeout", {})
    assert news.trend == (60, 61, 62, 63, 64, None)
    assert (sports.last_scores, sports.last_reason, sports.trend) == ({"lite@1": 12.5}, None, (99, 12.5))
    assert sports.last_starts_at == START + timedelta(seconds=4)
    assert sports.last_observed_at == START + timedelta(seconds=9)
    assert [status.rendition for status in history.queries.renditions(stream_id="sports", trend=1)] == ["720p"]
    assert history.queries.renditions(stream_id="none") == []


def test_a_rendition_has_ended_until_a_segment_comes_after_its_end(history: History) -> None:
    """By an end of its own or of all renditions of its stream; other streams go on."""

    def end_reasons() -> dict[str, str | None]:
        return {state.stream_id: state.end_reason for state in history.queries.renditions(trend=1)}

    history.publish([factories.event(sequence=0), factories.event(sequence=0, rendition=SPORTS)], ends=[end_after(1)])
    assert end_reasons() == {"news-1": "ended", "sports": None}
    assert [state.end_reason for state in history.queries.renditions(stream_id="news-1")] == ["ended"]
    history.publish([factories.event(sequence=1)])
    assert end_reasons() == {"news-1": None, "sports": None}
    history.publish([], ends=[replace(end_after(2), rendition="*", why="unwatched")])
    assert end_reasons() == {"news-1": "unwatched", "sports": None}


def test_a_rendition_has_the_size_of_its_newest_outcome(history: History) -> None:
    """Width, height and bit rate are those of the newest outcome."""
    history.publish([factories.event(sequence=0)])
    history.publish([factories.event(sequence=1, rendition=replace(RENDITION, width=1280, height=720))])
    (state,) = history.queries.renditions()
    assert (state.width, state.height) == (1280, 720)


def test_points_of_a_range(history: History) -> None:
    """Within the range, in time order over all renditions, the newest when there are too many."""
    more = replace(RENDITION, name="360p")
    outcomes: list[Outcome] = [
        factories.event(sequence=n, score=50 + n, signals={"blur": (0.1, 0.4, 0.2, 0.1)}) for n in range(6)
    ]
    history.publish(
        [
            *outcomes,
            factories.failure(sequence=3, rendition=more),
            factories.event(sequence=4, score=20, rendition=more, frame_values=(10, 20, 30, 20)),
        ]
    )
    points = history.queries.points("news-1", **FAR, limit=100)
    assert [point.starts_at for point in points] == sorted(point.starts_at for point in points)
    assert len(points) == 8
    by_id = {point.event_id: point for point in points}
    assert by_id[outcomes[2].id].scores == {"lite@1": 52}
    assert by_id[outcomes[2].id].signals["blur"] == 0.4
    low = by_id[factories.event(sequence=4, rendition=more).id]
    assert (low.lowest, low.p5["lite@1"] < 20) == ({"lite@1": 10}, True)
    assert by_id[factories.failure(sequence=3, rendition=more).id].reason == "not_found"
    assert len(history.queries.points("news-1", **FAR, limit=3)) == 3
    within = {"begins_at": START + timedelta(seconds=4), "ends_at": START + timedelta(seconds=12)}
    assert [p.scores for p in history.queries.points("news-1", **within, limit=9)] == [{"lite@1": 51}, {"lite@1": 52}]
    assert len(history.queries.points("news-1", **FAR, limit=99, rendition="360p")) == 2


def test_buckets_of_a_long_range(history: History) -> None:
    """Mean, minimum and counts of equal parts of the range; empty parts are left out."""
    history.publish([factories.event(sequence=n, score=40 + n) for n in range(10)] + [factories.failure(sequence=10)])
    buckets = history.queries.buckets("news-1", begins_at=START, ends_at=START + timedelta(seconds=80), count=4)
    assert [(b.starts_at - START, b.scored, b.unscored, b.mean, b.lowest) for b in buckets] == [
        (timedelta(seconds=0), 5, 0, 42.0, 40.0),
        (timedelta(seconds=20), 5, 0, 47.0, 45.0),
        (timedelta(seconds=40), 0, 1, None, None),
    ]
