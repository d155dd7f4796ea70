"""Where a series stands, for pages: its phase, its usual level with a band, and how much evidence has gathered."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from vqmon.core.alerts.regression.baseline import COLD
from vqmon.core.alerts.regression.cusum import parts, usual_now
from vqmon.core.alerts.state import AlertState

Phase = Literal["learning", "ok", "pending", "firing", "resolving"]

BAND_DEVIATIONS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Charted:
    """A regression rule's view of one series; levels in points, or differences of such."""

    rule: str
    series: str
    phase: Phase
    # name@version, and what it is compared with
    basis: str
    # None while nothing is known
    usual: float | None
    # 95 % of single values lie within, when all is as usual
    low: float | None
    high: float | None
    # the CUSUM, or ln of the e-detector, and at what it alarms
    evidence: float
    limit: float
    # the last moment at which the series was as usual
    usual_until: datetime | None
    # how many values the usual rests on
    learned_from: int
    # pairs without a partner
    dropped: int

    @property
    def is_trusted(self) -> bool:
        """Whether the usual rests on more than the first values."""
        return self.learned_from >= COLD


def phase_of(state: AlertState) -> Phase:
    """pending: evidence gathers; firing: the alert is open; resolving: it is open and the series nears its usual."""
    if not state.memory:
        return "ok" if state.alert is None else "firing"
    chart, _, _ = parts(state.memory)
    if state.alert is not None:
        return "resolving" if chart.back > 0.0 or chart.steady > 0.0 else "firing"
    if usual_now(state.memory) is None:
        return "learning"
    return "pending" if max(chart.s, chart.log_m) > chart.limit / 2 else "ok"


def chart_of(state: AlertState) -> Charted | None:
    """Where a series of a regression rule stands; None for other rules."""
    if state.kind not in ("regression", "group") or not state.memory:
        return None
    chart, _, tail = parts(state.memory)
    usual = usual_now(state.memory)
    spread = BAND_DEVIATIONS * usual.spread if usual else 0.0
    return Charted(
        rule=state.rule,
        series=state.series,
        phase=phase_of(state),
        basis=state.basis,
        usual=usual.level if usual else None,
        low=usual.level - spread if usual else None,
        high=usual.level + spread if usual else None,
        evidence=max(chart.s, chart.log_m),
        limit=chart.limit,
        usual_until=datetime.fromtimestamp(chart.since_at, UTC) if chart.since_at else None,
        learned_from=int(parts(state.memory)[1].number) or len(tail),
        dropped=state.dropped,
    )
