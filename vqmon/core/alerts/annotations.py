"""What is told and not seen: deploys that start series anew, ends of renditions, masks over times bad on purpose."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from fnmatch import fnmatchcase
from hashlib import sha256
from typing import Literal

DAY_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """Something was changed on purpose at a moment: what series of these streams and renditions learned ends there."""

    # tells it from other markers; the same marker told twice counts once
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
        if self.at.utcoffset() != timedelta(0):
            raise ValueError(f"at must be aware UTC, got {self.at!r}")

    @property
    def key(self) -> str:
        return f"!{self.id}"

    def fits(self, stream_id: str, rendition: str) -> bool:
        """Whether a rendition is meant."""
        return fnmatchcase(stream_id, self.stream) and fnmatchcase(rendition, self.rendition)


def marker_id(name: str, at: datetime, *, stream: str = "*", rendition: str = "*") -> str:
    """The id of a marker; the same again for the same marker."""
    return sha256("\n".join((name, at.astimezone(UTC).isoformat(), stream, rendition)).encode()).hexdigest()[:32]


EVERY = "*"
"""Instead of a rendition's name: all renditions of the stream."""

Why = Literal["ended", "unwatched"]

WORDS: dict[Why, str] = {"ended": "the stream has ended", "unwatched": "the stream is no longer watched"}


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """Nothing more is expected of a rendition; it holds from its place among the outcomes on, until one comes again."""

    # tells it from other ends; the same end told twice counts once
    id: str
    stream_id: str
    # EVERY = all that were seen
    rendition: str = EVERY
    # the end of the last segment, on the segments' own timeline, as far as the speaker knows
    at: datetime
    why: Why = "ended"

    def __post_init__(self) -> None:
        if not self.id or not self.stream_id or not self.rendition:
            raise ValueError("an end needs an id, a stream_id and a rendition")
        if self.at.utcoffset() != timedelta(0):
            raise ValueError(f"at must be aware UTC, got {self.at!r}")

    def fits(self, stream_id: str, key: str) -> bool:
        """Whether a rendition of this stream and key is meant."""
        return stream_id == self.stream_id and (self.rendition == EVERY or key == f"{stream_id}/{self.rendition}")


def end_of(stream_id: str, rendition: str, at: datetime, *, told_at: datetime, why: Why = "ended") -> End:
    """An end as it is told at a moment; told at another one it is another end."""
    parts = (stream_id, rendition, at.isoformat(), why, told_at.isoformat())
    id = sha256("\n".join(parts).encode(errors="replace")).hexdigest()[:32]
    return End(id=id, stream_id=stream_id, rendition=rendition, at=at, why=why)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mask:
    """A time that rules look away from: either from one moment to another, or every day between two times, UTC."""

    name: str
    # names of rules, kinds of rules, or signals; globs
    excuses: tuple[str, ...] = ("*",)
    stream: tuple[str, ...] = ("*",)
    rendition: tuple[str, ...] = ("*",)
    begins: datetime | None = None
    ends: datetime | None = None
    daily_from: time | None = None
    daily_until: time | None = None

    def __post_init__(self) -> None:
        once, daily = (self.begins, self.ends), (self.daily_from, self.daily_until)
        if (None in once) == (None in daily) or (None in once and once != (None, None)) or (
            None in daily and daily != (None, None)
        ):  # fmt: skip
            raise ValueError("a mask has either from and until, or daily_from and daily_until")
        for moment in once:
            if moment is not None and moment.utcoffset() != timedelta(0):
                raise ValueError(f"from and until must be UTC, like 2026-11-20T20:00:00Z, got {moment}")
        if self.begins is not None and self.ends is not None and self.ends <= self.begins:
            raise ValueError("until must be after from")
        if self.daily_from is not None and self.daily_from == self.daily_until:
            raise ValueError("daily_from and daily_until must differ")

    def excuses_any(self, *words: str) -> bool:
        """Whether a rule of this name, kind or signal is meant."""
        return any(fnmatchcase(word, glob) for word in words if word for glob in self.excuses)

    def fits(self, stream_id: str, rendition: str) -> bool:
        """Whether a rendition is meant."""
        return any(fnmatchcase(stream_id, glob) for glob in self.stream) and any(
            fnmatchcase(rendition, glob) for glob in self.rendition
        )

    def covered_seconds(self, at: float, until: float) -> float:
        """How much of a stretch of time (seconds since the epoch) lies under the mask."""
        if self.begins is not None and self.ends is not None:
            return max(min(until, self.ends.timestamp()) - max(at, self.begins.timestamp()), 0.0)
        assert self.daily_from is not None
        assert self.daily_until is not None
        first, last = _seconds(self.daily_from), _seconds(self.daily_until)
        length = (last - first) % DAY_SECONDS
        covered = 0.0
        day = (at - DAY_SECONDS) // DAY_SECONDS * DAY_SECONDS
        while day <= until:
            covered += max(min(until, day + first + length) - max(at, day + first), 0.0)
            day += DAY_SECONDS
        return covered


def masked_seconds(masks: Iterable[Mask], at: float, until: float) -> float:
    """How much of a stretch of time lies under any of the masks; at least a moment of a stretch without length."""
    until = max(until, at + 1e-6)
    return min(sum(mask.covered_seconds(at, until) for mask in masks), until - at)


def _seconds(moment: time) -> float:
    return moment.hour * 3600.0 + moment.minute * 60.0 + moment.second
