"""Playlist address -> tracks and listings: fetches what is to be read, and reads it again when asked."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal, Protocol

from vqmon.errors import FetchError, SegmentError
from vqmon.media.fetch.fetcher import Fetched, Fetcher
from vqmon.media.sources.dash.manifest import Manifest, parse_mpd
from vqmon.media.sources.dash.segments import IndexPlace
from vqmon.media.sources.dash.sidx import IndexedPart, parse_sidx
from vqmon.media.sources.hls import Master, parse_hls
from vqmon.media.sources.listing import Listing, Track

PLAYLIST_MAX_BYTES = 16_000_000
INDEX_MAX_BYTES = 4_000_000
SNIFF_BYTES = 65_536

# The lanes of one MPD read it at nearly the same moments: once is enough for all of them.
_SHARED = timedelta(seconds=1)

_MPD_ROOT = re.compile(r"<(\w+:)?MPD[\s>]")

Kind = Literal["hls", "dash", "other"]


class Pages(Protocol):
    """What one address offers: tracks, and for each of them a listing."""

    async def tracks(self) -> tuple[Track, ...]:
        """Every video rendition."""
        ...

    async def listing(self, name: str, now: datetime) -> Listing:
        """What the named rendition lists now."""
        ...


def kind_of(body: bytes) -> Kind:
    """Told from the beginning of the content, never from its name."""
    head = body[:SNIFF_BYTES].decode("utf-8", "replace").removeprefix("\ufeff").lstrip()
    if head.startswith("#EXTM3U"):
        return "hls"
    return "dash" if head.startswith("<") and _MPD_ROOT.search(head) else "other"


async def open_pages(url: str, fetcher: Fetcher) -> Pages:
    """Find out what kind of playlist is there; raises SegmentError("playlist")."""
    page = await _page(url, fetcher)
    kind = kind_of(page.body)
    if kind == "hls":
        return HlsPages(url, fetcher, page)
    if kind == "dash":
        return DashPages(url, fetcher, page)
    raise SegmentError("playlist", "neither an HLS playlist nor a DASH MPD")


class HlsPages:
    """A master playlist and its media playlists, or one media playlist by itself."""

    def __init__(self, url: str, fetcher: Fetcher, page: Fetched) -> None:
        self._url = url
        self._fetcher = fetcher
        # the page that told the kind need not be fetched twice
        self._page: Fetched | None = page
        self._variables: Mapping[str, str] = {}
        self._urls: dict[str, str] = {}

    async def tracks(self) -> tuple[Track, ...]:
        """The renditions of the master playlist, or `main` when this is a media playlist."""
        page, self._page = self._page or await _page(self._url, self._fetcher), None
        read = await asyncio.to_thread(_hls, page, self._variables)
        if isinstance(read, Master):
            self._variables = read.variables
            self._urls = {track.name: track.url for track in read.tracks}
            return read.tracks
        self._urls = {"main": self._url}
        return (Track(name="main", url=self._url),)

    async def listing(self, name: str, now: datetime) -> Listing:
        """Read the rendition's playlist; after a failure its address is looked up anew, for it may have changed."""
        if name not in self._urls:
            await self.tracks()
        if name not in self._urls:
            raise SegmentError("playlist", f"there is no rendition {name!r}; there are: {', '.join(self._urls)}")
        try:
            page = await _page(self._urls[name], self._fetcher)
        except SegmentError:
            self._urls.pop(name, None)
            raise
        read = await asyncio.to_thread(_hls, page, self._variables)
        if isinstance(read, Master):
            raise SegmentError("playlist", "a master playlist stands where a media playlist should be")
        return read


class DashPages:
    """An MPD with all its representations."""

    def __init__(self, url: str, fetcher: Fetcher, page: Fetched) -> None:
        self._url = url
        self._fetcher = fetcher
        self._page: Fetched | None = page
        self._manifest: Manifest | None = None
        self._read_at: datetime | None = None
        self._reading = asyncio.Lock()
        # a track keeps what it was at first sight, though names may change with the periods
        self._tracks: dict[str, Track] = {}
        self._indexes: dict[IndexPlace, Sequence[IndexedPart]] = {}

    async def tracks(self) -> tuple[Track, ...]:
        """Every video representation."""
        return (await self._read(None)).tracks

    async def listing(self, name: str, now: datetime) -> Listing:
        """What the named representation lists now."""
        manifest = await self._read(now)
        if name not in self._tracks:
            raise SegmentError("playlist", f"there is no rendition {name!r}; there are: {', '.join(self._tracks)}")
        track = self._tracks[name]
        places = manifest.indexes(track)
        for place in places:
            if place not in self._indexes:
                self._indexes[place] = await self._index(place)
        return await asyncio.to_thread(manifest.listing, track, now, self._indexes)

    async def _read(self, now: datetime | None) -> Manifest:
        async with self._reading:
            if self._manifest and (now is None or (self._read_at and now - self._read_at < _SHARED)):
                return self._manifest
            page, self._page = self._page or await _page(self._url, self._fetcher), None
            # In a thread, as everywhere here: a day of segments takes a while to read.
            self._manifest = await asyncio.to_thread(parse_mpd, page.body, page.url)
            self._read_at = now
            self._url = self._manifest.location if self._manifest.location != page.url else self._url
            for track in self._manifest.tracks:
                self._tracks.setdefault(track.name, track)
            return self._manifest

    async def _index(self, place: IndexPlace) -> Sequence[IndexedPart]:
        try:
            page = await self._fetcher.get(place.url, max_bytes=INDEX_MAX_BYTES, byte_range=place.byte_range)
        except FetchError as error:
            raise SegmentError("playlist", f"the index cannot be had: {error}") from None
        return parse_sidx(page.body, offset_bytes=place.byte_range.offset_bytes)


async def _page(url: str, fetcher: Fetcher) -> Fetched:
    try:
        return await fetcher.get(url, max_bytes=PLAYLIST_MAX_BYTES)
    except FetchError as error:
        raise SegmentError("playlist", str(error)) from None


def _hls(page: Fetched, variables: Mapping[str, str]) -> Master | Listing:
    if kind_of(page.body) != "hls":
        raise SegmentError("playlist", "not an HLS playlist: it does not begin with #EXTM3U")
    return parse_hls(page.body.decode("utf-8", "replace").removeprefix("\ufeff"), page.url, variables=variables)
