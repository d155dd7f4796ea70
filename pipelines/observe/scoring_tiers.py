"""The scoring cascade: the first tier scores every segment, heavy scorers score promoted segments within a budget."""

import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, Protocol

from pipelines.observe.learned_references import LearnedMeasure, with_learned_values
from pipelines.observe.unexpected_errors import unexpected_as
from vqmon.core.cascade import (
    MEDIAN_WINDOW_SEGMENTS,
    DeviceTimeBudget,
    PromotionPolicy,
    reasons_before_decoding,
    reasons_from_score,
)
from vqmon.core.types import DecodedSegment, Promotion, Score, ScorerIdentity, Segment, View
from vqmon.errors import DecodeError, ScoreError, SegmentError
from vqmon.flow import run_concurrently
from vqmon.telemetry.logs import log_event
from vqmon.telemetry.otlp import span

_MAX_RENDITIONS = 10_000
_DECODE_OVERLOAD_REASONS = ("timeout", "too_long", "crashed")
"""Reasons for which a decode of many views may fail and yet succeed without the views of optional scorers."""

Decode = Callable[[bytes, tuple[View, ...]], Coroutine[None, None, DecodedSegment]]
DecodeWithReference = Callable[[bytes, tuple[View, ...], bytes], Coroutine[None, None, DecodedSegment]]
"""Called with the bytes of a segment, views, and the bytes of its reference."""
RecordStage = Callable[[str, float], None]
"""Called with the name of a stage and the seconds that it took."""
PromotionMetric = Literal["vqmon.scorer.promoted", "vqmon.scorer.left_out"]
CountPromotion = Callable[[PromotionMetric, str], None]
"""Called with the metric and the reason."""

_decode_log = logging.getLogger("vqmon.observe")
_score_log = logging.getLogger("vqmon.heavy")


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

    def score_reasons(self, segment: Segment, scores: Sequence[Score]) -> tuple[str, ...]:
        """The reasons for promotion that follow from the first score of the first tier, which is recorded."""
        first_score = scores[0]
        reasons = reasons_from_score(first_score.value, self._recent_scores.record(segment, first_score), self._policy)
        return reasons if _applicable_scorers(self.scorers, segment) else ()

    def record_promotion(self, reasons: tuple[str, ...], left_out: str) -> Promotion:
        """Count the promotion in the metrics; returns it as the event states it."""
        if left_out:
            self._count("vqmon.scorer.left_out", left_out)
        elif reasons:
            self._count("vqmon.scorer.promoted", reasons[0])
        return Promotion(reasons=reasons, left_out=left_out)


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentScores:
    """What was decoded of a segment and how the scorers scored it."""

    decoded: DecodedSegment
    # of the first tier, followed by the heavy tier
    scores: Sequence[Score]
    shadow_scores: Sequence[Score]
    # all that gave a score, shadows included
    scorers: Sequence[Scorer]
    promotion: Promotion | None = None
    # why the views of optional scorers (shadows and heavy) could not be decoded; empty when they were
    optional_views_error: str = ""


