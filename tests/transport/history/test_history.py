"""The history: what is written comes back, once, whoever asks, and also after a sudden end."""

import sqlite3
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests import factories
from tests.factories import PROVENANCE, RENDITION, START
from tests.transport.wire.test_cloudevents import ALERT
from vqmon.core.alerts.judge import Judge
from vqmon.core.types import Alert, LaneCursor, Outcome, Rendition, SegmentFailure
from vqmon.errors import SettingsError, StoreError
from vqmon.settings.rules_file import parse_rules
from vqmon.transport.history.backends.location import HistoryLocation
from vqmon.transport.history.history import History, open_history

RULES = parse_rules((Path(__file__).parents[3] / "config" / "rules.toml").read_text())
SPORTS = Rendition(stream_id="sports", name="720p", width=1280, height=720)
FAR = {"begins_at": START - timedelta(days=1), "ends_at": START + timedelta(days=9)}


@pytest.fixture
def history(place: HistoryLocation):
    with open_history(place, "write") as opened:
        yield opened


def jpegs(event_id: str, count: int = 4) -> dict[str, list[tuple[float, bytes]]]:
    return {event_id: [(float(k), b"\xff\xd8" + bytes([k]) * 100) for k in range(count)]}


def opened(event: Outcome, *, name: str = "a", times: tuple[float, ...] = (3.0, 0.0)) -> Alert:
    evidence = replace(ALERT.evidence, event_id=event.id, worst_times_seconds=times)
    return replace(ALERT, id=name * 32, evidence=evidence)


def resolved(alert: Alert) -> Alert:
    return replace(alert, state="resolved", resolved_at=alert.opened_at + timedelta(seconds=40))


def test_outcomes_come_back_whole_and_in_order(history: History) -> None:
    """By id, in the order of publishing, with the pictures that came with them."""
    outcomes = [
        factories.event(sequence=0),
        factories.failure(sequence=1),
        factories.event(sequence=2, score=33.3),
        factories.event(sequence=0, rendition=SPORTS),
    ]
    history.publish(outcomes[:1], thumbnails=jpegs(outcomes[0].id))
    history.publish(outcomes[1:])
    assert [history.queries.outcome(it.id) for it in outcomes] == outcomes
    assert list(history.documents.outcomes_in_write_order()) == outcomes
    assert history.queries.thumbnails(outcomes[0].id) == [jpeg for _, jpeg in jpegs("x")["x"]]
    assert history.queries.thumbnails(outcomes[1].id) == []
    assert history.queries.outcome("nothing") is None
    assert (history.queries.counts().scored, history.queries.counts().unscored_by_reason) == (3, {"not_found": 1})


def test_the_same_again_changes_nothing(history: History) -> None:
    """Publishing is idempotent by event id: no row, count or change twice."""
    event = factories.event(sequence=0)
    for _ in range(3):
        history.publish(
            [event, event, factories.failure(sequence=1)], alerts=[opened(event)], thumbnails=jpegs(event.id)
        )
    assert list(history.documents.outcomes_in_write_order()) == [event, factories.failure(sequence=1)]
    assert history.queries.counts().scored == history.queries.counts().unscored == 1
    assert len(history.queries.thumbnails(event.id)) == 4
    assert len(history.queries.changes_since(0, limit=99).points) == 2
    assert history.queries.tip() == 3


def test_a_segment_that_failed_and_is_scored_later_has_both_outcomes(history: History) -> None:
    """What was said stays said; the score is a row of its own."""
    history.publish([factories.failure(sequence=5)])
    history.publish([factories.event(sequence=5)])
    assert list(history.documents.outcomes_in_write_order()) == [
        factories.failure(sequence=5),
        factories.event(sequence=5),
    ]
    assert history.queries.neighbours(factories.failure(sequence=5).id) == (None, factories.event(sequence=5).id)


