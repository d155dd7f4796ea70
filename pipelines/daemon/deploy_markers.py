"""Deploy markers: a planned change, after which alert rules learn a new baseline."""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime

from pipelines.service.lifecycle import every
from vqmon.core.alerts.annotations import Marker, marker_id
from vqmon.core.alerts.judge import Judge
from vqmon.settings.load import Settings
from vqmon.telemetry.logs import log_event
from vqmon.transport.history.history import History, open_history

log = logging.getLogger("vqmon.deploy")

LOOK_SECONDS = 2.0
"""How often a running daemon looks for new markers."""


def marker_of(name: str, at: datetime, *, stream: str = "*", rendition: str = "*") -> Marker:
    """The marker of a deployment; the same again has the same id."""
    return Marker(
        id=marker_id(name, at, stream=stream, rendition=rendition), at=at, name=name, stream=stream, rendition=rendition
    )


async def deploy(settings: Settings, marker: Marker) -> str:
    """Tell the daemon, or every worker of the fleet, of a marker; gives a sentence for people."""
    if settings.source.kind == "kafka":
        from pipelines.topics.publisher import announce

        count = await announce(settings, marker)
        return f"marker {marker.name!r} is on its way to {count} partitions"
    with open_history(settings.history.place, mode="annotate") as history:
        history.add_marker(marker)
    return f"marker {marker.name!r} is in {settings.history.place}; a running daemon takes it up in {LOOK_SECONDS:g} s"


@contextmanager
def marking(history: History, judge: Judge, thread: ThreadPoolExecutor) -> Iterator[None]:
    """Tell the judge of the markers of a history, now and as they come."""
    loop = asyncio.get_running_loop()
    known: set[str] = set()

    def mark(markers: Sequence[Marker]) -> None:
        for marker in markers:
            judge.mark(marker)
            if marker.id not in known:
                known.add(marker.id)
                log.info(
                    **log_event("deploy.marked", marker=marker.name, at=marker.at.isoformat(), stream=marker.stream)
                )

    def read(done: "Future[Sequence[Marker]]") -> None:
        if not done.cancelled() and done.exception() is None:
            loop.call_soon_threadsafe(mark, done.result())

    mark(history.queries.markers())
    with every(LOOK_SECONDS, lambda: thread.submit(history.queries.markers).add_done_callback(read)):
        yield
