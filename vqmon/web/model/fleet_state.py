"""The current state of the whole fleet, read from the history once for all requests of the same moment."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from vqmon.core.types import Alert
from vqmon.web.model.renditions import RenditionRow, rendition_rows
from vqmon.web.model.sparklines import SPARKLINE_POINTS
from vqmon.web.ports import HistoryReader

_MAX_OPEN_ALERTS = 5000
"""At most this many open alerts are read; further ones do not change the state of a rendition."""

_CACHE_LIFETIME = timedelta(seconds=1)
"""How long rows are reused while nothing is written: a rendition becomes stale by the passing of time alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _CachedRows:
    tip: int
    read_at: datetime
    rows: Sequence[RenditionRow]


class FleetState:
    """The rows of all renditions and the open alerts; thread-safe: callers at the same time share one query."""

    def __init__(self, history: HistoryReader, *, now: Callable[[], datetime]) -> None:
        self._history = history
        self._now = now
        self._lock = threading.Lock()
        self._alerts: tuple[int, Sequence[Alert]] | None = None
        self._cache: _CachedRows | None = None

    def rows(self) -> Sequence[RenditionRow]:
        """Every rendition with its current state, ordered by stream and name."""
        with self._lock:
            tip, now, cache = self._history.tip(), self._now(), self._cache
            if cache is None or cache.tip != tip or not timedelta() <= now - cache.read_at < _CACHE_LIFETIME:
                states = self._history.renditions(trend=SPARKLINE_POINTS)
                rows = rendition_rows(states, self._open_alerts_at(tip), now=now)
                cache = self._cache = _CachedRows(tip=tip, read_at=now, rows=rows)
            return cache.rows

    def open_alerts(self) -> Sequence[Alert]:
        """Every open alert, newest first, up to `_MAX_OPEN_ALERTS`."""
        with self._lock:
            return self._open_alerts_at(self._history.tip())

    def _open_alerts_at(self, tip: int) -> Sequence[Alert]:
        if self._alerts is None or self._alerts[0] != tip:
            self._alerts = tip, self._history.alerts(open_only=True, limit=_MAX_OPEN_ALERTS)
        return self._alerts[1]
