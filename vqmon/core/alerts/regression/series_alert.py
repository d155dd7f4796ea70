"""Follows a series with its control chart: opens an alert when an alarm passes the rule's gates, and resolves it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, TypeVar

from vqmon.core.alerts.conditions.chart import ChartCondition
from vqmon.core.alerts.conditions.regression import ChartState
from vqmon.core.alerts.regression.change_point import (
    DropEstimate,
    count_since_change,
    detected_drop,
    moved_companions,
    update_companions,
)
from vqmon.core.alerts.regression.chart_status import visible_drops_text
from vqmon.core.alerts.regression.control_chart import (
    EMPTY_CHART,
    ControlChart,
    chart_at_closing,
    chart_at_opening,
    has_recovered,
    update_chart,
    update_while_open,
)
from vqmon.core.alerts.rules import AlertRule
from vqmon.core.alerts.state import ScoredSegment
from vqmon.core.types import Alert, AlertEvidence, CompanionShift, LevelShift, RegressionCause, Severity, alert_id

_MAX_MOVED_IN_SUMMARY = 2

State = TypeVar("State", bound=ChartState)


class SeriesValue(NamedTuple):
    """One value of a series, and the segment that it comes from; a tuple, as there are several for every segment."""

    # points, or a difference of points
    value: float
    # name@version, what it is compared with, and since which deploy
    basis: str
    scorer: str
    segment: ScoredSegment
    # weighted
    impact_minutes: float
    min_impact_minutes: float = 0.0
    cause: RegressionCause = ""
    # how much content the value stands for, where that is more than its segment
    content_seconds: float = 0.0
    # the two values whose difference this is, for the text of an alert
    comparison: str = ""

    @property
    def starts_at(self) -> float:
        """Start of the content that the value stands for, in seconds."""
        return min(self.segment.starts_at, self.segment.ends_at - self.content_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertTransition:
    """An alert that opens or resolves, before other alerts may inhibit it."""

    kind: Literal["open", "resolved"]
    alert: Alert


Follow = Callable[[AlertRule, Any, SeriesValue], tuple[Any, AlertTransition | None]]
"""Takes a rule, a series' state and its next value, gives the next state: `follow_series`, or a recorder of values."""


def follow_series(rule: AlertRule, state: State, value: SeriesValue) -> tuple[State, AlertTransition | None]:
    """The state of a series after one more value, and the transition if an alert opens or resolves with it."""
    assert isinstance(rule.condition, ChartCondition)
    if state.basis != value.basis:
        resolved = None
        if state.alert is not None:
            resolved = _resolve(state.alert, value, "the scorer, its partner or a deploy changed")
        state = state.restarted(value.basis)
        return _follow_without_alert(rule, rule.condition, state, value)[0], resolved
    if state.alert is None:
        return _follow_without_alert(rule, rule.condition, state, value)
    return _follow_open_alert(rule, rule.condition, state, state.alert, value)


def _follow_without_alert(
    rule: AlertRule, condition: ChartCondition, state: State, value: SeriesValue
) -> tuple[State, AlertTransition | None]:
    segment, parameters = value.segment, condition.parameters
    chart = update_chart(
        state.chart or EMPTY_CHART,
        value.value,
        parameters,
        starts_at=value.starts_at,
        ends_at=segment.ends_at,
        impact_minutes=value.impact_minutes,
    )
    companions = update_companions(
        state.companions, _companion_values(value), count_since_change=count_since_change(chart)
    )  # fmt: skip
    state = replace(state, seen_until=segment.ends_at, chart=chart, companions=companions)
    held_since = chart.recovery.held_since
    drop = detected_drop(chart, delta_min=condition.delta_min, min_impact_minutes=value.min_impact_minutes)
    if drop is None:
        return (replace(state, chart=_held(chart, 0.0)) if held_since else state), None
    held_since = held_since or segment.starts_at
    if segment.starts_at - held_since < condition.hold_seconds:
        return replace(state, chart=_held(chart, held_since)), None
    return _open(rule, condition, state, value, chart, drop)


def _open(
    rule: AlertRule,
    condition: ChartCondition,
    state: State,
    value: SeriesValue,
    chart: ControlChart,
    drop: DropEstimate,
) -> tuple[State, AlertTransition]:
    ends_at = value.segment.ends_at
    change = LevelShift(
        at=_datetime(min(drop.began_at, ends_at)),
        before=round(drop.baseline_level, 3),
        after=round(drop.mean, 3),
        low=round(-drop.high, 3),
        high=round(-drop.low, 3),
    )
    chart = chart_at_opening(
        chart, drop.average_index, drop=drop.points, flap_seconds=condition.flap_seconds, at=ends_at
    )  # fmt: skip
    alert = _new_alert(rule, condition, state, value, change, chart)
    state = replace(state, chart=chart, alert=alert, uninhibited_since=None)
    return state, AlertTransition(kind="open", alert=alert)


