"""The log of decisions in both databases: stored once, read by stream, and kept as long as they are needed."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.core.alerts.reactions.test_input_switching import Inputs
from vqmon.core.alerts.reactions.input_switching import DecisionRecord
from vqmon.transport.history.backends.location import HistoryLocation
from vqmon.transport.history.deliveries import decision_log
from vqmon.transport.history.history import open_history


def records() -> list[DecisionRecord]:
    """A hold, a switch, a return and a hold of one stream; the switch has a twin in another."""
    inputs = Inputs()
    inputs.play(30, 30, backup=35)
    inputs.play(30)
    inputs.play(*[60] * 5)
    inputs.play(30, 30)
    switch = next(decision for decision in inputs.decisions if decision.kind == "switch")
    decisions = [*inputs.decisions, replace(switch, id="f" * 32, stream_id="news-2")]
    return [
        DecisionRecord(decision=decision, delivery="waiting", changed_at=decision.decided_at) for decision in decisions
    ]


def test_decisions_are_stored_with_the_end_of_their_delivery(history_location: HistoryLocation) -> None:
    """A second record of one changes its delivery; the last changes of the streams leave holds out."""
    stored = records()
    assert [record.decision.kind for record in stored] == ["hold", "switch", "hold", "return", "hold", "switch"]
    with open_history(history_location, "write") as history:
        history.decisions.record(stored)
        at = stored[1].decision.decided_at + timedelta(seconds=3)
        delivered = replace(stored[1], delivery="delivered", attempts=2, changed_at=at)
        history.decisions.record([delivered])
    with open_history(history_location, "annotate") as history:
        assert history.decisions.waiting() == [stored[0], stored[5], *stored[2:5]]
        assert [record.decision.id for record in history.decisions.last_of_streams()] == [
            *(stored[5].decision.id, stored[3].decision.id),
        ]
        assert history.queries.input_decisions(stream_id="news-1", limit=4) == [
            *(stored[4], stored[3], stored[2], delivered),
        ]
        assert len(history.queries.input_decisions()) == 6


def test_the_last_change_of_a_dry_run_hides_no_real_one(
    history_location: HistoryLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are listed and kept; of too many streams, those of the newest changes are listed."""
    _, switch, _, back, *_ = records()
    dry = replace(back, delivery="dry_run")
    with open_history(history_location, "write") as history:
        history.decisions.record([switch, dry])
        after = dry.decision.decided_at + timedelta(seconds=1)
        history.maintenance.prune(before=after, keep_frames_of_segments=0, alerts_before=after)
        assert history.decisions.last_of_streams() == [switch, dry]
        monkeypatch.setattr(decision_log, "_MAX_STREAMS", 1)
        assert history.decisions.last_of_streams() == [dry]


def test_old_decisions_are_deleted_but_for_those_that_say_which_input_is_in_use(
    history_location: HistoryLocation,
) -> None:
    """With the alerts of their time."""
    stored = records()
    after = stored[4].decision.decided_at + timedelta(seconds=1)
    with open_history(history_location, "write") as history:
        history.decisions.record(stored)
        history.maintenance.prune(before=after, keep_frames_of_segments=0, alerts_before=after)
        assert [record.decision.id for record in history.decisions.newest()] == [
            *(stored[3].decision.id, stored[5].decision.id),
        ]
