"""Deploy markers are kept beside whoever writes the history."""

from datetime import UTC, datetime, timedelta

from tests import factories
from vqmon.core.alerts.annotations import DeployMarker
from vqmon.transport.history.backends.location import HistoryLocation
from vqmon.transport.history.history import open_history

AT = datetime(2026, 11, 20, 20, 0, tzinfo=UTC)


def marker(number: int) -> DeployMarker:
    return DeployMarker(
        id=f"{number:032}", at=AT + timedelta(minutes=number), name=f"encoder {number}", stream="news-*"
    )


def test_markers_are_added_while_another_writes(place: HistoryLocation) -> None:
    """The same again changes nothing; the newest are given, oldest first."""
    with open_history(place, "write") as history:
        history.publish([factories.event(sequence=0)])
        with open_history(place, "annotate") as beside:
            for number in (2, 1, 3, 2):
                beside.add_marker(marker(number))
        history.publish([factories.event(sequence=1)])
        assert list(history.queries.markers()) == [marker(1), marker(2), marker(3)]
        assert list(history.queries.markers(limit=2)) == [marker(2), marker(3)]
        assert list(history.documents.outcomes_in_write_order()) == [
            factories.event(sequence=0),
            factories.event(sequence=1),
        ]
