"""Base classes of alert conditions, and how stretches of good and bad time open and close an alert."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Generic, Literal, TypeVar

from vqmon.core.alerts.annotations import Mask, masked_seconds
from vqmon.core.alerts.media_timeline import FORGET_SECONDS, ROUNDING_SECONDS, TimedOutcome, worst_frame_times
from vqmon.core.alerts.state import AlertProgress, AlertState, RenditionSeries, SpanState
from vqmon.core.scores import REFERENCE_PREFIX
from vqmon.core.types import AlertEvidence, Outcome, QualityEvent, Score

Verdict = Literal["bad", "between", "good"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A condition's verdict on a stretch of media time; all moments are seconds since the epoch."""

    starts_at: float
    ends_at: float
    verdict: Verdict
    value: float
    # the value was compared with this one
    threshold: float
    # if a bad run starts with this span: its first moment, and from when its duration counts
    run_began_at: float
    counted_from: float
    # until when the span counts towards the duration
    counted_until: float
    # the usual value, where the condition learns one
    baseline: float = 0.0

    def uncounted_seconds(self, seen_until: float) -> float:
        """The gap before this span, which counts towards no duration.

        A span without length is that of a still picture, for which the time since the picture before it counts.
        """
        gap_seconds = self.starts_at - seen_until
        return gap_seconds if gap_seconds > ROUNDING_SECONDS and self.ends_at > self.starts_at else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanTransition:
    """A span that opens or resolves an alert."""

    kind: Literal["open", "resolved"]
    at: float
    # since when the condition holds, or holds no longer
    began_at: float
    span: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long a run of bad spans lasts before an alert opens, and a run of good spans before it resolves."""

    for_seconds: float = 0.0
    min_bad_spans: int = 1
    recover_seconds: float = 0.0
    min_open_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition(ABC):
    """What a rule asks of the outcomes; the fields of a subclass are the keys of its table in the rules file."""

    kind: ClassVar[str]
    # keys that earlier versions had -> what to do about one
    removed_keys: ClassVar[Mapping[str, str]] = {}

    @property
    def scorer_pattern(self) -> str:
        """Name, name@version or glob of the scorers that the condition is about; empty when it is about none."""
        return ""

    @property
    def mask_names(self) -> tuple[str, ...]:
        """The names by which a mask may excuse the condition: its kind, and the signal that it reads."""
        return (self.kind,)

    @property
    def has_groups(self) -> bool:
        """Whether a group rule may take the series of the condition together."""
        return False

    @property
    def member_rule(self) -> str:
        """Name of the rule whose series a group takes together; empty for other conditions."""
        return ""

    def follows(self, state: AlertState) -> bool:
        """Whether the condition still evaluates the series of a stored state."""
        return state.kind == self.kind


State = TypeVar("State", bound=SpanState)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanCondition(Condition, Generic[State]):
    """A condition that calls stretches of time good or bad; an alert opens when bad ones have lasted."""

    state_type: ClassVar[type[Any]]

    @property
    def fixed_subject(self) -> str | None:
        """The subject of the condition's series, if there is one per rendition whatever the outcome."""
        return None

    def series(self, outcome: Outcome) -> Iterator[tuple[RenditionSeries, Score | None]]:
        """The series that the condition follows in an outcome, each with the score to evaluate.

        The scorer's version is no part of a series, so that an open alert outlives an upgrade of the scorer.
        """
        if self.fixed_subject is not None:
            yield series_of_rendition(outcome, self.fixed_subject), None

    def leaves_idle(self, timed: TimedOutcome, score: Score | None) -> bool:
        """Whether a series of which nothing is remembered stays so with this outcome: then it is not evaluated."""
        return False

    @abstractmethod
    def spans(self, state: State, timed: TimedOutcome, score: Score | None) -> tuple[State, Sequence[Span]]:
        """The state after an outcome and the verdicts on its time; time without a verdict is left out."""

    def evaluate(
        self, state: State, timed: TimedOutcome, score: Score | None, *, masks: Sequence[Mask] = ()
    ) -> tuple[State, Sequence[Span]]:
        """The same as `spans`, but without what lies under a mask."""
        if masks and masked_seconds(masks, timed.starts_at, timed.ends_at):
            return state, ()
        return self.spans(state, timed, score)

    @abstractmethod
    def describe(self, outcome: Outcome, score: Score | None, span: Span) -> str:
        """The measured value and its threshold in a few words."""

    def summarize(self, outcome: Outcome, score: Score | None, span: Span, *, held_seconds: float) -> str:
        """The summary of an alert that opens, in one line."""
        return f"{self.describe(outcome, score, span)} for {held_seconds:.3g} s"

    def evidence(self, outcome: Outcome, score: Score | None, span: Span) -> AlertEvidence:
        """The outcome that opened an alert and the value measured there."""
        return AlertEvidence(
            event_id=outcome.id,
            reading=self.describe(outcome, score, span),
            value=round(span.value, 4),
            threshold=round(span.threshold, 4),
            worst_times_seconds=self._worst_times(outcome, score),
        )

    def timing(self, *, min_open_seconds: float) -> Timing:
        """The durations of the condition together with the rule's `min_open_seconds`."""
        return Timing(min_open_seconds=min_open_seconds)

    def _worst_times(self, outcome: Outcome, score: Score | None) -> tuple[float, ...]:
        """Presentation times of the worst frames, worst first."""
        if not isinstance(outcome, QualityEvent) or score is None:
            return ()
        return worst_frame_times(outcome, [-value for value in score.frame_values])


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreCondition(SpanCondition[State]):
    """A span condition about the scores of one scorer, or of several."""

    # name, name@version or a glob of them
    scorer: str

    @property
    def scorer_pattern(self) -> str:
        return self.scorer

    def series(self, outcome: Outcome) -> Iterator[tuple[RenditionSeries, Score | None]]:
        for score in outcome.scores if isinstance(outcome, QualityEvent) else ():
            if scorer_matches(score.scorer, self.scorer):
                yield series_of_rendition(outcome, score.scorer.split("@")[0]), score


