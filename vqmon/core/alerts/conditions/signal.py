"""The condition `signal`: a signal of the picture stays at or above a value."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from vqmon.core.alerts.annotations import Mask, masked_seconds
from vqmon.core.alerts.conditions.base import (
    Span,
    SpanCondition,
    Timing,
    Verdict,
    check_range,
)
from vqmon.core.alerts.media_timeline import TimedOutcome, worst_frame_times
from vqmon.core.alerts.state import SpanState
from vqmon.core.types import SIGNALS, Outcome, QualityEvent, Score

_FRAME_REACH_SECONDS = 1.0
"""A frame stands for the time at most this far around it, however far away the next frame is."""

_EDGE_SECONDS = 0.01
"""An impairment begins at least this long after the last frame without it: half a frame at 50 fps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalState(SpanState):
    """State of a signal condition."""

    kind: ClassVar[str] = "signal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal(SpanCondition[SignalState]):
    """A signal stays at or above a value, frame by frame; `unless` names signals that excuse a frame."""

    kind: ClassVar[str] = "signal"
    state_type: ClassVar[type[SignalState]] = SignalState

    # which signal
    signal: str
    # a frame at or above this is bad
    above: float
    # a frame below this is good; those between neither count nor cancel. By default as `above`
    recover_below: float | None = None
    # frames must be bad for so long before an alert opens, also across segments
    for_seconds: float = 2.0
    # and be good for so long before it resolves
    recover_seconds: float = 2.0
    # signal -> a frame with this value or more does not count
    unless: Mapping[str, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for name, key in ((self.signal, "signal"), *((name, "unless") for name in self.unless)):
            if name not in SIGNALS:
                raise ValueError(f"{key}: unknown signal {name!r}; known: {', '.join(sorted(SIGNALS))}")
        if not all(0 <= value <= 1 for value in self.unless.values()):
            raise ValueError("unless: values must be within 0..1")
        check_range(self, "above", low=0, high=1)
        if self.recover_below is not None:
            check_range(self, "recover_below", low=0, high=self.above)
        check_range(self, "for_seconds", "recover_seconds", low=0)

    @property
    def mask_names(self) -> tuple[str, ...]:
        return (self.kind, self.signal)

    @property
    def fixed_subject(self) -> str:
        return self.signal

    def leaves_idle(self, timed: TimedOutcome, score: Score | None) -> bool:
        event = timed.outcome
        summary = event.signals.get(self.signal) if isinstance(event, QualityEvent) else None
        if summary is None:
            return True
        is_frozen = self.signal == "freeze" and timed.repeats_last_frame == "yes"
        return not is_frozen and max(summary.frame_values) < self.above

    def evaluate(
        self, state: SignalState, timed: TimedOutcome, score: Score | None, *, masks: Sequence[Mask] = ()
    ) -> tuple[SignalState, Sequence[Span]]:
        state, spans = self.spans(state, timed, score)
        # A mask may begin or end within a segment.
        return state, [span for span in spans if not masks or not masked_seconds(masks, span.starts_at, span.ends_at)]

    def spans(self, state: SignalState, timed: TimedOutcome, score: Score | None) -> tuple[SignalState, Sequence[Span]]:
        """One span per frame, which stands for the time from the frame before it to the next, 1 s each way at most.

        So an impairment of exactly `for_seconds` is found wherever it lies between the sampled frames, and one shorter
        than `for_seconds` minus two sampling intervals never counts. A frozen picture is bad from its first frame on.
        """
        event = timed.outcome
        if not isinstance(event, QualityEvent) or self.signal not in event.signals:
            return state, ()
        return state, list(self._frame_spans(event, timed, event.signals[self.signal].frame_values))

    def _frame_spans(self, event: QualityEvent, timed: TimedOutcome, values: Sequence[float]) -> Iterator[Span]:
        is_freeze = self.signal == "freeze"
        earlier_count = len(timed.before.frame_times)
        frame_times = (*timed.before.frame_times, *timed.frame_times)
        for index, value in enumerate(values):
            # a key picture between two segments may hide that the picture is frozen
            is_uncertain = is_freeze and index == 0 and timed.repeats_last_frame == "maybe"
            if is_freeze and index == 0:
                # Within a segment, `freeze` compares a frame with the one before it; the first has none.
                if timed.repeats_last_frame is None:
                    continue
                value = 1.0 if timed.repeats_last_frame == "yes" else 0.0
            first = max(earlier_count + index - is_freeze, 0)
            starts_at, ends_at = timed.frame_times[index], timed.frame_times[index + 1]
            began_at = min(frame_times[first], starts_at)
            frame_before = frame_times[first - 1] if first else began_at
            counted_from = began_at
            if frame_before < began_at:
                counted_from = max(frame_before, began_at - _FRAME_REACH_SECONDS) + _EDGE_SECONDS
            yield Span(
                starts_at=starts_at,
                ends_at=ends_at,
                verdict=self._frame_verdict(event, index, value, is_uncertain=is_uncertain),
                value=value,
                threshold=self.above,
                run_began_at=began_at,
                counted_from=counted_from,
                counted_until=min(ends_at, starts_at + _FRAME_REACH_SECONDS),
            )

    def _frame_verdict(self, event: QualityEvent, index: int, value: float, *, is_uncertain: bool) -> Verdict:
        for name, limit in self.unless.items():
            if name in event.signals and event.signals[name].frame_values[index] >= limit:
                return "good"
        if value >= self.above:
            return "bad"
        if is_uncertain:
            return "between"
        recover_below = self.above if self.recover_below is None else self.recover_below
        return "good" if value < recover_below else "between"

    def describe(self, outcome: Outcome, score: Score | None, span: Span) -> str:
        return f"{self.signal} {span.value:.2f} at or above {self.above:g}"

    def timing(self, *, min_open_seconds: float) -> Timing:
        return Timing(
            for_seconds=self.for_seconds, recover_seconds=self.recover_seconds, min_open_seconds=min_open_seconds
        )

    def _worst_times(self, outcome: Outcome, score: Score | None) -> tuple[float, ...]:
        if not isinstance(outcome, QualityEvent):
            return ()
        return worst_frame_times(outcome, outcome.signals[self.signal].frame_values)
