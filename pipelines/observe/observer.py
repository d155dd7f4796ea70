"""One Segment becomes one Outcome: fetch, decode, score, pool."""

import logging
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from pipelines.observe.scoring_tiers import HeavyTier, Look, Scorer, able, tried
from vqmon.core.cascade import score_disagreement
from vqmon.core.scores import summarize_signal
from vqmon.core.types import (
    DecodedSegment,
    Outcome,
    Promotion,
    Provenance,
    QualityEvent,
    Sampling,
    Score,
    Segment,
    SegmentFailure,
    View,
    event_id,
    failure_from_error,
)
from vqmon.errors import DecodeError, ScoreError, SegmentError
from vqmon.flow import together
from vqmon.telemetry.logs import event

__all__ = ["Decode", "Fetch", "Observation", "Observer", "Record", "Scorer"]

Fetch = Callable[[Segment], Coroutine[None, None, bytes]]
Decode = Callable[[bytes, tuple[View, ...]], Coroutine[None, None, DecodedSegment]]
Record = Callable[[str, float], None]

TOO_MUCH = ("timeout", "too_long", "crashed")
"""Why a decode may fail that asks for many pictures, and succeed without those of scorers that may be left out."""

log = logging.getLogger("vqmon.observe")


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """An outcome and the small pictures that go with it: (time, JPEG) per sampled frame."""

    outcome: Outcome
    thumbnails: tuple[tuple[float, bytes], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was decoded of a segment, and what each kind of scorer says of it."""

    decoded: DecodedSegment
    # by the scorers that always look, then by the heavy ones
    scores: Sequence[Score]
    shadow_scores: Sequence[Score]
    # of all that said something
    scorers: Sequence[Scorer]
    promotion: Promotion | None
    # why there are no pictures for scorers that may be left out, empty when there are
    spared: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observer:
    """Everything that looking at a segment needs, wired once."""

    fetch: Fetch
    decode: Decode
    scorers: Sequence[Scorer]
    sampling: Sampling
    versions: Mapping[str, str]
    now: Callable[[], datetime]
    # on trial beside the others: their verdicts are in the event and count for nothing
    shadows: Sequence[Scorer] = ()
    heavy: HeavyTier | None = None
    # told the stage's name and its seconds
    record: Record = lambda stage, seconds: None

    @property
    def judged(self) -> Sequence[Scorer]:
        """The scorers whose verdicts may alert."""
        return (*self.scorers, *(self.heavy.scorers if self.heavy else ()))

    async def observe(self, item: Segment | SegmentFailure) -> Observation:
        """Look at one segment; what cannot be observed becomes a SegmentFailure, any other error is raised."""
        if isinstance(item, SegmentFailure):
            return Observation(outcome=item)
        try:
            seen = await self._look(item)
        except SegmentError as error:
            return Observation(outcome=failure_from_error(item, error, observed_at=self.now()))
        return Observation(
            outcome=self._event(item, seen),
            thumbnails=tuple(zip(seen.decoded.times_seconds, seen.decoded.thumbnails, strict=False)),
        )

    async def _look(self, segment: Segment) -> Seen:
        if not able(self.scorers, segment):
            raise ScoreError("no_prompt")
        with self._stage("fetch"):
            media = await self.fetch(segment)
        if self.heavy is None:
            seen = await self._cheaply(segment, media, ())
            return replace(seen, promotion=None)
        with self.heavy.look(segment, self.heavy.planned(segment)) as look:
            seen = await self._cheaply(segment, media, look.scorers)
            left_out = look.left_out
            found = self.heavy.suspects(segment, seen.scores)
            if look.scorers:
                seen, left_out = await self._heavily(seen, look, seen.decoded)
        reasons = (*look.reasons, *found)
        if found and not look.reasons:
            with self.heavy.look(segment, found) as late:
                left_out = late.left_out
                if late.scorers:
                    seen, left_out = await self._again(segment, media, seen, late)
        return replace(seen, promotion=self.heavy.say(reasons, left_out))

    async def _cheaply(self, segment: Segment, media: bytes, heavy: Sequence[Scorer]) -> Seen:
        """Decode once for all that are to look, and ask those that always do."""
        scorers, shadows = able(self.scorers, segment), able(self.shadows, segment)
        with self._stage("decode"):
            decoded, spared = await self._for_all(segment, media, scorers, (*shadows, *heavy))
        shadows = () if spared else shadows
        with self._stage("score"):
            scores = await together(scorer.score(decoded) for scorer in scorers)
            on_trial = await together(tried([shadow], decoded) for shadow in shadows)
        # A scorer on trial that fails is left out; the verdict stands.
        well = [shadow for shadow, (found, _) in zip(shadows, on_trial, strict=True) if found]
        return Seen(
            decoded=decoded,
            scores=scores,
            shadow_scores=[score for found, _ in on_trial for score in found],
            scorers=(*scorers, *well),
            promotion=None,
            spared=spared,
        )

    async def _for_all(
        self, segment: Segment, media: bytes, scorers: Sequence[Scorer], others: Sequence[Scorer]
    ) -> tuple[DecodedSegment, str]:
        """The pictures for all, or, where those of `others` are too much, without theirs and why."""
        needed, wanted = views_of(scorers), views_of((*scorers, *others))
        try:
            return await self._decoded(segment, media, wanted), ""
        except DecodeError as error:
            if error.reason not in TOO_MUCH or needed == wanted:
                raise
            log.warning(**event("scorer.left_out", scorers=[scorer.id for scorer in others], why=str(error)))
            return await self._decoded(segment, media, needed), error.reason

    async def _decoded(self, segment: Segment, media: bytes, views: tuple[View, ...]) -> DecodedSegment:
        decoded = await self.decode(media, views)
        return replace(decoded, prompt=segment.prompt) if segment.prompt else decoded

    async def _heavily(self, seen: Seen, look: Look, decoded: DecodedSegment) -> tuple[Seen, str]:
        """With what the heavy scorers say, and why they are left out if they are."""
        if decoded is seen.decoded and seen.spared:
            return seen, "timeout" if seen.spared == "timeout" else "failed"
        with self._stage("score_heavy"):
            scores, left_out = await tried(look.scorers, decoded)
        if left_out:
            return seen, left_out
        return replace(seen, scores=[*seen.scores, *scores], scorers=(*seen.scorers, *look.scorers)), ""

    async def _again(self, segment: Segment, media: bytes, seen: Seen, look: Look) -> tuple[Seen, str]:
        """Decode once more for pictures that nobody had asked for: a suspicion comes after the cheap verdict."""
        decoded, views = seen.decoded, views_of(look.scorers)
        if not set(views) <= set(decoded.views):
            try:
                with self._stage("decode_again"):
                    decoded = await self._decoded(segment, media, views)
            except SegmentError:
                return seen, "failed"
        return await self._heavily(seen, look, decoded)

    def _event(self, segment: Segment, seen: Seen) -> QualityEvent:
        decoded = seen.decoded
        if not segment.duration_seconds:
            segment = replace(segment, duration_seconds=decoded.media.duration_seconds)
        return QualityEvent(
            id=event_id(segment, tuple(scorer.id for scorer in self.judged)),
            segment=segment,
            observed_at=self.now(),
            scores=tuple(seen.scores),
            signals={name: summarize_signal(values) for name, values in decoded.signals.items()},
            times_seconds=decoded.times_seconds,
            edges=decoded.edges,
            media=decoded.media,
            provenance=Provenance(
                scorers=tuple(scorer.identity for scorer in seen.scorers),
                sampling=self.sampling,
                versions=self.versions,
            ),
            shadow_scores=tuple(seen.shadow_scores),
            disagreement=score_disagreement(seen.scores),
            promotion=seen.promotion,
        )

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.record(name, time.perf_counter() - began)


def views_of(scorers: Sequence[Scorer]) -> tuple[View, ...]:
    """The pictures that these scorers need of each frame, each once."""
    return tuple(dict.fromkeys(view for scorer in scorers for view in scorer.views))
