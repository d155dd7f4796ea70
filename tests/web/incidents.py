"""Writes a regression alert with its cause, a muted alert, a deploy marker and rule states into a seeded history."""

from dataclasses import replace
from datetime import timedelta

from tests.web import seed
from tests.web.stored_history import StoredHistory
from vqmon.core.alerts.annotations import DeployMarker
from vqmon.core.alerts.conditions.chart import ChartParameters
from vqmon.core.alerts.conditions.regression import RegressionState
from vqmon.core.alerts.regression.control_chart import EMPTY_CHART, update_chart
from vqmon.core.alerts.state import PairSeries, RenditionSeries
from vqmon.core.types import Alert, CompanionShift, LevelShift, QualityEvent

STREAM = "sports one"
PARAMETERS = ChartParameters(block_seconds=200.0)
MARKER = DeployMarker(id="m1", at=seed.NOW - timedelta(seconds=200), name="sr-v2 rollout", stream="sports*")


def write_regression(history: StoredHistory) -> tuple[Alert, Alert]:
    """Write and return the regression alert and the alert that it mutes."""
    events = [event for event in history.outcomes(STREAM, "1080p") if isinstance(event, QualityEvent)]
    trigger = next(event for event in events if event.scores[0].value < 40)
    began_at = trigger.segment.starts_at - timedelta(seconds=8)
    regression = replace(
        seed.alert(trigger, rule="regression", severity="page", began_at=began_at, resolved_at=None),
        series=f"{STREAM}/1080p/lite",
        summary=f"{seed.SCORER} of {STREAM} 1080p fell by 52 points",
        change=LevelShift(at=began_at, before=79.1, after=27.4, low=-54.0, high=-49.3),
        moved=(
            CompanionShift(name="blockiness", before=0.01, after=0.63),
            CompanionShift(name="q-align@1", before=71.0, after=44.0),
        ),
        cause="encoder",
        labels={"team": "sr"},
    )
    muted = replace(
        seed.alert(trigger, rule="pairs", severity="ticket", began_at=began_at, resolved_at=None),
        muted_by=regression.id,
        summary=f"{seed.SCORER} of {STREAM} 1080p fell against 480p",
    )
    states = {state.key: state for state in (rule_state(events, "1080p"), rule_state(events, "1080p~480p"))}
    history.store.publish([], alerts=[regression, muted], states=states)
    history.store.add_marker(MARKER)
    return regression, muted


def rule_state(events: list[QualityEvent], series_name: str) -> RegressionState:
    """What a regression rule remembers after an hour like the first segments here, then the newest one."""
    rendition, _, against = series_name.partition("~")
    values = [event.scores[0].value for event in events[:40]] * 10
    chart = EMPTY_CHART
    began = seed.NOW.timestamp() - 4.0 * len(values)
    for number, value in enumerate(values):
        at = began + 4.0 * number
        chart = update_chart(chart, value, PARAMETERS, starts_at=at, ends_at=at + 4.0, impact_minutes=1.0)
    key = f"{STREAM}/{rendition}"
    if against:
        pair = PairSeries(rendition_key=key, scorer="lite", against=against)
        return RegressionState(rule="regression", series=pair, basis=f"{seed.SCORER} against {against}", chart=chart)
    series = RenditionSeries(rendition_key=key, subject="lite")
    return RegressionState(rule="regression", series=series, basis=seed.SCORER, chart=chart)
