"""Deploy markers: a planned change of encoders, after which alert rules learn a new baseline."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from pipelines.service.history_thread import HistoryThread
from pipelines.service.lifecycle import call_every
from vqmon.core.alerts.annotations import DeployMarker, deploy_marker_id
from vqmon.plurals import plural
from vqmon.settings.load import Settings
from vqmon.telemetry.logs import log_event
from vqmon.transport.history.backends.sqlite import check_readable
from vqmon.transport.history.history import open_history

log = logging.getLogger("vqmon.deploy")

_POLL_SECONDS = 2.0
"""How often a running daemon reads new markers from its history."""


def make_marker(name: str, at: datetime, *, stream: str = "*", rendition: str = "*") -> DeployMarker:
    """Return the marker of a deployment to streams and renditions by globs; equal arguments give an equal id."""
    return DeployMarker(
        id=deploy_marker_id(name, at, stream=stream, rendition=rendition),
        at=at,
        name=name,
        stream=stream,
        rendition=rendition,
    )


async def record_deployment(settings: Settings, marker: DeployMarker) -> str:
    """Write a marker to the segments topic of a fleet, or to the history of one host; returns a sentence for people.

    Raises SettingsError when there is no history, and the settings do not name one.
    """
    if settings.source.kind == "kafka":
        from pipelines.topics.publisher import publish_marker

        partition_count = await publish_marker(settings, marker)
        return f"marker {marker.name!r} was written to {plural(partition_count, 'partition')} of the segments topic"
    location = settings.history.location
    if isinstance(location, Path) and "path" not in settings.history.model_fields_set:
        # before its first start a daemon has no history: then one is made where the settings say, and nowhere else
        check_readable(location)
    with open_history(location, mode="annotate") as history:
        history.add_marker(marker)
    return f"marker {marker.name!r} was written to {location}; a running daemon applies it within {_POLL_SECONDS:g} s"


@contextmanager
def follow_markers(thread: HistoryThread, add_marker: Callable[[DeployMarker], None]) -> Iterator[None]:
    """Give a judge the markers of a history: those of now, if it is open, and new ones while the context lasts."""
    loop = asyncio.get_running_loop()
    logged_ids: set[str] = set()

    def apply(markers: Sequence[DeployMarker]) -> None:
        for marker in markers:
            add_marker(marker)
            if marker.id not in logged_ids:
                logged_ids.add(marker.id)
                log.info(
                    **log_event("deploy.marked", marker=marker.name, at=marker.at.isoformat(), stream=marker.stream)
                )

    def apply_on_loop(reading: "Future[Sequence[DeployMarker]]") -> None:
        if not reading.cancelled() and reading.exception() is None:
            loop.call_soon_threadsafe(apply, reading.result())

    if thread.is_open:
        apply(thread.history.queries.markers())
    with call_every(
        _POLL_SECONDS, lambda: thread.submit(lambda: thread.history.queries.markers()).add_done_callback(apply_on_loop)
    ):
        yield
