"""The condition `no_score`: no segment of a rendition has been scored for some time."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from vqmon.core.alerts.annotations import Mask, masked_seconds
from vqmon.core.alerts.conditions.base import (
    Span,
    SpanCondition,
    Timing,
    Verdict,
    check_range,
    whole_segment,
)
from vqmon.core.alerts.media_timeline import NOT_SEGMENTS, TimedOutcome
from vqmon.core.alerts.state import SpanState
from vqmon.core.types import Outcome, QualityEvent, Score, SegmentFailure


@dataclass(frozen=True, slots=True, kw_only=True)
class NoScoreState(SpanState):
    """State of a no_score condition."""

    kind: ClassVar[str] = "no_score"


@dataclass(frozen=True, slots=True, kw_only=True)
class NoScore(SpanCondition[NoScoreState]):
    """No segment of a rendition has been scored for `for_seconds`, by the time of its segments."""

    kind: ClassVar[str] = "no_score"
    state_type: ClassVar[type[NoScoreState]] = NoScoreState

    # without a scored segment for so long an alert opens
    for_seconds: float = 30.0
    # and scored ones for so long resolve it; 0 = the first one does
    recover_seconds: float = 0.0

    def __post_init__(self) -> None:
        check_range(self, "for_seconds", "recover_seconds", low=0)

    @property
    def fixed_subject(self) -> str:
        return self.kind

    def leaves_idle(self, timed: TimedOutcome, score: Score | None) -> bool:
        return isinstance(timed.outcome, QualityEvent)

    def evaluate(
        self, state: NoScoreState, timed: TimedOutcome, score: Score | None, *, masks: Sequence[Mask] = ()
    ) -> tuple[NoScoreState, Sequence[Span]]:
        return state, (self._span(timed, masks),)

    def spans(
        self, state: NoScoreState, timed: TimedOutcome, score: Score | None
    ) -> tuple[NoScoreState, Sequence[Span]]:
        return state, (self._span(timed, ()),)

    def _span(self, timed: TimedOutcome, masks: Sequence[Mask]) -> Span:
        """The silence since the last score; time under a mask is no silence.

        Failures that stand for no segment are timed by the wall clock, so these are compared with the time at which
        the last score was made.
        """
        outcome, timeline = timed.outcome, timed.before
        if isinstance(outcome, QualityEvent):
            return whole_segment(timed, "good", 0.0, threshold=self.for_seconds)
        since = timeline.scored_observed_at if outcome.reason in NOT_SEGMENTS else timeline.scored_until
        if masks and since < timed.ends_at:
            since += masked_seconds(masks, since, timed.ends_at)
        silent_seconds = max(timed.ends_at - since, 0.0)
        verdict: Verdict = "bad" if silent_seconds >= self.for_seconds else "between"
        span = whole_segment(timed, verdict, silent_seconds, threshold=self.for_seconds)
        began_at = min(since, timed.ends_at)
        return replace(span, run_began_at=began_at, counted_from=began_at)

    def describe(self, outcome: Outcome, score: Score | None, span: Span) -> str:
        last = f"; the last one: {outcome.reason}" if isinstance(outcome, SegmentFailure) else ""
        return f"no segment scored for {span.value:.3g} s{last}"

    def summarize(self, outcome: Outcome, score: Score | None, span: Span, *, held_seconds: float) -> str:
        return self.describe(outcome, score, span)

    def timing(self, *, min_open_seconds: float) -> Timing:
        return Timing(
            for_seconds=self.for_seconds, recover_seconds=self.recover_seconds, min_open_seconds=min_open_seconds
        )
