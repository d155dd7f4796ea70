"""The condition `captions`: the pictures carry no captions (CEA-608 or CEA-708)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from vqmon.core.alerts.conditions.base import (
    Span,
    SpanCondition,
    Timing,
    check_range,
    series_of_rendition,
    whole_segment,
)
from vqmon.core.alerts.media_timeline import TimedOutcome
from vqmon.core.alerts.state import RenditionSeries, SpanState
from vqmon.core.types import Outcome, QualityEvent, Score


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionsState(SpanState):
    """State of a condition on captions."""

    kind: ClassVar[str] = "captions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Captions(SpanCondition[CaptionsState]):
    """Segments without caption data, for streams that must have it: `match` of the rule names them."""

    kind: ClassVar[str] = "captions"
    state_type: ClassVar[type[CaptionsState]] = CaptionsState

    # the condition must hold for so long before an alert opens
    for_seconds: float = 30.0
    # and be good again for so long before it resolves
    recover_seconds: float = 10.0

    def __post_init__(self) -> None:
        check_range(self, "for_seconds", "recover_seconds", low=0)

    def series(self, outcome: Outcome) -> Iterator[tuple[RenditionSeries, Score | None]]:
        if isinstance(outcome, QualityEvent):
            yield series_of_rendition(outcome, self.kind), None

    def spans(
        self, state: CaptionsState, timed: TimedOutcome, score: Score | None
    ) -> tuple[CaptionsState, Sequence[Span]]:
        event = timed.outcome
        if not isinstance(event, QualityEvent):
            return state, ()
        has_captions = event.media.has_captions
        return state, (whole_segment(timed, "good" if has_captions else "bad", float(has_captions), threshold=1.0),)

    def describe(self, outcome: Outcome, score: Score | None, span: Span) -> str:
        return "no captions"

    def timing(self, *, min_open_seconds: float) -> Timing:
        return Timing(
            for_seconds=self.for_seconds, recover_seconds=self.recover_seconds, min_open_seconds=min_open_seconds
        )
