"""Finds the reference of each segment of a stream in a second playlist, or in another rendition of its own playlist."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from vqmon.core.types import Reference, ReferenceComparison, Segment
from vqmon.errors import SegmentError
from vqmon.media.fetch.fetcher import Fetcher
from vqmon.media.fetch.ssrf_policy import redact_url
from vqmon.media.sources.loader import PlaylistLoader, open_playlist
from vqmon.media.sources.media_playlist import MediaPlaylist, PlaylistEntry, Track

MAX_WAIT_SECONDS = 3.0
"""How long a segment waits for its reference when a live playlist does not list it yet."""

_POLL_SECONDS = 0.5
_ERROR_SECONDS = 2.0
"""How long the error of a playlist stands before it is loaded anew."""

_STALE_TARGETS = 3

_T = TypeVar("_T")


class _CachedPlaylist:
    """One rendition's playlist, loaded when something is not in it, at most every half target duration."""

    def __init__(
        self, load: Callable[[datetime], Coroutine[None, None, MediaPlaylist]], now: Callable[[], datetime]
    ) -> None:
        self._load, self._now = load, now
        self._playlist: MediaPlaylist | None = None
        self._error: SegmentError | None = None
        self._loaded_at, self._progress_at = now(), now()
        self._lock = asyncio.Lock()

    async def find(self, choose: Callable[[MediaPlaylist], _T | None]) -> _T | None:
        """What `choose` finds in the playlist; raises SegmentError("playlist") while that cannot be had."""
        async with self._lock:
            if self._playlist is not None and (found := await asyncio.to_thread(choose, self._playlist)) is not None:
                return found
            if self._is_due():
                await self._reload()
            if self._error is not None:
                raise self._error
            assert self._playlist is not None
            return await asyncio.to_thread(choose, self._playlist)

    def may_list(self, position: "_Position") -> bool:
        """Whether a segment that is not listed may be listed soon: it is newer, and segments have come lately."""
        playlist = self._playlist
        if playlist is None or playlist.is_ended or not playlist.entries:
            return False
        stale = timedelta(seconds=_STALE_TARGETS * playlist.target_seconds)
        return self._now() - self._progress_at < stale and position.is_after(playlist.entries[-1])

    def _is_due(self) -> bool:
        if self._error is not None:
            seconds = _ERROR_SECONDS
        elif self._playlist is None:
            return True
        elif self._playlist.is_ended:
            return False
        else:
            seconds = min(MAX_WAIT_SECONDS, self._playlist.target_seconds / 2)
        return self._now() - self._loaded_at >= timedelta(seconds=seconds)

    async def _reload(self) -> None:
        newest = self._playlist.entries[-1:] if self._playlist else ()
        self._loaded_at, self._error = self._now(), None
        try:
            self._playlist = await self._load(self._loaded_at)
        except SegmentError as error:
            self._error = error
            return
        if self._playlist.entries[-1:] != newest:
            self._progress_at = self._loaded_at


