"""Alerts in words: what was read, where the worst frames are, and the sentence that a person gets."""

from collections.abc import Sequence

from vqmon.core.alerts.regression.ladder import worst_times
from vqmon.core.alerts.rules import Collapse, Floor, Missing, NoScore, Signal, Spanned
from vqmon.core.alerts.state import Span
from vqmon.core.types import Evidence, Outcome, QualityEvent, Score, SegmentFailure


def evidence_of(condition: Spanned, outcome: Outcome, score: Score | None, span: Span) -> Evidence:
    """Why an alert opens: the outcome that tipped it and what was read there."""
    return Evidence(
        event_id=outcome.id,
        reading=_reading(condition, outcome, score, span),
        value=round(span.value, 4),
        threshold=round(span.limit, 4),
        worst_times_seconds=_worst_times(condition, outcome, score),
    )


def summary_of(condition: Spanned, outcome: Outcome, score: Score | None, span: Span, *, held_seconds: float) -> str:
    """What began, in one line."""
    reading = _reading(condition, outcome, score, span)
    return reading if isinstance(condition, NoScore | Missing) else f"{reading} for {held_seconds:.3g} s"


def _reading(condition: Spanned, outcome: Outcome, score: Score | None, span: Span) -> str:
    name = score.scorer if score else ""
    match condition:
        case Floor():
            statistic = "" if condition.statistic == "value" else f" {condition.statistic}"
            return f"{name}{statistic} {span.value:.1f} below {condition.below:g}"
        case Signal():
            return f"{condition.signal} {span.value:.2f} at or above {condition.above:g}"
        case Collapse():
            return f"{name} {span.value:.1f}, down {span.usual - span.value:.1f} from its usual {span.usual:.1f}"
        case NoScore():
            last = f"; the last one: {outcome.reason}" if isinstance(outcome, SegmentFailure) else ""
            return f"no segment scored for {span.value:.3g} s{last}"
        case Missing():
            last = f"; the last one: {outcome.reason}" if isinstance(outcome, SegmentFailure) else ""
            return f"{span.value:.0f} of the last {condition.of} segments unscored{last}"


def _worst_times(condition: Spanned, outcome: Outcome, score: Score | None) -> tuple[float, ...]:
    """Times of the worst frames, worst first; the middle one when the values do not belong to single frames."""
    if not isinstance(outcome, QualityEvent):
        return ()
    if isinstance(condition, Signal):
        badness: Sequence[float] = outcome.signals[condition.signal].frame_values
    elif score is not None:
        badness = [-value for value in score.frame_values]
    else:
        return ()
    return worst_times(outcome, badness)
