"""The condition `floor`: a score stays below a fixed value."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from vqmon.core.alerts.conditions.base import ScoreCondition, Span, Timing, check_choice, check_range, whole_segment
from vqmon.core.alerts.media_timeline import TimedOutcome
from vqmon.core.alerts.state import SpanState
from vqmon.core.types import Outcome, Score

Statistic = Literal["value", "p5", "min"]

_BASELINE_MIN_SEGMENTS = 30.0
"""A floor with `unusual_by` opens no alert before its baseline rests on so many segments."""

_BASELINE_MAX_SEGMENTS = 5400.0
"""The baseline rests on so many segments at most, 6 h of 4 s each: a slow decline is not learned soon."""

_BASELINE_CLIP_POINTS = 10.0
"""One value moves the baseline as if it lay at most so many points away from it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FloorBaseline:
    """A running mean of the values that were not low."""

    count: float
    mean: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FloorState(SpanState):
    """State of a floor; it learns a baseline only with `unusual_by`."""

    kind: ClassVar[str] = "floor"

    # the scorer (name@version) of the baseline
    scorer: str = ""
    baseline: FloorBaseline | None = None

    @property
    def has_learned(self) -> bool:
        return self.baseline is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor(ScoreCondition[FloorState]):
    """A score stays below a fixed value; `recover_above` > `below` is the hysteresis.

    With `unusual_by` a value counts only if it is also that many points below the rendition's own baseline, so that a
    rendition that is always low opens no alert. No alert opens before the baseline is learned.
    """

    kind: ClassVar[str] = "floor"
    state_type: ClassVar[type[FloorState]] = FloorState

    # a value below this is low
    below: float
    # a value above this is good; values between neither count towards an alert nor resolve one
    recover_above: float
    # of the segment: "value" (as pooled), "p5" or "min" of its frames
    statistic: Statistic = "value"
    # and this many points below the rendition's own baseline; 0 = only `below` counts, as for a contractual floor
    unusual_by: float = 0.0
    # the condition must hold for so long before an alert opens
    for_seconds: float = 10.0
    # and be good again for so long before it resolves
    recover_seconds: float = 10.0

    def __post_init__(self) -> None:
        check_range(self, "below", "unusual_by", low=0, high=100)
        check_range(self, "recover_above", low=self.below, high=100)
        check_range(self, "for_seconds", "recover_seconds", low=0)
        check_choice(self, "statistic", ("value", "p5", "min"))

    def spans(
        self, state: FloorState, timed: TimedOutcome, score: Score | None
    ) -> tuple[FloorState, Sequence[Span]]:  # fmt: skip
        if score is None:
            return state, ()
        value: float = getattr(score, self.statistic)
        is_low = value < self.below
        if self.unusual_by:
            if state.scorer != score.scorer:
                state = replace(state, scorer=score.scorer, baseline=None)
            baseline = state.baseline or FloorBaseline(count=0.0, mean=value)
            is_unusual = baseline.count >= _BASELINE_MIN_SEGMENTS and value <= baseline.mean - self.unusual_by
            is_low = is_low and is_unusual
            if not is_low and state.alert is None:
                state = replace(state, baseline=_updated(baseline, value))
        if is_low:
            return state, (whole_segment(timed, "bad", value, threshold=self.below),)
        is_good = value > self.recover_above or (self.unusual_by and state.alert is None)
        return state, (whole_segment(timed, "good" if is_good else "between", value, threshold=self.recover_above),)

    def describe(self, outcome: Outcome, score: Score | None, span: Span) -> str:
        statistic = "" if self.statistic == "value" else f" {self.statistic}"
        return f"{score.scorer if score else ''}{statistic} {span.value:.1f} below {self.below:g}"

    def timing(self, *, min_open_seconds: float) -> Timing:
        return Timing(
            for_seconds=self.for_seconds, recover_seconds=self.recover_seconds, min_open_seconds=min_open_seconds
        )


def _updated(baseline: FloorBaseline, value: float) -> FloorBaseline:
    count = min(baseline.count + 1.0, _BASELINE_MAX_SEGMENTS)
    deviation = max(-_BASELINE_CLIP_POINTS, min(_BASELINE_CLIP_POINTS, value - baseline.mean))
    return FloorBaseline(count=count, mean=baseline.mean + deviation / count)