class ReferencePlaylist:
    """The playlist at `url` as the reference of the stream at `stream_url`; both are fetched under one policy.

    `rendition` names the one that is the reference; "" = the largest. A segment is paired by its date where both
    playlists state dates, else by its time after the first segment where both have ended, else by its media sequence
    number. The comparison of the pictures refuses what was paired wrongly.
    """

    def __init__(
        self,
        url: str,
        *,
        stream_url: str,
        rendition: str = "",
        fetcher: Fetcher,
        now: Callable[[], datetime],
        sleep: Callable[[float], Coroutine[None, None, None]] = asyncio.sleep,
    ) -> None:
        self._url, self._stream_url, self._rendition = url, stream_url, rendition
        self._fetcher, self._now, self._sleep = fetcher, now, sleep
        self._loaders: dict[str, PlaylistLoader] = {}
        self._reference = _CachedPlaylist(self._load_reference, now)
        # name of the reference rendition, once it has been loaded
        self._reference_name = ""
        # the stream's own playlists, by rendition
        self._own: dict[str, _CachedPlaylist] = {}

    async def find(self, segment: Segment) -> Reference | ReferenceComparison | None:
        """The reference of a segment, or why there is none; None for a segment of the reference rendition itself."""
        position = await self._position_of(segment)
        waited = 0.0
        while True:
            try:
                entry = await self._reference.find(position.partner_in)
            except SegmentError as error:
                return ReferenceComparison(unscored="fetch", detail=f"{redact_url(self._url)}: {error.detail}")
            if self._url == self._stream_url and segment.rendition.name == self._reference_name:
                return None
            if entry is not None or waited >= MAX_WAIT_SECONDS or not self._reference.may_list(position):
                break
            await self._sleep(_POLL_SECONDS)
            waited += _POLL_SECONDS
        if entry is None:
            return self._missing("lists no segment of this time and number")
        if entry.is_gap:
            return self._missing("marks the segment as missing (EXT-X-GAP)")
        return Reference(
            url=entry.url,
            byte_range=entry.byte_range,
            init_url=entry.init_url,
            init_byte_range=entry.init_byte_range,
            encryption=entry.encryption,
        )

    def _missing(self, what: str) -> ReferenceComparison:
        detail = f"rendition {self._reference_name} of {redact_url(self._url)} {what}"
        return ReferenceComparison(unscored="missing", detail=detail)

    async def _position_of(self, segment: Segment) -> "_Position":
        """Where the segment is in its own playlist; by the segment alone when that does not list it."""
        name = segment.rendition.name
        own = self._own.setdefault(name, _CachedPlaylist(partial(self._load, self._stream_url, name), self._now))
        try:
            located = await own.find(partial(_locate, segment))
        except SegmentError:
            located = None
        return located or _Position(
            sequence=segment.sequence,
            starts_at=segment.starts_at,
            offset_seconds=None,
            duration_seconds=segment.duration_seconds,
        )

    async def _load_reference(self, now: datetime) -> MediaPlaylist:
        if not self._reference_name:
            tracks = await (await self._loader(self._url)).load_tracks()
            self._reference_name = _choose_track(tracks, self._rendition).name
        return await self._load(self._url, self._reference_name, now)

    async def _load(self, url: str, name: str, now: datetime) -> MediaPlaylist:
        return await (await self._loader(url)).load_playlist(name, now)

    async def _loader(self, url: str) -> PlaylistLoader:
        if url not in self._loaders:
            self._loaders[url] = await open_playlist(url, self._fetcher)
        return self._loaders[url]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Position:
    """What a segment is paired by."""

    # in the numbers of its own playlist
    sequence: int
    # None when its playlist states no dates
    starts_at: datetime | None
    # after the first segment of its playlist; None unless that has ended
    offset_seconds: float | None
    duration_seconds: float

    def is_after(self, entry: PlaylistEntry) -> bool:
        """Whether the segment begins after the middle of an entry, or has a higher number where dates are missing."""
        if self.starts_at is None or entry.starts_at is None:
            return self.sequence > entry.sequence
        return (self.starts_at - entry.starts_at).total_seconds() > entry.duration_seconds / 2

    def partner_in(self, playlist: MediaPlaylist) -> PlaylistEntry | None:
        """The entry that covers most of the segment, at least half of the shorter of both; or that of its number."""
        entries = playlist.entries
        if self.starts_at is not None and entries and entries[0].starts_at is not None:
            starts = [
                None if entry.starts_at is None else (entry.starts_at - self.starts_at).total_seconds()
                for entry in entries
            ]
        elif self.offset_seconds is not None and playlist.is_ended:
            starts = [start - self.offset_seconds for start in _offsets(playlist)]
        else:
            return next((entry for entry in reversed(entries) if entry.sequence == self.sequence), None)
        best, longest = None, 0.0
        for entry, start in zip(entries, starts, strict=True):
            if start is None:
                continue
            covered = min(start + entry.duration_seconds, self.duration_seconds) - max(start, 0.0)
            if covered > longest and covered >= 0.5 * min(entry.duration_seconds, self.duration_seconds):
                best, longest = entry, covered
        return best


def _locate(segment: Segment, playlist: MediaPlaylist) -> _Position | None:
    """The position of a segment in its own playlist; None when it is not listed."""
    path = segment.url.partition("?")[0]
    for index in range(len(playlist.entries) - 1, -1, -1):
        entry = playlist.entries[index]
        # tokens in the query may change from load to load
        if entry.url.partition("?")[0] == path and entry.byte_range == segment.byte_range:
            return _Position(
                sequence=entry.sequence,
                starts_at=entry.starts_at,
                offset_seconds=_offsets(playlist)[index] if playlist.is_ended else None,
                duration_seconds=entry.duration_seconds,
            )
    return None


def _offsets(playlist: MediaPlaylist) -> list[float]:
    """Seconds from the start of the first segment to that of each."""
    offsets, seconds = [], 0.0
    for entry in playlist.entries:
        offsets.append(seconds)
        seconds += entry.duration_seconds
    return offsets


def _choose_track(tracks: tuple[Track, ...], name: str) -> Track:
    if not name:
        return max(tracks, key=lambda track: (track.height or 0, track.bitrate_kbps or 0))
    for track in tracks:
        if track.name == name:
            return track
    listed = ", ".join(track.name for track in tracks)
    raise SegmentError("playlist", f"there is no rendition {name!r} for reference_rendition; there are: {listed}")
