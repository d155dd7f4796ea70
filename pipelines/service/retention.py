"""What a history is relieved of from time to time, as the settings say."""

import logging
from datetime import datetime, timedelta

from vqmon.core.timeline import PrunedCounts
from vqmon.errors import StoreError
from vqmon.settings.sections import HistorySettings
from vqmon.telemetry.logs import log_event
from vqmon.transport.history.history import History

log = logging.getLogger("vqmon.history")

KEEP_SECONDS = 300.0
"""How often what is older than its keep is taken out."""


def keep(history: History, settings: HistorySettings, *, now: datetime) -> PrunedCounts | None:
    """Make rollups, and take out what is older than its keep; None, and said, when that cannot be done now."""
    try:
        return _kept(history, settings, now)
    except StoreError as error:
        # The next write waits for the server, or ends the process.
        log.warning(**log_event("history.not_kept", error=error))
        return None


def _kept(history: History, settings: HistorySettings, now: datetime) -> PrunedCounts:
    pruned = history.maintenance.prune(
        before=now - timedelta(days=settings.keep_days),
        keep_frames_of_segments=settings.keep_frames_of_segments,
        rollups_before=now - timedelta(days=settings.keep_rollups_days),
        alerts_before=now - timedelta(days=settings.keep_alerts_days),
    )
    history.maintenance.checkpoint()
    return pruned
