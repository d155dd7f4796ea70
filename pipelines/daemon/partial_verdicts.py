"""Observes the segments that are being made: verdicts within two parts, which the verdict on the segment supersedes."""

import logging
from collections.abc import AsyncIterator, Callable
from typing import Protocol, runtime_checkable

from pipelines.daemon.live_queue import LiveQueue
from pipelines.observe.playlists.partial_verdicts import FetchedParts, PartialObserver, PartialVerdict
from vqmon.flow import Slots
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
    fetched: FetchedParts = {}
    async for opened in source.open_segments():
        if queue.count:
            continue
        await running.acquire()
        try:
            verdict = await observer.observe(opened, fetched)
        finally:
            running.release()
        on_partial(verdict)
