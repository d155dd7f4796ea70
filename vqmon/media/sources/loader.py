"""Loading of playlists: fetches and parses what a playlist URL offers, and reloads it on request."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal, Protocol

from vqmon.errors import FetchError, SegmentError
from vqmon.media.fetch.fetcher import FetchedResource, Fetcher
from vqmon.media.sources.dash.manifest import Manifest, parse_mpd
from vqmon.media.sources.dash.segments import IndexLocation
from vqmon.media.sources.dash.sidx import Subsegment, parse_sidx
from vqmon.media.sources.hls import MasterPlaylist, parse_hls
from vqmon.media.sources.media_playlist import MediaPlaylist, Track

_PLAYLIST_MAX_BYTES = 16_000_000
_INDEX_MAX_BYTES = 4_000_000
SNIFF_BYTES = 65_536

# The lanes of one MPD reload it at nearly the same time: one reload serves all of them.
_SHARED_RELOAD = timedelta(seconds=1)

_MPD_ROOT = re.compile(r"<(\w+:)?MPD[\s>]")

DocumentKind = Literal["hls", "dash", "other"]


class PlaylistLoader(Protocol):
    """The tracks that a playlist URL offers, and the media playlist of each of them."""

    async def load_tracks(self) -> tuple[Track, ...]:
        """Every video rendition; raises SegmentError("playlist")."""
        ...

    async def load_playlist(self, name: str, now: datetime) -> MediaPlaylist:
        """The current playlist of the named rendition; raises SegmentError("playlist")."""
        ...


def detect_kind(body: bytes) -> DocumentKind:
    """Detect the kind of a document from the beginning of its content, not from its name."""
    start = body[:SNIFF_BYTES].decode("utf-8", "replace").removeprefix("\ufeff").lstrip()
    if start.startswith("#EXTM3U"):
        return "hls"
    return "dash" if start.startswith("<") and _MPD_ROOT.search(start) else "other"


async def open_playlist(url: str, fetcher: Fetcher) -> PlaylistLoader:
    """Fetch a playlist and return the loader for its kind; raises SegmentError("playlist")."""
    document = await _fetch_document(url, fetcher)
    kind = detect_kind(document.body)
    if kind == "hls":
        return _HlsLoader(url, fetcher, document)
    if kind == "dash":
        return _DashLoader(url, fetcher, document)
    raise SegmentError("playlist", "neither an HLS playlist nor a DASH MPD")


class _HlsLoader:
    """A master playlist and its media playlists, or one media playlist by itself."""

    def __init__(self, url: str, fetcher: Fetcher, document: FetchedResource) -> None:
        self._url = url
        self._fetcher = fetcher
        #  the kind need not be fetched twice
        self._first_document: FetchedResource | None = document
        self._variables: Mapping[str, str] = {}
        self._urls: dict[str, str] = {}

    async def load_tracks(self) -> tuple[Track, ...]:
        """The renditions of the master playlist, or `main` when this is a media playlist."""
        document, self._first_document = self._first_document or await _fetch_document(self._url, self._fetcher), None
        playlist = await asyncio.to_thread(_parse_hls_document, document, self._variables)
        if isinstance(playlist, MasterPlaylist):
            self._variables = playlist.variables
            self._urls = {track.name: track.url for track in playlist.tracks}
            return playlist.tracks
        self._urls = {"main": self._url}
        return (Track(name="main", url=self._url),)

    async def load_playlist(self, name: str, now: datetime) -> MediaPlaylist:
        """Load the rendition's playlist; after a failure its URL is looked up again, because it may have changed."""
        if name not in self._urls:
            await self.load_tracks()
        if name not in self._urls:
            raise SegmentError("playlist", f"there is no rendition {name!r}; there are: {', '.join(self._urls)}")
        try:
            document = await _fetch_document(self._urls[name], self._fetcher)
        except SegmentError:
            self._urls.pop(name, None)
            raise
        playlist = await asyncio.to_thread(_parse_hls_document, document, self._variables)
        if isinstance(playlist, MasterPlaylist):
            raise SegmentError("playlist", "a master playlist was found instead of a media playlist")
        return playlist


class _DashLoader:
    """An MPD with all its representations."""

    def __init__(self, url: str, fetcher: Fetcher, document: FetchedResource) -> None:
        self._url = url
        self._fetcher = fetcher
        self._first_document: FetchedResource | None = document
        self._manifest: Manifest | None = None
        self._loaded_at: datetime | None = None
        self._reload_lock = asyncio.Lock()
        # tracks as they were first loaded: their names stay the same though they may change with the periods
        self._tracks: dict[str, Track] = {}
        self._indexes: dict[IndexLocation, Sequence[Subsegment]] = {}

    async def load_tracks(self) -> tuple[Track, ...]:
        """Every video representation."""
        return (await self._load_manifest(None)).tracks

    async def load_playlist(self, name: str, now: datetime) -> MediaPlaylist:
        """The segments that the named representation lists now."""
        manifest = await self._load_manifest(now)
        if name not in self._tracks:
            raise SegmentError("playlist", f"there is no rendition {name!r}; there are: {', '.join(self._tracks)}")
        track = self._tracks[name]
        for location in manifest.index_locations(track):
            if location not in self._indexes:
                self._indexes[location] = await self._load_index(location)
        return await asyncio.to_thread(manifest.media_playlist, track, now, self._indexes)

    async def _load_manifest(self, now: datetime | None) -> Manifest:
        async with self._reload_lock:
            if self._manifest and (now is None or (self._loaded_at and now - self._loaded_at < _SHARED_RELOAD)):
                return self._manifest
            first, self._first_document = self._first_document, None
            document = first or await _fetch_document(self._url, self._fetcher)
            # In a thread, as all parsing here: an MPD with a day of segments takes long to parse.
            self._manifest = await asyncio.to_thread(parse_mpd, document.body, document.url)
            self._loaded_at = now
            self._url = self._manifest.location if self._manifest.location != document.url else self._url
            for track in self._manifest.tracks:
                self._tracks.setdefault(track.name, track)
            return self._manifest

    async def _load_index(self, location: IndexLocation) -> Sequence[Subsegment]:
        try:
            document = await self._fetcher.get(location.url, max_bytes=_INDEX_MAX_BYTES, byte_range=location.byte_range)
        except FetchError as error:
            raise SegmentError("playlist", f"the index cannot be fetched: {error}") from None
        return parse_sidx(document.body, offset_bytes=location.byte_range.offset_bytes)


async def _fetch_document(url: str, fetcher: Fetcher) -> FetchedResource:
    try:
        return await fetcher.get(url, max_bytes=_PLAYLIST_MAX_BYTES)
    except FetchError as error:
        raise SegmentError("playlist", str(error)) from None


def _parse_hls_document(document: FetchedResource, variables: Mapping[str, str]) -> MasterPlaylist | MediaPlaylist:
    if detect_kind(document.body) != "hls":
        raise SegmentError("playlist", "not an HLS playlist: it does not begin with #EXTM3U")
    return parse_hls(document.body.decode("utf-8", "replace").removeprefix("\ufeff"), document.url, variables=variables)
