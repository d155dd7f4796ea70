"""One Segment becomes one Outcome: fetch, decode, score, pool."""

import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from vqmon.core.pooling import summarize
from vqmon.core.types import (
    Decoded,
    Outcome,
    Provenance,
    QualityEvent,
    Sampling,
    Score,
    ScorerIdentity,
    Segment,
    SegmentFailure,
    View,
    event_id,
    failure_of,
)
from vqmon.errors import SegmentError
from vqmon.flow import together


class Scorer(Protocol):
    """Maps the frames of one segment to a verdict."""

    @property
    def id(self) -> str: ...
    @property
    def views(self) -> tuple[View, ...]:
        """The pictures that it needs of each frame."""

    @property
    def identity(self) -> ScorerIdentity: ...
    def score(self, decoded: Decoded) -> Coroutine[None, None, Score]: ...


Fetch = Callable[[Segment], Coroutine[None, None, bytes]]
Decode = Callable[[bytes, tuple[View, ...]], Coroutine[None, None, Decoded]]
Record = Callable[[str, float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """An outcome and the small pictures that go with it: (time, JPEG) per sampled frame."""

    outcome: Outcome
    thumbnails: tuple[tuple[float, bytes], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Observer:
    """Everything that looking at a segment needs, wired once."""

    fetch: Fetch
    decode: Decode
    scorers: Sequence[Scorer]
    sampling: Sampling
    versions: Mapping[str, str]
    now: Callable[[], datetime]
    # told the stage's name and its seconds
    record: Record = lambda stage, seconds: None

    async def observe(self, item: Segment | SegmentFailure) -> Observation:
        """Look at one segment; what cannot be observed becomes a SegmentFailure, any other error is raised."""
        if isinstance(item, SegmentFailure):
            return Observation(outcome=item)
        try:
            decoded, scores = await self._look(item)
        except SegmentError as error:
            return Observation(outcome=failure_of(item, error, observed_at=self.now()))
        return Observation(
            outcome=self._event(item, decoded, scores),
            thumbnails=tuple(zip(decoded.times_seconds, decoded.thumbnails, strict=False)),
        )

    async def _look(self, segment: Segment) -> tuple[Decoded, list[Score]]:
        with self._stage("fetch"):
            media = await self.fetch(segment)
        views = tuple(dict.fromkeys(view for scorer in self.scorers for view in scorer.views))
        with self._stage("decode"):
            decoded = await self.decode(media, views)
        with self._stage("score"):
            scores = await together(scorer.score(decoded) for scorer in self.scorers)
        return decoded, scores

    def _event(self, segment: Segment, decoded: Decoded, scores: Sequence[Score]) -> QualityEvent:
        if not segment.duration_seconds:
            segment = replace(segment, duration_seconds=decoded.media.duration_seconds)
        return QualityEvent(
            id=event_id(segment, tuple(scorer.id for scorer in self.scorers)),
            segment=segment,
            observed_at=self.now(),
            scores=tuple(scores),
            signals={name: summarize(values) for name, values in decoded.signals.items()},
            times_seconds=decoded.times_seconds,
            edges=decoded.edges,
            media=decoded.media,
            provenance=Provenance(
                scorers=tuple(scorer.identity for scorer in self.scorers),
                sampling=self.sampling,
                versions=self.versions,
            ),
        )

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.record(name, time.perf_counter() - began)
