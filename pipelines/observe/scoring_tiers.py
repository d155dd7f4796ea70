"""The scoring cascade: the first tier scores every segment, heavy scorers score promoted segments within a budget."""

import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Literal, Protocol, TypedDict, Unpack, runtime_checkable

from pipelines.observe.learned_references import LearnedMeasure, with_learned_values
from pipelines.observe.unexpected_errors import unexpected_as
from vqmon.core.cascade import (
    MEDIAN_WINDOW_SEGMENTS,
    DeviceTimeBudget,
    PromotionPolicy,
    reasons_before_decoding,
    reasons_from_score,
)
from vqmon.core.scores import ScorerTier
from vqmon.core.types import DecodedSegment, Promotion, Score, ScorerFailure, ScorerIdentity, Segment, View
from vqmon.errors import DecodeError, ScoreError, SegmentError
from vqmon.flow import run_concurrently
from vqmon.telemetry.logs import log_event
from vqmon.telemetry.otlp import span

_MAX_RENDITIONS = 10_000
_DECODE_OVERLOAD_REASONS = ("timeout", "too_long", "crashed")
"""Reasons for which a decode of many views may fail and yet succeed with fewer of them."""

_DecodeViews = Callable[[tuple[View, ...]], Coroutine[None, None, DecodedSegment]]
RecordStage = Callable[[str, float], None]
"""Called with the name of a stage and the seconds that it took."""
PromotionMetric = Literal["vqmon.scorer.promoted", "vqmon.scorer.left_out"]
CountPromotion = Callable[[PromotionMetric, str], None]
"""Called with the metric and the reason."""

CountFailure = Callable[[str, str], None]
"""Called with the id of a scorer and the reason for which it gave no score for a segment."""

_log = logging.getLogger("vqmon.observe")


class Decode(Protocol):
    """Decodes the views of a segment, given its bytes, and those of its reference and separate sound if it has them."""

    def __call__(
        self, media: bytes, views: tuple[View, ...], /, **others: Unpack["OtherMedia"]
    ) -> Coroutine[None, None, DecodedSegment]: ...


class OtherMedia(TypedDict, total=False):
    """What belongs to a segment and is not in it, each as bytes."""

    reference: bytes
    # in segments of its own
    sound: bytes


class Scorer(Protocol):
    """Maps the sampled frames of one segment to a score."""

    @property
    def id(self) -> str: ...
    @property
    def views(self) -> tuple[View, ...]:
        """The views of each frame that the scorer takes."""

    @property
    def needs_prompt(self) -> bool:
        """Whether the scorer can score only segments that have a prompt."""

    @property
    def identity(self) -> ScorerIdentity: ...
    def score(self, decoded: DecodedSegment) -> Coroutine[None, None, Score]: ...


