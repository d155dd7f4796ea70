"""Measures regression rules on the series of scores that are stored in the history: what they see, and how soon."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from pipelines.commands.replay import HistoryFilter, stored_outcomes
from pipelines.service.wiring import load_rules
from vqmon.core.alerts.backtest.tuning import POINTS_PER_MOS, RecordedSeries, TuningReport, measure_rule
from vqmon.core.alerts.conditions.regression import Regression, RegressionState
from vqmon.core.alerts.media_timeline import place_outcome
from vqmon.core.alerts.regression.regressions import RegressionDetector
from vqmon.core.alerts.regression.series_alert import AlertTransition, SeriesValue
from vqmon.core.alerts.rules import AlertRule
from vqmon.core.alerts.state import StateStore
from vqmon.core.types import Outcome
from vqmon.errors import SettingsError
from vqmon.settings.load import Settings
from vqmon.transport.history.backends.location import HistoryLocation
from vqmon.transport.history.history import open_history

_DROPS_MOS = (0.1, 0.2, 0.3, 0.5, 1.0)
"""Drops whose visibility is shown."""

_MAX_SERIES = 500
"""Series that are recorded; more of them would not change what is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedRule:
    """One rule on the stored series."""

    rule: AlertRule
    report: TuningReport


def tune(
    settings: Settings,
    place: HistoryLocation,
    *,
    rule: str,
    false_alarms_per_day: float | None,
    drop_points: float | None,
    span: HistoryFilter,
) -> Iterator[TunedRule]:
    """The regression rule of this name, or all, on the outcomes stored at a place.

    `false_alarms_per_day` (per stream-day and series) and `drop_points` replace the rule's own `false_alarm_days` and
    `delta_min`. Raises SettingsError when there is no such rule, or too little is stored.
    """
    rules = [
        candidate
        for candidate in load_rules(settings)
        if isinstance(candidate.condition, Regression) and rule in ("", candidate.name)
    ]
    if not rules:
        raise SettingsError(f"no regression rule {rule!r} in the rules file" if rule else "no regression rule to tune")
    recorder = _SeriesRecorder(rules)
    with open_history(place, mode="read") as history:
        for outcome in stored_outcomes(history, span):
            recorder.add_outcome(outcome)
    count = 0
    for candidate in rules:
        assert isinstance(candidate.condition, Regression)
        parameters = candidate.condition.parameters
        if false_alarms_per_day is not None:
            parameters = parameters._replace(false_alarm_days=1.0 / false_alarms_per_day)
        if drop_points is not None:
            parameters = parameters._replace(delta_min=drop_points)
        points = [mos * POINTS_PER_MOS for mos in _DROPS_MOS]
        try:
            report = measure_rule(recorder.series_of(candidate.name), parameters=parameters, drops_points=points)
        except ValueError as error:
            if rule:
                raise SettingsError(f"rule {candidate.name!r}: {error}") from error
            continue
        count += 1
        yield TunedRule(rule=candidate, report=report)
    if not count:
        raise SettingsError("too little is stored: no series of a regression rule has 240 scored segments")


class _SeriesRecorder:
    """Records the values that a Judge would follow: pairs aligned, masks and labels applied."""

    def __init__(self, rules: list[AlertRule]) -> None:
        self._store = StateStore()
        self._detector = RegressionDetector(rules, self._store, follow=self._record)
        self._values: dict[tuple[str, str], list[tuple[float, float, float]]] = {}

    def add_outcome(self, outcome: Outcome) -> None:
        timeline, timed = place_outcome(self._store.timeline(outcome.segment.rendition.key), outcome)
        self._store.save(timeline)
        if timed is not None:
            for _ in self._detector.evaluate(timed):
                pass

    def series_of(self, rule: str) -> list[RecordedSeries]:
        return [
            RecordedSeries(name=name, values=tuple(values))
            for (rule_name, name), values in self._values.items()
            if rule_name == rule
        ]

    def _record(
        self, rule: AlertRule, state: RegressionState, value: SeriesValue
    ) -> tuple[RegressionState, AlertTransition | None]:
        # Another basis is another series.
        key = (rule.name, f"{state.series} ({value.basis})")
        if key in self._values or len(self._values) < _MAX_SERIES:
            self._values.setdefault(key, []).append((value.starts_at, value.segment.ends_at, value.value))
        return replace(state, basis=value.basis), None
