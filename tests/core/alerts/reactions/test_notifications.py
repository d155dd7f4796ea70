"""Who is to be told what of an alert, and when."""

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

import pytest

from tests.transport.wire.test_cloudevents import ALERT
from vqmon.core.alerts.annotations import Mask
from vqmon.core.alerts.reactions.notifications import (
    RESOLVED_REPEAT,
    QueuedAlert,
    maintenance_window_of,
    next_action,
    next_actions,
)

NOW = datetime(2026, 11, 20, 20, 1, tzinfo=UTC)
OVER = replace(ALERT, state="resolved", resolved_at=ALERT.opened_at + timedelta(seconds=40))
MUTED = replace(ALERT, muted_by="c" * 32)


def notice(alert=ALERT, *, notified: str = "", queued_at: datetime = NOW) -> QueuedAlert:
    return QueuedAlert(
        alert=alert,
        opened=ALERT,
        queued_at=queued_at,
        changed_at=NOW,
        notified_states={"pager": notified} if notified else {},
    )


@pytest.mark.parametrize(
    ("alert", "notified", "kind", "is_held", "action"),
    [
        (ALERT, "", "state", False, "open"),
        (ALERT, "open", "state", False, "open"),
        (ALERT, "", "state", True, "wait"),
        (ALERT, "open", "state", True, "open"),
        (OVER, "", "state", True, "done"),
        (OVER, "", "state", False, "resolved"),
        (OVER, "open", "state", True, "resolved"),
        (OVER, "resolved", "state", False, "resolved"),
        (ALERT, "", "changes", False, "open"),
        (ALERT, "open", "changes", False, "wait"),
        (ALERT, "", "changes", True, "wait"),
        (OVER, "", "changes", False, "open"),
        (OVER, "open", "changes", True, "resolved"),
        (OVER, "resolved", "changes", False, "done"),
        (OVER, "", "changes", True, "done"),
        (MUTED, "", "changes", False, "wait"),
        (MUTED, "", "state", False, "wait"),
        (MUTED, "open", "state", False, "open"),
        (replace(OVER, muted_by="c" * 32), "", "changes", False, "done"),
    ],
)
def test_what_comes_next(alert, notified, kind, is_held, action) -> None:
    """States are said over and over, changes once and in order; what is kept back was never said."""
    assert next_action(notice(alert, notified=notified), "pager", kind=kind, is_held=is_held, now=NOW) == action


def test_an_end_is_said_again_for_a_while() -> None:
    """A target of states may have forgotten; after five minutes it has not."""
    over = notice(OVER, notified="resolved")
    assert (
        next_action(over, "pager", kind="state", is_held=False, now=NOW + RESOLVED_REPEAT - timedelta(seconds=1))
        == "resolved"
    )
    assert next_action(over, "pager", kind="state", is_held=False, now=NOW + RESOLVED_REPEAT) == "done"


def test_the_end_of_one_that_opened_without_knowing_of_the_open_one_does_not_end_that() -> None:
    """As it was opened while the history that holds the first could not be read."""
    stored = notice(notified="open", queued_at=NOW - timedelta(minutes=2))
    unknowing = notice(replace(OVER, id="b" * 32), notified="open")
    for order in ([stored, unknowing], [unknowing, stored]):
        assert next_actions(order, "pager", kind="state", held_alert_ids=(), now=NOW) == {
            "a" * 32: "open",
            "b" * 32: "done",
        }


def test_the_end_of_an_earlier_alert_does_not_end_the_one_that_is_open_now() -> None:
    """Both have the same labels in a target of states: only the later one is spoken of; changes are told of both."""
    earlier = notice(OVER, notified="open", queued_at=NOW - timedelta(minutes=2))
    later = replace(notice(replace(ALERT, id="b" * 32)), notified_states={})
    for order in ([earlier, later], [later, earlier]):
        assert next_actions(order, "pager", kind="state", held_alert_ids=(), now=NOW) == {
            "a" * 32: "done",
            "b" * 32: "open",
        }
        assert next_actions(order, "pager", kind="changes", held_alert_ids=(), now=NOW) == {
            "a" * 32: "resolved",
            "b" * 32: "open",
        }
    assert (
        next_actions([earlier, later], "pager", kind="state", held_alert_ids={"b" * 32}, now=NOW)["a" * 32]
        == "resolved"
    )


def test_a_window_keeps_back_its_streams_while_it_lasts() -> None:
    """Once or daily, over midnight too."""
    once = Mask(name="swap", stream=("news-*",), begins_at=NOW, ends_at=NOW + timedelta(hours=1))
    night = Mask(name="night", daily_from=time(23), daily_until=time(1))
    other = replace(ALERT, stream_id="sports")
    assert maintenance_window_of(ALERT, [night, once], NOW) is once
    assert maintenance_window_of(ALERT, [once], NOW + timedelta(hours=1)) is None
    assert maintenance_window_of(ALERT, [once], NOW - timedelta(seconds=1)) is None
    assert maintenance_window_of(other, [once], NOW) is None
    assert [maintenance_window_of(other, [night], NOW.replace(hour=hour)) for hour in (22, 23, 0, 1)] == [
        None,
        night,
        night,
        None,
    ]
