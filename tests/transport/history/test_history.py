"""A history survives a restart whole: outcomes, alert states and cursors; readers see only commits."""

import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests import factories
from tests.factories import START
from tests.transport.history.samples import SPORTS, jpegs
from vqmon.core.alerts.judge import Judge
from vqmon.core.types import Alert, LaneCursor
from vqmon.errors import StoreError
from vqmon.settings.rules_file import parse_rules
from vqmon.transport.history.backends.location import HistoryLocation
from vqmon.transport.history.history import History, open_history

RULES = parse_rules((Path(__file__).parents[3] / "config" / "rules.toml").read_text())


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
    assert [history.queries.outcome(outcome.id) for outcome in outcomes] == outcomes
    assert list(history.documents.outcomes_in_write_order()) == outcomes
    assert history.queries.thumbnails(outcomes[0].id) == [jpeg for _, jpeg in jpegs("x")["x"]]
    assert history.queries.thumbnails(outcomes[1].id) == []
    assert history.queries.outcome("nothing") is None
    assert (history.queries.counts().scored, history.queries.counts().unscored_by_reason) == (3, {"not_found": 1})


def test_a_segment_that_failed_and_is_scored_later_has_both_outcomes(history: History) -> None:
    """What was said stays said; the score is a row of its own."""
    history.publish([factories.failure(sequence=5)])
    history.publish([factories.event(sequence=5)])
    assert list(history.documents.outcomes_in_write_order()) == [
        factories.failure(sequence=5),
        factories.event(sequence=5),
    ]
    assert history.queries.neighbours(factories.failure(sequence=5).id) == (None, factories.event(sequence=5).id)


def test_a_failed_publish_writes_nothing(history: History) -> None:
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


def test_a_reader_sees_commits_of_the_writer_and_cannot_write(
    history: History, history_location: HistoryLocation
) -> None:
    """A reader sees what is committed, from other threads too, and can write nothing."""
    with open_history(history_location, "read") as reader:
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


def test_alert_states_survive_a_restart(history_location: HistoryLocation) -> None:
    """A daemon that starts again goes on as if it had never stopped."""
    outcomes = [factories.event(sequence=n, score=30 if 33 < n < 50 else 70) for n in range(100)]
    whole = Judge(RULES)
    expected = [alert for outcome in outcomes for alert in whole.judge(outcome)]
    published: list[Alert] = []
    for outcome in outcomes:
        with open_history(history_location, "write") as history:
            judge = Judge(RULES, states=history.queries.states())
            alerts = judge.judge(outcome)
            published += alerts
            history.publish([outcome], alerts=alerts, states=judge.drain_changes())
    assert published == expected
    assert {alert.state for alert in published} == {"open", "resolved"}
    with open_history(history_location, "read") as history:
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