def series_of_rendition(outcome: Outcome, subject: str) -> RenditionSeries:
    """The series of a scorer, a signal or a kind of condition in the outcome's rendition."""
    return RenditionSeries(outcome.segment.rendition.key, subject)


def scorer_matches(scorer: str, pattern: str) -> bool:
    """Whether a pattern (name, name@version, or a glob of either) means the scorer name@version.

    A reference measure, `reference:psnr`, has its own scale: only a pattern that says `reference:` means it.
    """
    if scorer.startswith(REFERENCE_PREFIX) and not pattern.startswith(REFERENCE_PREFIX):
        return False
    name = scorer.partition("@")[0]
    return pattern in (name, scorer) or fnmatchcase(name, pattern) or fnmatchcase(scorer, pattern)


def whole_segment(timed: TimedOutcome, verdict: Verdict, value: float, *, threshold: float) -> Span:
    """One span over the outcome's whole segment."""
    return Span(
        starts_at=timed.starts_at,
        ends_at=timed.ends_at,
        verdict=verdict,
        value=value,
        threshold=threshold,
        run_began_at=timed.starts_at,
        counted_from=timed.starts_at,
        counted_until=timed.ends_at,
    )


def check_range(owner: object, *fields: str, low: float, high: float = 1e9) -> None:
    """Raise ValueError naming the first of the fields whose value lies outside low..high."""
    for field in fields:
        value = getattr(owner, field)
        if not low <= value <= high:
            limits = f"{low:g}..{high:g}" if high < 1e9 else f"{low:g} or more"
            raise ValueError(f"{field}: must be {limits}, got {value!r}")


def check_choice(owner: object, field: str, choices: Collection[str]) -> None:
    """Raise ValueError naming the field when its value is none of the choices."""
    if getattr(owner, field) not in choices:
        raise ValueError(
            f"{field}: unknown {getattr(owner, field)!r}; known: {', '.join(choice or '(none)' for choice in choices)}"
        )


def apply_span(state: State, span: Span, timing: Timing) -> tuple[State, SpanTransition | None]:
    """The state after one more span, and the transition if an alert opens or resolves with it.

    The caller makes the alert. A span "between" neither counts towards an alert nor cancels a bad run; while an alert
    is open it restarts the recovery.
    """
    alert = state.alert
    if alert is None:
        return _apply_before_opening(state, span, timing)
    progress = state.progress
    recovering_since = progress.recovering_since
    if span.verdict != "good":
        if recovering_since is not None:
            state = replace(state, progress=replace(progress, recovering_since=None))
        return state, None
    gap_seconds = span.starts_at - progress.seen_until
    if recovering_since is None or abs(gap_seconds) > FORGET_SECONDS or recovering_since > span.starts_at:
        recovering_since = span.starts_at
    else:
        recovering_since += span.uncounted_seconds(progress.seen_until)
    has_recovered = span.ends_at - recovering_since >= timing.recover_seconds - ROUNDING_SECONDS
    # The distance, as a timeline that was set back must not hold an alert open.
    open_seconds = abs(span.ends_at - alert.opened_at.timestamp())
    if has_recovered and open_seconds >= timing.min_open_seconds - ROUNDING_SECONDS:
        return state, SpanTransition(kind="resolved", at=span.ends_at, began_at=recovering_since, span=span)
    progress = replace(progress, recovering_since=recovering_since, seen_until=span.ends_at)
    return replace(state, progress=progress), None


def _apply_before_opening(state: State, span: Span, timing: Timing) -> tuple[State, SpanTransition | None]:
    progress = state.progress
    began_at, counted_from, bad_spans = progress.began_at, progress.counted_from, progress.bad_spans
    if span.verdict == "between" or (span.verdict == "good" and counted_from is None):
        return state, None
    if span.verdict == "good":
        return replace(state, progress=replace(progress, began_at=None, counted_from=None, bad_spans=0)), None
    gap_seconds = span.starts_at - progress.seen_until
    if (
        began_at is None
        or counted_from is None
        or abs(gap_seconds) > FORGET_SECONDS
        or counted_from > span.starts_at
    ):  # fmt: skip
        began_at, counted_from, bad_spans = span.run_began_at, span.counted_from, 0
    else:
        counted_from += span.uncounted_seconds(progress.seen_until)
    bad_spans += 1
    progress = AlertProgress(
        began_at=began_at,
        counted_from=counted_from,
        bad_spans=bad_spans,
        recovering_since=progress.recovering_since,
        seen_until=span.ends_at,
    )
    state = replace(state, progress=progress)
    has_lasted = span.counted_until - counted_from >= timing.for_seconds - ROUNDING_SECONDS
    if has_lasted and bad_spans >= timing.min_bad_spans:
        return state, SpanTransition(kind="open", at=span.ends_at, began_at=began_at, span=span)
    return state, None
