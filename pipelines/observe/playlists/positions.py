"""Where a segment is in a playlist, and which segments of another playlist cover the same time."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from vqmon.core.types import Segment
from vqmon.errors import SegmentError
from vqmon.media.fetch.fetcher import Fetcher
from vqmon.media.sources.loader import PlaylistLoader, open_playlist
from vqmon.media.sources.media_playlist import MediaPlaylist, PlaylistEntry

MAX_WAIT_SECONDS = 3.0
"""How long a segment waits for what belongs to it when a live playlist does not list that yet."""

_POLL_SECONDS = 0.5
ERROR_SECONDS = 2.0
"""How long the error of a playlist stands before it is loaded anew."""

_STALE_TARGETS = 3

Sleep = Callable[[float], Coroutine[None, None, None]]
_T = TypeVar("_T")


class CachedPlaylist:
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

    def may_list(self, position: "Position") -> bool:
        """Whether a segment that is not listed may be listed soon: it is newer, and segments have come lately."""
        playlist = self._playlist
        if playlist is None or playlist.is_ended or not playlist.entries:
            return False
        stale = timedelta(seconds=_STALE_TARGETS * playlist.target_seconds)
        return abs(self._now() - self._progress_at) < stale and position.is_after(playlist.entries[-1])

    def _is_due(self) -> bool:
        if self._error is not None:
            seconds = ERROR_SECONDS
        elif self._playlist is None:
            return True
        elif self._playlist.is_ended:
            return False
        else:
            seconds = min(MAX_WAIT_SECONDS, self._playlist.target_seconds / 2)
        # a clock may be set back
        return abs(self._now() - self._loaded_at) >= timedelta(seconds=seconds)

    async def _reload(self) -> None:
        newest = self._playlist.entries[-1:] if self._playlist else ()
        self._loaded_at, self._error = self._now(), None
        try:
            self._playlist = await self._load(self._loaded_at)
        except SegmentError as error:
            # from its end on: a load may take longer to fail than its error stands
            self._error, self._loaded_at = error, self._now()
            return
        if self._playlist.entries[-1:] != newest:
            self._progress_at = self._loaded_at


async def find_when_listed(
    playlist: CachedPlaylist, position: "Position", choose: Callable[[MediaPlaylist], _T | None], *, sleep: Sleep
) -> _T | None:
    """What `choose` finds, also a little later when the playlist may list it soon; raises SegmentError("playlist")."""
    waited = 0.0
    while True:
        found = await playlist.find(choose)
        if found is not None or waited >= MAX_WAIT_SECONDS or not playlist.may_list(position):
            return found
        await sleep(_POLL_SECONDS)
        waited += _POLL_SECONDS


class _OwnPlaylists:
    """The playlists of a stream's own renditions, by which its segments are located."""

    def __init__(
        self, load: Callable[[str, datetime], Coroutine[None, None, MediaPlaylist]], now: Callable[[], datetime]
    ) -> None:
        self._load, self._now = load, now
        self._playlists: dict[str, CachedPlaylist] = {}

    async def position_of(self, segment: Segment) -> "Position":
        """Where the segment is in the playlist of its rendition; by the segment alone when that does not list it."""
        name = segment.rendition.name
        own = self._playlists.setdefault(name, CachedPlaylist(partial(self._load, name), self._now))
        try:
            located = await own.find(partial(_locate, segment))
        except SegmentError:
            located = None
        return located or Position(
            sequence=segment.sequence,
            starts_at=segment.starts_at,
            offset_seconds=None,
            duration_seconds=segment.duration_seconds,
        )


