"""What the conditions `regression` and `group` share: settings of the control chart that follows a series."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from vqmon.core.alerts.conditions.base import Condition, check_choice, check_range
from vqmon.core.types import RegressionCause

CAUSES: tuple[RegressionCause, ...] = ("", "packaging", "encoder", "source", "scorer")
"""From the weakest to the strongest: an open alert inhibits alerts of a weaker cause."""

FORGET_SECONDS = 600.0
"""After a gap of this length the averages of a series begin again at the usual level."""

_LIMITS_ADVICE = "delete it: limits come from the series itself, see block_seconds and false_alarm_days"


class ChartParameters(NamedTuple):
    """The settings of a control chart; see `core.alerts.regression.control_chart`."""

    # length of the blocks of content whose lowest averages make the limits; the third one ends the learning
    block_seconds: float = 3600.0
    # one false alarm in so many stream-days is accepted
    false_alarm_days: float = 60.0
    # the usual level rests on so many values; older ones fade
    baseline_segments: float = 21_600.0
    # points; a limit is at least half of this below the usual level
    delta_min: float = 2.5
    # after a gap of this length the averages begin again at the usual level
    forget_seconds: float = FORGET_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartCondition(Condition):
    """A condition that follows a series with a control chart; points are those of scores, 0..100."""

    removed_keys: ClassVar[Mapping[str, str]] = {
        key: _LIMITS_ADVICE for key in ("mode", "k", "h", "guarantee_segments", "lag_seconds", "min_segments")
    }

    # limits are made of the lowest averages of blocks of content this long; no alert before the third block has ended
    block_seconds: float = 3600.0
    # one false alarm per series in so many stream-days is accepted
    false_alarm_days: float = 60.0
    # a smaller drop opens no alert, however certain it is; the rules file takes it from the scorer's noise by default
    delta_min: float = 2.5
    # the usual level rests on so many values; older ones fade
    baseline_segments: int = 21_600
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
        check_range(self, "block_seconds", low=30, high=86_400)
        check_range(self, "false_alarm_days", low=0.1, high=3650)
        check_range(self, "delta_min", low=0, high=100)
        check_range(self, "baseline_segments", low=120, high=1_000_000)
        check_range(self, "page_segments", "hold_seconds", "settle_seconds", "flap_seconds", low=0)
        check_choice(self, "cause", CAUSES)

    @property
    def alert_cause(self) -> RegressionCause:
        """The cause that the condition's alerts name."""
        return self.cause

    @property
    def forget_seconds(self) -> float:
        """The gap after which the averages begin again."""
        return FORGET_SECONDS

    @property
    def parameters(self) -> ChartParameters:
        """The settings of the control chart."""
        return ChartParameters(
            block_seconds=self.block_seconds,
            false_alarm_days=self.false_alarm_days,
            baseline_segments=self.baseline_segments,
            delta_min=self.delta_min,
            forget_seconds=self.forget_seconds,
        )
