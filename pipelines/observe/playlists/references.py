"""Finds the reference of each segment of a stream in a second playlist, or in another rendition of its own playlist."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from functools import partial

from pipelines.observe.playlists.positions import CachedPlaylist, OwnPlaylists, Sleep, find_when_listed
from vqmon.core.types import Reference, ReferenceComparison, Segment
from vqmon.errors import SegmentError
from vqmon.media.fetch.fetcher import Fetcher
from vqmon.media.fetch.ssrf_policy import redact_url
from vqmon.media.sources.loader import PlaylistLoader, open_playlist
from vqmon.media.sources.media_playlist import MediaPlaylist, Track


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
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._url, self._stream_url, self._rendition = url, stream_url, rendition
        self._fetcher, self._now, self._sleep = fetcher, now, sleep
        self._loaders: dict[str, PlaylistLoader] = {}
        self._reference = CachedPlaylist(self._load_reference, now)
        # name of the reference rendition, once it has been loaded
        self._reference_name = ""
        self._own = OwnPlaylists(partial(self._load, stream_url), now)

    async def find(self, segment: Segment) -> Reference | ReferenceComparison | None:
        """The reference of a segment, or why there is none; None for a segment of the reference rendition itself."""
        position = await self._own.position_of(segment)
        try:
            if self._url == self._stream_url:
                # the name of the reference rendition is known when its playlist has been loaded
                await self._reference.find(position.partner_in)
                if segment.rendition.name == self._reference_name:
                    return None
            entry = await find_when_listed(self._reference, position, position.partner_in, sleep=self._sleep)
        except SegmentError as error:
            return ReferenceComparison(unscored="fetch", detail=f"{redact_url(self._url)}: {error.detail}")
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


def _choose_track(tracks: tuple[Track, ...], name: str) -> Track:
    if not name:
        return max(tracks, key=lambda track: (track.height or 0, track.bitrate_kbps or 0))
    for track in tracks:
        if track.name == name:
            return track
    listed = ", ".join(track.name for track in tracks)
    raise SegmentError("playlist", f"there is no rendition {name!r} for reference_rendition; there are: {listed}")
