"""The condition `reference`: a reference measure stays worse than a fixed value."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from vqmon.core.alerts.conditions.base import (
    Span,
    SpanCondition,
    Timing,
    check_choice,
    check_range,
    series_of_rendition,
    whole_segment,
)
from vqmon.core.alerts.media_timeline import TimedOutcome, worst_frame_times
from vqmon.core.alerts.state import RenditionSeries, SpanState
from vqmon.core.scores import reference_subject
from vqmon.core.types import Outcome, QualityEvent, ReferenceScore, Score


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceLimitState(SpanState):
    """State of a limit on a reference measure."""

    kind: ClassVar[str] = "reference"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceLimit(SpanCondition[ReferenceLimitState]):
    """A measure stays worse than a fixed value: below it, or above it where lower is better.

    Values are on the measure's own scale. `recover_at` is the hysteresis. Segments without values, because they have no
    reference or cannot be paired with it, neither open nor resolve an alert. Measures of the segment alone, such as
    `niqe`, need no reference.
    """

    kind: ClassVar[str] = "reference"
    state_type: ClassVar[type[ReferenceLimitState]] = ReferenceLimitState

    # name of the reference measure, e.g. "psnr"
    measure: str
    # a value worse than this is bad, on the scale of the measure
    worse_than: float
    # an alert resolves when the measure is at least as good as this; None = as `worse_than`
    recover_at: float | None = None
    # of the segment: "value" (as pooled) or "worst" of its frames
    statistic: Literal["value", "worst"] = "value"
    # the condition must hold for so long before an alert opens
    for_seconds: float = 10.0
    # and be good again for so long before it resolves
    recover_seconds: float = 10.0

    def __post_init__(self) -> None:
        check_range(self, "worse_than", low=-1e6, high=1e6)
        check_range(self, "for_seconds", "recover_seconds", low=0)
        check_choice(self, "statistic", ("value", "worst"))

    def series(self, outcome: Outcome) -> Iterator[tuple[RenditionSeries, Score | None]]:
        if self._value_of(outcome) is not None:
            yield series_of_rendition(outcome, reference_subject(self.measure)), None

    def spans(
        self, state: ReferenceLimitState, timed: TimedOutcome, score: Score | None
    ) -> tuple[ReferenceLimitState, Sequence[Span]]:
        reference = self._value_of(timed.outcome)
        if reference is None:
            return state, ()
        value = reference.value if self.statistic == "value" else reference.worst
        sign = reference.sign
        recover_at = self.worse_than if self.recover_at is None else self.recover_at
        if sign * value < sign * self.worse_than:
            return state, (whole_segment(timed, "bad", value, threshold=self.worse_than),)
        verdict: Literal["good", "between"] = "good" if sign * value >= sign * recover_at else "between"
        return state, (whole_segment(timed, verdict, value, threshold=recover_at),)

    def describe(self, outcome: Outcome, score: Score | None, span: Span) -> str:
        reference = self._value_of(outcome)
        unit = f" {reference.unit}" if reference is not None and reference.unit else ""
        statistic = "" if self.statistic == "value" else " worst frame"
        return f"{self.measure}{statistic} {span.value:.4g}{unit}, limit {self.worse_than:g}"

    def timing(self, *, min_open_seconds: float) -> Timing:
        return Timing(
            for_seconds=self.for_seconds, recover_seconds=self.recover_seconds, min_open_seconds=min_open_seconds
        )

    def _value_of(self, outcome: Outcome) -> ReferenceScore | None:
        return outcome.reference_of(self.measure) if isinstance(outcome, QualityEvent) else None

    def _worst_times(self, outcome: Outcome, score: Score | None) -> tuple[float, ...]:
        reference = self._value_of(outcome)
        if reference is None or not isinstance(outcome, QualityEvent):
            return ()
        return worst_frame_times(outcome, reference.damages)
