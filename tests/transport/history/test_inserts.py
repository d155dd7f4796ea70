"""Writing is idempotent: outcomes, alerts, evidence, markers and ends."""

from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np

from tests import factories
from tests.factories import RENDITION, START
from tests.transport.history.samples import end_after, jpegs, open_alert, resolved_alert
from vqmon.core.alerts.annotations import DeployMarker
from vqmon.core.scores import pack_heat_map
from vqmon.core.types import SegmentFailure
from vqmon.transport.history.backends.location import HistoryLocation
from vqmon.transport.history.history import History, open_database, open_history

AT = datetime(2026, 11, 20, 20, 0, tzinfo=UTC)


def marker(number: int) -> DeployMarker:
    return DeployMarker(
        id=f"{number:032}", at=AT + timedelta(minutes=number), name=f"encoder {number}", stream="news-*"
    )


def test_markers_are_added_beside_the_writer(history_location: HistoryLocation) -> None:
    """The same again changes nothing; the newest are given, oldest first."""
    with open_history(history_location, "write") as history:
        history.publish([factories.event(sequence=0)])
        with open_history(history_location, "annotate") as beside:
            for number in (2, 1, 3, 2):
                beside.add_marker(marker(number))
        history.publish([factories.event(sequence=1)])
        assert list(history.queries.markers()) == [marker(1), marker(2), marker(3)]
        assert list(history.queries.markers(limit=2)) == [marker(2), marker(3)]
        assert list(history.documents.outcomes_in_write_order()) == [
            factories.event(sequence=0),
            factories.event(sequence=1),
        ]


def test_publishing_twice_changes_nothing(history: History) -> None:
    """Publishing is idempotent by event id: no row, count or change twice."""
    event = factories.event(sequence=0)
    for _ in range(3):
        history.publish(
            [event, event, factories.failure(sequence=1)], alerts=[open_alert(event)], thumbnails=jpegs(event.id)
        )
    assert list(history.documents.outcomes_in_write_order()) == [event, factories.failure(sequence=1)]
    assert history.queries.counts().scored == history.queries.counts().unscored == 1
    assert len(history.queries.thumbnails(event.id)) == 4
    assert len(history.queries.changes_since(0, limit=99).points) == 2
    assert history.queries.tip() == 3


def test_a_resolved_alert_never_opens_again(history: History) -> None:
    """A resolved alert never opens again, whatever is published twice."""
    event = factories.event(sequence=0)
    alert = open_alert(event)
    history.publish([event], alerts=[alert])
    assert history.queries.alerts(open_only=True) == [alert] == history.queries.alerts(stream_id="news-1")
    history.publish([], alerts=[resolved_alert(alert)])
    history.publish([], alerts=[alert])
    assert history.queries.alert(alert.id) == resolved_alert(alert)
    assert history.queries.alerts(open_only=True) == [] == history.queries.alerts(stream_id="sports")
    assert history.queries.alerts(since=START + timedelta(hours=1)) == []
    assert len(history.queries.alerts(since=START)) == 1
    assert history.queries.alert("nothing") is None


def test_evidence_is_the_worst_frames_that_fit(history_location: HistoryLocation) -> None:
    """Worst first, as many as fit, and retention does not take them."""
    event = factories.event(sequence=0)
    with open_history(history_location, "write", evidence_max_bytes=250) as history:
        history.publish([event], alerts=[open_alert(event, times=(3.0, 1.0, 0.0))], thumbnails=jpegs(event.id))
        expected = [b"\xff\xd8" + bytes([k]) * 100 for k in (3, 1)]
        assert history.queries.evidence("a" * 32) == expected
        history.maintenance.prune(before=START + timedelta(days=1), keep_frames_of_segments=0)
        assert history.queries.outcome(event.id) is None
        assert history.queries.evidence("a" * 32) == expected
        assert history.queries.alert("a" * 32) is not None


def test_heat_maps_of_the_worst_frames_are_evidence(history: History) -> None:
    """In the order of the alert, also of an event written before; they outlive the event."""
    losses = np.zeros((9, 16), np.float32)
    losses[:, :8] = 0.6
    heat_map = pack_heat_map("detail", [None, None, losses, losses / 2])
    assert heat_map is not None
    event = replace(factories.event(sequence=0), heat_maps=(heat_map,))
    history.publish([event], alerts=[open_alert(event, name="a", times=(3.0, 0.0, 2.0))])
    history.publish([], alerts=[open_alert(event, name="b", times=(0.0, 1.0))])
    assert history.queries.outcome(event.id) == event
    history.maintenance.prune(before=START + timedelta(days=1), keep_frames_of_segments=0)
    assert history.queries.outcome(event.id) is None
    expected = replace(heat_map, frames=(heat_map.frames[3], "", heat_map.frames[2]))
    assert history.queries.evidence_heat_maps("a" * 32) == (expected,)
    assert history.queries.evidence_heat_maps("b" * 32) == ()


def test_names_in_an_unknown_encoding_are_stored(history: History) -> None:
    """A folder whose name is no Unicode does not stop the daemon."""
    strange = replace(
        factories.failure(sequence=0),
        segment=replace(factories.failure(sequence=0).segment, rendition=replace(RENDITION, name="caf\udce9")),
    )
    history.publish([strange])
    assert isinstance(next(history.documents.outcomes_in_write_order()), SegmentFailure)
    assert strange.segment.key in history.seen_segments()


def test_an_end_added_by_hand_is_unjudged_until_it_is_published(history_location: HistoryLocation) -> None:
    """Then it has its place, and waits no more; said again it stays where it is."""
    with open_history(history_location, "write") as history:
        history.publish([factories.event(sequence=0)])
        with open_history(history_location, "annotate") as beside:
            beside.add_end(end_after(9))
            beside.add_end(end_after(9))
        assert list(history.queries.unjudged_ends()) == [end_after(9)]
        assert list(history.documents.judge_inputs()) == [factories.event(sequence=0)]
        judged = replace(end_after(9), at=START + timedelta(seconds=4))
        history.publish([], ends=[judged])
        history.publish([factories.event(sequence=1)])
        history.add_end(end_after(9))
        assert list(history.queries.unjudged_ends()) == []
        assert list(history.documents.judge_inputs()) == [
            factories.event(sequence=0),
            judged,
            factories.event(sequence=1),
        ]


def test_a_scorer_that_failed_is_in_points_and_views(history_location: HistoryLocation) -> None:
    """The value that stands for the segment is that of the first scorer, or none."""
    lost = replace(factories.event(sequence=0), scorer_failures=(factories.scorer_failure(tier="main"),))
    other = replace(factories.event(sequence=1), scorer_failures=(factories.scorer_failure(scorer="big@1"),))
    with open_history(history_location, "write") as history:
        history.publish([lost, other])
        points = history.queries.changes_since(0, limit=9).points
        assert [dict(point.scorer_failures) for point in points] == [{"owl@1": "timeout"}, {"big@1": "timeout"}]
        assert [point.reason_of("owl@1") for point in points] == ["timeout", None]
        (state,) = history.queries.renditions(trend=5)
        assert (state.trend, state.last_scorer_failures) == ((None, 70.0), {"big@1": "timeout"})
    with closing(open_database(history_location, "read")) as database:
        views = [
            database.query(f"SELECT {columns} FROM {view} ORDER BY number")
            for view, columns in (("v_outcomes", "kind, value"), ("v_scorer_failures", "scorer, tier, reason"))
        ]
    assert [[tuple(row) for row in view] for view in views] == [
        [("scored", None), ("scored", 70.0)],
        [("owl@1", "main", "timeout"), ("big@1", "first", "timeout")],
    ]
