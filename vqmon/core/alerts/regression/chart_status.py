"""Status of a series that a control chart follows: its phase, its baseline with a band, and the evidence of a drop."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from vqmon.core.alerts.conditions.regression import ChartState, RegressionState
from vqmon.core.alerts.regression.baseline import FIRST_VALUES
from vqmon.core.alerts.regression.cusum import current_baseline
from vqmon.core.alerts.state import AlertState

Phase = Literal["learning", "ok", "pending", "firing", "resolving"]

_BAND_DEVIATIONS = 2.0


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
    # the CUSUM, or ln of the e-detector, and the value at which it alarms
    evidence: float
    limit: float
    # the last moment at the baseline
    change_at: datetime | None
    # how many values the baseline rests on
    learned_from: int
    # values without a partner to compare with
    unpaired_count: int

    @property
    def is_trusted(self) -> bool:
        """Whether the baseline rests on more than the first values."""
        return self.learned_from >= FIRST_VALUES


def _phase_of(state: ChartState) -> Phase:
    """pending: evidence gathers; firing: the alert is open; resolving: it is open and the series nears its baseline."""
    if state.chart is None:
        return "ok" if state.alert is None else "firing"
    cusum = state.chart.cusum
    if state.alert is not None:
        return "resolving" if cusum.recovery_evidence > 0.0 or cusum.steady_count > 0.0 else "firing"
    if current_baseline(state.chart) is None:
        return "learning"
    return "pending" if max(cusum.cusum, cusum.log_e_value) > cusum.limit / 2 else "ok"


def chart_status(state: AlertState) -> ChartStatus | None:
    """The status of a series; None for rules without a control chart, and before the first value."""
    if not isinstance(state, ChartState) or state.chart is None:
        return None
    cusum, baseline = state.chart.cusum, current_baseline(state.chart)
    margin = _BAND_DEVIATIONS * baseline.spread if baseline else 0.0
    learned = state.chart.baseline
    return ChartStatus(
        rule=state.rule,
        series=str(state.series),
        phase=_phase_of(state),
        basis=state.basis,
        baseline_level=baseline.level if baseline else None,
        low=baseline.level - margin if baseline else None,
        high=baseline.level + margin if baseline else None,
        evidence=max(cusum.cusum, cusum.log_e_value),
        limit=cusum.limit,
        change_at=datetime.fromtimestamp(cusum.change_at, UTC) if cusum.change_at else None,
        learned_from=int(learned.value_count) if learned else len(state.chart.first_values),
        unpaired_count=state.unpaired_count if isinstance(state, RegressionState) else 0,
    )
