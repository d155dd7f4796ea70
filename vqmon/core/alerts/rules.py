"""What an alert rule asks: the conditions and the rule as checked data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import ClassVar, Literal

from vqmon.core.alerts.annotations import Mask
from vqmon.core.checked import choose, need
from vqmon.core.drops import Drop, Group, Regression
from vqmon.core.types import SIGNALS, Rendition, Segment, Severity
from vqmon.errors import REASONS

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
"""Conditions that call stretches of time good or bad; see core.series."""

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
