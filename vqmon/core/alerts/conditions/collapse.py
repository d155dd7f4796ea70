"""The condition `collapse`: a score falls far below the median of the segments before."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import ClassVar

from vqmon.core.alerts.conditions.base import ScoreCondition, Span, Timing, Verdict, check_range, whole_segment
from vqmon.core.alerts.media_timeline import TimedOutcome
from vqmon.core.alerts.state import SpanState
from vqmon.core.types import Outcome, Score

_FORGET_BASELINE_SECONDS = 600.0
"""After a gap of this length new scores are not compared with those before it."""

_BASELINE_MIN_SEGMENTS = 15
"""The baseline must hold so many segments, or half of `baseline_segments` when that is fewer."""

_EACH_SHARE = 0.75
"""Each of the consecutive low segments shows at least this share of the drop that the rule asks for."""

_LATEST_SHARE = 0.6
"""The latest low segment is at least this deep relative to the deepest: one hard scene that fades is no collapse."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollapseState(SpanState):
    """State of a collapse condition."""

    kind: ClassVar[str] = "collapse"

    # the scorer (name@version) of the values
    scorer: str = ""
    # the last values that were not low, oldest first
    baseline_values: tuple[float, ...] = ()
    # the consecutive low values that may become an alert
    low_values: tuple[float, ...] = ()

    @property
    def has_learned(self) -> bool:
        return bool(self.baseline_values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Collapse(ScoreCondition[CollapseState]):
    """A score falls by `drop` points or more below the median of the `baseline_segments` before.

    With `deviations` the fall must also be that many times as large as their spread. `confirm_segments` consecutive
    segments must show three quarters of the fall, their mean and the latest all of it. The alert resolves when half of
    the drop has recovered for `recover_seconds`, or when the low level has lasted `settle_seconds`: then it is the new
    baseline (0 = never).
    """

    kind: ClassVar[str] = "collapse"
    state_type: ClassVar[type[CollapseState]] = CollapseState

    # points of a fall that counts
    drop: float
    # and so many times the spread of the segments before; 0 = only `drop` counts
    deviations: float = 0.0
    # length of the baseline; at least 15 segments, or half if that is fewer, are needed
    baseline_segments: int = 30
    # so many segments in a row must show the fall
    confirm_segments: int = 2
    # half of the drop must have recovered for so long
    recover_seconds: float = 10.0
    # a low level that lasts so long becomes the baseline (0 = never)
    settle_seconds: float = 1800.0

    def __post_init__(self) -> None:
        check_range(self, "drop", low=0.1, high=100)
        check_range(self, "deviations", low=0, high=20)
        check_range(self, "baseline_segments", low=3, high=1000)
        check_range(self, "confirm_segments", low=1, high=100)
        check_range(self, "recover_seconds", "settle_seconds", low=0)

    def spans(
        self, state: CollapseState, timed: TimedOutcome, score: Score | None
    ) -> tuple[CollapseState, Sequence[Span]]:
        """One span over the segment.

        Low values that together are no collapse go into the baseline: else a level a little lower would never become
        the baseline.
        """
        if score is None:
            return state, ()
        state = self._without_outdated(state, timed, score.scorer)
        value, baseline = score.value, state.baseline_values
        has_baseline = len(baseline) >= max(3, min(_BASELINE_MIN_SEGMENTS, self.baseline_segments // 2))
        usual = median(baseline) if has_baseline else value
        drop = max(self.drop, self.deviations * _spread(baseline, usual)) if has_baseline else self.drop
        is_low = value <= usual - _EACH_SHARE * drop
        has_recovered = value >= usual - drop / 2
        if not has_recovered and self._has_settled(state, timed):
            state, is_low, has_recovered = replace(state, baseline_values=()), False, True
        low_values: tuple[float, ...] = ()
        if is_low and state.alert is None:
            low_values = (*state.low_values, value)[-int(self.confirm_segments) :]
        verdict: Verdict = "bad" if is_low else "good" if has_recovered or state.alert is None else "between"
        is_confirmed = low_values and state.progress.bad_spans + 1 >= self.confirm_segments
        if is_confirmed and not _is_collapse(low_values, usual, drop=drop):
            verdict = "between"
        if verdict == "good" or (low_values and verdict == "between"):
            # Rounded, as it is written with every segment.
            learned = (*state.baseline_values, round(value, 2))[-int(self.baseline_segments) :]
            state = replace(state, baseline_values=learned)
        span = replace(whole_segment(timed, verdict, value, threshold=usual - drop), baseline=usual)
        return replace(state, low_values=low_values), (span,)

    def _without_outdated(self, state: CollapseState, timed: TimedOutcome, scorer: str) -> CollapseState:
        """The state without the values of another scorer version, or from before a long gap."""
        has_gap = timed.starts_at - timed.before.ends_at > _FORGET_BASELINE_SECONDS
        if state.scorer == scorer and not (has_gap and state.alert is None):
            return state
        # Compared with itself, the new scorer's value is good: an alert that the old version opened resolves.
        progress = replace(state.progress, began_at=None, counted_from=None, bad_spans=0)
        return replace(state, scorer=scorer, baseline_values=(), low_values=(), progress=progress)

    def _has_settled(self, state: CollapseState, timed: TimedOutcome) -> bool:
        if state.alert is None or not self.settle_seconds:
            return False
        return abs(timed.ends_at - state.alert.opened_at.timestamp()) >= self.settle_seconds

    def describe(self, outcome: Outcome, score: Score | None, span: Span) -> str:
        fall = span.baseline - span.value
        scorer = score.scorer if score else ""
        return f"{scorer} {span.value:.1f}, down {fall:.1f} from its usual {span.baseline:.1f}"

    def timing(self, *, min_open_seconds: float) -> Timing:
        return Timing(
            min_bad_spans=self.confirm_segments,
            recover_seconds=self.recover_seconds,
            min_open_seconds=min_open_seconds,
        )


def _is_collapse(low_values: Sequence[float], usual: float, *, drop: float) -> bool:
    """Whether the mean and the latest of consecutive low values are deep enough, and the latest is not recovering."""
    latest = usual - low_values[-1]
    is_latest_deep = latest >= max(drop, _LATEST_SHARE * (usual - min(low_values)))
    return is_latest_deep and usual - sum(low_values) / len(low_values) >= drop


def _spread(values: Sequence[float], center: float) -> float:
    """The deviation of a normal with this mean absolute deviation, which varies less than the median one."""
    return 1.2533 * sum(abs(value - center) for value in values) / len(values)
