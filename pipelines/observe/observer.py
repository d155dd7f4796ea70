"""The journey of one segment: fetch, decode, score, pool and calibrate, until it is an outcome."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from pipelines.observe.scoring_tiers import RecordStage, Scorer, ScoringCascade, SegmentScores, measured_stage
from vqmon.core.cascade import score_disagreement
from vqmon.core.scores import summarize_signal
from vqmon.core.types import (
    Outcome,
    Provenance,
    QualityEvent,
    Sampling,
    Segment,
    SegmentFailure,
    event_id,
    failure_from_error,
)
from vqmon.errors import ScoreError, SegmentError

Fetch = Callable[[Segment], Coroutine[None, None, bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """An outcome and the thumbnails that belong to it: (seconds from the segment's start, JPEG) per sampled frame."""

    outcome: Outcome
    thumbnails: tuple[tuple[float, bytes], ...] = ()


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

    @property
    def judged(self) -> Sequence[Scorer]:
        """The scorers whose scores may raise alerts."""
        return self.cascade.judged

    @property
    def shadows(self) -> Sequence[Scorer]:
        """The scorers on trial: their scores are in the event and never raise alerts."""
        return self.cascade.shadows

    async def observe(self, item: Segment | SegmentFailure) -> Observation:
        """Observe one segment. A SegmentError becomes a SegmentFailure; every other error is raised."""
        if isinstance(item, SegmentFailure):
            return Observation(outcome=item)
        try:
            scored = await self._fetch_and_score(item)
        except SegmentError as error:
            return Observation(outcome=failure_from_error(item, error, observed_at=self.now()))
        decoded = scored.decoded
        return Observation(
            outcome=self._event(item, scored),
            thumbnails=tuple(zip(decoded.times_seconds, decoded.thumbnails, strict=False)),
        )

    async def _fetch_and_score(self, segment: Segment) -> SegmentScores:
        if not self.cascade.can_score(segment):
            raise ScoreError("no_prompt")
        with measured_stage("fetch", self.record_stage):
            media = await self.fetch(segment)
        return await self.cascade.score(segment, media)

    def _event(self, segment: Segment, scored: SegmentScores) -> QualityEvent:
        decoded = scored.decoded
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
                scorers=tuple(scorer.identity for scorer in scored.scorers),
                sampling=self.sampling,
                versions=self.versions,
            ),
            shadow_scores=tuple(scored.shadow_scores),
            disagreement=score_disagreement(scored.scores),
            promotion=scored.promotion,
        )