class StreamPlaylist:
    """The playlist of a stream at `url`, which is opened once, when it is first needed."""

    def __init__(self, url: str, *, fetcher: Fetcher, now: Callable[[], datetime]) -> None:
        self.url, self._fetcher = url, fetcher
        self._loader: PlaylistLoader | None = None
        self._opening = asyncio.Lock()
        self._own = _OwnPlaylists(self._load_own, now)

    async def opened(self) -> PlaylistLoader:
        """What loads it; raises SegmentError("playlist")."""
        async with self._opening:
            if self._loader is None:
                self._loader = await open_playlist(self.url, self._fetcher)
            return self._loader

    async def position_of(self, segment: Segment) -> "Position":
        """Where the segment is in the playlist of its rendition; by the segment alone when that does not list it."""
        return await self._own.position_of(segment)

    async def _load_own(self, name: str, now: datetime) -> MediaPlaylist:
        return await (await self.opened()).load_playlist(name, now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """What the segments of two playlists are paired by."""

    # in the numbers of its own playlist
    sequence: int
    # None when its playlist states no dates
    starts_at: datetime | None
    # after the first segment of its playlist; None unless that has ended
    offset_seconds: float | None
    duration_seconds: float
    # what timestamps of its media are ahead of the times of its playlist
    media_offset_seconds: float = 0.0

    def is_after(self, entry: PlaylistEntry) -> bool:
        """Whether the segment begins after the middle of an entry, or has a higher number where dates are missing."""
        if self.starts_at is None or entry.starts_at is None:
            return self.sequence > entry.sequence
        return (self.starts_at - entry.starts_at).total_seconds() > entry.duration_seconds / 2

    def partner_in(self, playlist: MediaPlaylist) -> PlaylistEntry | None:
        """The entry that covers most of the segment, at least half of the shorter of both; or that of its number."""
        covering = self.covering_in(playlist)
        return max(covering, key=self._covered_seconds).entry if covering else None

    def covering_in(self, playlist: MediaPlaylist) -> "list[LocatedEntry]":
        """The entries that share at least half of the shorter of both with the segment; or the one of its number."""
        entries = playlist.entries
        if self.starts_at is not None and entries and entries[0].starts_at is not None:
            starts = [
                None if entry.starts_at is None else (entry.starts_at - self.starts_at).total_seconds()
                for entry in entries
            ]
        elif self.offset_seconds is not None and playlist.is_ended:
            starts = [start - self.offset_seconds for start in _offsets(playlist)]
        else:
            numbered = next((entry for entry in reversed(entries) if entry.sequence == self.sequence), None)
            return [LocatedEntry(entry=numbered, starts_seconds=None)] if numbered else []
        located = [
            LocatedEntry(entry=entry, starts_seconds=start)
            for entry, start in zip(entries, starts, strict=True)
            if start is not None
        ]
        return [
            each
            for each in located
            if self._covered_seconds(each) >= max(1e-6, 0.5 * min(each.entry.duration_seconds, self.duration_seconds))
        ]

    def _covered_seconds(self, located: "LocatedEntry") -> float:
        start = located.starts_seconds or 0.0
        return min(start + located.entry.duration_seconds, self.duration_seconds) - max(start, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocatedEntry:
    """An entry of another playlist that belongs to a segment."""

    entry: PlaylistEntry
    # after the start of the segment; None when it was paired by its number
    starts_seconds: float | None


def _locate(segment: Segment, playlist: MediaPlaylist) -> Position | None:
    """The position of a segment in its own playlist; None when it is not listed, or not as one entry."""
    path = segment.url.partition("?")[0]
    # Tokens in the query may change from load to load; a query may also be all that tells segments apart.
    candidates = [
        (entry.url == segment.url, entry.sequence == segment.sequence, index)
        for index, entry in enumerate(playlist.entries)
        if entry.url.partition("?")[0] == path and entry.byte_range == segment.byte_range
    ]
    if not candidates or (len(candidates) > 1 and not any(max(candidates)[:2])):
        return None
    index = max(candidates)[2]
    entry = playlist.entries[index]
    return Position(
        sequence=entry.sequence,
        starts_at=entry.starts_at,
        offset_seconds=_offsets(playlist)[index] if playlist.is_ended else None,
        duration_seconds=entry.duration_seconds,
        media_offset_seconds=entry.media_offset_seconds,
    )


def _offsets(playlist: MediaPlaylist) -> list[float]:
    """Seconds from the start of the first segment to that of each."""
    offsets: list[float] = []
    first = playlist.entries[0].presentation_seconds if playlist.entries else None
    seconds = 0.0
    for entry in playlist.entries:
        if entry.presentation_seconds is not None and first is not None:
            seconds = entry.presentation_seconds - first
        offsets.append(seconds)
        seconds += entry.duration_seconds
    return offsets
