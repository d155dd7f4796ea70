"""The contents of a playlist at one time, independent of HLS and DASH, and the parsing that both share."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from urllib.parse import urljoin, urlsplit

from vqmon.core.types import ByteRange, Encryption, Mirror, Rendition, public_url
from vqmon.errors import SegmentError
from vqmon.media.fetch.content import is_data_url

MAX_ENTRIES = 100_000
"""The most segments that are accepted in one playlist: 55 hours of 2 s each."""

_PLAIN_NAME = re.compile(r"(?:[a-z0-9_][a-z0-9_.=,()~+-]*/){0,9}[a-z0-9_][a-z0-9_.=,()~+-]*", re.IGNORECASE | re.ASCII)

MAX_TRACKS = 1000
MAX_SUBTITLES = 32
"""The most renditions of subtitles that are followed for one rendition of video; more are left out with a warning."""

_MAX_MIRRORS = 4
_CODEC_SEPARATORS = re.compile(r"[,;]")
_ABSOLUTE = re.compile(r"https?://", re.IGNORECASE)
_MAX_WARNINGS = 20
_MAX_URL_CHARACTERS = 8192
_MAX_NAME_CHARACTERS = 80
_MAX_DATA_URL_CHARACTERS = 4_000_000
"""A `data:` URL holds the media itself; larger segments have files of their own."""
MAX_SEQUENCE = 2**62
_MAX_DURATION_SECONDS = 86_400.0
SOUND_CODECS = ("mp4a", "ac-3", "ec-3", "ac-4", "opus", "flac", "alac", "mp3", "dts", "mhm1", "mha1")
"""How the names of sound codecs (RFC 6381) begin."""
SUBTITLE_CODECS = ("wvtt", "stpp", "ttml", "webvtt", "im1t")
_NO_VIDEO_CODECS = (*SOUND_CODECS, *SUBTITLE_CODECS, *("tx3g", "c608", "c708"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """One of several servers that offer the same media."""

    # of the media playlist; in DASH the base URL
    url: str
    # what content steering calls it: PATHWAY-ID in HLS, serviceLocation in DASH
    pathway: str = ""


class ParseWarnings:
    """Collects what a playlist says that could not be used, without an end for a playlist that is all wrong."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._count = 0

    def add(self, text: str) -> None:
        """Add a warning; beyond `_MAX_WARNINGS` they are only counted."""
        self._count += 1
        if len(self._texts) < _MAX_WARNINGS:
            self._texts.append(text)

    @property
    def texts(self) -> tuple[str, ...]:
        """The warnings, the last one with the number of those that are left out."""
        more = self._count - len(self._texts)
        return (*self._texts, f"and {more} more") if more else tuple(self._texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class SubtitleTrack:
    """One rendition of subtitles that a master playlist or an MPD offers for a rendition of video."""

    # its language and what tells it from others of that language; unique for the rendition of video
    name: str
    language: str = ""
    # of its media playlist; for DASH of the MPD
    url: str = ""
    # only what must be shown to everybody, such as foreign dialogue, so that long spans without a cue are usual
    is_forced: bool = False


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
    # content steering's name of the server behind `url`
    pathway: str = ""
    # further servers with the same media playlist, in order
    backups: tuple[Origin, ...] = ()
    # of the media playlist with its sound; "" = the sound is in its own segments, or in DASH in a set of its own
    audio_url: str = ""
    # of HLS; those of DASH are the same for every rendition
    subtitles: tuple[SubtitleTrack, ...] = ()

    @property
    def origins(self) -> tuple[Origin, ...]:
        """All servers of the track, in the order of the playlist."""
        return (Origin(url=self.url, pathway=self.pathway), *self.backups)

    @property
    def urls(self) -> tuple[str, ...]:
        """The URLs of `origins`."""
        return tuple(origin.url for origin in self.origins)

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
class AdCue:
    """An ad break begins or goes on with a segment, or has ended before it."""

    begins: bool
    # to the end of the break; 0 = it lasts until the next cue
    seconds: float = 0.0


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
    # why the playlist does not tell where the segment is, with line and tag; empty for a usable entry
    problem: str = ""
    # the URLs as they are written in the playlist, relative to it or to the base URL; None: not known
    reference: str | None = None
    init_reference: str = ""
    # the same media on other servers
    mirrors: tuple[Mirror, ...] = ()
    ad_cue: AdCue | None = None
    # what timestamps of the media are ahead of the times of the playlist (DASH presentationTimeOffset)
    media_offset_seconds: float = 0.0
    # its start on the timeline of the presentation (DASH); None: it follows the entry before it
    presentation_seconds: float | None = None
    # the playlist tells the times of an ad break, and it begins within them
    is_ad_break: bool = False

    @property
    def media_location(self) -> tuple[str, int]:
        """(host and path, byte offset or -1), which identify the media of an entry; the query of the URL may change."""
        if is_data_url(self.url):
            return public_url(self.url), -1
        parts = urlsplit(self.url)
        return f"{parts.hostname or ''}{parts.path}", self.byte_range.offset_bytes if self.byte_range else -1


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryDirectives:
    """What a low-latency HLS server offers for its playlist, and how far the segment is that is being made."""

    # the server answers a request for a part when that part is there
    can_block: bool = False
    # 0: there are no parts
    part_seconds: float = 0.0
    # segments that are further from the end may be left out; 0: none
    skip_until_seconds: float = 0.0
    # the segment that is being made, and how many of its parts are listed
    next_sequence: int = 0
    next_part: int = 0
    # segments left out of this playlist, which the one before it listed
    skipped_segments: int = 0
    has_keys: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenEntry:
    """The segment that is being made, as far as a low-latency playlist lists it."""

    sequence: int
    # what can be decoded: from the newest part that begins with a key picture on
    parts: tuple[PlaylistEntry, ...]
    # from the start of the segment to that of the first of `parts`
    offset_seconds: float = 0.0
    # usual length of what is added at a time; 0 when the playlist does not tell
    part_seconds: float = 0.0
    # the one part is the segment itself, which its server sends as it is made (DASH)
    is_growing: bool = False
    # the part that will follow, which may be requested before it is there
    hint: PlaylistEntry | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaPlaylist:
    """The segments that the playlist of one rendition lists, oldest first."""

    entries: Sequence[PlaylistEntry]
    # maximum duration of a segment
    target_seconds: float
    # no segment will be added
    is_ended: bool
    # False: the sequence numbers only count the entries from 0
    is_numbered: bool = True
    # None: no low-latency HLS
    delivery: DeliveryDirectives | None = None
    # None: nothing is there of the next segment, or no low latency
    open_entry: OpenEntry | None = None
    # from the start of one reload to the next, for low latency; None: as RFC 8216 6.3.4 says
    reload_seconds: float | None = None
    # what the playlist says that could not be used
    warnings: tuple[str, ...] = ()


def subtitle_name(language: str, label: str) -> str:
    """What a rendition of subtitles is called: its language and its label, as far as they are stated."""
    text = " ".join(dict.fromkeys(part.strip() for part in (language, label) if part.strip()))
    return "".join(character for character in text if character.isprintable())[:_MAX_NAME_CHARACTERS] or "subtitles"


def quote_value(text: str) -> str:
    """A value for messages: in quotes, printable, at most 40 characters."""
    return f'"{text[:40]}"' if text.isprintable() else ascii(text[:40])


def resolve_url(base: str, reference: str) -> str:
    """Resolve a URL reference in a playlist against the playlist's own URL; raises SegmentError("playlist").

    A playlist from a server must not refer to local files.
    """
    reference = reference.strip()
    if is_data_url(reference):
        if len(reference) > _MAX_DATA_URL_CHARACTERS:
            raise SegmentError("playlist", f"a data: URL of more than {_MAX_DATA_URL_CHARACTERS} characters")
        return reference
    if len(reference) > _MAX_URL_CHARACTERS:
        raise SegmentError("playlist", f"a URL of more than {_MAX_URL_CHARACTERS} characters")
    if is_data_url(base) and not _ABSOLUTE.match(reference):
        raise SegmentError("playlist", "a playlist in a data: URL must name addresses in full")
    # A fast path: a playlist of a day has 43,200 URLs that are resolved at each reload, nearly all are plain names.
    if _PLAIN_NAME.fullmatch(reference):
        return _base_folder(base) + reference
    try:
        url = urljoin(base, reference)
        parts = urlsplit(url)
        _ = parts.hostname
    except ValueError:
        raise SegmentError("playlist", "an invalid URL") from None
    if not url or (_is_http_url(base) and parts.scheme in ("", "file")):
        raise SegmentError("playlist", "a playlist of a server must not refer to a local file")
    return url


def with_mirrors(entries: Sequence[PlaylistEntry], others: Sequence[Origin]) -> list[PlaylistEntry]:
    """The entries with their media on other servers, where their URLs are relative to the playlist's.

    `others` are media playlists of the same rendition; copies of a stream have the same names below them.
    """
    return [replace(entry, mirrors=_mirrors(entry, others)) if _is_relative(entry) else entry for entry in entries]


def _is_relative(entry: PlaylistEntry) -> bool:
    return entry.reference is not None and not any(
        urlsplit(reference).scheme or urlsplit(reference).netloc
        for reference in (entry.reference, entry.init_reference)
    )


def _mirrors(entry: PlaylistEntry, others: Sequence[Origin]) -> tuple[Mirror, ...]:
    mirrors = []
    for other in others[:_MAX_MIRRORS]:
        url = resolve_url(other.url, entry.reference or "")
        init_url = None
        if entry.init_url:
            fragment = urlsplit(entry.init_url).fragment
            init_url = resolve_url(other.url, entry.init_reference) + (f"#{fragment}" if fragment else "")
        if url != entry.url:
            mirrors.append(Mirror(url=url, init_url=init_url))
    return tuple(mirrors)


@lru_cache(maxsize=256)
def _base_folder(base: str) -> str:
    try:
        return urljoin(base, "x")[:-1]
    except ValueError:
        raise SegmentError("playlist", "the playlist's own URL is invalid") from None


def _is_http_url(url: str) -> bool:
    """Whether a URL has the scheme http or https."""
    return urlsplit(url).scheme in ("http", "https")


def has_only_other_codecs(codecs: str) -> bool:
    """Whether a list of codecs (RFC 6381) names sound or text and nothing else; an empty list does not.

    Packagers part them with semicolons and spaces too.
    """
    names = _CODEC_SEPARATORS.sub(" ", codecs.lower()).split()
    return bool(names) and all(name.startswith(_NO_VIDEO_CODECS) for name in names)


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
        time = datetime.fromisoformat(text.strip().upper())
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
