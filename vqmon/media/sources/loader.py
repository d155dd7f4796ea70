"""Loading of playlists: fetches and parses what a playlist URL offers, and reloads it on request."""

import asyncio
import codecs
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Literal, Protocol

from vqmon.errors import FetchError, SegmentError
from vqmon.media.fetch.fetcher import FetchedResource, Fetcher
from vqmon.media.sources.dash.clock import PresentationClock
from vqmon.media.sources.dash.links import MAX_LINKS, RemoteDocument
from vqmon.media.sources.dash.manifest import Manifest
from vqmon.media.sources.dash.parser import parse_mpd
from vqmon.media.sources.dash.sidx import IndexLocation, Subsegment, load_index
from vqmon.media.sources.hls.low_latency import LowLatencyReloads
from vqmon.media.sources.hls.master import MasterPlaylist
from vqmon.media.sources.hls.parser import parse_hls
from vqmon.media.sources.media_playlist import MediaPlaylist, Origin, SubtitleTrack, Track, with_mirrors
from vqmon.media.sources.steering import ContentSteering, SteeringServer

_PLAYLIST_MAX_BYTES = 16_000_000
_LINK_MAX_BYTES = 1_000_000
SNIFF_BYTES = 65_536

# The lanes of one MPD reload it at nearly the same time: one reload serves all of them.
_SHARED_RELOAD = timedelta(seconds=1)

# comments and tags may stand before EXTM3U, which must be first; some playlists lack it
_HLS_START = re.compile(r"(?:#(?!EXT)[^\n]*\n\s*)*#EXT(?:M3U|INF:|-X-)")
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

    async def load_audio(self, name: str, now: datetime) -> MediaPlaylist | None:
        """The playlist of the sound of the named rendition; None when its own segments have it, or there is none.

        Raises SegmentError("playlist").
        """
        ...

    async def subtitle_tracks(self, name: str, now: datetime) -> tuple[SubtitleTrack, ...]:
        """The renditions of subtitles that are offered for the named rendition; raises SegmentError("playlist")."""
        ...

    async def load_subtitles(self, name: str, track: SubtitleTrack, now: datetime) -> MediaPlaylist:
        """The playlist of one of the `subtitle_tracks` of the named rendition; raises SegmentError("playlist")."""
        ...


def detect_kind(body: bytes) -> DocumentKind:
    """Detect the kind of a document from the beginning of its content, not from its name."""
    start = _decode_text(body[:SNIFF_BYTES]).lstrip()
    if _HLS_START.match(start):
        return "hls"
    return "dash" if start.startswith("<") and _MPD_ROOT.search(start) else "other"


def _decode_text(body: bytes) -> str:
    """UTF-8, as HLS requires, or UTF-16 with a byte order mark; what is neither costs its own characters."""
    encoding = "utf-16" if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8"
    return body.decode(encoding, "replace").lstrip("\ufeff")


async def open_playlist(url: str, fetcher: Fetcher) -> PlaylistLoader:
    """Fetch a playlist and return the loader for its kind; raises SegmentError("playlist")."""
    document = await _fetch_document(url, fetcher)
    kind = detect_kind(document.body)
    if kind == "hls":
        return _HlsLoader(url, fetcher, document)
    if kind == "dash":
        return _DashLoader(url, fetcher, document)
    raise SegmentError("playlist", "neither an HLS playlist nor a DASH MPD; `vqmon score` takes media files")


