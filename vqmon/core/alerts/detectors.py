"""What each kind of condition says about an outcome: state in, state and spans of bad or good time out."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from vqmon.core.alerts.annotations import Mask, masked_seconds
from vqmon.core.alerts.regression.ladder import worst_times
from vqmon.core.alerts.rules import NOT_SEGMENTS, Collapse, Floor, Missing, NoScore, Signal, Spanned
from vqmon.core.alerts.state import AlertState, Look, Span, Verdict
from vqmon.core.types import AlertEvidence, Outcome, QualityEvent, Score, SegmentFailure


def evidence_of(condition: Spanned, outcome: Outcome, score: Score | None, span: Span) -> AlertEvidence:
    """Why an alert opens: the outcome that triggered it and the value measured there."""
    return AlertEvidence(
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


REACH_SECONDS = 1.0
"""A picture speaks for what lies at most this far around it, however far away the next one is."""

EDGE_SECONDS = 0.01
"""An impairment begins at least so long after the last picture without it: half a frame at 50 fps."""

FORGET_BASELINE_SECONDS = 600.0
"""After a hole of this length the scores before it are not what a new score is held against."""

COLLAPSE_FROM = 15
"""A fall is looked for after so many values, or half of the baseline where that is less."""

EACH_SHARE = 0.75
"""Of the depth that is asked for, each of the low segments in a row shows so much at least."""

STAYS_SHARE = 0.6
"""The latest of them is at least so deep as the deepest: one bad scene that noise lets fade is no collapse."""

USUAL_FROM = 30.0
"""A floor that asks for the unusual knows it after so many values."""

USUAL_LENGTH = 5400.0
"""So many values it rests on, six hours of 4-second segments: a slow decline does not become the usual soon."""

USUAL_CLIP = 10.0
"""One value counts for no more than so many points off the usual."""


def spans_of(
    condition: Spanned, state: AlertState, look: Look, score: Score | None, *, masks: Sequence[Mask] = ()
) -> tuple[AlertState, Sequence[Span]]:
    """What a condition says about an outcome; `score` is the one that a condition about scores is asked about.

    A span that the condition can say nothing about, or that lies under a mask, is left out.
    """
    if masks and not isinstance(condition, Signal | NoScore) and masked_seconds(masks, look.starts, look.ends):
        return state, ()
    match condition:
        case Floor():
            return _floor(condition, state, look, score)
        case Signal():
            spans = _signal(condition, state, look)
            return state, [it for it in spans if not masks or not masked_seconds(masks, it.at, it.until)]
        case Collapse():
            return _collapse(condition, state, look, score)
        case NoScore():
            return state, _no_score(condition, look, masks)
        case Missing():
            return _missing(condition, state, look)


def _whole(look: Look, verdict: Verdict, value: float, *, limit: float) -> Span:
    """The outcome's segment as one span."""
    return Span(
        at=look.starts,
        until=look.ends,
        verdict=verdict,
        value=value,
        limit=limit,
        began=look.starts,
        clock=look.starts,
        counts_until=look.ends,
    )


def _floor(
    condition: Floor, state: AlertState, look: Look, score: Score | None
) -> tuple[AlertState, Sequence[Span]]:  # fmt: skip
    """With `unusual_by` the memory holds how many values the usual rests on, and the usual; bad ones do not count."""
    if score is None:
        return state, ()
    value: float = getattr(score, condition.statistic)
    is_low = value < condition.below
    if condition.unusual_by:
        if state.basis != score.scorer:
            state = replace(state, basis=score.scorer, memory=())
        count, usual = state.memory or (0.0, value)
        is_low = is_low and count >= USUAL_FROM and value <= usual - condition.unusual_by
        if not is_low and state.alert is None:
            count = min(count + 1.0, USUAL_LENGTH)
            away = max(-USUAL_CLIP, min(USUAL_CLIP, value - usual))
            state = replace(state, memory=(count, usual + away / count))
    if is_low:
        return state, (_whole(look, "bad", value, limit=condition.below),)
    is_good = value > condition.recover_above or (condition.unusual_by and state.alert is None)
    return state, (_whole(look, "good" if is_good else "between", value, limit=condition.recover_above),)


def _signal(condition: Signal, state: AlertState, look: Look) -> Sequence[Span]:
    """Frame by frame: a picture counts from the one before it to the one after it, 1 s at most to each side.

    So an impairment of exactly `for_seconds` is found wherever it lies between the moments looked at, and one of less
    than `for_seconds` minus two such distances never counts. A frozen picture is bad from its first showing on.
    """
    event = look.outcome
    if not isinstance(event, QualityEvent) or condition.signal not in event.signals:
        return ()
    values = event.signals[condition.signal].frame_values
    is_freeze = condition.signal == "freeze"
    is_at_rest = state.clock is None and state.alert is None
    if is_at_rest and max(values) < condition.above and not (is_freeze and look.first_is_same):
        return ()
    spans = []
    earlier = (*look.before.pictures_at, *look.marks)
    skipped = len(look.before.pictures_at)
    for index, value in enumerate(values):
        if is_freeze and index == 0:
            if look.first_is_same is None:
                continue
            value = 1.0 if look.first_is_same else 0.0
        verdict = _frame_verdict(condition, event, index, value)
        first = max(skipped + index - is_freeze, 0)
        at, until = look.marks[index], look.marks[index + 1]
        began = min(earlier[first], at)
        before = earlier[first - 1] if first else began
        spans.append(
            Span(
                at=at,
                until=until,
                verdict=verdict,
                value=value,
                limit=condition.above,
                began=began,
                clock=max(before, began - REACH_SECONDS) + EDGE_SECONDS if before < began else began,
                counts_until=min(until, at + REACH_SECONDS),
            )
        )
    return spans


