"""Events announced to the alert rules: deploys that restart series, ends of streams, and masks over planned faults."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from fnmatch import fnmatchcase
from hashlib import sha256
from typing import Literal

DAY_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkerKey:
    """Key of a stored deploy marker."""

    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployMarker:
    """A planned change: from its moment on, rules learn a new baseline for the streams and renditions that match."""

    # a marker that is announced twice has the same id and counts once
    id: str
    # on the segments' own timeline
    at: datetime
    name: str
    # globs
    stream: str = "*"
    rendition: str = "*"

    def __post_init__(self) -> None:
        if not self.id or not self.name:
            raise ValueError("a marker needs an id and a name")
        _check_utc(self.at)

    @property
    def key(self) -> MarkerKey:
        return MarkerKey(id=self.id)

    def matches(self, stream_id: str, rendition: str) -> bool:
        """Whether the change affects a rendition."""
        return fnmatchcase(stream_id, self.stream) and fnmatchcase(rendition, self.rendition)


def deploy_marker_id(name: str, at: datetime, *, stream: str = "*", rendition: str = "*") -> str:
    """The id of a marker; the same arguments give the same id."""
    return sha256("\n".join((name, at.astimezone(UTC).isoformat(), stream, rendition)).encode()).hexdigest()[:32]


ALL_RENDITIONS = "*"
"""As `rendition` of a stream end: all renditions of the stream."""

EndReason = Literal["ended", "unwatched"]

END_REASON_TEXTS: dict[EndReason, str] = {
    "ended": "the stream has ended",
    "unwatched": "the stream is no longer watched",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEnd:
    """No more segments are expected of a rendition, until one comes after this place in the order of the outcomes."""

    # an end that is announced twice has the same id and counts once
    id: str
    stream_id: str
    rendition: str = ALL_RENDITIONS
    # the end of the last segment, on the segments' own timeline, as far as the sender knows
    at: datetime
    why: EndReason = "ended"

    def __post_init__(self) -> None:
        if not self.id or not self.stream_id or not self.rendition:
            raise ValueError("an end needs an id, a stream_id and a rendition")
        _check_utc(self.at)

    def matches(self, stream_id: str, rendition_key: str) -> bool:
        """Whether a rendition, given as stream and as stream/rendition, has ended."""
        if stream_id != self.stream_id:
            return False
        return self.rendition == ALL_RENDITIONS or rendition_key == f"{stream_id}/{self.rendition}"


def stream_end(
    stream_id: str, rendition: str, at: datetime, *, announced_at: datetime, why: EndReason = "ended"
) -> StreamEnd:
    """The end of a rendition, with an id of its own for every moment at which it is announced."""
    parts = (stream_id, rendition, at.isoformat(), why, announced_at.isoformat())
    id = sha256("\n".join(parts).encode(errors="replace")).hexdigest()[:32]
    return StreamEnd(id=id, stream_id=stream_id, rendition=rendition, at=at, why=why)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mask:
    """A time that alert rules ignore: once from one moment to another, or daily between two times of day (UTC)."""

    name: str
    # globs of rule names, kinds of rules, or signals
    excuses: tuple[str, ...] = ("*",)
    stream: tuple[str, ...] = ("*",)
    rendition: tuple[str, ...] = ("*",)
    begins_at: datetime | None = None
    ends_at: datetime | None = None
    daily_from: time | None = None
    daily_until: time | None = None

    def __post_init__(self) -> None:
        once, daily = (self.begins_at, self.ends_at), (self.daily_from, self.daily_until)
        if sorted([once.count(None), daily.count(None)]) != [0, 2]:
            raise ValueError("a mask has either from and until, or daily_from and daily_until")
        for moment in once:
            if moment is not None and moment.utcoffset() != timedelta(0):
                raise ValueError(f"from and until must be UTC, like 2026-11-20T20:00:00Z, got {moment}")
        if self.begins_at is not None and self.ends_at is not None and self.ends_at <= self.begins_at:
            raise ValueError("until must be after from")
        if self.daily_from is not None and self.daily_from == self.daily_until:
            raise ValueError("daily_from and daily_until must differ")

    def excuses_any(self, *names: str) -> bool:
        """Whether the mask excuses a rule with one of these names: its own, its kind, its signal."""
        return any(fnmatchcase(name, glob) for name in names if name for glob in self.excuses)

    def matches(self, stream_id: str, rendition: str) -> bool:
        """Whether the mask lies over a rendition."""
        return any(fnmatchcase(stream_id, glob) for glob in self.stream) and any(
            fnmatchcase(rendition, glob) for glob in self.rendition
        )

    def covered_seconds(self, starts_at: float, ends_at: float) -> float:
        """How much of an interval (seconds since the epoch) lies under the mask."""
        if self.begins_at is not None and self.ends_at is not None:
            begins_at, until = self.begins_at.timestamp(), self.ends_at.timestamp()
            return max(min(ends_at, until) - max(starts_at, begins_at), 0.0)
        assert self.daily_from is not None
        assert self.daily_until is not None
        first = _seconds_of_day(self.daily_from)
        length = (_seconds_of_day(self.daily_until) - first) % DAY_SECONDS
        covered = 0.0
        day = (starts_at - DAY_SECONDS) // DAY_SECONDS * DAY_SECONDS
        while day <= ends_at:
            covered += max(min(ends_at, day + first + length) - max(starts_at, day + first), 0.0)
            day += DAY_SECONDS
        return covered


def masked_seconds(masks: Iterable[Mask], starts_at: float, ends_at: float) -> float:
    """How much of an interval (seconds since the epoch) lies under any of the masks.

    An interval without length counts as a microsecond, so that a moment under a mask is masked.
    """
    ends_at = max(ends_at, starts_at + 1e-6)
    return min(sum(mask.covered_seconds(starts_at, ends_at) for mask in masks), ends_at - starts_at)


def _seconds_of_day(moment: time) -> float:
    return moment.hour * 3600.0 + moment.minute * 60.0 + moment.second


def _check_utc(at: datetime) -> None:
    if at.utcoffset() != timedelta(0):
        raise ValueError(f"at must be aware UTC, got {at!r}")
