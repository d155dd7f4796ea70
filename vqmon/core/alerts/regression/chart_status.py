"""Status of a series that a control chart follows: its phase, its baseline with a band, the drops that it can see."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from vqmon.core.alerts.conditions.regression import ChartState, RegressionState
from vqmon.core.alerts.regression.baseline import MIN_BLOCKS
from vqmon.core.alerts.regression.control_chart import (
    ControlChart,
    VisibleDrop,
    current_baseline,
    evidence_of,
    visible_drops,
)
from vqmon.core.alerts.state import AlertState, State

Phase = Literal["learning", "ok", "pending", "firing", "resolving"]

_BAND_DEVIATIONS = 2.0

_PENDING_EVIDENCE = 0.75
"""An average that is this far on its way to the limit makes a series pending."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartStatus:
    """Status of one series of a regression or group rule; levels in points, or differences of such."""

    rule: str
    series: str
    phase: Phase
    # name@version, and what it is compared with
    basis: str
    # None before the third value
    baseline_level: float | None
    # 95 % of single values lie within these at the baseline
    low: float | None
    high: float | None
    # how far the lowest average is on its way from the usual level (0) to its limit (1: an alert); 0 without limits
    evidence: float
    # how many values the baseline rests on
    learned_from: int
    # blocks of content that the limits rest on; no alert before MIN_BLOCKS
    block_count: int
    # the smallest drops that the series shows, soonest first, down to no `delta_min`
    visible_drops: tuple[VisibleDrop, ...]
    # values without a partner to compare with
    unpaired_count: int

    @property
    def is_trusted(self) -> bool:
        """Whether the series has limits."""
        return self.block_count >= MIN_BLOCKS


def _phase_of(state: ChartState) -> Phase:
    """pending: an average nears its limit; firing: the alert is open; resolving: it is open and its average is back."""
    if state.chart is None:
        return "ok" if state.alert is None else "firing"
    if state.alert is not None:
        return "resolving" if state.chart.recovery.steady_count > 0.0 else "firing"
    if state.chart.blocks.ended < MIN_BLOCKS:
        return "learning"
    return "pending" if evidence_of(state.chart) > _PENDING_EVIDENCE else "ok"


def chart_status(state: AlertState) -> ChartStatus | None:
    """The status of a series; None for rules without a control chart, and before the first value."""
    if not isinstance(state, ChartState) or state.chart is None:
        return None
    chart, baseline = state.chart, current_baseline(state.chart)
    margin = _BAND_DEVIATIONS * baseline.spread if baseline else 0.0
    return ChartStatus(
        rule=state.rule,
        series=str(state.series),
        phase=_phase_of(state),
        basis=state.basis,
        baseline_level=baseline.level if baseline else None,
        low=baseline.level - margin if baseline else None,
        high=baseline.level + margin if baseline else None,
        evidence=evidence_of(chart),
        learned_from=int(baseline.value_count) if baseline else len(chart.first_values),
        block_count=int(chart.blocks.ended),
        visible_drops=visible_drops(chart, delta_min=0.0),
        unpaired_count=state.unpaired_count if isinstance(state, RegressionState) else 0,
    )


def rule_visibility_text(states: Iterable[State], *, delta_min: float) -> str:
    """The smallest drops that the series of a rule show, and how many have no limits yet; empty without any values.

    E.g. 12 series see drops from 1.8 to 7 points (median 3.1 in 4 min), 2 still learn.
    """
    charts = [state.chart for state in states if isinstance(state, ChartState) and state.chart is not None]
    ranked = sorted(
        (drops[-1].points, drops[-1].value_count * chart.blocks.segment_seconds)
        for chart in charts
        if (drops := visible_drops(chart, delta_min=delta_min))
    )
    parts = []
    if ranked:
        points, seconds = ranked[len(ranked) // 2]
        parts.append(
            f"{len(ranked)} series see drops from {ranked[0][0]:.2g} to {ranked[-1][0]:.2g} points "
            f"(median {points:.2g} in {_duration(seconds)})"
        )
    if len(charts) > len(ranked):
        parts.append(f"{len(charts) - len(ranked)} still learn")
    return ", ".join(parts)


def visible_drops_text(chart: ControlChart, *, delta_min: float, seconds: float) -> str:
    """The drops that a series of segments this long can see, e.g. 7.2 points in 24 s, 5 in 2 min; empty for none."""
    parts: list[str] = []
    for drop in visible_drops(chart, delta_min=delta_min):
        unit = "" if parts else " points"
        parts.append(f"{drop.points:.2g}{unit} in {_duration(drop.value_count * seconds)}")
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
