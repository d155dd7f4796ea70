"""The condition `group`: many series of one regression rule fall together."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from vqmon.core.alerts.conditions.base import check_range
from vqmon.core.alerts.conditions.chart import ChartCondition
from vqmon.core.alerts.conditions.regression import ChartState
from vqmon.core.types import RegressionCause


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupState(ChartState):
    """State of a group rule on one group."""

    kind: ClassVar[str] = "group"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group(ChartCondition):
    """Follows a quantile, over many series of one regression rule, of how far each is from its baseline."""

    kind: ClassVar[str] = "group"

    # the regression rule whose series are the members
    of: str
    # labels whose values make the groups; none = all series of one scorer
    by: tuple[str, ...] = ()
    # 0.5: half of the series are lower than this; 0.8: four of five are
    quantile: float = 0.5
    # fewer series make no group
    min_series: int = 3
    # length of the buckets of time, at least a segment
    bucket_seconds: float = 6.0
    # largest media time that a series may be behind the first
    wait_seconds: float = 10.0

    def __post_init__(self) -> None:
        self.check()
        check_range(self, "quantile", low=0.1, high=0.95)
        check_range(self, "min_series", low=2, high=100_000)
        check_range(self, "bucket_seconds", low=1, high=600)
        check_range(self, "wait_seconds", low=0, high=600)

    @property
    def member_rule(self) -> str:
        return self.of

    @property
    def alert_cause(self) -> RegressionCause:
        """The cause of the rule; by default scorer when the group holds all series of a scorer."""
        return self.cause or ("" if self.by else "scorer")

    def group_of(self, labels: Mapping[str, str]) -> str | None:
        """The group of a series with these labels, e.g. encoder=pool-a; None when a label of `by` is missing."""
        if not self.by:
            return ""
        if any(name not in labels for name in self.by):
            return None
        return ",".join(f"{name}={labels[name]}" for name in self.by)
