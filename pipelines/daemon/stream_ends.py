"""Ends said by hand: a stream, or one rendition of it, is over, and what is open about it closes."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from pipelines.service.lifecycle import Told
from pipelines.service.wiring import utc_now
from vqmon.core.alerts.annotations import EVERY, End, end_of
from vqmon.core.alerts.state import Track
from vqmon.core.types import Alert
from vqmon.errors import SettingsError, StoreUnreachableError
from vqmon.flow import wait_or_stop
from vqmon.settings.load import Settings
from vqmon.telemetry.logs import log_event
from vqmon.transport.history.history import History, open_history

log = logging.getLogger("vqmon.ends")

LOOK_SECONDS = 2.0
"""How often a running daemon looks for ends that were said."""


async def end(settings: Settings, stream_id: str, rendition: str = EVERY) -> str:
    """Tell the daemon, or the worker that has the stream, of an end; gives a sentence for people.

    Raises SettingsError when the history of one host knows nothing of it; of a fleet, nobody here can tell.
    """
    it = end_of(stream_id, rendition, utc_now(), told_at=utc_now())
    what = stream_id if rendition == EVERY else f"{stream_id}/{rendition}"
    if settings.source.kind == "kafka":
        from pipelines.topics.publisher import announce_end

        await announce_end(settings, it)
        return f"the end of {what} is behind its segments"
    place = settings.history.place
    with open_history(place, mode="annotate") as history:
        tracks = [it for it in history.queries.states_of_stream(stream_id).values() if isinstance(it, Track)]
        seen = sorted(track.rendition for track in tracks if track.stream == stream_id)
        if not seen:
            raise SettingsError(f"{place}: nothing was ever seen of the stream {stream_id!r}; is it spelt so?")
        if rendition != EVERY and what not in seen:
            raise SettingsError(f"{place}: nothing was ever seen of {what}; known: {', '.join(seen)}")
        history.add_end(it)
    return f"the end of {what} is in {place}; a daemon takes it up in {LOOK_SECONDS:g} s, or when it starts"


async def take_up(
    history: History,
    thread: ThreadPoolExecutor,
    judge: Callable[[End], Awaitable[Sequence[Alert]]],
    *,
    told: Told,
    done: asyncio.Event,
) -> None:
    """Judge and write the ends that were said by hand, now and as they come, until there is nothing more to watch."""
    while not done.is_set():
        try:
            waiting = await asyncio.get_running_loop().run_in_executor(thread, history.queries.unjudged_ends)
        except StoreUnreachableError:
            # Whoever writes says so, and waits for it.
            waiting = ()
        for it in waiting:
            told([], await judge(it))
            log.info(**log_event("end.taken_up", stream=it.stream_id, rendition=it.rendition))
        await wait_or_stop(done, LOOK_SECONDS)
