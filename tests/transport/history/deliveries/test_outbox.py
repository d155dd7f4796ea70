"""The outbox: written with the alert, told once what there is to tell, over a restart too."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests import factories
from tests.transport.wire.test_cloudevents import ALERT
from vqmon.transport.history.backends.location import HistoryLocation
from vqmon.transport.history.history import open_history

NOW = datetime(2026, 11, 20, 20, 1, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)
OVER = replace(ALERT, state="resolved", resolved_at=ALERT.opened_at + timedelta(seconds=40))


def test_an_alert_waits_until_it_is_marked_as_done(history_location: HistoryLocation) -> None:
    """What was told is kept; the moment of the end is our clock's."""
    with open_history(history_location, "write") as history:
        history.publish([], alerts=[ALERT], queued_at=NOW)
        history.outbox.record_deliveries({ALERT.id: {"http://am": "open"}})
    with open_history(history_location, "write") as history:
        history.publish([], alerts=[OVER], queued_at=LATER)
        (notice,) = history.outbox.queued_alerts()
        assert (notice.alert, notice.opened) == (OVER, ALERT)
        assert (notice.queued_at, notice.changed_at) == (NOW, LATER)
        assert notice.notified_states == {"http://am": "open"}
        assert history.outbox.queued_alerts(after=notice.number) == []
        history.outbox.record_deliveries({ALERT.id: None})
        assert history.outbox.queued_alerts() == []
        # A segment seen again after a crash is no news.
        history.publish([], alerts=[ALERT, OVER], queued_at=LATER)
        assert history.outbox.queued_alerts() == []


def test_what_another_alert_explains_waits_and_is_told_once_nothing_explains_it(
    history_location: HistoryLocation,
) -> None:
    """It keeps the moment of its coming; what names it is fixed when somebody is told."""
    muted = replace(ALERT, muted_by="c" * 32)
    with open_history(history_location, "write") as history:
        history.publish([], alerts=[muted], queued_at=NOW)
        assert [notice.opened for notice in history.outbox.queued_alerts()] == [muted]
        history.publish([], alerts=[ALERT], queued_at=LATER)
        (notice,) = history.outbox.queued_alerts()
        assert (notice.opened, notice.queued_at, notice.changed_at) == (ALERT, NOW, LATER)
        history.outbox.record_deliveries({ALERT.id: {"http://am": "open"}})
        explained = replace(ALERT, cause="encoder")
        history.publish([], alerts=[explained], queued_at=LATER)
        (notice,) = history.outbox.queued_alerts()
        assert (notice.opened, notice.alert) == (ALERT, explained)


def test_without_anybody_to_tell_the_outbox_stays_empty(history_location: HistoryLocation) -> None:
    """Nothing piles up; and the end of what was never told is not told later."""
    with open_history(history_location, "write") as history:
        history.publish([], alerts=[ALERT])
        history.publish([], alerts=[OVER], queued_at=NOW)
        assert history.outbox.queued_alerts() == []


def test_an_alert_and_its_notice_are_written_together_or_not_at_all(history_location: HistoryLocation) -> None:
    """A publish that fails leaves neither."""
    broken = replace(factories.event(sequence=1), times_seconds=(float("nan"),))
    with open_history(history_location, "write") as history:
        with pytest.raises(ValueError, match="JSON"):
            history.publish([broken], alerts=[ALERT], queued_at=NOW)
        assert (history.queries.alert(ALERT.id), history.outbox.queued_alerts()) == (None, [])
