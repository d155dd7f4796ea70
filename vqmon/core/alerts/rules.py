"""What an alert rule asks: the conditions and the rule as checked data."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import ClassVar, Literal

from vqmon.core.alerts.annotations import Mask
from vqmon.core.alerts.regression.cusum import Tuning
from vqmon.core.types import SIGNALS, RegressionCause, Rendition, Segment, Severity
from vqmon.errors import REASONS


def need(owner: object, *keys: str, low: float, high: float = 1e9) -> None:
    """Raise ValueError when one of the attributes lies outside low..high."""
    for key in keys:
        value = getattr(owner, key)
        if not low <= value <= high:
            limits = f"{low:g}..{high:g}" if high < 1e9 else f"{low:g} or more"
            raise ValueError(f"{key}: must be {limits}, got {value!r}")


def choose(owner: object, key: str, known: tuple[str, ...]) -> None:
    """Raise ValueError when the attribute is none of the known words."""
    if getattr(owner, key) not in known:
        raise ValueError(
            f"{key}: unknown {getattr(owner, key)!r}; known: {', '.join(word or '(none)' for word in known)}"
        )


Mode = Literal["cusum", "guarantee"]

LADDER = "ladder"
"""`against` this: the rendition with the next higher bitrate of the same stream, for the highest the next lower."""

BY_LABEL = "label:"
"""`against` this and a name: the rendition that the segment's label of that name says."""

CAUSES: tuple[RegressionCause, ...] = ("", "packaging", "encoder", "source", "scorer")
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
    cause: RegressionCause = ""

    def __post_init__(self) -> None:
        self.check()
        need(self, "wait_seconds", low=1, high=600)
        need(self, "min_impact_minutes", low=0)
        choose(self, "cause", CAUSES)

    @property
    def explains_as(self) -> RegressionCause:
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
    cause: RegressionCause = ""

    def __post_init__(self) -> None:
        self.check()
        need(self, "quantile", low=0.1, high=0.95)
        need(self, "min_series", low=2, high=100_000)
        need(self, "bucket_seconds", low=1, high=600)
        need(self, "wait_seconds", low=0, high=600)
        choose(self, "cause", CAUSES)

    @property
    def explains_as(self) -> RegressionCause:
        """The cause that its alerts name."""
        return self.cause or ("" if self.by else "scorer")


Statistic = Literal["value", "p5", "min"]

