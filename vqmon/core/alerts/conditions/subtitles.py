"""The condition `subtitles`: a rendition of subtitles cannot be had, or has no cue."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import ClassVar, Literal

from vqmon.core.alerts.conditions.base import (
    Span,
    SpanCondition,
    Timing,
    Verdict,
    check_choice,
    check_range,
    whole_segment,
)
from vqmon.core.alerts.media_timeline import TimedOutcome
from vqmon.core.alerts.state import SpanState
from vqmon.core.types import SUBTITLE_PROBLEMS, Outcome, QualityEvent, Score, SubtitleFacts

Lost = Literal["segments", "cues"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SubtitlesState(SpanState):
    """State of a condition on subtitles."""

    kind: ClassVar[str] = "subtitles"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subtitles(SpanCondition[SubtitlesState]):
    """At least one rendition of subtitles has lost its segments, or has no cue for longer than dialogue pauses.

    Segments without a rendition that is meant neither open nor resolve an alert. Those of forced subtitles are not
    meant by `lost = "cues"`, as they may be empty for hours.
    """

    kind: ClassVar[str] = "subtitles"
    state_type: ClassVar[type[SubtitlesState]] = SubtitlesState

    # what is lost: its segments are missing, cannot be fetched or read; or they can, and hold no cue
    lost: Lost = "segments"
    # a glob of the names of the renditions of subtitles: language and label, such as "en English"
    name: str = "*"
    # the condition must hold for so long before an alert opens
    for_seconds: float = 30.0
    # and be good again for so long before it resolves
    recover_seconds: float = 0.0

    def __post_init__(self) -> None:
        check_choice(self, "lost", ("segments", "cues"))
        check_range(self, "for_seconds", "recover_seconds", low=0)

    @property
    def fixed_subject(self) -> str:
        return f"subtitles {self.lost} {self.name}"

    def leaves_idle(self, timed: TimedOutcome, score: Score | None) -> bool:
        return not any(self._is_lost(each) for each in self._meant(timed.outcome))

    def spans(
        self, state: SubtitlesState, timed: TimedOutcome, score: Score | None
    ) -> tuple[SubtitlesState, Sequence[Span]]:
        meant = self._meant(timed.outcome)
        if not meant:
            return state, ()
        count = sum(not self._is_lost(each) for each in meant)
        verdict: Verdict = "good" if count == len(meant) else "bad"
        return state, (whole_segment(timed, verdict, float(count), threshold=float(len(meant))),)

    def describe(self, outcome: Outcome, score: Score | None, span: Span) -> str:
        lost = [each for each in self._meant(outcome) if self._is_lost(each)]
        if not lost:
            return "subtitles are there"
        names = ", ".join(each.name for each in lost[:3]) + (f" and {len(lost) - 3} more" if len(lost) > 3 else "")
        if self.lost == "cues":
            return f"subtitles without a cue: {names}"
        return f"subtitles {lost[0].problem} ({SUBTITLE_PROBLEMS[lost[0].problem]}): {names}"

    def timing(self, *, min_open_seconds: float) -> Timing:
        return Timing(
            for_seconds=self.for_seconds, recover_seconds=self.recover_seconds, min_open_seconds=min_open_seconds
        )

    def _meant(self, outcome: Outcome) -> Sequence[SubtitleFacts]:
        if not isinstance(outcome, QualityEvent):
            return ()
        named = [each for each in outcome.subtitles if fnmatchcase(each.name, self.name)]
        if self.lost == "segments":
            return named
        return [each for each in named if not each.is_forced and not each.problem]

    def _is_lost(self, subtitles: SubtitleFacts) -> bool:
        return bool(subtitles.problem) if self.lost == "segments" else not subtitles.cues
