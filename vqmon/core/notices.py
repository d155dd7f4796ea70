"""What is still to be said of an alert, and to whom: decisions about what waits in the outbox."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from fnmatch import fnmatchcase
from typing import Literal

from vqmon.core.types import Alert

Said = Literal["", "open", "resolved"]
"""What a target was told last of an alert."""

Word = Literal["open", "resolved", "wait", "done"]
"""What comes next: say that it is open or resolved, nothing now, or nothing ever again."""

Form = Literal["state", "changes"]
"""How a target listens: the state again and again, as Alertmanager does, or each change once, as a webhook does."""

ECHO = timedelta(minutes=5)
"""A target that forgets is told so long that an alert is resolved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One alert in the outbox; its moments are by the clock of the machine, the alert's by the media."""

    alert: Alert
    # as it was when it came in: what names it to a target is taken from here and never changes
    opened: Alert
    queued_at: datetime
    changed_at: datetime
    # target -> what it was told last
    told: Mapping[str, Said] = field(default_factory=dict)
    # of the last change, in the order of the history
    number: int = 0

    @property
    def age_when_queued(self) -> timedelta:
        """How far the alert's own time was behind when it came in; much in a backfill."""
        return self.queued_at - self.alert.opened_at


def next_word(notice: Notice, target: str, *, form: Form, is_held: bool, now: datetime) -> Word:
    """What comes next for a target.

    `is_held` keeps back what was not told yet; what was told once goes on until it is resolved, or the target would
    believe that it is over. A target of changes hears of the opening first, also when all is over by then.
    """
    said = notice.told.get(target, "")
    is_over = notice.alert.state == "resolved"
    if said == "" and is_held:
        return "done" if is_over else "wait"
    if form == "state":
        if not is_over:
            return "open"
        return "done" if said == "resolved" and now >= notice.changed_at + ECHO else "resolved"
    if said == "":
        return "open"
    if said == "open":
        return "resolved" if is_over else "wait"
    return "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Planned maintenance: alerts of these renditions are kept back while it lasts.

    Either once, `begins_at`..`ends_at`, or every day `daily_from`..`daily_until` in UTC, over midnight when the end is
    before the beginning.
    """

    name: str
    streams: tuple[str, ...] = ("*",)
    renditions: tuple[str, ...] = ("*",)
    begins_at: datetime | None = None
    ends_at: datetime | None = None
    daily_from: time | None = None
    daily_until: time | None = None

    def __post_init__(self) -> None:
        once, daily = (self.begins_at, self.ends_at), (self.daily_from, self.daily_until)
        if (None in once) == (None in daily) or any(once) == any(part is not None for part in daily):
            raise ValueError("give from and until, or daily_from and daily_until")
        if self.begins_at and self.ends_at and self.begins_at >= self.ends_at:
            raise ValueError("until must be after from")
        if daily[0] is not None and daily[0] == daily[1]:
            raise ValueError("daily_from and daily_until are the same")

    def holds(self, alert: Alert, now: datetime) -> bool:
        """Whether the alert is kept back now."""
        return (
            self._is_on(now)
            and any(fnmatchcase(alert.stream_id, glob) for glob in self.streams)
            and any(fnmatchcase(alert.rendition, glob) for glob in self.renditions)
        )

    def _is_on(self, now: datetime) -> bool:
        if self.begins_at and self.ends_at:
            return self.begins_at <= now < self.ends_at
        assert self.daily_from is not None
        assert self.daily_until is not None
        moment = now.astimezone(UTC).time()
        if self.daily_from < self.daily_until:
            return self.daily_from <= moment < self.daily_until
        return moment >= self.daily_from or moment < self.daily_until


def holding(alert: Alert, windows: Iterable[Window], now: datetime) -> Window | None:
    """The first window that keeps the alert back now."""
    return next((window for window in windows if window.holds(alert, now)), None)
