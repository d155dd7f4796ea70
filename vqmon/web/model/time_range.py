"""The time range that a page shows, from its URL."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

PRESETS = {
    "recent": ("recent", timedelta(hours=1)),
    "15m": ("15 min", timedelta(minutes=15)),
    "1h": ("1 hour", timedelta(hours=1)),
    "6h": ("6 hours", timedelta(hours=6)),
    "24h": ("1 day", timedelta(days=1)),
    "7d": ("7 days", timedelta(days=7)),
}
"""Ranges that end now: value of `last` in the URL -> label and length."""

_DEFAULT_PRESET = "recent"
"""The last hour, without the part before the first segment."""

_MIN_LENGTH = timedelta(minutes=2)

ACCEPTED_YEARS = range(1900, 9000)
"""Moments outside these years leave no room for a range around them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeRange:
    """From `begins_at` up to `ends_at`; a preset range moves on as segments arrive."""

    # a key of PRESETS; None when the URL gives both ends
    preset: str | None
    begins_at: datetime
    ends_at: datetime

    @property
    def is_live(self) -> bool:
        """Whether the range moves on as segments arrive."""
        return self.preset is not None

    @property
    def max_length(self) -> timedelta:
        """The length that the range has while it moves on."""
        return PRESETS[self.preset][1] if self.preset is not None else self.length

    def without_empty_start(self, first_at: datetime | None) -> "TimeRange":
        """The range from its first segment on if it is the default range, else the range unchanged."""
        if self.preset != _DEFAULT_PRESET or first_at is None:
            return self
        return replace(self, begins_at=max(self.begins_at, min(first_at, self.ends_at - _MIN_LENGTH)))

    @property
    def length(self) -> timedelta:
        return self.ends_at - self.begins_at

    @property
    def query(self) -> dict[str, str]:
        """The query parameters that select this range."""
        if self.preset is not None:
            return {"last": self.preset}
        return {"from": self.begins_at.isoformat(), "to": self.ends_at.isoformat()}


def parse_time_range(query: Mapping[str, str], *, newest_at: datetime | None, now: datetime) -> TimeRange:
    """The range of a query's `from` and `to`, or else of `last`; values that are not valid are ignored.

    A preset range ends at `newest_at`, the newest segment, when that is not within the preset's length before `now`:
    so a stream that has ended, or whose media timeline is not the clock's, is not shown as empty.
    """
    begins_at, ends_at = _parse_moment(query.get("from")), _parse_moment(query.get("to"))
    if begins_at is not None and ends_at is not None and begins_at < ends_at:
        return TimeRange(preset=None, begins_at=begins_at, ends_at=ends_at)
    preset = query.get("last", _DEFAULT_PRESET)
    preset = preset if preset in PRESETS else _DEFAULT_PRESET
    length = PRESETS[preset][1]
    end = now
    if newest_at is not None and not now - length < newest_at <= now:
        end = newest_at + timedelta(seconds=1)
    return TimeRange(preset=preset, begins_at=end - length, ends_at=end)


def _parse_moment(text: str | None) -> datetime | None:
    try:
        at = datetime.fromisoformat(text or "")
        at = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
        return at if at.year in ACCEPTED_YEARS else None
    except (ValueError, OverflowError):
        return None
