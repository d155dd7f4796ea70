"""Monitored series, baseline bands and charts of evidence."""

import pytest

from tests.web import incidents, seed
from tests.web.stored_history import StoredHistory
from vqmon.core.alerts.conditions.floor import FloorState
from vqmon.core.alerts.regression.control_chart import evidence_of, update_chart
from vqmon.core.alerts.state import RenditionSeries
from vqmon.core.types import QualityEvent
from vqmon.web.charts.control_charts import evidence_values, monitored_series


@pytest.mark.parametrize("stream_id", ["sports%", "sports_one", "SPORTS ONE", "sports"])
def test_states_of_other_streams_are_not_read(history: StoredHistory, stream_id: str) -> None:
    """A name with signs that mean something to a database, or like another's, finds nothing that is not its own."""
    incidents.write_regression(history)
    assert len(history.store.queries.states_of_stream("sports one")) == 2
    assert history.store.queries.states_of_stream(stream_id) == {}


def test_series_without_a_baseline_are_left_out() -> None:
    """A floor rule has no baseline to show."""
    state = FloorState(rule="floor", series=RenditionSeries(rendition_key="s/r", subject="lite"))
    assert monitored_series({state.key: state}, "s", ["r"]) == []


def test_the_drawn_evidence_equals_that_of_the_rule(history: StoredHistory) -> None:
    """With the limits of now for all points; a fall of fifty points passes them."""
    line = [outcome for outcome in history.outcomes(incidents.STREAM, "1080p") if isinstance(outcome, QualityEvent)]
    state = incidents.rule_state(line, "1080p")
    chart = state.chart
    assert chart is not None
    points = [
        point
        for point in history.store.queries.points(
            incidents.STREAM, begins_at=seed.NOW.replace(hour=0), ends_at=seed.NOW, limit=1000, rendition="1080p"
        )
        if point.scores[seed.SCORER] < 40
    ]
    drawn = evidence_values(points, seed.SCORER, chart)
    for point in points:
        at = point.starts_at.timestamp()
        chart = update_chart(chart, point.scores[seed.SCORER], incidents.PARAMETERS, starts_at=at, ends_at=at + 4.0)
    assert [at for at, _ in drawn] == [point.starts_at.timestamp() for point in points]
    assert drawn[-1][1] > 1.0
    assert drawn[-1][1] == pytest.approx(evidence_of(chart), rel=0.25)
    (monitored,) = monitored_series({state.key: state}, incidents.STREAM, ["1080p"])
    assert (monitored.status.phase, monitored.is_difference) == ("ok", False)
    assert " points in " in monitored.sees
