"""Verdicts on what is there of a segment that is being made; the verdict on the whole segment supersedes them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pipelines.observe.addresses import Fetch
from pipelines.observe.scoring_tiers import Scorer
from pipelines.observe.unexpected_errors import unexpected_as
from vqmon.core.scores import summarize_signal
from vqmon.core.types import DecodedSegment, Rendition, Score, Segment, SignalSummary, View
from vqmon.errors import ScoreError, SegmentError
from vqmon.media.decode.bitstream.containers.boxes import iterate_iso_boxes
from vqmon.media.sources.follower import OpenSegment

DecodePictures = Callable[[bytes, tuple[View, ...], float], Coroutine[None, None, DecodedSegment]]
"""Decodes the views of media, sampled at a rate in frames per second."""

FetchedParts = dict[str, bytes]
"""The parts of a rendition's newest segment that were fetched, by key and initialization section."""

FetchGrowing = Callable[[Segment, Callable[[bytes, bytearray], None]], Coroutine[None, None, None]]
"""Fetches a segment that its server sends as it is made, and calls back with what has come of it."""

_UNKNOWN_PART_SECONDS = 0.5
_MIN_INTERVAL_SECONDS = 0.2
"""From one verdict on a growing segment to the next: chunks may be as short as a frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialVerdict:
    """What is said of a segment that is being made; it is in no history, and neither judged nor compared."""

    rendition: Rendition
    # of the segment
    sequence: int
    starts_at: datetime
    # what was looked at, in seconds after the start of the segment: from a key picture to the end of what is there
    from_seconds: float
    to_seconds: float
    observed_at: datetime
    # of the first scorer, over these pictures; None when there is none
    score: Score | None = None
    signals: Mapping[str, SignalSummary]
    # the reason and its detail when nothing could be said
    unscored: str = ""
    unscored_detail: str = ""

    @property
    def delay_seconds(self) -> float:
        """From the end of the newest picture, by the dates of the playlist, to the verdict."""
        return (self.observed_at - self.starts_at - timedelta(seconds=self.to_seconds)).total_seconds()


class GrowingMedia:
    """What has come of a segment that its server sends as it is made."""

    def __init__(self) -> None:
        self._init, self._body = b"", bytearray()
        self._changed = asyncio.Event()
        self._is_whole = False

    def receive(self, init: bytes, body: bytearray) -> None:
        """Take what has come by now."""
        self._init, self._body = init, body
        self._changed.set()

    def end(self) -> None:
        """Note that nothing more will come."""
        self._is_whole = True
        self._changed.set()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The media up to its last complete chunk, each time that there is one more, until the segment is whole.

        Who comes late gets the newest state only.
        """
        seen_bytes, clock = 0, asyncio.get_running_loop().time
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._is_whole:
                return
            end = _end_of_chunks(self._body)
            if end > seen_bytes:
                seen_bytes, began = end, clock()
                yield self._init + self._body[:end]
                await asyncio.sleep(_MIN_INTERVAL_SECONDS - (clock() - began))


def _end_of_chunks(media: bytearray) -> int:
    """Where the last complete chunk (moof and mdat) of fragmented MP4 ends; 0 without one."""
    end = 0
    # a box that ends behind the media is not complete
    for kind, _, box_end in iterate_iso_boxes(media, 0, len(media) + 1):
        if kind == b"mdat" and box_end <= len(media):
            end = box_end
    return end


class PartialObserver:
    """Observes segments that are being made, part by part; only the first scorer is asked.

    `fetch_growing` fetches a segment that its server sends as it is made.
    """

    def __init__(
        self,
        *,
        fetch: Fetch,
        fetch_growing: FetchGrowing,
        decode: DecodePictures,
        scorer: Scorer,
        now: Callable[[], datetime],
    ) -> None:
        self._fetch, self.fetch_growing = fetch, fetch_growing
        self._decode, self._scorer, self._now = decode, scorer, now

    async def observe(self, opened: OpenSegment, fetched: FetchedParts) -> PartialVerdict:
        """The verdict on the parts that are there; no error but those of programming is raised.

        `fetched` is updated to the parts of this segment.
        """
        try:
            with unexpected_as(ScoreError, opened.parts[0]):
                media = await self._joined(opened, fetched)
        except SegmentError as error:
            return self.unscored(opened, error)
        return await self.observe_media(opened, media)

    async def observe_media(self, opened: OpenSegment, media: bytes) -> PartialVerdict:
        """The verdict on what has come of a segment; no error but those of programming is raised."""
        try:
            with unexpected_as(ScoreError, opened.parts[0]):
                rate = 1 / (opened.part_seconds or _UNKNOWN_PART_SECONDS)
                decoded = await self._decode(media, self._scorer.views, rate)
                score = await self._scorer.score(decoded)
        except SegmentError as error:
            return self.unscored(opened, error)
        verdict = self._verdict_on(opened)
        return replace(
            verdict,
            to_seconds=decoded.media.duration_seconds if opened.is_growing else verdict.to_seconds,
            score=score,
            signals={name: summarize_signal(values) for name, values in decoded.signals.items()},
        )

    def unscored(self, opened: OpenSegment, error: SegmentError) -> PartialVerdict:
        """The verdict on a segment of which nothing can be had."""
        return replace(self._verdict_on(opened), unscored=error.reason, unscored_detail=error.detail)

    def _verdict_on(self, opened: OpenSegment) -> PartialVerdict:
        """Which pictures are looked at, and when; of a growing segment it is not known how far they go."""
        seconds = 0.0 if opened.is_growing else sum(part.duration_seconds for part in opened.parts)
        return PartialVerdict(
            rendition=opened.rendition,
            sequence=opened.sequence,
            starts_at=opened.starts_at,
            from_seconds=opened.offset_seconds,
            to_seconds=opened.offset_seconds + seconds,
            observed_at=self._now(),
            signals={},
        )

    async def _joined(self, opened: OpenSegment, fetched: FetchedParts) -> bytes:
        """The initialization section and the parts; each part is fetched once."""
        # only the first part is preceded by its initialization section
        parts = [part if number == 0 else replace(part, init_url=None) for number, part in enumerate(opened.parts)]
        wanted = {f"{part.key} {part.init_url}": part for part in parts}
        for key in fetched.keys() - wanted.keys():
            del fetched[key]
        for key, part in wanted.items():
            if key not in fetched:
                fetched[key] = await self._fetch(part)
        return b"".join(fetched[key] for key in wanted)
