"""Monitored series, baseline bands and CUSUM charts."""

import pytest

from tests.web import incidents, seed
from tests.web.stored_history import StoredHistory
from vqmon.core.alerts.regression.cusum import Tuning, parts, step, usual_now
from vqmon.core.alerts.state import AlertState
from vqmon.core.types import QualityEvent
from vqmon.web.charts.control_charts import cusum_values, monitored_series


@pytest.mark.parametrize("stream_id", ["sports%", "sports_one", "SPORTS ONE", "sports"])
def test_states_of_other_streams_are_not_read(history: StoredHistory, stream_id: str) -> None:
    """A name with signs that mean something to a database, or like another's, finds nothing that is not its own."""
    incidents.write(history)
    assert len(history.store.queries.states_of_stream("sports one")) == 2
    assert history.store.queries.states_of_stream(stream_id) == {}


def test_series_without_a_baseline_are_left_out() -> None:
    """A floor rule has no baseline to show."""
    states = {"a": AlertState(rule="floor", series="s/r/lite", kind="floor")}
    assert monitored_series(states, "s", ["r"]) == []


def test_the_drawn_cusum_equals_the_cusum_of_the_rule(history: StoredHistory) -> None:
    """With one usual for all the drawn sum is that of `core.cusum.step`, but for the first value: it follows none."""
    line = [it for it in history.outcomes(incidents.STREAM, "1080p") if isinstance(it, QualityEvent)]
    memory = incidents.state(line, "1080p").memory
    usual = usual_now(memory)
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
        memory = step(Tuning(), memory, point.scores[seed.SCORER], at=at, until=at + 4.0, impact=1.0)
    assert drawn[-1][1] == pytest.approx(parts(memory)[0].s, abs=3.0)
    assert drawn[-1][1] > Tuning().h
