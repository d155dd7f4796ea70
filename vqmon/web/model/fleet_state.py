"""Where the whole fleet stands now, asked of the history once for all who look at the same moment."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from vqmon.core.types import Alert
from vqmon.web.model.renditions import Row, rows_of
from vqmon.web.model.sparklines import TREND_PLACES
from vqmon.web.ports import History

MAX_OPEN_ALERTS = 5000
"""Open alerts that states are told by."""

FRESH = timedelta(seconds=1)
"""An answer is given again for so long while nothing was written: states change with time alone, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    tip: int
    asked_at: datetime
    alerts: Sequence[Alert]
    rows: Sequence[Row]


class Standing:
    """The rows of the fleet and the open alerts; safe to ask from several threads, who then wait for one answer."""

    def __init__(self, history: History, *, now: Callable[[], datetime]) -> None:
        self._history = history
        self._now = now
        self._lock = threading.Lock()
        self._alerts: tuple[int, Sequence[Alert]] | None = None
        self._last: _Answer | None = None

    def rows(self) -> Sequence[Row]:
        """Every rendition as it stands, by stream and name."""
        with self._lock:
            tip, now, last = self._history.tip(), self._now(), self._last
            if last is None or last.tip != tip or not timedelta() <= now - last.asked_at < FRESH:
                states = self._history.renditions(trend=TREND_PLACES)
                alerts = self._open_at(tip)
                rows = rows_of(states, alerts, now=now)
                last = self._last = _Answer(tip=tip, asked_at=now, alerts=alerts, rows=rows)
            return last.rows

    def open_alerts(self) -> Sequence[Alert]:
        """Every open alert, newest first, up to `MAX_OPEN_ALERTS`."""
        with self._lock:
            return self._open_at(self._history.tip())

    def _open_at(self, tip: int) -> Sequence[Alert]:
        if self._alerts is None or self._alerts[0] != tip:
            self._alerts = tip, self._history.alerts(open_only=True, limit=MAX_OPEN_ALERTS)
        return self._alerts[1]
