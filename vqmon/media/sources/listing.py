"""What a playlist says at one moment, whether it came as HLS or as DASH."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from urllib.parse import urljoin, urlsplit

from vqmon.core.types import ByteRange, Encryption, Rendition
from vqmon.errors import SegmentError

MAX_LISTED = 100_000
"""More segments than this in one playlist is nonsense: 55 hours of 2 s."""

_PLAIN_NAME = re.compile(r"(?:[a-z0-9_][a-z0-9_.=,()~+-]*/){0,9}[a-z0-9_][a-z0-9_.=,()~+-]*", re.IGNORECASE | re.ASCII)

MAX_TRACKS = 1000
MAX_ADDRESS = 8192
MAX_SEQUENCE = 2**62
MAX_DURATION_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """One video rendition that a master playlist or an MPD offers."""

    name: str
    # where its media playlist is; for DASH the address of the MPD
    url: str
    # what DASH calls it
    id: str = ""
    width: int | None = None
    height: int | None = None
    bitrate_kbps: float | None = None
    codecs: str | None = None

    def rendition(self, stream_id: str, labels: Mapping[str, str]) -> Rendition:
        """This track as a Rendition of a stream."""
        return Rendition(
            stream_id=stream_id,
            name=self.name,
            width=self.width,
            height=self.height,
            bitrate_kbps=self.bitrate_kbps,
            codecs=self.codecs,
            labels=labels,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One line of a playlist: a segment that is, or was, or will never be there."""

    sequence: int
    # what the segment after this one is expected to have
    next_sequence: int
    url: str
    duration_seconds: float
    # None when the playlist does not tell
    starts_at: datetime | None = None
    byte_range: ByteRange | None = None
    init_url: str | None = None
    init_byte_range: ByteRange | None = None
    encryption: Encryption | None = None
    is_discontinuity: bool = False
    # the packager says that there are no bytes
    is_gap: bool = False

    @property
    def place(self) -> tuple[str, int]:
        """Tells one piece of media from another: the path without its query, and where in it."""
        parts = urlsplit(self.url)
        return f"{parts.hostname or ''}{parts.path}", self.byte_range.offset_bytes if self.byte_range else -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """All that one rendition's playlist lists, oldest first."""

    entries: Sequence[Listed]
    # how long a segment is, at most
    target_seconds: float
    # nothing will ever be added
    is_ended: bool


def resolve(base: str, reference: str) -> str:
    """An address inside a playlist, made whole; raises SegmentError("playlist").

    What comes from a server must not point to files of this machine.
    """
    reference = reference.strip()
    if len(reference) > MAX_ADDRESS:
        raise SegmentError("playlist", "the playlist holds an address longer than any real one")
    # A day of segments is 43,200 addresses, read anew with each look: nearly all of them are plain names.
    if _PLAIN_NAME.fullmatch(reference):
        return _folder_of(base) + reference
    try:
        url = urljoin(base, reference)
        parts = urlsplit(url)
        _ = parts.hostname
    except ValueError:
        raise SegmentError("playlist", "the playlist holds something that is no address") from None
    if not url or (is_remote(base) and parts.scheme in ("", "file")):
        raise SegmentError("playlist", "the playlist points to a file of this machine")
    return url


@lru_cache(maxsize=256)
def _folder_of(base: str) -> str:
    try:
        return urljoin(base, "x")[:-1]
    except ValueError:
        raise SegmentError("playlist", "the playlist's own address is none") from None


def is_remote(url: str) -> bool:
    """Whether an address leads to a server."""
    return urlsplit(url).scheme in ("http", "https")


def seconds_of(value: object) -> float:
    """A duration that can be counted with; 0 (unknown) for nonsense."""
    try:
        seconds = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return seconds if math.isfinite(seconds) and 0 <= seconds <= MAX_DURATION_SECONDS else 0.0


def moment_of(text: str) -> datetime | None:
    """An ISO 8601 moment as aware UTC; without a zone it is taken as UTC, nonsense is None."""
    try:
        moment = datetime.fromisoformat(text.strip())
        moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return real(moment)


def real(moment: datetime | None) -> datetime | None:
    """The moment, unless it is so far off that counting on from it could leave the calendar."""
    return moment if moment and 1970 <= moment.year < 2200 else None


def later(moment: datetime, seconds: float) -> datetime:
    """`moment` plus seconds; raises SegmentError("playlist") outside of what a calendar holds."""
    try:
        return moment + timedelta(seconds=seconds)
    except (OverflowError, ValueError):
        raise SegmentError("playlist", "the playlist counts time beyond the calendar") from None


def with_names(tracks: Sequence[Track], hints: Sequence[str] = ()) -> tuple[Track, ...]:
    """Name the tracks: the playlist's own name, else height, made unique by bitrate, codec and place in the list.

    The name depends on the track and on those it could be mistaken for only, so it survives a restart.
    """
    texts = list(hints) or [""] * len(tracks)
    named = [_plain(text) or _by_size(track) for track, text in zip(tracks, texts, strict=True)]
    for more in _MORE:
        named = [
            f"{name}-{more(track)}" if named.count(name) > 1 and more(track) else name
            for name, track in zip(named, tracks, strict=True)
        ]
    seen: dict[str, int] = {}
    out = []
    for name, track in zip(named, tracks, strict=True):
        seen[name] = seen.get(name, 0) + 1
        out.append(replace(track, name=name if seen[name] == 1 else f"{name}-{seen[name]}"))
    return tuple(out)


def _plain(text: str) -> str:
    """A name without what would read as a border between names."""
    return " ".join(text.replace("/", " ").split())[:80]


def _by_size(track: Track) -> str:
    if track.height:
        return f"{track.height}p"
    return _kbps(track) or "main"


def _kbps(track: Track) -> str:
    return f"{track.bitrate_kbps:.0f}k" if track.bitrate_kbps else ""


def _codec(track: Track) -> str:
    return (track.codecs or "").split(",")[0].split(".")[0].strip()


_MORE: tuple[Callable[[Track], str], ...] = (_kbps, _codec)