def _follow_open_alert(
    rule: AlertRule, condition: ChartCondition, state: State, alert: Alert, value: SeriesValue
) -> tuple[State, AlertTransition | None]:
    segment, parameters = value.segment, condition.parameters
    chart = update_while_open(
        state.chart or EMPTY_CHART, value.value, parameters, starts_at=value.starts_at, ends_at=segment.ends_at
    )
    state = replace(state, chart=chart, seen_until=segment.ends_at)
    # The distance, as a timeline that was set back must not hold an alert open.
    open_seconds = abs(segment.ends_at - alert.opened_at.timestamp())
    if has_recovered(chart) and open_seconds >= rule.min_open_seconds:
        lasted_seconds = max(chart.recovery.began_at - alert.began_at.timestamp(), 0.0)
        state = state.without_alert(chart_at_closing(chart, closed_at=segment.ends_at))
        return state, _resolve(alert, value, f"over after {_duration(lasted_seconds)}")
    if condition.settle_seconds and open_seconds >= condition.settle_seconds:
        return state.without_alert(None), _resolve(alert, value, f"the new usual after {_duration(open_seconds)}")
    return state, None


def close_without_values(
    state: State, alert: Alert, *, at: float, why: str, chart: ControlChart | None = None
) -> tuple[State, AlertTransition]:
    """Close an open alert at a moment (seconds) because its series has no values any more; `chart` is what stays."""
    closed = replace(
        alert,
        state="resolved",
        resolved_at=max(_datetime(at), alert.opened_at),
        summary=f"{alert.summary}; closed: {why}",
    )
    return state.without_alert(chart), AlertTransition(kind="resolved", alert=closed)


def _companion_values(value: SeriesValue) -> Mapping[str, float]:
    """Signals and the other scorers' values of the same segment."""
    values = {**value.segment.signals, **value.segment.scores}
    values.pop(value.scorer, None)
    return values


def _held(chart: ControlChart, held_since: float) -> ControlChart:
    return chart._replace(recovery=chart.recovery._replace(held_since=held_since))


def _new_alert(
    rule: AlertRule,
    condition: ChartCondition,
    state: ChartState,
    value: SeriesValue,
    change: LevelShift,
    chart: ControlChart,
) -> Alert:
    segment = value.segment
    moved = moved_companions(state.companions)
    learned_from = chart.baseline.value_count if chart.baseline else 0.0
    severity: Severity = rule.severity if learned_from >= condition.page_segments else "ticket"
    return Alert(
        id=alert_id(rule.name, str(state.series), change.at),
        rule=rule.name,
        series=str(state.series),
        stream_id=segment.stream_id,
        rendition=segment.rendition,
        severity=severity,
        state="open",
        began_at=change.at,
        opened_at=_datetime(segment.ends_at),
        resolved_at=None,
        summary=_summary(
            value,
            change,
            moved,
            count=int(chart.averages[int(chart.recovery.average_index)].value_count),
            flap_count=int(chart.recovery.flap_count),
            sees=visible_drops_text(chart, delta_min=condition.delta_min, seconds=segment.ends_at - value.starts_at),
        ),
        evidence=AlertEvidence(
            event_id=segment.event_id,
            reading=f"{value.basis} {value.value:.1f}, usual {change.before:.1f}",
            value=round(value.value, 4),
            threshold=round(change.before - condition.delta_min, 4),
            worst_times_seconds=segment.worst_times_seconds.get(value.scorer, ()),
        ),
        change=change,
        moved=moved,
        cause=value.cause,
        labels=dict(segment.labels),
    )


def _summary(
    value: SeriesValue,
    change: LevelShift,
    moved: tuple[CompanionShift, ...],
    *,
    count: int,
    flap_count: int,
    sees: str,
) -> str:
    """E.g. lite@1 down 7.9 points since 20:25:04 (95 %: 6.1-9.7); blockiness 0.12 -> 0.41; sees 5 points in 48 s."""
    drop = change.before - change.after
    parts = [
        f"{value.basis} down {drop:.1f} points since {change.at:%H:%M:%S} "
        f"(95 %: {max(-change.high, 0.0):.1f}-{-change.low:.1f})"
    ]
    if value.comparison:
        parts.append(f"{value.comparison} (n = {count} repeats)")
    for companion in moved[:_MAX_MOVED_IN_SUMMARY]:
        digits = 1 if "@" in companion.name else 2
        parts.append(f"{companion.name} {companion.before:.{digits}f} -> {companion.after:.{digits}f}")
    if flap_count:
        parts.append(f"flapping: open for the {flap_count + 1}. time in a row")
    if sees:
        parts.append(f"sees {sees}")
    return "; ".join(parts)


def _resolve(alert: Alert, value: SeriesValue, reason: str) -> AlertTransition:
    resolved_at = max(_datetime(value.segment.ends_at), alert.opened_at)
    resolved = replace(alert, state="resolved", resolved_at=resolved_at, summary=f"{alert.summary}; {reason}")
    return AlertTransition(kind="resolved", alert=resolved)


def _duration(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds < 600 else f"{seconds / 60:.3g} min"


def _datetime(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
