"""What the conditions `regression` and `group` share: settings of the control chart that follows a series."""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

from vqmon.core.alerts.conditions.base import Condition, check_choice, check_range
from vqmon.core.types import RegressionCause

Mode = Literal["cusum", "guarantee"]

CAUSES: tuple[RegressionCause, ...] = ("", "packaging", "encoder", "source", "scorer")
"""From the weakest to the strongest: an open alert inhibits alerts of a weaker cause."""


class ChartParameters(NamedTuple):
    """The settings of a control chart; see `core.alerts.regression.cusum`."""

    # reference value and decision interval of the CUSUM, in deviations of the residuals
    k: float = 0.5
    h: float = 11.5
    # age at which a value enters the baseline
    lag_seconds: float = 600.0
    # length of the baseline: older values fade
    baseline_segments: float = 21_600.0
    # no evidence is gathered before so many values
    min_segments: float = 30.0
    # points; a value within half of it is near the baseline
    delta_min: float = 2.5
    # ln(A + 1) in guarantee mode; 0 = CUSUM
    log_guarantee: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartCondition(Condition):
    """A condition that follows a series with a control chart; points are those of scores, 0..100."""

    mode: Mode = "cusum"
    # a shift of 2 k deviations is detected soonest
    k: float = 0.5
    # 11.5: one false alarm in 30 stream-days of 4-second segments
    h: float = 11.5
    # guarantee mode: at most one false alarm in so many values
    guarantee_segments: float = 648_000.0
    # a smaller drop opens no alert, however certain it is
    delta_min: float = 2.5
    baseline_segments: int = 21_600
    # age at which a value enters the baseline
    lag_seconds: float = 600.0
    # no alarm before so many values
    min_segments: int = 30
    # an alert of severity "page" is a ticket until the baseline rests on so many values
    page_segments: int = 1000
    # how long an alarm waits for an alert that explains it
    hold_seconds: float = 0.0
    # a low level that lasts so long becomes the baseline (0 = never)
    settle_seconds: float = 86_400.0
    # an alert that opens again within this time is flapping, and needs more evidence to resolve
    flap_seconds: float = 1800.0
    # where the drops come from that the rule detects
    cause: RegressionCause = ""

    def check(self) -> None:
        """Raise ValueError naming the field that is out of its limits."""
        check_choice(self, "mode", ("cusum", "guarantee"))
        check_range(self, "k", low=0.05, high=2)
        check_range(self, "h", low=1, high=60)
        check_range(self, "guarantee_segments", low=100)
        check_range(self, "delta_min", low=0, high=100)
        check_range(self, "baseline_segments", low=120, high=1_000_000)
        check_range(self, "min_segments", low=10, high=120)
        check_range(
            self, "page_segments", "lag_seconds", "hold_seconds", "settle_seconds", "flap_seconds", low=0
        )  # fmt: skip
        check_choice(self, "cause", CAUSES)

    @property
    def alert_cause(self) -> RegressionCause:
        """The cause that the condition's alerts name."""
        return self.cause

    @property
    def parameters(self) -> ChartParameters:
        """The settings of the control chart."""
        return ChartParameters(
            k=self.k,
            h=self.h,
            lag_seconds=self.lag_seconds,
            baseline_segments=self.baseline_segments,
            min_segments=self.min_segments,
            delta_min=self.delta_min,
            log_guarantee=math.log1p(self.guarantee_segments) if self.mode == "guarantee" else 0.0,
        )
