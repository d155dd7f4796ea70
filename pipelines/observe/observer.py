"""The journey of one segment: fetch, decode, score, pool and calibrate, until it is an outcome."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from opentelemetry.trace import SpanContext

from pipelines.observe.addresses import AddressFailover, Fetch, FetchedMedia, segment_at
from pipelines.observe.heat_maps import RecentDetail, RecentScores, scorer_heat_map
from pipelines.observe.playlists.partial_verdicts import PartialObserver
from pipelines.observe.playlists.sound import SeparateSound
from pipelines.observe.scoring_tiers import (
    OtherMedia,
    RecordStage,
    Scorer,
    ScoringCascade,
    SegmentScores,
    measured_stage,
)
from pipelines.observe.unexpected_errors import unexpected_as
from vqmon.core.cascade import score_disagreement
from vqmon.core.scores import summarize_signal
from vqmon.core.types import (
    DecodedSegment,
    HeatMap,
    Outcome,
    Provenance,
    QualityEvent,
    Reference,
    ReferenceComparison,
    Sampling,
    Segment,
    SegmentFailure,
    SubtitleFacts,
    event_id,
    failure_from_error,
)
from vqmon.errors import DecodeError, FetchError, ScoreError, SegmentError
from vqmon.media.decode.pool import tries_of_one_segment
from vqmon.telemetry.logs import log_event
from vqmon.telemetry.otlp import NO_SPAN, span

_log = logging.getLogger("vqmon.observe")

FindReference = Callable[[Segment], Coroutine[None, None, Reference | ReferenceComparison | None]]
"""Finds the reference of a segment that states none itself, or says why there is none; None = it has none."""


FindSound = Callable[[Segment], Coroutine[None, None, SeparateSound | None]]
"""Finds the sound of a segment that is not in it; None = it is, or there is none. Raises SegmentError."""

FindSubtitles = Callable[[Segment], Coroutine[None, None, tuple[SubtitleFacts, ...]]]
"""Tells what the subtitles of the time of a segment hold; empty where there are none. Raises SegmentError."""

StoreMedia = Callable[[QualityEvent, bytes], Coroutine[None, None, None]]
"""Stores the media of an event for later, if they are wanted."""

_MAX_SOUND_BYTES = 64_000_000
_MAX_SOUND_SECONDS = 60.0


async def _nothing(segment: Segment) -> None:
    return None


async def _store_nothing(event: QualityEvent, media: bytes) -> None:
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
    find_reference: FindReference = _nothing
    find_sound: FindSound = _nothing
    # None = subtitles are not watched
    find_subtitles: FindSubtitles | None = None
    store_media: StoreMedia = _store_nothing
    # observes segments that are being made; None = nobody asks for that
    partial: PartialObserver | None = None
    # of how many of the worst frames of a segment each scorer tells which parts are worse; 0 = none, as it takes long
    located_frames: int = 0
    # the same of segments that score less than their rendition lately: these are what alerts are about
    located_drop_frames: int = 0
    _recent_scores: RecentScores = field(default_factory=RecentScores, init=False)
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
                sound = await self._fetch_sound(item)
                scored = await self._score_with_reference(item, fetched.media, sound)
                if missing is not None:
                    scored = replace(scored, decoded=replace(scored.decoded, reference=missing))
                heat_maps = await self._heat_maps(item, scored)
                event = self._event(item.without_secrets(), scored, heat_maps, served_url=fetched.served_url)
                event = replace(event, subtitles=await self._subtitles_of(item))
                await self.store_media(event, fetched.media)
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
        if segment.reference is not None or not self.cascade.takes_references:
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

    async def _fetch_sound(self, segment: Segment) -> "_FetchedSound":
        """The bytes of the sound that is not in the segment."""
        try:
            with unexpected_as(FetchError, segment):
                sound = await self.find_sound(segment)
            if sound is None:
                return _FetchedSound()
            media = b""
            with measured_stage("fetch_sound", self.record_stage):
                async with asyncio.timeout(_MAX_SOUND_SECONDS):
                    for part in sound.parts:
                        media += await self.fetch(part)
                        if len(media) > _MAX_SOUND_BYTES:
                            return _FetchedSound(is_unavailable=True)
        except (SegmentError, TimeoutError) as error:
            why = str(error) or f"its parts took more than {_MAX_SOUND_SECONDS:g} s"
            _log.warning(**log_event("sound.unavailable", segment=segment.key, why=why))
            return _FetchedSound(is_unavailable=True)
        return _FetchedSound(sound, media)

    async def _subtitles_of(self, segment: Segment) -> tuple[SubtitleFacts, ...]:
        if self.find_subtitles is None:
            return ()
        try:
            with measured_stage("fetch_subtitles", self.record_stage), unexpected_as(FetchError, segment):
                return await self.find_subtitles(segment)
        except SegmentError as error:
            _log.warning(**log_event("subtitles.unavailable", segment=segment.key, why=str(error)))
            return ()

    async def _score_with_reference(self, segment: Segment, media: bytes, sound: "_FetchedSound") -> SegmentScores:
        others = OtherMedia(sound=sound.media) if sound.media else OtherMedia()
        missing = None
        if segment.reference is not None and self.cascade.takes_references:
            try:
                with measured_stage("fetch_reference", self.record_stage):
                    others["reference"] = await self.fetch(segment_at(segment, segment.reference))
            except FetchError as error:
                missing = ReferenceComparison(unscored="fetch", detail=f"{error.reason}: {error.detail}")
        scored = await self._score(segment, media, others)
        decoded = sound.described_in(scored.decoded)
        return replace(scored, decoded=decoded if missing is None else replace(decoded, reference=missing))

    async def _score(self, segment: Segment, media: bytes, others: OtherMedia) -> SegmentScores:
        """Decode and score; a segment that breaks its decoder process is tried once more, then it is `poison`."""
        with tries_of_one_segment():
            try:
                return await self.cascade.score(segment, media, **others)
            except DecodeError as error:
                if error.reason != "crashed":
                    raise
            try:
                return await self.cascade.score(segment, media, **others)
            except DecodeError as error:
                if error.reason != "crashed":
                    raise
                raise DecodeError("poison", f"twice: {error.detail}") from error

    async def _heat_maps(self, segment: Segment, scored: SegmentScores) -> Sequence[HeatMap]:
        decoded = scored.decoded
        maps = [self._recent_detail.heat_map(segment, decoded.detail)] if decoded.detail else []
        maps += decoded.reference.heat_maps if decoded.reference else ()
        if located_frames := self._located_frames_of(segment, scored):
            by_id = {score.scorer: score for score in scored.scores}
            maps += [
                await scorer_heat_map(scorer, decoded, by_id[scorer.id], frames=located_frames)
                for scorer in scored.scorers
                if scorer.id in by_id
            ]
        return [heat_map for heat_map in maps if heat_map is not None]

    def _located_frames_of(self, segment: Segment, scored: SegmentScores) -> int:
        """Of how many of the worst frames scorers tell which parts are worse."""
        if not self.located_drop_frames or not scored.scores:
            return self.located_frames
        is_drop = self._recent_scores.is_drop(segment.rendition.key, scored.scores[0].value)
        return max(self.located_frames, self.located_drop_frames if is_drop else 0)

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
            references=(*(comparison.scores if comparison else ()), *decoded.measures),
            reference_pairing=comparison.pairing if comparison else None,
            unscored_reference=comparison.unscored if comparison else "",
            unscored_reference_detail=comparison.detail if comparison else "",
            heat_maps=tuple(heat_maps),
            audio=decoded.audio,
            unmeasured_audio=decoded.unmeasured_audio,
            served_url=served_url,
            scorer_failures=tuple(scored.failures),
        )


@dataclass(frozen=True, slots=True)
class _FetchedSound:
    """The sound of a segment that is not in it, if there is any."""

    sound: SeparateSound | None = None
    media: bytes = b""
    is_unavailable: bool = False

    def described_in(self, decoded: DecodedSegment) -> DecodedSegment:
        """What was decoded, with what only the playlists tell about the sound."""
        if self.is_unavailable and decoded.unmeasured_audio:
            return replace(decoded, unmeasured_audio="unavailable")
        if self.sound is None or decoded.audio is None:
            return decoded
        if not self.sound.is_plausible(decoded.audio, seconds=decoded.media.duration_seconds):
            return replace(decoded, audio=None, unmeasured_audio="unavailable")
        return replace(decoded, audio=self.sound.relative_to_playlists(decoded.audio))
