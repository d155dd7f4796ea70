"""The journey of one segment: fetch, decode, score, pool and calibrate, until it is an outcome."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from opentelemetry.trace import SpanContext

from pipelines.observe.addresses import AddressFailover, Fetch, FetchedMedia
from pipelines.observe.heat_maps import RecentDetail, scorer_heat_map
from pipelines.observe.scoring_tiers import RecordStage, Scorer, ScoringCascade, SegmentScores, measured_stage
from pipelines.observe.unexpected_errors import unexpected_as
from vqmon.core.cascade import score_disagreement
from vqmon.core.scores import summarize_signal
from vqmon.core.types import (
    HeatMap,
    Outcome,
    Provenance,
    QualityEvent,
    Reference,
    ReferenceComparison,
    Sampling,
    Segment,
    SegmentFailure,
    event_id,
    failure_from_error,
)
from vqmon.errors import DecodeError, FetchError, ScoreError, SegmentError
from vqmon.telemetry.otlp import NO_SPAN, span

FindReference = Callable[[Segment], Coroutine[None, None, Reference | ReferenceComparison | None]]
"""Finds the reference of a segment that states none itself, or says why there is none; None = it has none."""


async def _no_reference(segment: Segment) -> None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """An outcome and the thumbnails that belong to it: (seconds from the segment's start, JPEG) per sampled frame."""

    outcome: Outcome
    thumbnails: tuple[tuple[float, bytes], ...] = ()
    # of the span in which it was observed
    span_context: SpanContext = NO_SPAN


@dataclass(frozen=True, slots=True, kw_only=True)
class Observer:
    """Turns segments into outcomes; the cascade decodes as well as scores, as it decodes promoted segments twice."""

    fetch: Fetch
    cascade: ScoringCascade
    sampling: Sampling
    # library name -> version, for the provenance of each event
    versions: Mapping[str, str]
    now: Callable[[], datetime]
    record_stage: RecordStage = lambda stage, seconds: None
    find_reference: FindReference = _no_reference
    # of how many of the worst frames of a segment each scorer tells which parts are worse; 0 = none, as it takes long
    located_frames: int = 0
    _recent_detail: RecentDetail = field(default_factory=RecentDetail, init=False)
    _failover: AddressFailover = field(default_factory=AddressFailover, init=False)

    @property
    def judged(self) -> Sequence[Scorer]:
        """The scorers whose scores may raise alerts."""
        return self.cascade.judged

    @property
    def shadows(self) -> Sequence[Scorer]:
        """The scorers on trial: their scores are in the event and never raise alerts."""
        return self.cascade.shadows

    async def observe(self, item: Segment | SegmentFailure) -> Observation:
        """Observe one segment. Every error becomes a SegmentFailure, an unexpected one with the reason `internal`."""
        if isinstance(item, SegmentFailure):
            return Observation(outcome=replace(item, segment=item.segment.without_secrets()))
        rendition = item.rendition
        with span("observe", stream=rendition.stream_id, rendition=rendition.name, sequence=item.sequence) as context:
            return replace(await self._observe(item), span_context=context)

    async def _observe(self, item: Segment) -> Observation:
        try:
            with unexpected_as(ScoreError, item):
                item, missing = await self._with_reference(item)
                fetched = await self._fetch(item)
                scored = await self._score_with_reference(item, fetched.media)
                if missing is not None:
                    scored = replace(scored, decoded=replace(scored.decoded, reference=missing))
                heat_maps = await self._heat_maps(item, scored)
                event = self._event(item.without_secrets(), scored, heat_maps, served_url=fetched.served_url)
        except SegmentError as error:
            failure = failure_from_error(item.without_secrets(), error, observed_at=self.now())
            return Observation(outcome=failure)
        decoded = scored.decoded
        return Observation(
            outcome=event,
            thumbnails=tuple(zip(decoded.times_seconds, decoded.thumbnails, strict=False)),
        )

    async def _with_reference(self, segment: Segment) -> tuple[Segment, ReferenceComparison | None]:
        """The segment with its reference, or why it has none."""
        if segment.reference is not None or self.cascade.decode_with_reference is None:
            return segment, None
        found = await self.find_reference(segment)
        if isinstance(found, Reference):
            return replace(segment, reference=found), None
        return segment, found

    async def _fetch(self, segment: Segment) -> FetchedMedia:
        if not self.cascade.can_score(segment):
            raise ScoreError("no_prompt")
        with measured_stage("fetch", self.record_stage), unexpected_as(FetchError, segment):
            return await self._failover.fetch(segment, self.fetch, self.now)

    async def _score_with_reference(self, segment: Segment, media: bytes) -> SegmentScores:
        if segment.reference is None or self.cascade.decode_with_reference is None:
            return await self._score(segment, media)
        try:
            with measured_stage("fetch_reference", self.record_stage):
                reference_media = await self.fetch(_segment_of_reference(segment, segment.reference))
        except FetchError as error:
            scored = await self._score(segment, media)
            missing = ReferenceComparison(unscored="fetch", detail=f"{error.reason}: {error.detail}")
            return replace(scored, decoded=replace(scored.decoded, reference=missing))
        return await self._score(segment, media, reference_media)

    async def _score(self, segment: Segment, media: bytes, reference_media: bytes = b"") -> SegmentScores:
        """Decode and score; a segment that breaks its decoder process is tried once more, then it is `poison`."""
        try:
            return await self.cascade.score(segment, media, reference_media=reference_media)
        except DecodeError as error:
            if error.reason != "crashed":
                raise
        try:
            return await self.cascade.score(segment, media, reference_media=reference_media)
        except DecodeError as error:
            if error.reason != "crashed":
                raise
            raise DecodeError("poison", f"twice: {error.detail}") from error

    async def _heat_maps(self, segment: Segment, scored: SegmentScores) -> Sequence[HeatMap]:
        decoded = scored.decoded
        maps = [self._recent_detail.heat_map(segment, decoded.detail)] if decoded.detail else []
        maps += decoded.reference.heat_maps if decoded.reference else ()
        if self.located_frames:
            by_id = {score.scorer: score for score in scored.scores}
            maps += [
                await scorer_heat_map(scorer, decoded, by_id[scorer.id], frames=self.located_frames)
                for scorer in scored.scorers
                if scorer.id in by_id
            ]
        return [heat_map for heat_map in maps if heat_map is not None]

    def _event(
        self, segment: Segment, scored: SegmentScores, heat_maps: Sequence[HeatMap], *, served_url: str
    ) -> QualityEvent:
        decoded, comparison = scored.decoded, scored.decoded.reference
        measures = {score.measure for score in comparison.scores} if comparison else set()
        learned = [measure for measure in self.cascade.learned_measures if measure.name in measures]
        if not segment.duration_seconds:
            segment = replace(segment, duration_seconds=decoded.media.duration_seconds)
        return QualityEvent(
            id=event_id(segment, tuple(scorer.id for scorer in self.judged)),
            segment=segment,
            observed_at=self.now(),
            scores=tuple(scored.scores),
            signals={name: summarize_signal(values) for name, values in decoded.signals.items()},
            times_seconds=decoded.times_seconds,
            edges=decoded.edges,
            media=decoded.media,
            provenance=Provenance(
                scorers=(*(each.identity for each in scored.scorers), *(each.identity for each in learned)),
                sampling=self.sampling,
                versions=self.versions,
            ),
            shadow_scores=tuple(scored.shadow_scores),
            disagreement=score_disagreement(scored.scores),
            promotion=scored.promotion,
            references=comparison.scores if comparison else (),
            reference_pairing=comparison.pairing if comparison else None,
            unscored_reference=comparison.unscored if comparison else "",
            unscored_reference_detail=comparison.detail if comparison else "",
            heat_maps=tuple(heat_maps),
            audio=decoded.audio,
            unmeasured_audio=decoded.unmeasured_audio,
            served_url=served_url,
            scorer_failures=tuple(scored.failures),
        )


def _segment_of_reference(segment: Segment, reference: Reference) -> Segment:
    """The reference as a segment that can be fetched."""
    return replace(
        segment,
        url=reference.url,
        byte_range=reference.byte_range,
        init_url=reference.init_url,
        init_byte_range=reference.init_byte_range,
        encryption=reference.encryption,
        reference=None,
        mirrors=(),
    )
