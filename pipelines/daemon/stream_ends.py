"""Ends that people request: a stream, or one rendition of it, is over, and its open alerts resolve."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from pipelines.service.history_thread import HistoryThread
from pipelines.service.lifecycle import OnPublish
from pipelines.service.wiring import utc_now
from vqmon.core.alerts.annotations import ALL_RENDITIONS, StreamEnd, stream_end
from vqmon.core.alerts.state import RenditionTimeline
from vqmon.core.types import Alert
from vqmon.errors import SettingsError, StoreError
from vqmon.flow import wait_or_stop
from vqmon.plurals import plural
from vqmon.settings.load import Settings
from vqmon.telemetry.logs import log_event
from vqmon.transport.history.backends.sqlite import check_readable
from vqmon.transport.history.history import History, open_history

log = logging.getLogger("vqmon.ends")

_POLL_SECONDS = 2.0
"""How often a running daemon reads requested ends from its history."""


async def request_end(settings: Settings, stream_id: str, rendition: str = ALL_RENDITIONS) -> str:
    """Request the end of a stream from the daemon of one host or from the fleet; returns a sentence for people.

    Raises SettingsError when the history of one host has nothing of the stream; for a fleet this is not checked.
    """
    end = stream_end(stream_id, rendition, utc_now(), announced_at=utc_now())
    subject = stream_id if rendition == ALL_RENDITIONS else f"{stream_id}/{rendition}"
    if settings.source.kind == "kafka":
        from pipelines.topics.publisher import publish_end

        partition_count = await publish_end(settings, end)
        return f"the end of {subject} was written to all {plural(partition_count, 'partition')} of the segments topic"
    location = settings.history.location
    if isinstance(location, Path):
        check_readable(location)
    with open_history(location, mode="annotate") as history:
        renditions = _renditions_seen(history, stream_id)
        if not renditions:
            raise SettingsError(f"{location}: no segment of the stream {stream_id!r} was ever seen; check its spelling")
        if rendition != ALL_RENDITIONS and subject not in renditions:
            raise SettingsError(f"{location}: no segment of {subject} was ever seen; known: {', '.join(renditions)}")
        history.add_end(end)
    return (
        f"the end of {subject} was written to {location}; a running daemon applies it within {_POLL_SECONDS:g} s, "
        "another one when it starts"
    )


def _renditions_seen(history: History, stream_id: str) -> list[str]:
    states = history.queries.states_of_stream(stream_id).values()
    timelines = [state for state in states if isinstance(state, RenditionTimeline)]
    return sorted(timeline.rendition_key for timeline in timelines if timeline.stream_id == stream_id)


async def publish_requested_ends(
    thread: HistoryThread,
    publish_end: Callable[[StreamEnd], Awaitable[Sequence[Alert]]],
    *,
    on_publish: OnPublish,
    stop: asyncio.Event,
) -> None:
    """Judge and publish the requested ends of a history, those of now and new ones, until the stop."""
    while not stop.is_set():
        try:
            requested = await thread.run(thread.history.queries.unjudged_ends)
        except StoreError:
            # The writer of outcomes logs that, and waits for the history.
            requested = ()
        for end in requested:
            on_publish([], await publish_end(end))
            log.info(**log_event("end.taken_up", stream=end.stream_id, rendition=end.rendition))
        await wait_or_stop(stop, _POLL_SECONDS)
