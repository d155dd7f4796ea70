"""The condition `missing`: many of the last segments were unscored, or lack the score of a scorer that failed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from vqmon.core.alerts.conditions.base import (
    Span,
    SpanCondition,
    Verdict,
    check_range,
    scorer_matches,
    whole_segment,
)
from vqmon.core.alerts.media_timeline import NOT_SEGMENTS, TimedOutcome
from vqmon.core.alerts.state import SpanState
from vqmon.core.types import Outcome, QualityEvent, Score, ScorerFailure, SegmentFailure
from vqmon.errors import REASONS


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingState(SpanState):
    """State of a missing condition."""

    kind: ClassVar[str] = "missing"

    # per segment of the window, oldest first: when a missing one began, None for one that was scored
    missing_since: tuple[float | None, ...] = ()

    @property
    def has_learned(self) -> bool:
        return bool(self.missing_since)


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing(SpanCondition[MissingState]):
    """`count` of the last `of` segments were unscored for one of `reasons`; resolves at `recover_count` or fewer.

    A segment that other scorers scored counts too when a scorer that `scorer` names failed for one of `reasons`, or
    without `scorer` one of the first tier. Shadows never count.
    """

    kind: ClassVar[str] = "missing"
    state_type: ClassVar[type[MissingState]] = MissingState

    # so many segments without a score open an alert
    count: int
    # among the last so many
    of: int
    # with so many or fewer it resolves; by default half of `count`, rounded down
    recover_count: int | None = None
    # codes of `unscored` that count; all but those that stand for no segment, by default
    reasons: tuple[str, ...] = tuple(reason for reason in REASONS if reason not in NOT_SEGMENTS)
    # name, name@version or a glob of them; "" = those of the first tier
    scorer: str = ""

    def __post_init__(self) -> None:
        check_range(self, "of", low=1, high=1000)
        check_range(self, "count", low=1, high=self.of)
        if self.recover_count is not None:
            check_range(self, "recover_count", low=0, high=self.count - 1)
        for reason in self.reasons:
            if reason not in REASONS:
                raise ValueError(f"reasons: unknown reason {reason!r}; known: {', '.join(sorted(REASONS))}")
        if not self.reasons:
            raise ValueError("reasons: name one or more, or leave the key out")

    @property
    def scorer_pattern(self) -> str:
        return self.scorer

    @property
    def fixed_subject(self) -> str:
        return self.kind

    def leaves_idle(self, timed: TimedOutcome, score: Score | None) -> bool:
        return self._reason(timed.outcome) not in self.reasons

    def _reason(self, outcome: Outcome) -> str:
        """Why the segment counts as missing, if it is one of `reasons`; empty when it has its scores."""
        if isinstance(outcome, SegmentFailure):
            return outcome.reason
        failure = self._failure(outcome)
        return failure.reason if failure else ""

    def _failure(self, event: QualityEvent) -> ScorerFailure | None:
        return next((failure for failure in event.scorer_failures if self._counts(failure)), None)

    def _counts(self, failure: ScorerFailure) -> bool:
        if failure.tier == "shadow" or failure.reason not in self.reasons:
            return False
        return scorer_matches(failure.scorer, self.scorer) if self.scorer else failure.tier in ("main", "first")

    def spans(
        self, state: MissingState, timed: TimedOutcome, score: Score | None
    ) -> tuple[MissingState, Sequence[Span]]:
        reason = self._reason(timed.outcome)
        if reason in NOT_SEGMENTS and reason not in self.reasons:
            return state, ()
        missing_at = timed.starts_at if reason in self.reasons else None
        if missing_at is None and not state.missing_since:
            return state, (whole_segment(timed, "good", 0.0, threshold=self.count),) if state.alert else ()
        window = (*state.missing_since, missing_at)[-self.of :]
        missing = [moment for moment in window if moment is not None]
        state = replace(state, missing_since=window if missing else ())
        if len(missing) >= self.count:
            span = whole_segment(timed, "bad", len(missing), threshold=self.count)
            return state, (replace(span, run_began_at=missing[0]),)
        recover_count = self.count // 2 if self.recover_count is None else self.recover_count
        verdict: Verdict = "good" if len(missing) <= recover_count else "between"
        return state, (whole_segment(timed, verdict, len(missing), threshold=self.count),)

    def describe(self, outcome: Outcome, score: Score | None, span: Span) -> str:
        segments = f"{span.value:.0f} of the last {self.of} segments"
        if isinstance(outcome, SegmentFailure):
            return f"{segments} unscored; the last one: {outcome.reason}"
        failure = self._failure(outcome)
        if failure is None:
            return f"{segments} unscored"
        return f"{segments} unscored or without {failure.scorer}; the last one: {failure.reason}"

    def summarize(self, outcome: Outcome, score: Score | None, span: Span, *, held_seconds: float) -> str:
        return self.describe(outcome, score, span)