def test_all_or_nothing(history: History) -> None:
    """If one thing of a publish cannot be written, none of it is there."""
    broken = replace(factories.event(sequence=1), times_seconds=(float("nan"),))
    cursor = LaneCursor(lane="news-1/1080p", sequence=1, segment_key="k", ends_at=START)
    with pytest.raises(ValueError, match="JSON"):
        history.publish([factories.event(sequence=0), broken], cursors=[cursor])
    assert list(history.documents.outcomes_in_write_order()) == []
    assert history.queries.cursors("news-1") == {}
    assert history.queries.tip() == 0
    history.publish([factories.event(sequence=0)])
    assert history.queries.tip() == 1


def test_pages_can_read_while_the_daemon_writes(history: History, place: HistoryLocation) -> None:
    """A reader sees what is committed, from other threads too, and can write nothing."""
    with open_history(place, "read") as reader:
        history.publish([factories.event(sequence=0)])
        assert reader.queries.tip() == 1
        seen: list[int] = []
        threads = [
            threading.Thread(target=lambda: seen.append(len(list(reader.documents.outcomes_in_write_order()))))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen == [1] * 4
        with pytest.raises(StoreError, match="readonly"):
            reader.publish([factories.event(sequence=1)])


def test_a_reader_is_never_shown_half_of_a_publish(history: History, place: HistoryLocation) -> None:
    """Changes end at a committed number whatever is being written between two questions."""
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            event = factories.event(sequence=number)
            history.publish([event], alerts=[opened(event, name=f"{number:032x}"[-1])])
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with open_history(place, "read") as reader:
            tip, found = 0, []
            while len(found) < 60:
                changes = reader.queries.changes_since(tip, limit=7)
                tip = changes.tip
                found += [point.event_id for point in changes.points]
    finally:
        stop.set()
        writer.join()
    assert found == [factories.event(sequence=number).id for number in range(len(found))]


def test_changes_are_told_once_and_in_pieces(history: History) -> None:
    """Going on from `tip` gives everything exactly once; too much is said to be too much."""
    events = [factories.event(sequence=n) for n in range(10)]
    history.publish(events, alerts=[opened(events[9])])
    first = history.queries.changes_since(0, limit=4)
    assert (first.tip, first.is_complete, len(first.points), first.alerts) == (4, False, 4, ())
    rest = history.queries.changes_since(first.tip, limit=99)
    assert (rest.tip, rest.is_complete, len(rest.points), len(rest.alerts)) == (11, True, 6, 1)
    assert history.queries.changes_since(rest.tip, limit=99).points == ()
    history.publish([], alerts=[resolved(opened(events[9]))])
    assert [alert.state for alert in history.queries.changes_since(rest.tip, limit=99).alerts] == ["resolved"]


def test_where_each_rendition_stands(history: History) -> None:
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
    assert [it.rendition for it in history.queries.renditions(stream_id="sports", trend=1)] == ["720p"]
    assert history.queries.renditions(stream_id="none") == []


def test_a_rendition_that_changes_is_told_as_it_is_now(history: History) -> None:
    """Width, height and bit rate are those of the newest outcome."""
    history.publish([factories.event(sequence=0)])
    history.publish([factories.event(sequence=1, rendition=replace(RENDITION, width=1280, height=720))])
    (state,) = history.queries.renditions()
    assert (state.width, state.height) == (1280, 720)


def test_points_for_a_chart(history: History) -> None:
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


def test_buckets_for_a_long_range(history: History) -> None:
    """Mean, minimum and counts of equal parts of the range; empty parts are left out."""
    history.publish([factories.event(sequence=n, score=40 + n) for n in range(10)] + [factories.failure(sequence=10)])
    buckets = history.queries.buckets("news-1", begins_at=START, ends_at=START + timedelta(seconds=80), count=4)
    assert [(b.starts_at - START, b.scored, b.unscored, b.mean, b.lowest) for b in buckets] == [
        (timedelta(seconds=0), 5, 0, 42.0, 40.0),
        (timedelta(seconds=20), 5, 0, 47.0, 45.0),
        (timedelta(seconds=40), 0, 1, None, None),
    ]


def test_alerts_open_and_resolve_once(history: History) -> None:
    """A resolved alert never opens again, whatever is published twice."""
    event = factories.event(sequence=0)
    alert = opened(event)
    history.publish([event], alerts=[alert])
    assert history.queries.alerts(open_only=True) == [alert] == history.queries.alerts(stream_id="news-1")
    history.publish([], alerts=[resolved(alert)])
    history.publish([], alerts=[alert])
    assert history.queries.alert(alert.id) == resolved(alert)
    assert history.queries.alerts(open_only=True) == [] == history.queries.alerts(stream_id="sports")
    assert history.queries.alerts(since=START + timedelta(hours=1)) == []
    assert len(history.queries.alerts(since=START)) == 1
    assert history.queries.alert("nothing") is None


def test_the_worst_frames_are_kept_as_evidence(place: HistoryLocation) -> None:
    """Worst first, as many as fit, and retention does not take them."""
    event = factories.event(sequence=0)
    with open_history(place, "write", evidence_max_bytes=250) as history:
        history.publish([event], alerts=[opened(event, times=(3.0, 1.0, 0.0))], thumbnails=jpegs(event.id))
        expected = [b"\xff\xd8" + bytes([k]) * 100 for k in (3, 1)]
        assert history.queries.evidence("a" * 32) == expected
        history.maintenance.prune(before=START + timedelta(days=1), keep_frames_of_segments=0)
        assert history.queries.outcome(event.id) is None
        assert history.queries.evidence("a" * 32) == expected
        assert history.queries.alert("a" * 32) is not None


def test_what_the_judge_remembers_survives(place: HistoryLocation) -> None:
    """A daemon that starts again goes on as if it had never stopped."""
    outcomes = [factories.event(sequence=n, score=30 if 33 < n < 50 else 70) for n in range(100)]
    whole = Judge(RULES)
    expected = [alert for outcome in outcomes for alert in whole.judge(outcome)]
    found: list[Alert] = []
    for outcome in outcomes:
        with open_history(place, "write") as history:
            judge = Judge(RULES, states=history.queries.states())
            alerts = judge.judge(outcome)
            found += alerts
            history.publish([outcome], alerts=alerts, states=judge.drain_changes())
    assert found == expected
    assert {alert.state for alert in found} == {"open", "resolved"}
    with open_history(place, "read") as history:
        assert history.queries.states() == whole.states()
        assert not history.queries.alerts(open_only=True)


def test_cursors_and_seen_segments(history: History) -> None:
    """How far each lane of a stream has come, and which segments have an outcome."""
    cursors = [
        LaneCursor(lane=lane, sequence=7, segment_key=f"{lane}/7", ends_at=START + timedelta(microseconds=1))
        for lane in ("news-1/1080p", "news-1/360p", "news-10/1080p")
    ]
    history.publish([factories.event(sequence=0)], cursors=cursors)
    history.publish([], cursors=[replace(cursors[0], sequence=8)])
    assert history.queries.cursors("news-1") == {
        "news-1/1080p": replace(cursors[0], sequence=8),
        "news-1/360p": cursors[1],
    }
    seen = history.seen_segments()
    assert factories.event(sequence=0).segment.key in seen
    assert factories.event(sequence=1).segment.key not in seen


def test_old_outcomes_and_pictures_go(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is older than its keep is taken out in small steps; counts tell of all there ever was."""
    monkeypatch.setattr("vqmon.transport.history.maintenance.PRUNE_CHUNK_ROWS", 7)
    events = [factories.event(sequence=n) for n in range(40)]
    for event in events:
        history.publish([event], thumbnails=jpegs(event.id))
    pruned = history.maintenance.prune(before=events[20].observed_at, keep_frames_of_segments=5)
    assert (pruned.outcomes, pruned.thumbnails) == (20, 15)
    assert list(history.documents.outcomes_in_write_order()) == events[20:]
    assert [len(history.queries.thumbnails(event.id)) for event in events[20:]] == [0] * 15 + [4] * 5
    assert history.queries.counts().scored == 40
    history.maintenance.checkpoint()


def test_old_alerts_go_with_their_evidence(history: History) -> None:
    """Those that ended long enough ago; open ones and those that somebody has to be told of stay."""
    event = factories.event(sequence=0)
    ended, waiting, still_open = (opened(event, name=name, times=(0.0,)) for name in "abc")
    history.publish([event], alerts=[ended, still_open], thumbnails=jpegs(event.id))
    history.publish([], alerts=[waiting], queued_at=START)
    history.publish([], alerts=[resolved(ended), resolved(waiting)])
    month = START + timedelta(days=30)
    kept = {"before": START, "keep_frames_of_segments": 9}
    assert history.maintenance.prune(**kept, alerts_before=START).alerts == 0
    assert history.maintenance.prune(**kept, alerts_before=month).alerts == 1
    assert {alert.id for alert in history.queries.alerts()} == {waiting.id, still_open.id}
    assert [len(history.queries.evidence(it.id)) for it in (ended, waiting, still_open)] == [0, 1, 1]


def test_outcomes_can_be_chosen_by_stream_and_time(history: History) -> None:
    """Stream, rendition and range of starting moments, in the order of publishing."""
    outcomes = [
        it for n in range(5) for it in (factories.event(sequence=n), factories.event(sequence=n, rendition=SPORTS))
    ]
    history.publish(outcomes)
    chosen = history.documents.outcomes_in_write_order(
        stream_id="sports", since=START + timedelta(seconds=4), until=START + timedelta(seconds=12)
    )
    assert [it.segment.sequence for it in chosen] == [1, 2]
    assert list(history.documents.outcomes_in_write_order(stream_id="none")) == []
    assert len(list(history.documents.outcomes_in_write_order(rendition="1080p"))) == 5


def test_events_of_other_scorers_unpack_as_well(history: History) -> None:
    """Each provenance has its own dictionary; failures need none."""
    other = replace(PROVENANCE, versions={"vqmon": "9"})
    outcomes = [
        factories.event(sequence=0),
        replace(factories.event(sequence=1), provenance=other),
        factories.failure(sequence=2),
        factories.event(sequence=3),
    ]
    for outcome in outcomes:
        history.publish([outcome])
    assert list(history.documents.outcomes_in_write_order()) == outcomes


def test_names_in_unknown_encodings_are_stored(history: History) -> None:
    """A folder whose name is no Unicode does not stop the daemon."""
    strange = replace(
        factories.failure(sequence=0),
        segment=replace(factories.failure(sequence=0).segment, rendition=replace(RENDITION, name="caf\udce9")),
    )
    history.publish([strange])
    assert isinstance(next(history.documents.outcomes_in_write_order()), SegmentFailure)
    assert strange.segment.key in history.seen_segments()


def test_files_that_are_no_history_are_refused(tmp_path: Path) -> None:
    """Nothing there, another database, no database, another version: each says what to do."""
    with pytest.raises(SettingsError, match="no history yet; run"), open_history(tmp_path / "none.db", "read"):
        pass
    with pytest.raises(StoreError, match="folder does not exist"), open_history(tmp_path / "a" / "b.db", "write"):
        pass
    (tmp_path / "text.db").write_text("no database at all, but long enough to be looked at" * 20)
    with pytest.raises(StoreError, match="not a database"), open_history(tmp_path / "text.db", "write"):
        pass
    (tmp_path / "empty.db").touch()
    with pytest.raises(StoreError, match="no history yet"), open_history(tmp_path / "empty.db", "read"):
        pass
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE t (x)")
    other.close()
    with pytest.raises(StoreError, match="not a history of vqmon"), open_history(tmp_path / "other.db", "write"):
        pass


def test_a_newer_history_is_refused(tmp_path: Path) -> None:
    """A file of a later vqmon is not touched."""
    path = tmp_path / "history.db"
    with open_history(path, "write"):
        pass
    later = sqlite3.connect(path)
    later.execute("PRAGMA user_version = 99")
    later.close()
    for mode in ("write", "read"):
        with pytest.raises(StoreError, match="newer vqmon"), open_history(path, mode):
            pass
