"""The contents of a playlist at one time, independent of HLS and DASH, and the parsing that both share."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from urllib.parse import urljoin, urlsplit

from vqmon.core.types import ByteRange, Encryption, Rendition
from vqmon.errors import SegmentError

MAX_ENTRIES = 100_000
"""The most segments that are accepted in one playlist: 55 hours of 2 s each."""

_PLAIN_NAME = re.compile(r"(?:[a-z0-9_][a-z0-9_.=,()~+-]*/){0,9}[a-z0-9_][a-z0-9_.=,()~+-]*", re.IGNORECASE | re.ASCII)

MAX_TRACKS = 1000
_MAX_URL_CHARACTERS = 8192
MAX_SEQUENCE = 2**62
_MAX_DURATION_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """One video rendition in a master playlist or an MPD."""

    name: str
    # of its media playlist; for DASH of the MPD
    url: str
    # Representation@id in DASH
    id: str = ""
    width: int | None = None
    height: int | None = None
    bitrate_kbps: float | None = None
    codecs: str | None = None

    def to_rendition(self, stream_id: str, labels: Mapping[str, str]) -> Rendition:
        """Return the Rendition of a stream that this track is."""
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
class PlaylistEntry:
    """One segment in a playlist, present or declared missing."""

    sequence: int
    # the sequence number expected of the segment after this one
    next_sequence: int
    url: str
    duration_seconds: float
    # None when the playlist gives no time
    starts_at: datetime | None = None
    byte_range: ByteRange | None = None
    init_url: str | None = None
    init_byte_range: ByteRange | None = None
    encryption: Encryption | None = None
    is_discontinuity: bool = False
    # the packager declares that the segment is missing
    is_gap: bool = False

    @property
    def media_location(self) -> tuple[str, int]:
        """(host and path, byte offset or -1), which identify the media of an entry; the query of the URL may change."""
        parts = urlsplit(self.url)
        return f"{parts.hostname or ''}{parts.path}", self.byte_range.offset_bytes if self.byte_range else -1


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaPlaylist:
    """The segments that the playlist of one rendition lists, oldest first."""

    entries: Sequence[PlaylistEntry]
    # maximum duration of a segment
    target_seconds: float
    # no segment will be added
    is_ended: bool


def resolve_url(base: str, reference: str) -> str:
    """Resolve a URL reference in a playlist against the playlist's own URL; raises SegmentError("playlist").

    A playlist from a server must not refer to local files.
    """
    reference = reference.strip()
    if len(reference) > _MAX_URL_CHARACTERS:
        raise SegmentError("playlist", "the playlist holds a URL that is too long")
    # A fast path: a playlist of a day has 43,200 URLs that are resolved at each reload, nearly all are plain names.
    if _PLAIN_NAME.fullmatch(reference):
        return _base_folder(base) + reference
    try:
        url = urljoin(base, reference)
        parts = urlsplit(url)
        _ = parts.hostname
    except ValueError:
        raise SegmentError("playlist", "the playlist holds an invalid URL") from None
    if not url or (_is_http_url(base) and parts.scheme in ("", "file")):
        raise SegmentError("playlist", "the playlist refers to a local file")
    return url


@lru_cache(maxsize=256)
def _base_folder(base: str) -> str:
    try:
        return urljoin(base, "x")[:-1]
    except ValueError:
        raise SegmentError("playlist", "the playlist's own URL is invalid") from None


def _is_http_url(url: str) -> bool:
    """Whether a URL has the scheme http or https."""
    return urlsplit(url).scheme in ("http", "https")


def parse_seconds(value: object) -> float:
    """Seconds as a finite number within a day; 0 (unknown) for anything else."""
    try:
        seconds = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return seconds if math.isfinite(seconds) and 0 <= seconds <= _MAX_DURATION_SECONDS else 0.0


def parse_timestamp(text: str) -> datetime | None:
    """Parse an ISO 8601 time to aware UTC; without a zone UTC is assumed. None for anything else."""
    try:
        time = datetime.fromisoformat(text.strip())
        time = (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return plausible_time(time)


def plausible_time(time: datetime | None) -> datetime | None:
    """The time if its year is within 1970..2199, else None, so that adding durations cannot overflow."""
    return time if time and 1970 <= time.year < 2200 else None


def add_seconds(time: datetime, seconds: float) -> datetime:
    """`time` plus seconds; raises SegmentError("playlist") when the result overflows."""
    try:
        return time + timedelta(seconds=seconds)
    except (OverflowError, ValueError):
        raise SegmentError("playlist", "a time in the playlist is out of range") from None


def assign_names(tracks: Sequence[Track], hints: Sequence[str] = ()) -> tuple[Track, ...]:
    """Name the tracks by the playlist's names (`hints`), else by height, made unique by bitrate, codec and position.

    A name depends only on the track and on tracks with the same hint or height, so it is the same after a restart.
    """
    texts = list(hints) or [""] * len(tracks)
    names = [_clean_name(text) or _size_name(track) for track, text in zip(tracks, texts, strict=True)]
    for suffix in _SUFFIXES:
        names = [
            f"{name}-{suffix(track)}" if names.count(name) > 1 and suffix(track) else name
            for name, track in zip(names, tracks, strict=True)
        ]
    counts: dict[str, int] = {}
    named_tracks = []
    for name, track in zip(names, tracks, strict=True):
        counts[name] = counts.get(name, 0) + 1
        named_tracks.append(replace(track, name=name if counts[name] == 1 else f"{name}-{counts[name]}"))
    return tuple(named_tracks)


def _clean_name(text: str) -> str:
    """A name without slashes, which separate the parts of a rendition's key, and with single blanks."""
    return " ".join(text.replace("/", " ").split())[:80]


def _size_name(track: Track) -> str:
    if track.height:
        return f"{track.height}p"
    return _kbps(track) or "main"


def _kbps(track: Track) -> str:
    return f"{track.bitrate_kbps:.0f}k" if track.bitrate_kbps else ""


def _codec(track: Track) -> str:
    return (track.codecs or "").split(",")[0].split(".")[0].strip()


_SUFFIXES: tuple[Callable[[Track], str], ...] = (_kbps, _codec)
