"""The condition `audio`: a measurement of the sound stays above or below a value."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from vqmon.core.alerts.conditions.base import (
    Span,
    SpanCondition,
    Timing,
    check_choice,
    check_range,
    whole_segment,
)
from vqmon.core.alerts.media_timeline import TimedOutcome
from vqmon.core.alerts.state import SpanState
from vqmon.core.types import AUDIO_MEASUREMENTS, Outcome, QualityEvent, Score


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioState(SpanState):
    """State of a condition on the sound."""

    kind: ClassVar[str] = "audio"


@dataclass(frozen=True, slots=True, kw_only=True)
class Audio(SpanCondition[AudioState]):
    """A measurement of the sound stays above `above`, or below `below`, segment by segment.

    Values are in the measurement's own unit (`AUDIO_MEASUREMENTS`). Segments whose sound is not measured neither open
    nor resolve an alert; nor do values that are None, such as the loudness of silence.
    """

    kind: ClassVar[str] = "audio"
    state_type: ClassVar[type[AudioState]] = AudioState

    # which measurement of the sound
    measurement: str
    # a value above this is bad, in the unit of the measurement
    above: float | None = None
    # a value below this is bad
    below: float | None = None
    # the condition must hold for so long before an alert opens
    for_seconds: float = 10.0
    # and be good again for so long before it resolves
    recover_seconds: float = 10.0

    def __post_init__(self) -> None:
        check_choice(self, "measurement", tuple(AUDIO_MEASUREMENTS))
        if self.above is None and self.below is None:
            raise ValueError("above, below: one of them is needed")
        for key in ("above", "below"):
            if getattr(self, key) is not None:
                check_range(self, key, low=-1e6, high=1e6)
        check_range(self, "for_seconds", "recover_seconds", low=0)

    @property
    def mask_names(self) -> tuple[str, ...]:
        return (self.kind, self.measurement)

    @property
    def fixed_subject(self) -> str:
        return f"audio {self.measurement}"

    def leaves_idle(self, timed: TimedOutcome, score: Score | None) -> bool:
        value = self._value_of(timed.outcome)
        return value is None or not self._is_bad(value)

    def _is_bad(self, value: float) -> bool:
        return (self.above is not None and value > self.above) or (self.below is not None and value < self.below)

    def spans(self, state: AudioState, timed: TimedOutcome, score: Score | None) -> tuple[AudioState, Sequence[Span]]:
        value = self._value_of(timed.outcome)
        if value is None:
            return state, ()
        if self.above is not None and value > self.above:
            return state, (whole_segment(timed, "bad", value, threshold=self.above),)
        if self.below is not None and value < self.below:
            return state, (whole_segment(timed, "bad", value, threshold=self.below),)
        nearest = self.above if self.above is not None else self.below
        return state, (whole_segment(timed, "good", value, threshold=nearest or 0.0),)

    def describe(self, outcome: Outcome, score: Score | None, span: Span) -> str:
        unit = f" {AUDIO_MEASUREMENTS[self.measurement]}".rstrip()
        return f"{self.measurement} {span.value:.4g}{unit}, limit {span.threshold:g}"

    def timing(self, *, min_open_seconds: float) -> Timing:
        return Timing(
            for_seconds=self.for_seconds, recover_seconds=self.recover_seconds, min_open_seconds=min_open_seconds
        )

    def _value_of(self, outcome: Outcome) -> float | None:
        if not isinstance(outcome, QualityEvent) or outcome.audio is None:
            return None
        return outcome.audio.measurement(self.measurement)
