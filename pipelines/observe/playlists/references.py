"""Finds the reference of each segment of a stream in a second playlist, or in another rendition of its own playlist."""

import asyncio
from collections.abc import Callable
from datetime import datetime

from pipelines.observe.playlists.positions import CachedPlaylist, Sleep, StreamPlaylist, find_when_listed
from vqmon.core.types import Reference, ReferenceComparison, Segment
from vqmon.errors import SegmentError
from vqmon.media.fetch.fetcher import Fetcher
from vqmon.media.fetch.ssrf_policy import redact_url
from vqmon.media.sources.media_playlist import MediaPlaylist, Track


class ReferencePlaylist:
    """The playlist at `url` as the reference of a stream; both are fetched under one policy.

    `rendition` names the one that is the reference; "" = the largest. A segment is paired by its date where both
    playlists state dates, else by its time after the first segment where both have ended, else by its media sequence
    number. The comparison of the pictures refuses what was paired wrongly.
    """

    def __init__(
        self,
        url: str,
        *,
        stream: StreamPlaylist,
        rendition: str = "",
        fetcher: Fetcher,
        now: Callable[[], datetime],
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._stream, self._rendition, self._sleep = stream, rendition, sleep
        is_own = url == stream.url
        self._playlists = stream if is_own else StreamPlaylist(url, fetcher=fetcher, now=now)
        self._reference = CachedPlaylist(self._load_reference, now)
        # name of the reference rendition, once it has been loaded
        self._reference_name = ""

    async def find(self, segment: Segment) -> Reference | ReferenceComparison | None:
        """The reference of a segment, or why there is none; None for a segment of the reference rendition itself."""
        position = await self._stream.position_of(segment)
        try:
            if self._playlists is self._stream:
                # the name of the reference rendition is known when its playlist has been loaded
                await self._reference.find(position.partner_in)
                if segment.rendition.name == self._reference_name:
                    return None
            entry = await find_when_listed(self._reference, position, position.partner_in, sleep=self._sleep)
        except SegmentError as error:
            return ReferenceComparison(unscored="fetch", detail=f"{redact_url(self._playlists.url)}: {error.detail}")
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
        detail = f"rendition {self._reference_name} of {redact_url(self._playlists.url)} {what}"
        return ReferenceComparison(unscored="missing", detail=detail)

    async def _load_reference(self, now: datetime) -> MediaPlaylist:
        loader = await self._playlists.opened()
        if not self._reference_name:
            self._reference_name = _choose_track(await loader.load_tracks(), self._rendition).name
        return await loader.load_playlist(self._reference_name, now)


def _choose_track(tracks: tuple[Track, ...], name: str) -> Track:
    if not name:
        return max(tracks, key=lambda track: (track.height or 0, track.bitrate_kbps or 0))
    for track in tracks:
        if track.name == name:
            return track
    listed = ", ".join(track.name for track in tracks)
    raise SegmentError("playlist", f"there is no rendition {name!r} for reference_rendition; there are: {listed}")