NOT_SEGMENTS = ("stale", "playlist")
"""Reasons of outcomes that stand for no segment: they tell of time that passes without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """When a run of bad moments opens an alert, and when a run of good ones closes it."""

    for_seconds: float = 0.0
    confirm: int = 1
    recover_seconds: float = 0.0
    min_open_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """A score stays below a fixed value; `recover_above` > `below` is the hysteresis.

    With `unusual_by` it counts only where it is also that far below what this rendition usually has, and not before
    its usual is known: a rendition that is always low wakes nobody.
    """

    kind: ClassVar[str] = "floor"
    # name, name@version or a glob of them
    scorer: str
    below: float
    recover_above: float
    statistic: Statistic = "value"
    unusual_by: float = 0.0
    for_seconds: float = 10.0
    recover_seconds: float = 10.0

    def __post_init__(self) -> None:
        need(self, "below", "unusual_by", low=0, high=100)
        need(self, "recover_above", low=self.below, high=100)
        need(self, "for_seconds", "recover_seconds", low=0)
        choose(self, "statistic", ("value", "p5", "min"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """A signal stays above a value, judged frame by frame; `unless` names signals that excuse a frame."""

    kind: ClassVar[str] = "signal"
    signal: str
    above: float
    recover_below: float | None = None
    for_seconds: float = 2.0
    recover_seconds: float = 2.0
    # signal -> value from which on a frame does not count
    unless: Mapping[str, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for name, key in ((self.signal, "signal"), *((name, "unless") for name in self.unless)):
            if name not in SIGNALS:
                raise ValueError(f"{key}: unknown signal {name!r}; known: {', '.join(sorted(SIGNALS))}")
        if not all(0 <= value <= 1 for value in self.unless.values()):
            raise ValueError("unless: values must be within 0..1")
        need(self, "above", low=0, high=1)
        if self.recover_below is not None:
            need(self, "recover_below", low=0, high=self.above)
        need(self, "for_seconds", "recover_seconds", low=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Collapse:
    """A score falls by `drop` points or more against the median of the `baseline_segments` before.

    With `deviations` the fall must also be that many times as large as the spread of these. `confirm_segments` in a row
    must show three quarters of it, their mean and the latest all of it. It is over when half of the drop is made good
    for `recover_seconds`, or when the low level has lasted `settle_seconds`: then it is the new usual (0 = never).
    """

    kind: ClassVar[str] = "collapse"
    scorer: str
    drop: float
    deviations: float = 0.0
    baseline_segments: int = 30
    confirm_segments: int = 2
    recover_seconds: float = 10.0
    settle_seconds: float = 1800.0

    def __post_init__(self) -> None:
        need(self, "drop", low=0.1, high=100)
        need(self, "deviations", low=0, high=20)
        need(self, "baseline_segments", low=3, high=1000)
        need(self, "confirm_segments", low=1, high=100)
        need(self, "recover_seconds", "settle_seconds", low=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoScore:
    """No segment of a rendition has been scored for so long, by the time of its segments."""

    kind: ClassVar[str] = "no_score"
    for_seconds: float = 30.0
    recover_seconds: float = 0.0

    def __post_init__(self) -> None:
        need(self, "for_seconds", "recover_seconds", low=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """`count` of the last `of` segments were unscored for one of `reasons`; over when `recover_count` or fewer are."""

    kind: ClassVar[str] = "missing"
    count: int
    of: int
    recover_count: int | None = None
    reasons: tuple[str, ...] = tuple(reason for reason in REASONS if reason not in NOT_SEGMENTS)

    def __post_init__(self) -> None:
        need(self, "of", low=1, high=1000)
        need(self, "count", low=1, high=self.of)
        if self.recover_count is not None:
            need(self, "recover_count", low=0, high=self.count - 1)
        for reason in self.reasons:
            if reason not in REASONS:
                raise ValueError(f"reasons: unknown reason {reason!r}; known: {', '.join(sorted(REASONS))}")
        if not self.reasons:
            raise ValueError("reasons: name one or more, or leave the key out")


Spanned = Floor | Signal | Collapse | NoScore | Missing
"""Conditions that call stretches of time good or bad; see core.alerts.state."""

Condition = Spanned | Regression | Group

CONDITIONS: Mapping[str, type[Condition]] = {
    condition.kind: condition for condition in (Floor, Signal, Collapse, NoScore, Missing, Regression, Group)
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Which renditions a rule is about; globs, and all given parts must fit."""

    stream: tuple[str, ...] = ("*",)
    rendition: tuple[str, ...] = ("*",)
    # label -> glob; labels of the segment go over those of the rendition
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)

    def fits_names(self, rendition: Rendition) -> bool:
        return any(fnmatchcase(rendition.stream_id, glob) for glob in self.stream) and any(
            fnmatchcase(rendition.name, glob) for glob in self.rendition
        )

    def fits_labels(self, labels: Mapping[str, str]) -> bool:
        return all(name in labels and fnmatchcase(labels[name], glob) for name, glob in self.labels.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRule:
    """A condition, whom it wakes, and where it holds."""

    name: str
    severity: Severity
    condition: Condition
    match: Match = Match()
    min_open_seconds: float = 0.0
    # times at which it looks away
    masks: tuple[Mask, ...] = ()

    def __post_init__(self) -> None:
        if not self.name or "|" in self.name:
            raise ValueError(f"a rule needs a name without '|', got {self.name!r}")
        choose(self, "severity", ("page", "ticket"))
        need(self, "min_open_seconds", low=0)

    def masks_over(self, rendition: Rendition) -> tuple[Mask, ...]:
        """The masks that lie over a rendition."""
        return tuple(mask for mask in self.masks if mask.fits(rendition.stream_id, rendition.name))

    @property
    def timing(self) -> Timing:
        """The times of the condition and of the rule together."""
        condition = self.condition
        if isinstance(condition, Drop):
            return Timing(min_open_seconds=self.min_open_seconds)
        return Timing(
            for_seconds=0.0 if isinstance(condition, Collapse | Missing) else condition.for_seconds,
            confirm=condition.confirm_segments if isinstance(condition, Collapse) else 1,
            recover_seconds=0.0 if isinstance(condition, Missing) else condition.recover_seconds,
            min_open_seconds=self.min_open_seconds,
        )


def labels_of(segment: Segment) -> Mapping[str, str]:
    """Labels of the segment go over those of its rendition."""
    return {**segment.rendition.labels, **segment.labels}


def names(scorer: str, pattern: str) -> bool:
    """Whether a rule's `scorer` means this name@version: by name, by name@version, or by a glob."""
    name = scorer.split("@")[0]
    return pattern in (name, scorer) or fnmatchcase(name, pattern) or fnmatchcase(scorer, pattern)