@runtime_checkable
class AddsFrames(Scorer, Protocol):
    """A scorer of single frames, which can add more of them to a score."""

    def add_frames(self, score: Score, decoded: DecodedSegment, *, weight: float) -> Coroutine[None, None, Score]:
        """The score, a mean over frames, with additional frames of this weight; raises ScoreError."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AdditionalFrames:
    """Scores more frames of segments whose frames disagree: the mean of a few then depends on which were sampled."""

    # gives the additional frames of a segment; `core.frames.additional_indices`
    decode: Callable[[bytes, tuple[View, ...]], Coroutine[None, None, DecodedSegment]]
    # largest standard error of the mean over the sampled frames without additional ones
    limit_points: float
    # longer segments have enough frames, and their views would need much memory
    most_sampled_frames: int = 30

    def weight_in(self, score: Score) -> float:
        """Of an additional frame: it rises with the standard error from 0 at the limit to 1 at half as much again.

        So two versions of a segment whose frames agree about as much have about the same score.
        """
        return min(1.0, max(0.0, 2 * (score.standard_error / self.limit_points - 1)))

    def required_by(self, scored: "SegmentScores") -> Sequence[AddsFrames]:
        """The scorers of a segment whose frame values disagree."""
        sampled_count = len(scored.decoded.times_seconds)
        if not sampled_count < scored.decoded.media.frame_count or sampled_count > self.most_sampled_frames:
            return ()
        scores = {score.scorer: score for score in (*scored.scores, *scored.shadow_scores)}
        return [
            scorer
            for scorer in scored.scorers
            if isinstance(scorer, AddsFrames)
            and all(view.clip is None for view in scorer.views)
            and self.weight_in(scores[scorer.id]) > 0
        ]


class DeviceTimeReservations:
    """The device-seconds that heavy scorers may use: reserved before a segment is scored, spent run by run."""

    def __init__(self, seconds_per_hour: float, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._budget = DeviceTimeBudget.full(seconds_per_hour, clock())
        self._reserved_seconds = 0.0
        self._segments_in_flight = 0
        self._spent_seconds, self._finished_segments = 0.0, 0

    @property
    def remaining_seconds(self) -> float:
        """Device-seconds that could be spent now; negative after a segment that took more than its reservation."""
        return self._budget.refilled_at(self._clock()).remaining_seconds

    def spend(self, seconds: float) -> None:
        """Deduct the seconds for which one run of a heavy graph held its device."""
        self._budget = self._budget.refilled_at(self._clock()).after_spending(seconds)
        self._spent_seconds += seconds

    @contextmanager
    def reserve(self) -> Iterator[bool]:
        """Reserve the mean cost of a segment until the context ends; yields False when the budget does not cover it.

        The mean is unknown until the first segment has finished, so until then one segment is admitted at a time. A
        segment that costs more than the budget ever holds is admitted when the budget is full, and the deficit is
        refilled before the next one.
        """
        mean_seconds = self._spent_seconds / self._finished_segments if self._finished_segments else 0.0
        available_seconds = self.remaining_seconds - self._reserved_seconds
        is_cost_unknown = not self._finished_segments and self._segments_in_flight > 0
        if (
            available_seconds <= 0
            or available_seconds < min(mean_seconds, self._budget.capacity_seconds)
            or is_cost_unknown
        ):
            yield False
            return
        self._reserved_seconds += mean_seconds
        self._segments_in_flight += 1
        try:
            yield True
        finally:
            self._reserved_seconds -= mean_seconds
            self._segments_in_flight -= 1
            self._finished_segments += 1


class RecentScores:
    """The latest scores of each rendition; the least recently scored renditions are forgotten beyond a bound."""

    def __init__(self) -> None:
        self._scores: OrderedDict[tuple[str, str], deque[tuple[datetime, float]]] = OrderedDict()

    def record(self, segment: Segment, score: Score) -> list[float]:
        """Store a score; returns those by the same scorer of the rendition's segments that start earlier."""
        key = (segment.rendition.key, score.scorer)
        scores = self._scores.setdefault(key, deque(maxlen=MEDIAN_WINDOW_SEGMENTS))
        self._scores.move_to_end(key)
        if len(self._scores) > _MAX_RENDITIONS:
            self._scores.popitem(last=False)
        earlier = [value for starts_at, value in scores if starts_at < segment.starts_at]
        scores.append((segment.starts_at, score.value))
        return earlier


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """Which heavy scorers the budget admits to one segment, and the reasons why the segment was promoted."""

    reasons: tuple[str, ...]
    scorers: Sequence[Scorer]

    @property
    def left_out(self) -> str:
        """`budget` when the segment was promoted and the budget was used up, else empty."""
        return "budget" if self.reasons and not self.scorers else ""


