"""What was judged without the history is judged again with it: the alerts are those of a run that had it."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from pipelines.daemon.judge_again import judge_again, read_progress
from tests import factories
from tests.factories import RENDITION, START
from vqmon.core.alerts.annotations import StreamEnd
from vqmon.core.alerts.judge import Judge
from vqmon.core.types import Alert, LaneCursor, Outcome, SegmentFailure
from vqmon.settings.rules_file import parse_rules
from vqmon.transport.history.history import open_history
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
SCORES = [80.0, 80.0, 20.0, 20.0, 20.0, 20.0, 20.0, 20.0, 20.0, 80.0, 80.0, 80.0, 80.0, 80.0]


def outcomes(*numbers: int) -> list[Outcome]:
    return [factories.event(sequence=number, score=SCORES[number]) for number in numbers]


def cursor(outcome: Outcome) -> LaneCursor:
    segment = outcome.segment
    return LaneCursor(lane=RENDITION.key, sequence=segment.sequence, segment_key=segment.key, ends_at=segment.ends_at)


def provisional(judge: Judge, *groups: Sequence[Outcome]) -> list[HistoryWrite]:
    """The writes of a daemon with this judge, one for each group."""
    return [
        HistoryWrite(
            outcomes=group,
            alerts=[alert for outcome in group for alert in judge.judge(outcome)],
            states=judge.drain_changes(),
            cursors=[cursor(group[-1])],
            queued_at=START,
            is_provisional=True,
        )
        for group in groups
    ]


def alerts_of(writes: Sequence[HistoryWrite]) -> list[tuple[str, str]]:
    return [(alert.id, alert.state) for write in writes for alert in write.alerts]


@pytest.mark.parametrize("stored", [2, 3, 6, 10])
def test_alerts_and_states_are_those_of_a_run_that_had_the_history(stored: int) -> None:
    """Wherever it stopped: before the alert began, while it was about to open, open, or about to resolve."""
    whole = Judge(RULES)
    expected = [alert for outcome in outcomes(*range(14)) for alert in whole.judge(outcome)]
    before = Judge(RULES)
    earlier = [alert for outcome in outcomes(*range(stored)) for alert in before.judge(outcome)]
    writes = provisional(Judge(RULES), *(outcomes(number) for number in range(stored, 14)))
    after = Judge(RULES, before.states())
    judged = judge_again(writes, after, {RENDITION.key: cursor(outcomes(stored - 1)[0])}, now=START)

    unknowing = {alert.id for write in writes for alert in write.alerts}.difference(alert.id for alert in expected)
    confirmed = [entry for entry in alerts_of(judged) if entry[0] not in unknowing]
    assert [(alert.id, alert.state) for alert in earlier] + confirmed == [(alert.id, alert.state) for alert in expected]
    assert after.states() == whole.states()
    assert [outcome for write in judged for outcome in write.outcomes] == outcomes(*range(stored, 14))
    assert not any(write.is_provisional for write in judged)


def test_an_alert_that_is_not_confirmed_resolves() -> None:
    """Receivers were sent it; the history gets its opening too, so that its outbox tells them."""
    before = Judge(RULES)
    for outcome in outcomes(*range(6)):
        before.judge(outcome)
    writes = provisional(Judge(RULES), *(outcomes(number) for number in (6, 7, 8)))
    (opened,) = [alert for write in writes for alert in write.alerts]
    judged = judge_again(writes, Judge(RULES, before.states()), {RENDITION.key: cursor(outcomes(5)[0])}, now=START)
    assert alerts_of(judged) == [(opened.id, "open"), (opened.id, "resolved")]
    assert judged[-1].alerts[-1].summary.endswith("; closed: with what the history holds it does not open")


def test_a_kill_while_the_history_takes_what_waited_ends_no_alert(tmp_path: Path) -> None:
    """The spool still has everything, and the history the first part, with an alert that goes on."""
    with open_history(tmp_path / "vqmon.db", "write") as history:
        writes = provisional(Judge(RULES), *(outcomes(number) for number in range(8)))
        for write in judge_again(writes, Judge(RULES), {}, now=START)[:6]:
            history.publish(write.outcomes, alerts=write.alerts, states=write.states, cursors=write.cursors)
        progress = read_progress(history, [RENDITION.stream_id], writes)
        judge = Judge(RULES, progress.states)
        again = judge_again(writes, judge, progress.cursors, now=START, stored_alert_ids=progress.alert_ids)
        assert [alert.state for alert in history.queries.alerts()] == ["open"]
    assert [len(write.outcomes) for write in again] == [0] * 6 + [1, 1]
    assert alerts_of(again) == []


def test_what_the_history_has_is_left_out_and_what_was_lost_is_said() -> None:
    """A playlist is read from its oldest segment when nobody says where the daemon was."""
    stored = cursor(outcomes(4)[0])
    again = judge_again(
        provisional(Judge(RULES), outcomes(3), outcomes(4, 5)), Judge(RULES), {RENDITION.key: stored}, now=START
    )
    assert [[outcome.segment.sequence for outcome in write.outcomes] for write in again] == [[], [5]]
    assert [len(write.cursors) for write in again] == [0, 1]
    gap = judge_again(
        provisional(Judge(RULES), outcomes(8), outcomes(9)), Judge(RULES), {stored.lane: stored}, now=START
    )
    lost, first, second = [outcome for write in gap for outcome in write.outcomes]
    assert isinstance(lost, SegmentFailure)
    assert (lost.reason, lost.segment.sequence) == ("skipped", 5)
    assert (lost.segment.starts_at, lost.segment.ends_at) == (stored.ends_at, first.segment.starts_at)
    assert [first.segment.sequence, second.segment.sequence] == [8, 9]


def test_a_packager_that_began_anew_loses_nothing() -> None:
    """Its numbers are small again, and its segments are later than all that are stored."""
    stored = replace(cursor(outcomes(4)[0]), sequence=9000)
    (write,) = judge_again(provisional(Judge(RULES), outcomes(5, 6)), Judge(RULES), {stored.lane: stored}, now=START)
    assert [outcome.segment.sequence for outcome in write.outcomes] == [5, 6]


def test_failures_of_the_source_ends_and_alerts_about_vqmon_stay() -> None:
    """They belong to no segment of the playlist."""
    stale = factories.failure(sequence=2, reason="stale")
    own: Alert = replace(factories.alert(), stream_id="vqmon", rule="overloaded")
    before = Judge(RULES)
    for outcome in outcomes(*range(6)):
        before.judge(outcome)
    end = StreamEnd(id="end", stream_id=RENDITION.stream_id, at=START + timedelta(seconds=60))
    writes = [
        HistoryWrite(outcomes=[stale], alerts=[own], is_provisional=True),
        HistoryWrite(ends=[end], is_provisional=True),
    ]
    judged = judge_again(writes, Judge(RULES, before.states()), {RENDITION.key: cursor(outcomes(5)[0])}, now=START)
    assert (list(judged[0].outcomes), list(judged[0].alerts)) == ([stale], [own])
    assert [alert.state for alert in judged[1].alerts] == ["resolved"]
