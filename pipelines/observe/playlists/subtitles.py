"""Tells of each segment of a stream what the subtitles that its playlist offers hold at that time."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from functools import partial

from pipelines.observe.addresses import Fetch, segment_at
from pipelines.observe.playlists.positions import (
    CachedPlaylist,
    LocatedEntry,
    Position,
    Sleep,
    StreamPlaylist,
    find_when_listed,
)
from vqmon.core.types import Segment, SubtitleFacts
from vqmon.errors import SegmentError
from vqmon.flow import run_concurrently
from vqmon.media.ancillary.subtitles import count_cues
from vqmon.media.sources.media_playlist import MediaPlaylist, PlaylistEntry, SubtitleTrack

_MAX_PARTS = 16
_MAX_COUNTED = 64
"""The segments of each rendition of subtitles whose cues are remembered: all renditions of the video ask for them."""

_MAX_DETAIL_CHARACTERS = 200


class SubtitlePlaylists:
    """The subtitles that the playlist of a stream offers, each segment of them fetched once.

    They are paired with the pictures as sound is: by the dates of both playlists where they have them, else by the time
    after the first segment where both have ended, else by the media sequence number.
    """

    def __init__(
        self, stream: StreamPlaylist, *, fetch: Fetch, now: Callable[[], datetime], sleep: Sleep = asyncio.sleep
    ) -> None:
        self._stream, self._fetch, self._now, self._sleep = stream, fetch, now, sleep
        # by rendition of the video, as they were first listed: what is not listed any more is missed
        self._tracks: dict[str, tuple[SubtitleTrack, ...]] = {}
        # by URL and name: renditions of the video mostly share them
        self._followed: dict[tuple[str, str], _FollowedSubtitles] = {}

    async def find(self, segment: Segment) -> tuple[SubtitleFacts, ...]:
        """What each rendition of subtitles holds at the time of a segment; empty where the playlist offers none.

        Raises SegmentError("playlist") when it is not known which there are.
        """
        name = segment.rendition.name
        if name not in self._tracks:
            self._tracks[name] = await (await self._stream.opened()).subtitle_tracks(name, self._now())
        tracks = self._tracks[name]
        if not tracks:
            return ()
        position = await self._stream.position_of(segment)
        return tuple(
            await run_concurrently(self._follow(name, track).facts(segment, position, self._fetch) for track in tracks)
        )

    def _follow(self, name: str, track: SubtitleTrack) -> "_FollowedSubtitles":
        key = track.url or self._stream.url, track.name
        if key not in self._followed:
            playlist = CachedPlaylist(partial(self._load, name, track), self._now)
            self._followed[key] = _FollowedSubtitles(track, playlist, sleep=self._sleep)
        return self._followed[key]

    async def _load(self, name: str, track: SubtitleTrack, now: datetime) -> MediaPlaylist:
        return await (await self._stream.opened()).load_subtitles(name, track, now)


class _FollowedSubtitles:
    """One rendition of subtitles, and how many cues its newest segments have."""

    def __init__(self, track: SubtitleTrack, playlist: CachedPlaylist, *, sleep: Sleep) -> None:
        self._track, self._playlist, self._sleep = track, playlist, sleep
        # cues, or what is wrong, by what identifies a segment
        self._counted: OrderedDict[tuple[object, ...], int | tuple[str, str]] = OrderedDict()
        self._lock = asyncio.Lock()

    async def facts(self, segment: Segment, position: Position, fetch: Fetch) -> SubtitleFacts:
        """What it holds at the time of a segment of the video."""
        try:
            located = await find_when_listed(self._playlist, position, partial(_choose, position), sleep=self._sleep)
        except SegmentError as error:
            return self._facts("unavailable", error.detail)
        if located is None:
            return self._facts("missing", "its playlist lists nothing of this time")
        cues = 0
        for each in located:
            counted = await self._count(segment, each.entry, fetch)
            if not isinstance(counted, int):
                return self._facts(*counted)
            cues += counted
        return self._facts("", "", cues=cues)

    def _facts(self, problem: str, detail: str, *, cues: int = 0) -> SubtitleFacts:
        return SubtitleFacts(
            name=self._track.name,
            language=self._track.language,
            is_forced=self._track.is_forced,
            cues=cues,
            problem=problem,
            detail=detail[:_MAX_DETAIL_CHARACTERS],
        )

    async def _count(self, segment: Segment, entry: PlaylistEntry, fetch: Fetch) -> int | tuple[str, str]:
        key = (entry.sequence, *entry.media_location)
        async with self._lock:
            if key not in self._counted:
                self._counted[key] = await _count_entry(segment, entry, fetch)
                if len(self._counted) > _MAX_COUNTED:
                    self._counted.popitem(last=False)
            return self._counted[key]


async def _count_entry(segment: Segment, entry: PlaylistEntry, fetch: Fetch) -> int | tuple[str, str]:
    """The cues of a segment of subtitles, or the problem and its detail."""
    if entry.is_gap:
        return "missing", "its playlist marks this segment as missing (EXT-X-GAP)"
    if entry.problem:
        return "unavailable", entry.problem
    try:
        media = await fetch(segment_at(segment, entry))
    except SegmentError as error:
        return ("missing" if error.reason == "not_found" else "unavailable"), str(error)
    try:
        return await asyncio.to_thread(count_cues, media)
    except ValueError as error:
        return "unreadable", str(error)


def _choose(position: Position, playlist: MediaPlaylist) -> list[LocatedEntry] | None:
    return position.covering_in(playlist)[:_MAX_PARTS] or None