class HeavyTier:
    """Scorers that score promoted segments only, within a budget; their failures leave the other scores as they are."""

    def __init__(
        self,
        scorers: Sequence[Scorer],
        *,
        policy: PromotionPolicy,
        budget: DeviceTimeReservations,
        count: CountPromotion = lambda metric, reason: None,
    ) -> None:
        self.scorers = tuple(scorers)
        self._policy, self._budget, self._count = policy, budget, count
        self._recent_scores = RecentScores()

    @contextmanager
    def admit(self, segment: Segment, reasons: tuple[str, ...]) -> Iterator[Admission]:
        """Admit the heavy scorers to a promoted segment if the budget allows; reserved until the context ends."""
        if not reasons:
            yield Admission(reasons=(), scorers=())
            return
        with self._budget.reserve() as is_reserved:
            yield Admission(reasons=reasons, scorers=_applicable_scorers(self.scorers, segment) if is_reserved else ())

    def planned_reasons(self, segment: Segment) -> tuple[str, ...]:
        """The reasons for promotion that are known before decoding; none when no heavy scorer applies."""
        return reasons_before_decoding(segment, self._policy) if _applicable_scorers(self.scorers, segment) else ()

    @property
    def decides_by_score(self) -> bool:
        """Whether the score of the first scorer may promote a segment."""
        return bool(self._policy.below or self._policy.drop)

    def score_reasons(self, segment: Segment, main_score: Score) -> tuple[str, ...]:
        """The reasons for promotion that follow from the score of the first scorer, which is recorded."""
        reasons = reasons_from_score(main_score.value, self._recent_scores.record(segment, main_score), self._policy)
        return reasons if _applicable_scorers(self.scorers, segment) else ()

    def record_promotion(self, reasons: tuple[str, ...], left_out: str, *, undecided_without: str = "") -> Promotion:
        """Count the promotion in the metrics; returns it as the event states it."""
        if left_out:
            self._count("vqmon.scorer.left_out", left_out)
        elif reasons:
            self._count("vqmon.scorer.promoted", reasons[0])
        return Promotion(reasons=reasons, left_out=left_out, undecided_without=undecided_without)


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentScores:
    """What was decoded of a segment and how the scorers scored it."""

    decoded: DecodedSegment
    # of the first tier, followed by the heavy tier
    scores: Sequence[Score]
    shadow_scores: Sequence[Score]
    # all that gave a score, shadows included
    scorers: Sequence[Scorer]
    # all that were asked and gave none
    failures: Sequence[ScorerFailure] = ()
    promotion: Promotion | None = None
    # why not all views could be decoded; None when they were
    views_error: DecodeError | None = None

    @property
    def main_failure(self) -> ScorerFailure | None:
        """The failure of the first scorer, whose score decides on promotion."""
        return next((failure for failure in self.failures if failure.tier == "main"), None)

    def added(self, results: Sequence["_Result"]) -> "SegmentScores":
        """With the results of more scorers."""
        scores = [(result.tier, result.score) for result in results if isinstance(result.score, Score)]
        return replace(
            self,
            scores=[*self.scores, *(score for tier, score in scores if tier != "shadow")],
            shadow_scores=[*self.shadow_scores, *(score for tier, score in scores if tier == "shadow")],
            scorers=[*self.scorers, *(result.scorer for result in results if isinstance(result.score, Score))],
            failures=[*self.failures, *(result.score for result in results if isinstance(result.score, ScorerFailure))],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    """The outcome of one scorer for one segment, which stands alone: a score or why there is none."""

    scorer: Scorer
    tier: ScorerTier
    score: Score | ScorerFailure


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringCascade:
    """Decodes a segment and scores it: by the first tier always, by shadows on trial, by heavy scorers if promoted."""

    decode: Decode
    scorers: Sequence[Scorer]
    # their scores are in the event and never raise alerts
    shadows: Sequence[Scorer] = ()
    heavy: HeavyTier | None = None
    # whether segments are compared with references
    takes_references: bool = False
    # None = only the sampled frames are scored
    additional_frames: AdditionalFrames | None = None
    # computed from the pictures of the comparison
    learned_measures: Sequence[LearnedMeasure] = ()
    record_stage: RecordStage = lambda stage, seconds: None
    count_failure: CountFailure = lambda scorer, reason: None

    @property
    def judged(self) -> Sequence[Scorer]:
        """The scorers whose scores may raise alerts."""
        return (*self.scorers, *(self.heavy.scorers if self.heavy else ()))

    def can_score(self, segment: Segment) -> bool:
        """Whether a scorer of the first tier applies to a segment."""
        return bool(_applicable_scorers(self.scorers, segment))

    async def score(self, segment: Segment, media: bytes, **others: Unpack[OtherMedia]) -> SegmentScores:
        """Score one segment, compare it with its reference if there is one, and measure sound that is not in it.

        A scorer that fails is among the failures, and so are references left out. Raises DecodeError, and ScoreError
        when no scorer of the first and of the heavy tier has given a score.
        """
        decode = partial(self._decode, segment, media, **others)
        scored = await (
            self._score_with_promotion(segment, media, decode)
            if self.heavy
            else self._score_first_tier(segment, media, decode)
        )
        if not scored.scores:
            raise _unscored_error([failure for failure in scored.failures if failure.tier != "shadow"])
        return scored

    async def _score_with_promotion(self, segment: Segment, media: bytes, decode: _DecodeViews) -> SegmentScores:
        assert self.heavy is not None
        score_reasons: tuple[str, ...] = ()
        with self.heavy.admit(segment, self.heavy.planned_reasons(segment)) as admission:
            scored = await self._score_first_tier(segment, media, decode, admission.scorers)
            left_out, main_failure = admission.left_out, scored.main_failure
            if main_failure is None:
                score_reasons = self.heavy.score_reasons(segment, scored.scores[0])
            if admission.scorers:
                scored, left_out = await self._add_heavy_scores(segment, scored, admission.scorers, scored.decoded)
        reasons = (*admission.reasons, *score_reasons)
        if score_reasons and not admission.reasons:
            with self.heavy.admit(segment, score_reasons) as late_admission:
                left_out = late_admission.left_out
                if late_admission.scorers:
                    scored, left_out = await self._decode_and_add_heavy_scores(
                        segment, media, scored, late_admission.scorers
                    )
        undecided_without = main_failure.scorer if main_failure and self.heavy.decides_by_score else ""
        promotion = self.heavy.record_promotion(reasons, left_out, undecided_without=undecided_without)
        return replace(scored, promotion=promotion)

    async def _score_first_tier(
        self, segment: Segment, media: bytes, decode: _DecodeViews, heavy_scorers: Sequence[Scorer] = ()
    ) -> SegmentScores:
        """Decode the views of all scorers at once; score by the first tier and by the shadows."""
        scorers, shadows = _applicable_scorers(self.scorers, segment), _applicable_scorers(self.shadows, segment)
        with measured_stage("decode", self.record_stage):
            decoded, views_error = await _decode_most_views(
                decode, (scorers[:1], scorers[1:], (*shadows, *heavy_scorers))
            )
        tiers: Sequence[tuple[ScorerTier, Sequence[Scorer]]] = (
            ("main", scorers[:1]),
            ("first", scorers[1:]),
            ("shadow", shadows),
        )
        with measured_stage("score", self.record_stage):
            decoded = await with_learned_values(decoded, self.learned_measures)
            scored = SegmentScores(decoded=decoded, scores=(), shadow_scores=(), scorers=(), views_error=views_error)
            scored = scored.added(
                await run_concurrently(
                    self._result(scorer, tier, segment, scored) for tier, members in tiers for scorer in members
                )
            )
        return await self._with_additional_frames(segment, media, scored)

    async def _with_additional_frames(self, segment: Segment, media: bytes, scored: SegmentScores) -> SegmentScores:
        """The scores of the first tier and of shadows, with more frames for those whose frames disagree."""
        scorers = self.additional_frames.required_by(scored) if self.additional_frames else ()
        if self.additional_frames is None or not scorers:
            return scored
        try:
            with measured_stage("decode_again", self.record_stage), unexpected_as(DecodeError, segment):
                decoded = await self.additional_frames.decode(media, _required_views_of(scorers))
            with measured_stage("score_again", self.record_stage), unexpected_as(ScoreError, segment):
                scores = {score.scorer: score for score in (*scored.scores, *scored.shadow_scores)}
                added = await run_concurrently(
                    scorer.add_frames(score, decoded, weight=self.additional_frames.weight_in(score))
                    for scorer, score in ((scorer, scores[scorer.id]) for scorer in scorers)
                )
        except SegmentError as error:
            # what there is stands: the event tells that no frames were added
            _log.warning(**log_event("scorer.frames_not_added", segment=segment.key, why=str(error)))
            return scored
        scores |= {score.scorer: score for score in added}
        return replace(
            scored,
            scores=[scores[score.scorer] for score in scored.scores],
            shadow_scores=[scores[score.scorer] for score in scored.shadow_scores],
        )

    async def _result(self, scorer: Scorer, tier: ScorerTier, segment: Segment, scored: SegmentScores) -> _Result:
        """The outcome of one scorer on the views of `scored`, whatever happens to the others."""
        try:
            if scored.views_error is not None and not set(scorer.views) <= set(scored.decoded.views):
                raise scored.views_error
            with unexpected_as(ScoreError, segment):
                score: Score | ScorerFailure = await scorer.score(scored.decoded)
        except SegmentError as error:
            if error.reason != "internal":  # which has been logged with its trace
                _log.warning(**log_event("scorer.failed", scorer=scorer.id, segment=segment.key, why=str(error)))
            self.count_failure(scorer.id, error.reason)
            score = ScorerFailure(scorer=scorer.id, tier=tier, reason=error.reason, detail=error.detail)
        return _Result(scorer=scorer, tier=tier, score=score)

    async def _decode(
        self, segment: Segment, media: bytes, views: tuple[View, ...], **others: Unpack[OtherMedia]
    ) -> DecodedSegment:
        with unexpected_as(DecodeError, segment):
            decoded = await self.decode(media, views, **others)
        return replace(decoded, prompt=segment.prompt) if segment.prompt else decoded

    async def _add_heavy_scores(
        self, segment: Segment, scored: SegmentScores, heavy_scorers: Sequence[Scorer], decoded: DecodedSegment
    ) -> tuple[SegmentScores, str]:
        """Add the results of heavy scorers; when there is no score, the second value says why they are left out."""
        views = replace(scored, decoded=decoded)
        with measured_stage("score_heavy", self.record_stage):
            results = await run_concurrently(self._result(scorer, "heavy", segment, views) for scorer in heavy_scorers)
        return scored.added(results), _left_out([result.score for result in results])

    async def _decode_and_add_heavy_scores(
        self, segment: Segment, media: bytes, scored: SegmentScores, heavy_scorers: Sequence[Scorer]
    ) -> tuple[SegmentScores, str]:
        """Decode a second time: a segment promoted by its score was decoded without the views of heavy scorers."""
        decoded, views = scored.decoded, _required_views_of(heavy_scorers)
        views_error: DecodeError | None = None
        if not set(views) <= set(decoded.views):
            try:
                with measured_stage("decode_again", self.record_stage):
                    decoded = await self._decode(segment, media, views)
            except DecodeError as error:
                views_error = error
        added, left_out = await self._add_heavy_scores(
            segment, replace(scored, views_error=views_error), heavy_scorers, decoded
        )
        return replace(added, views_error=scored.views_error), left_out


async def _decode_most_views(
    decode: _DecodeViews, groups: Sequence[Sequence[Scorer]]
) -> tuple[DecodedSegment, DecodeError | None]:
    """Decode the views of all scorers; if that is too much, without the last group, then without the one before.

    The second value is the error of the last decode that was too much. Raises it when the views of the first
    group alone are too much.
    """
    error: DecodeError | None = None
    failed_views: tuple[View, ...] | None = None
    for count in range(len(groups), 0, -1):
        views = _required_views_of([scorer for group in groups[:count] for scorer in group])
        if views == failed_views:
            continue
        try:
            return await decode(views), error
        except DecodeError as failed:
            if failed.reason not in _DECODE_OVERLOAD_REASONS:
                raise
            error, failed_views = failed, views
    assert error is not None
    raise error


def _applicable_scorers(scorers: Sequence[Scorer], segment: Segment) -> Sequence[Scorer]:
    """The scorers that can score a segment: all when it has a prompt, else those that need none."""
    return [scorer for scorer in scorers if segment.prompt or not scorer.needs_prompt]


def _required_views_of(scorers: Sequence[Scorer]) -> tuple[View, ...]:
    """The views of each frame that these scorers take, without repetitions."""
    return tuple(dict.fromkeys(view for scorer in scorers for view in scorer.views))


def _left_out(scores: Sequence[Score | ScorerFailure]) -> str:
    """Why no heavy scorer has given a score, `timeout` or `failed`; empty when one has."""
    reasons = {score.reason if isinstance(score, ScorerFailure) else "" for score in scores}
    return "" if "" in reasons else "timeout" if reasons == {"timeout"} else "failed"


def _unscored_error(failures: Sequence[ScorerFailure]) -> ScoreError:
    """The error of a segment that no scorer scored; its reason is that of the first scorer."""
    if len(failures) == 1:
        return ScoreError(failures[0].reason, failures[0].detail)
    texts = (f"{failure.scorer}: {failure.reason}: {failure.detail}" for failure in failures)
    return ScoreError(failures[0].reason, "; ".join(texts))


@contextmanager
def measured_stage(stage: str, record_stage: RecordStage) -> Iterator[None]:
    """Record how long the context took, whether or not it raised."""
    started_at = time.perf_counter()
    try:
        with span(stage):
            yield
    finally:
        record_stage(stage, time.perf_counter() - started_at)