class _HlsLoader:
    """A master playlist and its media playlists, or one media playlist by itself."""

    def __init__(self, url: str, fetcher: Fetcher, document: FetchedResource) -> None:
        self._url = url
        self._fetcher = fetcher
        #  the kind need not be fetched twice
        self._first_document: FetchedResource | None = document
        self._variables: Mapping[str, str] = {}
        self._origins: dict[str, tuple[Origin, ...]] = {}
        # of each rendition whose sound has a playlist of its own
        self._audio_urls: dict[str, str] = {}
        self._subtitles: dict[str, tuple[SubtitleTrack, ...]] = {}
        self._server: SteeringServer | None = None
        self._steering = ContentSteering(fetcher)
        self._warnings: tuple[str, ...] = ()
        # of each rendition the origin that answered last
        self._chosen: dict[str, Origin] = {}
        self._reloads: dict[str, LowLatencyReloads] = {}
        self._looking_up = asyncio.Lock()

    async def load_tracks(self) -> tuple[Track, ...]:
        """The renditions of the master playlist, or `main` when this is a media playlist."""
        document, self._first_document = self._first_document or await _fetch_document(self._url, self._fetcher), None
        playlist = await asyncio.to_thread(_parse_hls_document, document, self._variables)
        if isinstance(playlist, MasterPlaylist):
            self._variables, self._server = playlist.variables, playlist.steering
            self._warnings = playlist.warnings
            self._origins = {track.name: track.origins for track in playlist.tracks}
            self._audio_urls = {track.name: track.audio_url for track in playlist.tracks if track.audio_url}
            self._subtitles = {track.name: track.subtitles for track in playlist.tracks}
            return playlist.tracks
        self._origins = {"main": (Origin(url=self._url),)}
        return (Track(name="main", url=self._url),)

    async def _look_up(self, name: str) -> None:
        """Find out where the named rendition is, unless that is known; for all who ask at the same time once."""
        async with self._looking_up:
            if name not in self._origins:
                await self.load_tracks()

    async def load_playlist(self, name: str, now: datetime) -> MediaPlaylist:
        """Load the rendition's playlist from the first of its origins that answers.

        After a failure of all of them their URLs are looked up again, because they may have changed.
        """
        await self._look_up(name)
        if name not in self._origins:
            raise SegmentError("playlist", f"there is no rendition {name!r}; there are: {', '.join(self._origins)}")
        await self._steering.refresh(self._server, now)
        origins = self._steering.order(self._origins[name])
        if self._server is None and (chosen := self._chosen.get(name)) in origins:
            # a server that works is not left for one that did not a moment ago
            origins.sort(key=lambda origin: origin != chosen)
        playlist, origin = await self._load_from(origins, name, now)
        self._chosen[name] = origin
        others = [other for other in origins if other != origin]
        warnings = (*self._warnings, *([self._steering.warning] if self._steering.warning else []))
        return replace(
            playlist,
            entries=with_mirrors(playlist.entries, others) if others else playlist.entries,
            warnings=(*warnings, *playlist.warnings),
        )

    async def load_audio(self, name: str, now: datetime) -> MediaPlaylist | None:
        """Load the playlist of the sound; after a failure its URL is looked up again, because it may have changed."""
        await self._look_up(name)
        url = self._audio_urls.get(name)
        try:
            return await self._load_media(url) if url else None
        except SegmentError:
            self._origins.pop(name, None)
            raise

    async def subtitle_tracks(self, name: str, now: datetime) -> tuple[SubtitleTrack, ...]:
        """Those of the subtitle group of the variant."""
        await self._look_up(name)
        return self._subtitles.get(name, ())

    async def load_subtitles(self, name: str, track: SubtitleTrack, now: datetime) -> MediaPlaylist:
        """Load the playlist of the subtitles; after a failure its URL is looked up again."""
        listed = {each.name: each for each in await self.subtitle_tracks(name, now)}
        if track.name not in listed:
            raise SegmentError("playlist", f"the master playlist does not list the subtitles {track.name!r} any more")
        try:
            return await self._load_media(listed[track.name].url)
        except SegmentError:
            self._origins.pop(name, None)
            raise

    async def _load_from(self, origins: Sequence[Origin], name: str, now: datetime) -> tuple[MediaPlaylist, Origin]:
        errors: list[SegmentError] = []
        for origin in origins:
            try:
                return await self._reload(origin, name, now), origin
            except SegmentError as error:
                errors.append(error)
        self._origins.pop(name, None)
        raise SegmentError("playlist", "; ".join(error.detail for error in errors)) from None

    async def _reload(self, origin: Origin, name: str, now: datetime) -> MediaPlaylist:
        reloads = self._reloads.setdefault(name, LowLatencyReloads())
        url = reloads.url(origin.url, now)
        try:
            return reloads.complete(await self._load_media(url), now)
        except SegmentError:
            if url == origin.url:
                raise
            reloads.refuse()
        return reloads.complete(await self._load_media(origin.url), now)

    async def _load_media(self, url: str) -> MediaPlaylist:
        document = await _fetch_document(url, self._fetcher)
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
        self._remote: dict[str, RemoteDocument] = {}
        self._steering = ContentSteering(fetcher)
        self._clock = PresentationClock(fetcher)

    async def load_tracks(self) -> tuple[Track, ...]:
        """Every video representation."""
        return (await self._load_manifest(None)).tracks

    async def load_playlist(self, name: str, now: datetime) -> MediaPlaylist:
        """The segments that the named representation lists now."""
        manifest = await self._load_manifest(now)
        if name not in self._tracks:
            raise SegmentError("playlist", f"there is no rendition {name!r}; there are: {', '.join(self._tracks)}")
        return await self._list_segments(manifest, self._tracks[name], now)

    async def load_audio(self, name: str, now: datetime) -> MediaPlaylist | None:
        """The segments that the adaptation set of the sound lists now; it is the same for every rendition."""
        manifest = (await self._load_manifest(now)).sound
        return await self._list_segments(manifest, manifest.tracks[0], now) if manifest.tracks else None

    async def subtitle_tracks(self, name: str, now: datetime) -> tuple[SubtitleTrack, ...]:
        """The adaptation sets of subtitles; they are the same for every rendition."""
        return (await self._load_manifest(now)).subtitles

    async def load_subtitles(self, name: str, track: SubtitleTrack, now: datetime) -> MediaPlaylist:
        """The segments that the adaptation set lists now."""
        manifest = (await self._load_manifest(now)).of_subtitles(track.name)
        if not manifest.tracks:
            raise SegmentError("playlist", f"the MPD does not list the subtitles {track.name!r} any more")
        return await self._list_segments(manifest, manifest.tracks[0], now)

    async def _list_segments(self, manifest: Manifest, track: Track, now: datetime) -> MediaPlaylist:
        await self._steering.refresh(manifest.steering, now)
        for location in manifest.index_locations(track):
            if location not in self._indexes:
                self._indexes[location] = await load_index(location, self._fetcher)
        time = await self._clock.correct(now, manifest.clocks)
        order = self._steering.order
        playlist = await asyncio.to_thread(manifest.media_playlist, track, time, self._indexes, order=order)
        warnings = [warning for warning in (self._steering.warning, self._clock.warning) if warning]
        return replace(playlist, warnings=(*playlist.warnings, *warnings))

    async def _load_manifest(self, now: datetime | None) -> Manifest:
        async with self._reload_lock:
            if self._manifest and (now is None or (self._loaded_at and abs(now - self._loaded_at) < _SHARED_RELOAD)):
                return self._manifest
            first, self._first_document = self._first_document, None
            document = first or await _fetch_document(self._url, self._fetcher)
            # In a thread, as all parsing here: an MPD with a day of segments takes long to parse.
            manifest = await asyncio.to_thread(parse_mpd, document.body, document.url)
            if manifest.links:
                await self._load_links(manifest.links)
                manifest = await asyncio.to_thread(parse_mpd, document.body, document.url, remote=self._remote)
            self._manifest, self._loaded_at = manifest, now
            self._url = manifest.location if manifest.location != document.url else self._url
            for track in manifest.tracks:
                self._tracks.setdefault(track.name, track)
            return manifest

    async def _load_links(self, urls: Sequence[str]) -> None:
        """Fetch the remote elements of an MPD within the fetch policy, each once unless that fails."""
        documents = {url: self._remote[url] for url in urls if url in self._remote and not self._remote[url].error}
        for url in urls[:MAX_LINKS]:
            if url in documents:
                continue
            try:
                fetched = await self._fetcher.get(url, max_bytes=_LINK_MAX_BYTES)
                documents[url] = RemoteDocument(body=fetched.body)
            except FetchError as error:
                documents[url] = RemoteDocument(error=str(error))
        self._remote = documents


async def _fetch_document(url: str, fetcher: Fetcher) -> FetchedResource:
    try:
        return await fetcher.get(url, max_bytes=_PLAYLIST_MAX_BYTES)
    except FetchError as error:
        raise SegmentError("playlist", str(error)) from None


def _parse_hls_document(document: FetchedResource, variables: Mapping[str, str]) -> MasterPlaylist | MediaPlaylist:
    if detect_kind(document.body) != "hls":
        raise SegmentError("playlist", "not an HLS playlist: it does not begin with #EXTM3U or another tag")
    return parse_hls(_decode_text(document.body), document.url, variables=variables)
