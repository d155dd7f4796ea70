"""No score: silence by the time of the segments, and by the wall clock for a stale playlist."""

from dataclasses import replace
from datetime import timedelta

from tests import factories
from tests.core.alerts.one_rule import alerts_of, turns
from tests.factories import START
from vqmon.core.alerts.conditions.no_score import NoScore


def test_no_score_counts_from_the_last_score() -> None:
    """Thirty seconds of segments without a score open the alert, the first score closes it."""
    outcomes = [
        factories.event(sequence=0),
        *(factories.failure(sequence=n, reason="timeout") for n in range(1, 12)),
        factories.event(sequence=12),
    ]
    alerts = alerts_of(NoScore(), outcomes)
    assert turns(alerts) == [("open", 4, 36), ("resolved", 4, 52)]
    assert "timeout" in alerts[0].summary


def test_a_stale_playlist_is_told_by_the_clock_that_saw_it() -> None:
    """A timeline that is hours off the wall clock does not make a short silence a long one."""
    last = replace(factories.event(sequence=0), observed_at=START + timedelta(hours=5))
    stale = [
        replace(
            factories.failure(sequence=n, reason="stale", duration_seconds=0, at_seconds=5 * 3600 + n * 10),
            observed_at=START + timedelta(hours=5, seconds=n * 10),
        )
        for n in range(1, 6)
    ]
    alerts = alerts_of(NoScore(), [last, *stale, factories.event(sequence=1)])
    assert [alert.state for alert in alerts] == ["open", "resolved"]
    assert alerts[0].evidence.event_id == stale[2].id
    assert alerts[1].resolved_at >= alerts[1].opened_at


def test_a_hole_without_outcomes_is_no_alert_by_itself() -> None:
    """When the daemon did not run nothing is known, and the next score is fine."""
    assert not alerts_of(NoScore(), [factories.event(sequence=0), factories.event(sequence=1, at_seconds=3600)])