def _frame_verdict(condition: Signal, event: QualityEvent, index: int, value: float) -> Verdict:
    for name, limit in condition.unless.items():
        if name in event.signals and event.signals[name].frame_values[index] >= limit:
            return "good"
    if value >= condition.above:
        return "bad"
    recover_below = condition.above if condition.recover_below is None else condition.recover_below
    return "good" if value < recover_below else "between"


def _collapse(
    condition: Collapse, state: AlertState, look: Look, score: Score | None
) -> tuple[AlertState, Sequence[Span]]:
    """The memory holds the last values of this scorer that were not low, oldest first; `beside` the low ones in a row.

    Low ones that together are no fall are learned: else a level a little lower would never become the usual.
    """
    if score is None:
        return state, ()
    has_hole = look.starts - look.before.until > FORGET_BASELINE_SECONDS
    if state.basis != score.scorer or (has_hole and state.alert is None):
        # Held against itself the new scorer's value is good: an alert that the old one opened closes.
        state = replace(state, basis=score.scorer, memory=(), beside=(), began=None, clock=None, count=0)
    value = score.value
    enough = len(state.memory) >= max(3, min(COLLAPSE_FROM, condition.baseline_segments // 2))
    usual = median(state.memory) if enough else value
    drop = max(condition.drop, condition.deviations * _spread(state.memory, usual)) if enough else condition.drop
    is_low = value <= usual - EACH_SHARE * drop
    is_back = value >= usual - drop / 2
    if not is_back and _has_settled(condition, state, look):
        state, is_low, is_back = replace(state, memory=()), False, True
    low = (*state.beside, value)[-int(condition.confirm_segments) :] if is_low and state.alert is None else ()
    verdict: Verdict = "bad" if is_low else "good" if is_back or state.alert is None else "between"
    if low and state.count + 1 >= condition.confirm_segments and not _is_fall(low, usual, drop=drop):
        verdict = "between"
    if verdict == "good" or (low and verdict == "between"):
        # Rounded, as it is written with every segment.
        state = replace(state, memory=(*state.memory, round(value, 2))[-int(condition.baseline_segments) :])
    return replace(state, beside=low), (replace(_whole(look, verdict, value, limit=usual - drop), usual=usual),)


def _is_fall(low: Sequence[float], usual: float, *, drop: float) -> bool:
    """Whether low values in a row are together as deep as is asked for, the latest too, and stay there."""
    latest = usual - low[-1]
    return latest >= max(drop, STAYS_SHARE * (usual - min(low))) and usual - sum(low) / len(low) >= drop


def _spread(values: Sequence[float], usual: float) -> float:
    """The deviation of a normal with this mean absolute deviation; surer than the median one with so few values."""
    return 1.2533 * sum(abs(value - usual) for value in values) / len(values)


def _has_settled(condition: Collapse, state: AlertState, look: Look) -> bool:
    if state.alert is None or not condition.settle_seconds:
        return False
    return abs(look.ends - state.alert.opened_at.timestamp()) >= condition.settle_seconds


def _no_score(condition: NoScore, look: Look, masks: Sequence[Mask]) -> Sequence[Span]:
    """What stands for no segment is told by the wall clock, so it is held against when the last score was made.

    Silence under a mask does not count: the clock starts so much later.
    """
    outcome, track = look.outcome, look.before
    if isinstance(outcome, QualityEvent):
        return (_whole(look, "good", 0.0, limit=condition.for_seconds),)
    since = track.scored_seen if outcome.reason in NOT_SEGMENTS else track.scored_until
    if masks and since < look.ends:
        since += masked_seconds(masks, since, look.ends)
    silent_seconds = max(look.ends - since, 0.0)
    verdict: Verdict = "bad" if silent_seconds >= condition.for_seconds else "between"
    span = _whole(look, verdict, silent_seconds, limit=condition.for_seconds)
    return (replace(span, began=min(since, look.ends), clock=min(since, look.ends)),)


def _missing(condition: Missing, state: AlertState, look: Look) -> tuple[AlertState, Sequence[Span]]:
    """The memory holds, per outcome of the window, when a missing segment began, and 0 for one that was there."""
    reason = look.outcome.reason if isinstance(look.outcome, SegmentFailure) else ""
    if reason in NOT_SEGMENTS and reason not in condition.reasons:
        return state, ()
    mark = look.starts if reason in condition.reasons else 0.0
    if not mark and not state.memory:
        return state, (_whole(look, "good", 0.0, limit=condition.count),) if state.alert else ()
    memory = (*state.memory, mark)[-condition.of :]
    began = [moment for moment in memory if moment]
    state = replace(state, memory=memory if began else ())
    count = len(began)
    recover_count = condition.count // 2 if condition.recover_count is None else condition.recover_count
    if count >= condition.count:
        span = _whole(look, "bad", count, limit=condition.count)
        return state, (replace(span, began=began[0]),)
    verdict: Verdict = "good" if count <= recover_count else "between"
    return state, (_whole(look, verdict, count, limit=condition.count),)
