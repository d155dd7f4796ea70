"""The condition `regression`: a score leaves its own baseline, or its distance from another rendition's does."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import sqrt
from typing import ClassVar, Self

from vqmon.core.alerts.conditions.base import check_range
from vqmon.core.alerts.conditions.chart import FORGET_SECONDS, ChartCondition
from vqmon.core.alerts.regression.change_point import Companions
from vqmon.core.alerts.regression.control_chart import SPANS, ControlChart
from vqmon.core.alerts.state import AlertState, PairSeries, RenditionSeries
from vqmon.core.types import RegressionCause

_NOISE_DEVIATIONS = 4.0
_LEAST_DELTA_MIN = 1.0

AGAINST_LADDER = "ladder"
"""`against` = this: compare with the next higher bitrate of the stream; the highest with the next lower."""

AGAINST_NEIGHBOURS = "neighbours"
"""`against` = this: compare with the next higher and the next lower bitrate together; at the ends with one."""

AGAINST_REPEATS = "repeats"
"""`against` = this: compare with the score that the same content had in the same rendition when it was shown before."""

REPEAT_BLOCK_ENTRIES = 64
"""Passages of content are stored in blocks of so many."""

REPEATS_FORGET_SECONDS = 6 * 3600.0
"""Without a repeat for so long the averages begin again, and an open alert closes."""

AGAINST_LABEL = "label:"
"""`against` = this and a name: compare with the rendition that the segment's label of that name gives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartState(AlertState):
    """State of a series that a control chart follows."""

    # scorer (name@version), what it is compared with, and since which deploy; another basis starts the series anew
    basis: str = ""
    # None before the first value
    chart: ControlChart | None = None
    # signals and other scores of the same segments
    companions: Companions | None = None
    # end of the last value
    seen_until: float = 0.0
    # while an alert is open: since when no other alert inhibits it that was inhibited
    uninhibited_since: float | None = None

    def without_alert(self, chart: ControlChart | None) -> Self:
        """The state after its alert has resolved."""
        return replace(self, chart=chart, companions=None, alert=None, uninhibited_since=None)

    def restarted(self, basis: str) -> Self:
        """The state of the series before its first value on a new basis."""
        return replace(self.without_alert(None), basis=basis, seen_until=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegressionState(ChartState):
    """State of a regression rule on one series."""

    kind: ClassVar[str] = "regression"

    # values that had no partner to compare with
    unpaired_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Regression(ChartCondition):
    """A score falls below its baseline, or below its usual distance from another rendition's at the same moment."""

    kind: ClassVar[str] = "regression"

    # name, name@version or a glob of them
    scorer: str
    # "" = its own past; "repeats", "ladder", "neighbours", "label:NAME", or the name or glob of another rendition
    against: str = ""
    # globs of the renditions that make the ladder: leave the contribution feed out
    among: tuple[str, ...] = ("*",)
    # how far, in media time, a rendition may be behind before others do not wait for it
    wait_seconds: float = 60.0
    # minutes that must be affected, times the label's number if one is named (viewers, say)
    min_impact_minutes: float = 0.0
    # name of that label; "" = minutes alone
    weight_label: str = ""
    # against "repeats": a passage of content is remembered every so often
    repeat_seconds: float = 40.0
    # against "repeats": how many passages are remembered per rendition and scorer; the one not seen for longest goes
    repeat_entries: int = 3072

    def __post_init__(self) -> None:
        self.check()
        check_range(self, "wait_seconds", low=1, high=600)
        check_range(self, "min_impact_minutes", low=0)
        check_range(self, "repeat_seconds", low=4, high=3600)
        check_range(self, "repeat_entries", low=REPEAT_BLOCK_ENTRIES, high=65_536)

    @property
    def scorer_pattern(self) -> str:
        return self.scorer

    @property
    def has_groups(self) -> bool:
        return True

    @property
    def is_paired(self) -> bool:
        """Whether it compares with another rendition."""
        return self.against not in ("", AGAINST_REPEATS)

    @property
    def forget_seconds(self) -> float:
        """Repeats may be hours apart."""
        return REPEATS_FORGET_SECONDS if self.against == AGAINST_REPEATS else FORGET_SECONDS

    @property
    def alert_cause(self) -> RegressionCause:
        """The cause of the rule; by default packaging for the ladder, encoder for another rendition."""
        if self.cause or not self.is_paired:
            return self.cause
        return "packaging" if self.against in (AGAINST_LADDER, AGAINST_NEIGHBOURS) else "encoder"

    def with_noise(self, deviation: float) -> "Regression":
        """The condition with the `delta_min` that fits a scorer whose noise has this deviation, in points.

        It is four standard deviations of the mean of as many segments as the shortest average rests on: a smaller drop
        may come from other pictures that were sampled. A difference of two renditions has sqrt(2) times the deviation
        of one. At least one point, a 25th of a MOS, which nobody sees.
        """
        mean_deviation = deviation * (sqrt(2) if self.against else 1) / sqrt(SPANS[0])
        return replace(self, delta_min=round(max(_NOISE_DEVIATIONS * mean_deviation, _LEAST_DELTA_MIN), 1))

    def series(self, rendition_key: str, scorer: str) -> RenditionSeries | PairSeries:
        """The series of a scorer (name@version) in the rendition stream/rendition."""
        name = scorer.split("@")[0]
        if self.against:
            return PairSeries(rendition_key=rendition_key, scorer=name, against=self.against)
        return RenditionSeries(rendition_key=rendition_key, subject=name)

    def impact_minutes(self, labels: Mapping[str, str], *, seconds: float) -> float:
        """Minutes affected by a segment of this length, weighted by the label `weight_label`."""
        return _weight(labels.get(self.weight_label)) * seconds / 60

    def follows(self, state: AlertState) -> bool:
        against = state.series.against if isinstance(state.series, PairSeries) else ""
        return state.kind == self.kind and against == self.against


def _weight(text: str | None) -> float:
    """A label as a weight; 1 when it is missing, no number, or not above 0."""
    try:
        value = float(text or 1.0)
    except ValueError:
        return 1.0
    return value if 0.0 < value < 1e12 else 1.0
