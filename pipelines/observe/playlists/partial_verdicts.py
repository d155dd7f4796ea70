"""Verdicts on what is there of a segment that is being made; the verdict on the whole segment supersedes them."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pipelines.observe.addresses import Fetch
from pipelines.observe.scoring_tiers import Scorer
from pipelines.observe.unexpected_errors import unexpected_as
from vqmon.core.scores import summarize_signal
from vqmon.core.types import DecodedSegment, Rendition, Score, Segment, SignalSummary, View
from vqmon.errors import FetchError, ScoreError, SegmentError
from vqmon.media.decode.bitstream.containers.boxes import iterate_iso_boxes
from vqmon.media.sources.follower import OpenSegment

DecodePictures = Callable[[bytes, tuple[View, ...], float, float], Coroutine[None, None, DecodedSegment]]
"""Decodes the views of media, sampled at a rate in frames per second, from so many seconds on."""

FetchedParts = dict[str, bytes]
"""The parts of a rendition's newest segment that were fetched, by key and initialization section."""

FetchGrowing = Callable[[Segment, Callable[[bytes, bytearray], None]], Coroutine[None, None, None]]
"""Fetches a segment that its server sends as it is made, and calls back with what has come of it."""

_MIN_SAMPLE_SECONDS = 0.5
"""Parts that are shorter are not all sampled when several came since the last verdict."""

_MIN_INTERVAL_SECONDS, _MAX_INTERVAL_SECONDS = 0.15, 0.25
"""From one verdict on a growing segment to the next, where chunks come faster: they may be as short as a frame."""

_HINTED_PARTS = 3
"""So many times the duration of a part is waited for one that the playlist announces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialVerdict:
    """What is said of a segment that is being made; it is in no history, and neither judged nor compared."""

    rendition: Rendition
    # of the segment
    sequence: int
    starts_at: datetime
    # what was looked at, in seconds after the start of the segment: what came since the verdict before
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
        # of the last complete chunk
        self._end = 0
        self._changed = asyncio.Event()
        self._is_whole = False

    def receive(self, init: bytes, body: bytearray) -> None:
        """Take what has come by now."""
        end = _end_of_chunks(body)
        # a fetch that is tried again begins anew
        if end > self._end:
            self._init, self._body, self._end = init, body, end
            self._changed.set()

    def end(self) -> None:
        """Note that nothing more will come."""
        self._is_whole = True
        self._changed.set()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The media up to its last complete chunk, each time that there is one more, until the segment is whole.

        Who comes late gets the newest state only. Of chunks that come sooner than `_MIN_INTERVAL_SECONDS` after the
        last one that was given, the first to come later is next, so that it is new; after `_MAX_INTERVAL_SECONDS` what
        is there.
        """
        clock = asyncio.get_running_loop().time
        began = -math.inf
        while True:
            await self._wait_for_chunk()
            with suppress(TimeoutError):
                async with asyncio.timeout(max(began + _MAX_INTERVAL_SECONDS - clock(), 0.0)):
                    while clock() < began + _MIN_INTERVAL_SECONDS and not self._is_whole:
                        await self._wait_for_chunk()
            if self._is_whole:
                return
            began = clock()
            self._changed.clear()
            yield self._init + self._body[: self._end]

    async def _wait_for_chunk(self) -> None:
        """Wait for a complete chunk, or the end."""
        await self._changed.wait()
        if not self._is_whole:
            self._changed.clear()


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

    async def observe(self, opened: OpenSegment, fetched: FetchedParts, *, from_seconds: float = 0.0) -> PartialVerdict:
        """The verdict on the parts that came since `from_seconds` after the start of the segment.

        `fetched` is updated to the parts of this segment. No error but those of programming is raised.
        """
        try:
            with unexpected_as(ScoreError, opened.parts[0]):
                media = await self._joined(opened, fetched)
        except SegmentError as error:
            return self.unscored(opened, error)
        return await self.observe_media(opened, media, from_seconds=from_seconds)

    async def fetch_hinted(self, opened: OpenSegment, fetched: FetchedParts) -> None:
        """Request the part that the playlist announces, which its server sends when it is made, into `fetched`.

        One that does not come in time, or fails, is requested again when it is listed.
        """
        if opened.hint is None:
            return
        part = _following_part(opened.hint)
        with suppress(TimeoutError, SegmentError):
            async with asyncio.timeout(_HINTED_PARTS * opened.part_seconds):
                with unexpected_as(FetchError, part):
                    fetched[_part_key(part)] = await self._fetch(part)

    async def observe_media(self, opened: OpenSegment, media: bytes, *, from_seconds: float = 0.0) -> PartialVerdict:
        """The verdict on what has come of a segment since `from_seconds` after its start.

        What came before is decoded as far as the newer pictures need it. No error but those of programming is raised.
        """
        try:
            with unexpected_as(ScoreError, opened.parts[0]):
                rate = 1 / max(opened.part_seconds, _MIN_SAMPLE_SECONDS)
                media_seconds = max(from_seconds - opened.offset_seconds, 0.0)
                decoded = await self._decode(media, self._scorer.views, rate, media_seconds)
                score = await self._scorer.score(decoded)
        except SegmentError as error:
            return self.unscored(opened, error)
        verdict = self._verdict_on(opened)
        return replace(
            verdict,
            from_seconds=max(from_seconds, opened.offset_seconds),
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
        parts = [opened.parts[0], *map(_following_part, opened.parts[1:])]
        wanted = {_part_key(part): part for part in parts}
        hinted = {_part_key(_following_part(opened.hint))} if opened.hint else set()
        for key in fetched.keys() - wanted.keys() - hinted:
            del fetched[key]
        for key, part in wanted.items():
            if key not in fetched:
                fetched[key] = await self._fetch(part)
        return b"".join(fetched[key] for key in wanted)


def _following_part(part: Segment) -> Segment:
    """A part that is not the first one: only that is preceded by its initialization section."""
    return replace(part, init_url=None, init_byte_range=None)


def _part_key(part: Segment) -> str:
    return f"{part.key} {part.init_url}"
