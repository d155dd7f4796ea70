"""Which stretch of time a page of a stream shows, from its address."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

RANGES = {
    "recent": ("recent", timedelta(hours=1)),
    "15m": ("15 min", timedelta(minutes=15)),
    "1h": ("1 hour", timedelta(hours=1)),
    "6h": ("6 hours", timedelta(hours=6)),
    "24h": ("1 day", timedelta(days=1)),
    "7d": ("7 days", timedelta(days=7)),
}
"""The ranges on offer, by their name in the address."""

DEFAULT = "recent"
"""The last hour, or the part of it that holds anything."""

SHORTEST = timedelta(minutes=2)

YEARS = range(1900, 9000)
"""Moments outside leave no room for a range around them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """From `begins_at` up to `ends_at`; one that follows moves on with what comes."""

    # a key of RANGES; None when both ends are given
    name: str | None
    begins_at: datetime
    ends_at: datetime

    @property
    def follows(self) -> bool:
        return self.name is not None

    @property
    def longest(self) -> timedelta:
        """How much of the time it holds while it moves on."""
        return RANGES[self.name][1] if self.name is not None else self.length

    def fitted(self, first_at: datetime | None) -> "Range":
        """The same range, a recent one without the empty time before its first segment."""
        if self.name != DEFAULT or first_at is None:
            return self
        return replace(self, begins_at=max(self.begins_at, min(first_at, self.ends_at - SHORTEST)))

    @property
    def length(self) -> timedelta:
        return self.ends_at - self.begins_at

    @property
    def query(self) -> dict[str, str]:
        """What asks for the same range again."""
        if self.name is not None:
            return {"last": self.name}
        return {"from": self.begins_at.isoformat(), "to": self.ends_at.isoformat()}


def range_of(query: Mapping[str, str], *, newest_at: datetime | None, now: datetime) -> Range:
    """The range that an address asks for; what cannot be understood counts as not given.

    A stream that has ended, or whose timeline is not the clock, is shown up to its newest segment.
    """
    begins_at, ends_at = _moment(query.get("from")), _moment(query.get("to"))
    if begins_at is not None and ends_at is not None and begins_at < ends_at:
        return Range(name=None, begins_at=begins_at, ends_at=ends_at)
    name = query.get("last", DEFAULT)
    name = name if name in RANGES else DEFAULT
    length = RANGES[name][1]
    end = now
    if newest_at is not None and not now - length < newest_at <= now:
        end = newest_at + timedelta(seconds=1)
    return Range(name=name, begins_at=end - length, ends_at=end)


def _moment(text: str | None) -> datetime | None:
    try:
        at = datetime.fromisoformat(text or "")
        at = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
        return at if at.year in YEARS else None
    except (ValueError, OverflowError):
        return None
