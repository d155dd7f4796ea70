"""Observes the segments that are being made: verdicts within two parts, which the verdict on the segment supersedes."""

import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Protocol, runtime_checkable

from pipelines.daemon.live_queue import LiveQueue
from pipelines.observe.playlists.partial_verdicts import FetchedParts, GrowingMedia, PartialObserver, PartialVerdict
from pipelines.observe.unexpected_errors import unexpected_as
from vqmon.errors import FetchError, SegmentError
from vqmon.flow import Slots, run_concurrently
from vqmon.media.sources.follower import OpenSegment
from vqmon.telemetry.logs import log_event
from vqmon.telemetry.metrics import Meters

log = logging.getLogger("vqmon.live")

OnPartial = Callable[[PartialVerdict], None]
"""Called with each verdict on a segment that is being made; must return at once."""


@runtime_checkable
class OpenSegmentSource(Protocol):
    """A rendition whose segments are listed while they are made."""

    def open_segments(self) -> AsyncIterator[OpenSegment]: ...


def counting_partials(meters: Meters, on_partial: OnPartial | None) -> OnPartial:
    """Return a callback that measures the delay, then calls `on_partial`; without one, verdicts are logged."""

    def count(verdict: PartialVerdict) -> None:
        outcome = "unscored" if verdict.unscored else "scored"
        meters.record("vqmon.partial.delay", max(verdict.delay_seconds, 0.0), outcome=outcome)
        if on_partial is not None:
            on_partial(verdict)
            return
        values = {
            "rendition": verdict.rendition.key,
            "sequence": verdict.sequence,
            "to_seconds": round(verdict.to_seconds, 3),
            "delay_seconds": round(verdict.delay_seconds, 3),
        }
        if verdict.score is None:
            values |= {"reason": verdict.unscored, "detail": verdict.unscored_detail}
        else:
            values |= {"scorer": verdict.score.scorer, "score": round(verdict.score.value, 1)}
            values |= {name: round(signal.mean, 3) for name, signal in verdict.signals.items()}
        log.info(**log_event("segment.partial", **values))

    return count


async def watch_open_segments(
    source: object, observer: PartialObserver, queue: LiveQueue, *, running: Slots, on_partial: OnPartial
) -> None:
    """Look at what there is of each segment, newest first, until the source ends; whole segments go first."""
    if not isinstance(source, OpenSegmentSource):
        return
    watcher = _OpenSegmentWatcher(observer, queue, running=running, on_partial=on_partial)
    async for opened in source.open_segments():
        if not queue.count:
            await watcher.watch(opened)


class _OpenSegmentWatcher:
    """Observes the open segments of one rendition."""

    def __init__(self, observer: PartialObserver, queue: LiveQueue, *, running: Slots, on_partial: OnPartial) -> None:
        self._observer, self._queue = observer, queue
        self._running, self._on_partial = running, on_partial
        self._fetched: FetchedParts = {}
        # number of the segment of the newest verdict, and how far that went
        self._reached = (-1, 0.0)
        # number of the last growing segment that was received to its end
        self._received_sequence: int | None = None

    async def watch(self, opened: OpenSegment) -> None:
        """Observe the parts that are listed; or a growing segment, chunk by chunk, until it is whole."""
        if not opened.is_growing:
            reached, works = self._seconds_reached(opened), [self._observer.fetch_hinted(opened, self._fetched)]
            end = opened.offset_seconds + sum(part.duration_seconds for part in opened.parts)
            # a playlist may list what it did before, or be an older copy
            if not reached or end > reached:
                works.append(self._publish(self._observer.observe(opened, self._fetched, from_seconds=reached)))
            await run_concurrently(works)
        elif opened.sequence != self._received_sequence:
            media = GrowingMedia()
            await run_concurrently([self._receive(opened, media), self._observe_chunks(opened, media)])

    async def _receive(self, opened: OpenSegment, media: GrowingMedia) -> None:
        try:
            with unexpected_as(FetchError, opened.parts[0]):
                await self._observer.fetch_growing(opened.parts[0], media.receive)
            self._received_sequence = opened.sequence
        except SegmentError as error:
            self._on_partial(self._observer.unscored(opened, error))
        finally:
            media.end()

    async def _observe_chunks(self, opened: OpenSegment, media: GrowingMedia) -> None:
        async for chunks in media.chunks():
            if not self._queue.count:
                from_seconds = self._seconds_reached(opened)
                await self._publish(self._observer.observe_media(opened, chunks, from_seconds=from_seconds))

    def _seconds_reached(self, opened: OpenSegment) -> float:
        """How far the verdicts on a segment went, in seconds after its start."""
        sequence, seconds = self._reached
        return seconds if sequence == opened.sequence else 0.0

    async def _publish(self, observation: Coroutine[None, None, PartialVerdict]) -> None:
        await self._running.acquire()
        try:
            verdict = await observation
        finally:
            self._running.release()
        if verdict.score is not None:
            self._reached = (verdict.sequence, verdict.to_seconds)
        self._on_partial(verdict)