@dataclass(frozen=True, slots=True)
class _Sides:
    """The bytes of a segment and of its reference; b"" = there is none."""

    segment: bytes
    reference: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringCascade:
    """Decodes a segment and scores it: by the first tier always, by shadows on trial, by heavy scorers if promoted."""

    decode: Decode
    scorers: Sequence[Scorer]
    # their scores are in the event and never raise alerts
    shadows: Sequence[Scorer] = ()
    heavy: HeavyTier | None = None
    # None = segments are not compared with references
    decode_with_reference: DecodeWithReference | None = None
    # computed from the pictures of `decode_with_reference`
    learned_measures: Sequence[LearnedMeasure] = ()
    record_stage: RecordStage = lambda stage, seconds: None

    @property
    def judged(self) -> Sequence[Scorer]:
        """The scorers whose scores may raise alerts."""
        return (*self.scorers, *(self.heavy.scorers if self.heavy else ()))

    def can_score(self, segment: Segment) -> bool:
        """Whether a scorer of the first tier applies to a segment."""
        return bool(_applicable_scorers(self.scorers, segment))

    async def score(self, segment: Segment, media: bytes, *, reference_media: bytes = b"") -> SegmentScores:
        """Score one segment, and compare it with its reference if there is one.

        Raises DecodeError or ScoreError; optional scorers and references that fail are left out instead.
        """
        sides = _Sides(media, reference_media)
        if self.heavy is None:
            return await self._score_first_tier(segment, sides, ())
        with self.heavy.admit(segment, self.heavy.planned_reasons(segment)) as admission:
            scored = await self._score_first_tier(segment, sides, admission.scorers)
            left_out = admission.left_out
            score_reasons = self.heavy.score_reasons(segment, scored.scores)
            if admission.scorers:
                scored, left_out = await self._add_heavy_scores(scored, admission.scorers, scored.decoded)
        reasons = (*admission.reasons, *score_reasons)
        if score_reasons and not admission.reasons:
            with self.heavy.admit(segment, score_reasons) as late_admission:
                left_out = late_admission.left_out
                if late_admission.scorers:
                    scored, left_out = await self._decode_and_add_heavy_scores(
                        segment, media, scored, late_admission.scorers
                    )
        return replace(scored, promotion=self.heavy.record_promotion(reasons, left_out))

    async def _score_first_tier(
        self, segment: Segment, sides: _Sides, heavy_scorers: Sequence[Scorer]
    ) -> SegmentScores:
        """Decode the views of all scorers at once; score by the first tier and by the shadows."""
        scorers, shadows = _applicable_scorers(self.scorers, segment), _applicable_scorers(self.shadows, segment)
        with measured_stage("decode", self.record_stage):
            decoded, optional_views_error = await self._decode_with_optional_views(
                segment, sides, scorers, (*shadows, *heavy_scorers)
            )
        shadows = () if optional_views_error else shadows
        with measured_stage("score", self.record_stage):
            decoded = await with_learned_values(decoded, self.learned_measures)
            scores = await run_concurrently(scorer.score(decoded) for scorer in scorers)
            shadow_results = await run_concurrently(_score_all_or_none([shadow], decoded) for shadow in shadows)
        successful_shadows = [
            shadow for shadow, (shadow_scores, _) in zip(shadows, shadow_results, strict=True) if shadow_scores
        ]
        return SegmentScores(
            decoded=decoded,
            scores=scores,
            shadow_scores=[score for shadow_scores, _ in shadow_results for score in shadow_scores],
            scorers=(*scorers, *successful_shadows),
            optional_views_error=optional_views_error,
        )

    async def _decode_with_optional_views(
        self, segment: Segment, sides: _Sides, scorers: Sequence[Scorer], optional_scorers: Sequence[Scorer]
    ) -> tuple[DecodedSegment, str]:
        """Decode the views of all scorers; if that is too much, only the required ones, and return the reason."""
        required_views, all_views = _required_views_of(scorers), _required_views_of((*scorers, *optional_scorers))
        try:
            return await self._decode(segment, sides, all_views), ""
        except DecodeError as error:
            if error.reason not in _DECODE_OVERLOAD_REASONS or required_views == all_views:
                raise
            _log_left_out(_decode_log, optional_scorers, error)
            return await self._decode(segment, sides, required_views), error.reason

    async def _decode(self, segment: Segment, sides: _Sides, views: tuple[View, ...]) -> DecodedSegment:
        with unexpected_as(DecodeError, segment):
            if sides.reference and self.decode_with_reference is not None:
                decoded = await self.decode_with_reference(sides.segment, views, sides.reference)
            else:
                decoded = await self.decode(sides.segment, views)
        return replace(decoded, prompt=segment.prompt) if segment.prompt else decoded

    async def _add_heavy_scores(
        self, scored: SegmentScores, heavy_scorers: Sequence[Scorer], decoded: DecodedSegment
    ) -> tuple[SegmentScores, str]:
        """Add the heavy scores; when there are none, the second value says why they are left out."""
        if decoded is scored.decoded and scored.optional_views_error:
            return scored, "timeout" if scored.optional_views_error == "timeout" else "failed"
        with measured_stage("score_heavy", self.record_stage):
            heavy_scores, left_out = await _score_all_or_none(heavy_scorers, decoded)
        if left_out:
            return scored, left_out
        return replace(scored, scores=[*scored.scores, *heavy_scores], scorers=(*scored.scorers, *heavy_scorers)), ""

    async def _decode_and_add_heavy_scores(
        self, segment: Segment, media: bytes, scored: SegmentScores, heavy_scorers: Sequence[Scorer]
    ) -> tuple[SegmentScores, str]:
        """Decode a second time: a segment promoted by its score was decoded without the views of heavy scorers."""
        decoded, views = scored.decoded, _required_views_of(heavy_scorers)
        if not set(views) <= set(decoded.views):
            try:
                with measured_stage("decode_again", self.record_stage):
                    decoded = await self._decode(segment, _Sides(media), views)
            except SegmentError:
                return scored, "failed"
        return await self._add_heavy_scores(scored, heavy_scorers, decoded)


def _applicable_scorers(scorers: Sequence[Scorer], segment: Segment) -> Sequence[Scorer]:
    """The scorers that can score a segment: all when it has a prompt, else those that need none."""
    return [scorer for scorer in scorers if segment.prompt or not scorer.needs_prompt]


def _required_views_of(scorers: Sequence[Scorer]) -> tuple[View, ...]:
    """The views of each frame that these scorers take, without repetitions."""
    return tuple(dict.fromkeys(view for scorer in scorers for view in scorer.views))


async def _score_all_or_none(scorers: Sequence[Scorer], decoded: DecodedSegment) -> tuple[list[Score], str]:
    """The scores of all scorers; when one fails, no score and why they are left out: `timeout` or `failed`."""
    try:
        return await run_concurrently(scorer.score(decoded) for scorer in scorers), ""
    except ScoreError as error:
        _log_left_out(_score_log, scorers, error)
        return [], "timeout" if error.reason == "timeout" else "failed"


@contextmanager
def measured_stage(stage: str, record_stage: RecordStage) -> Iterator[None]:
    """Record how long the context took, whether or not it raised."""
    started_at = time.perf_counter()
    try:
        with span(stage):
            yield
    finally:
        record_stage(stage, time.perf_counter() - started_at)


def _log_left_out(log: logging.Logger, scorers: Sequence[Scorer], error: SegmentError) -> None:
    log.warning(**log_event("scorer.left_out", scorers=[scorer.id for scorer in scorers], why=str(error)))
