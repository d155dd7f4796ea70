"""What a rule asks about a drop: of one series against its usual, or of a group of series together."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from vqmon.core.alerts.regression.cusum import Tuning
from vqmon.core.checked import choose, need
from vqmon.core.types import Cause

Mode = Literal["cusum", "guarantee"]

LADDER = "ladder"
"""`against` this: the rendition with the next higher bitrate of the same stream, for the highest the next lower."""

BY_LABEL = "label:"
"""`against` this and a name: the rendition that the segment's label of that name says."""

CAUSES: tuple[Cause, ...] = ("", "packaging", "encoder", "source", "scorer")
"""A later one explains, and mutes, the ones before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """How a series is followed, whatever its values are; points are those of 0..100."""

    mode: Mode = "cusum"
    # shifts of twice this many deviations are seen soonest
    k: float = 0.5
    # 11.5: one false alarm in 30 stream-days of 4-second segments
    h: float = 11.5
    # guarantee mode: at most one false alarm in so many values
    guarantee_segments: float = 648_000.0
    # a smaller drop is no alert, however certain
    delta_min: float = 2.5
    # length of the usual, how old a value must be to count for it, when alarms begin, when a page may page
    baseline_segments: int = 21_600
    lag_seconds: float = 600.0
    min_segments: int = 30
    page_segments: int = 1000
    # an alarm waits so long for an alert that explains it
    hold_seconds: float = 0.0
    # a low level that lasts so long is the new usual (0 = never)
    settle_seconds: float = 86_400.0
    # an alert that opens again within this is flapping and asks for more before it closes
    flap_seconds: float = 1800.0

    def check(self) -> None:
        """Raise ValueError naming the key that is out of its limits."""
        choose(self, "mode", ("cusum", "guarantee"))
        need(self, "k", low=0.05, high=2)
        need(self, "h", low=1, high=60)
        need(self, "guarantee_segments", low=100)
        need(self, "delta_min", low=0, high=100)
        need(self, "baseline_segments", low=120, high=1_000_000)
        need(self, "min_segments", low=10, high=120)
        need(self, "page_segments", "lag_seconds", "hold_seconds", "settle_seconds", "flap_seconds", low=0)


def tuning_of(condition: Drop) -> Tuning:
    """What the chart needs to know of a condition."""
    return Tuning(
        condition.k,
        condition.h,
        condition.lag_seconds,
        condition.baseline_segments,
        condition.min_segments,
        condition.delta_min,
        math.log1p(condition.guarantee_segments) if condition.mode == "guarantee" else 0.0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Regression(Drop):
    """A score leaves its usual, or its usual distance from another rendition's at the same moment."""

    kind: ClassVar[str] = "regression"
    # name, name@version or a glob of them
    scorer: str
    # "" = its own past; "ladder", "label:NAME", or the name or glob of a rendition of the same stream
    against: str = ""
    # globs of the renditions that make the ladder: leave the contribution feed out
    among: tuple[str, ...] = ("*",)
    # how far, in media time, a rendition may be behind before it is not waited for
    wait_seconds: float = 60.0
    # minutes that must be affected, times the label's number where one is named (viewers, say)
    min_impact_minutes: float = 0.0
    weight_label: str = ""
    # where a drop seen here comes from; "" = by `against`: packaging for the ladder, else the encoder
    cause: Cause = ""

    def __post_init__(self) -> None:
        self.check()
        need(self, "wait_seconds", low=1, high=600)
        need(self, "min_impact_minutes", low=0)
        choose(self, "cause", CAUSES)

    @property
    def explains_as(self) -> Cause:
        """The cause that its alerts name."""
        if self.cause or not self.against:
            return self.cause
        return "packaging" if self.against == LADDER else "encoder"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group(Drop):
    """Many series of one regression rule fall together: the quantile, over series, of how far each is off its usual."""

    kind: ClassVar[str] = "group"
    # the regression rule whose series are looked at
    of: str
    # labels whose values make the groups; none = all series of one scorer
    by: tuple[str, ...] = ()
    # 0.5: half of the series are lower than this; 0.8: four of five are
    quantile: float = 0.5
    min_series: int = 3
    # many series are surer than one: large shifts soon, and as few false alarms
    k: float = 1.0
    h: float = 6.0
    # values are taken together over so long, at least a segment, and waited for so much longer
    bucket_seconds: float = 6.0
    wait_seconds: float = 10.0
    cause: Cause = ""

    def __post_init__(self) -> None:
        self.check()
        need(self, "quantile", low=0.1, high=0.95)
        need(self, "min_series", low=2, high=100_000)
        need(self, "bucket_seconds", low=1, high=600)
        need(self, "wait_seconds", low=0, high=600)
        choose(self, "cause", CAUSES)

    @property
    def explains_as(self) -> Cause:
        """The cause that its alerts name."""
        return self.cause or ("" if self.by else "scorer")
