"""Monitored series, baseline bands and CUSUM charts."""

import pytest

from tests.web import incidents, seed
from tests.web.stored_history import StoredHistory
from vqmon.core.alerts.conditions.chart import ChartParameters
from vqmon.core.alerts.conditions.floor import FloorState
from vqmon.core.alerts.regression.cusum import current_baseline, update_chart
from vqmon.core.alerts.state import RenditionSeries
from vqmon.core.types import QualityEvent
from vqmon.web.charts.control_charts import cusum_values, monitored_series


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


def test_the_drawn_cusum_equals_the_cusum_of_the_rule(history: StoredHistory) -> None:
    """With one baseline for all, the drawn sum is that of `cusum.update_chart`, except for the first value."""
    line = [outcome for outcome in history.outcomes(incidents.STREAM, "1080p") if isinstance(outcome, QualityEvent)]
    chart = incidents.rule_state(line, "1080p").chart
    assert chart is not None
    usual = current_baseline(chart)
    assert usual is not None
    points = [
        point
        for point in history.store.queries.points(
            incidents.STREAM, begins_at=seed.NOW.replace(hour=0), ends_at=seed.NOW, limit=1000, rendition="1080p"
        )
        if point.scores[seed.SCORER] < 40
    ]
    drawn = cusum_values(points, seed.SCORER, usual)
    for point in points:
        at = point.starts_at.timestamp()
        chart = update_chart(chart, point.scores[seed.SCORER], ChartParameters(), starts_at=at, ends_at=at + 4.0)
    assert drawn[-1][1] == pytest.approx(chart.cusum.cusum, abs=3.0)
    assert drawn[-1][1] > ChartParameters().h
