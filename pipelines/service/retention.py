"""Prunes a history by the settings: deletes what is older than its retention and rolls up what stays longer."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from pipelines.service.history_thread import HistoryThread
from pipelines.service.lifecycle import call_every
from pipelines.service.wiring import utc_now
from vqmon.core.timeline import PrunedCounts
from vqmon.errors import StoreError
from vqmon.settings.sections import HistorySettings
from vqmon.telemetry.logs import log_event
from vqmon.transport.history.history import History

log = logging.getLogger("vqmon.history")

_PRUNE_INTERVAL_SECONDS = 300.0


@contextmanager
def regular_pruning(thread: HistoryThread, settings: HistorySettings) -> Iterator[None]:
    """Prune the history every five minutes, in its thread, while the context lasts."""

    def prune() -> None:
        now = utc_now()
        thread.submit(lambda: _prune_history(thread.history, settings, now=now))

    with call_every(_PRUNE_INTERVAL_SECONDS, prune):
        yield


def _prune_history(history: History, settings: HistorySettings, *, now: datetime) -> PrunedCounts | None:
    """Roll up and delete by age; logs and returns None when the database cannot do it now."""
    try:
        pruned = history.maintenance.prune(
            before=now - timedelta(days=settings.keep_days),
            keep_frames_of_segments=settings.keep_frames_of_segments,
            rollups_before=now - timedelta(days=settings.keep_rollups_days),
            alerts_before=now - timedelta(days=settings.keep_alerts_days),
        )
        history.maintenance.checkpoint()
    except StoreError as error:
        # The next write waits for the server, or ends the process.
        log.warning(**log_event("history.not_kept", error=error))
        return None
    return pruned
