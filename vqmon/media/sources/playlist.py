"""A source that follows an HLS or DASH playlist, live or VOD, with one lane of segments per rendition."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from vqmon.core.types import LaneCursor, Rendition, Segment, failure_from_error, public_url
from vqmon.errors import SegmentError
from vqmon.flow import StoppableSleep, wait_or_stop
from vqmon.media.fetch.fetcher import Fetcher
from vqmon.media.fetch.ssrf_policy import decode_url_path, printable
from vqmon.media.sources.folder import FolderSource
from vqmon.media.sources.follower import OpenSegment, PlaylistFollower, SegmentOrFailure, StartPosition
from vqmon.media.sources.loader import SNIFF_BYTES, PlaylistLoader, detect_kind, open_playlist
from vqmon.media.sources.media_playlist import MediaPlaylist, Track
from vqmon.media.sources.staleness import StalenessMonitor
from vqmon.retry import Backoff

__all__ = ["DiscoveredSegments", "FolderSource", "Lane", "PlaylistSource", "discover_segments", "list_segments"]

_RELOAD_MIN_SECONDS = 0.5
_RELOAD_MAX_SECONDS = 60.0
_FIRST_TARGET_SECONDS = 2.0
_RETRY_MAX_SECONDS = 15.0
_MAX_WARNED = 100
"""Texts with line numbers may differ at each reload."""


class Lane(Protocol):
    """The segments of one rendition, in order."""

    @property
    def name(self) -> str:
        """The rendition's key."""
        ...

    @property
    def oldest_available(self) -> int | None:
        """The number of the oldest segment that can still be fetched; None where none is lost."""
        ...

    def __aiter__(self) -> AsyncIterator[SegmentOrFailure]:
        """Segments, and failures for those that the playlist declares missing or that were lost."""
        ...


class PlaylistSource:
    """Follows the playlist of one stream.

    `resume` gives the cursor of each lane by its name, `renditions` the renditions to follow (none: all), and `start`
    where lanes without a cursor begin; `opened_at` is when those of finished playlists without times begin. A lane
    reports a failure for every `stale_after_seconds` without new segments (None: three target durations, at least ten
    seconds). `stop` ends every wait and then the lanes. `on_warning` gets what a playlist says that could not be used,
    each text once. `rendition_suffix` is added to the name of every rendition. Durations are measured by `monotonic`,
    in seconds.
    """

    def __init__(
        self,
        url: str,
        *,
        stream_id: str,
        fetcher: Fetcher,
        now: Callable[[], datetime],
        stop: asyncio.Event,
        resume: Mapping[str, LaneCursor] | None = None,
        renditions: tuple[str, ...] = (),
        start: StartPosition = "oldest",
        opened_at: datetime | None = None,
        stale_after_seconds: float | None = None,
        labels: Mapping[str, str] | None = None,
        rendition_suffix: str = "",
        on_warning: Callable[[str], None] = lambda text: None,
        wait: StoppableSleep = wait_or_stop,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = _as_url(url)
        self._on_warning = on_warning
        self._stream_id = stream_id
        self._fetcher = fetcher
        self._now = now
        self._stop = stop
        self._resume = resume or {}
        self._renditions = renditions
        self._start: StartPosition = start
        self._opened_at = opened_at
        self._stale_after_seconds = stale_after_seconds
        self._labels = labels or {}
        self._rendition_suffix = rendition_suffix
        self._wait = wait
        self._monotonic = monotonic

    @property
    def address(self) -> str:
        """The URL of the playlist without its secrets."""
        return public_url(self._url)

    async def lanes(self) -> tuple[Lane, ...]:
        """One lane per rendition; raises SegmentError("playlist") when the renditions cannot be listed.

        A requested rendition that is missing gets a lane too, which reports failures until the rendition appears.
        """
        loader = await open_playlist(self._url, self._fetcher)
        tracks = {track.name: track for track in await loader.load_tracks()}
        names = self._renditions or tuple(tracks)
        return tuple(self._make_lane(tracks.get(name) or Track(name=name, url=self._url), loader) for name in names)

    def _make_lane(self, track: Track, loader: PlaylistLoader) -> "_PlaylistLane":
        rendition = track.to_rendition(self._stream_id, self._labels)
        rendition = replace(rendition, name=f"{rendition.name}{self._rendition_suffix}")
        cursor = self._resume.get(rendition.key)
        return _PlaylistLane(
            rendition,
            loader,
            track_name=track.name,
            follower=PlaylistFollower(
                rendition, track.url, cursor=cursor, start=self._start, opened_at=self._opened_at
            ),
            staleness=StalenessMonitor(rendition, track.url, stale_after_seconds=self._stale_after_seconds),
            now=self._now,
            stop=self._stop,
            on_warning=self._on_warning,
            wait=self._wait,
            monotonic=self._monotonic,
        )


class _PlaylistLane:
    """Reloads one rendition's playlist until it has ended or `stop` is set."""

    def __init__(
        self,
        rendition: Rendition,
        loader: PlaylistLoader,
        *,
        track_name: str,
        follower: PlaylistFollower,
        staleness: StalenessMonitor,
        now: Callable[[], datetime],
        stop: asyncio.Event,
        on_warning: Callable[[str], None],
        wait: StoppableSleep,
        monotonic: Callable[[], float],
    ) -> None:
        self._rendition = rendition
        self._loader = loader
        self._track_name = track_name
        self._follower = follower
        self._staleness = staleness
        self._now = now
        self._stop = stop
        self._on_warning = on_warning
        self._warned: set[str] = set()
        self._wait = wait
        self._monotonic = monotonic
        self._open_segment: OpenSegment | None = None
        self._open_changed = asyncio.Event()
        self._is_ended = False

    @property
    def name(self) -> str:
        """The rendition's key."""
        return self._rendition.key

    async def open_segments(self) -> AsyncIterator[OpenSegment]:
        """The segment that is being made, each time that there is more of it, until the lane ends.

        Who comes late gets the newest state only. Nothing comes of playlists without low latency.
        """
        while not self._is_ended:
            await self._open_changed.wait()
            self._open_changed.clear()
            opened, self._open_segment = self._open_segment, None
            if opened is not None:
                yield opened

    def _note_open_segment(self, playlist: MediaPlaylist) -> None:
        self._open_segment = self._follower.open_segment(playlist)
        if self._open_segment is not None:
            self._open_changed.set()

    @property
    def oldest_available(self) -> int | None:
        """The number of the oldest segment that can still be fetched; None while the playlist loses none."""
        return self._follower.oldest_available

    async def __aiter__(self) -> AsyncIterator[SegmentOrFailure]:
        try:
            async for item in self._follow():
                yield item
        finally:
            self._is_ended = True
            self._open_changed.set()

    async def _follow(self) -> AsyncIterator[SegmentOrFailure]:
        target, failures = _FIRST_TARGET_SECONDS, 0
        while not self._stop.is_set():
            began_at, began = self._now(), self._monotonic()
            playlist, items, error = await self._reload(began_at)
            for item in items:
                yield item
                if self._stop.is_set():
                    return
            if playlist is not None:
                if playlist.is_ended:
                    return
                self._note_open_segment(playlist)
                target = min(max(playlist.target_seconds, _RELOAD_MIN_SECONDS), _RELOAD_MAX_SECONDS)
            failures = failures + 1 if error else 0
            if items:
                self._staleness.record_progress(began)
            elif failure := self._staleness.check(
                began_at,
                seconds=began,
                target_seconds=target,
                error=error,
                sequence=self._follower.next_sequence,
            ):
                yield failure
            interval = _reload_interval_seconds(target, failures=failures, new_items=len(items))
            if playlist is not None and playlist.reload_seconds is not None:
                interval = playlist.reload_seconds
            await self._wait(self._stop, interval - (self._monotonic() - began))

    async def _reload(
        self, now: datetime
    ) -> tuple[MediaPlaylist | None, Sequence[SegmentOrFailure], SegmentError | None]:
        try:
            playlist = await self._loader.load_playlist(self._track_name, now)
            self._warn(playlist.warnings)
            return playlist, self._follower.update(playlist, now), None
        except SegmentError as error:
            return None, (), error

    def _warn(self, warnings: Sequence[str]) -> None:
        for text in warnings:
            if text not in self._warned and len(self._warned) < _MAX_WARNED:
                self._warned.add(text)
                self._on_warning(f"{self.name}: {text}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveredSegments:
    """The segments that an address lists at one time."""

    items: Sequence[SegmentOrFailure]
    # whether the address is a playlist and not media
    is_playlist: bool = False
    # names of the renditions whose playlists have ended
    ended_renditions: frozenset[str] = frozenset()
    # what the playlists say that could not be used, with rendition, line and tag
    warnings: Sequence[str] = ()


async def list_segments(url: str, *, fetcher: Fetcher, now: datetime) -> Sequence[SegmentOrFailure]:
    """The items of `discover_segments`."""
    return (await discover_segments(url, fetcher=fetcher, now=now)).items


async def discover_segments(url: str, *, fetcher: Fetcher, now: datetime) -> DiscoveredSegments:
    """List all segments at an address: those of all renditions of a playlist, or a single media file.

    Raises SegmentError when the address cannot be read; a rendition that cannot be listed becomes one failure.
    """
    url = _as_url(url)
    start = await fetcher.get_start(url, max_bytes=SNIFF_BYTES)
    name = printable(decode_url_path(urlsplit(url).path)).rstrip("/").rsplit("/", 1)[-1] or "stream"
    if detect_kind(start.body) == "other":
        file = Segment(rendition=Rendition(stream_id=name, name="file"), sequence=0, url=url, starts_at=now)
        return DiscoveredSegments(items=[file])
    loader = await open_playlist(url, fetcher)
    renditions = [await _discover_rendition(track, loader, name, now) for track in await loader.load_tracks()]
    return DiscoveredSegments(
        items=[item for rendition in renditions for item in rendition.items],
        is_playlist=True,
        ended_renditions=frozenset(name for rendition in renditions for name in rendition.ended_renditions),
        warnings=[warning for rendition in renditions for warning in rendition.warnings],
    )


async def _discover_rendition(
    track: Track, loader: PlaylistLoader, stream_id: str, now: datetime
) -> DiscoveredSegments:
    rendition = track.to_rendition(stream_id, {})
    try:
        playlist = await loader.load_playlist(track.name, now)
        if items := PlaylistFollower(rendition, track.url).update(playlist, now):
            return DiscoveredSegments(
                items=items,
                ended_renditions=frozenset([track.name] if playlist.is_ended else []),
                warnings=[f"{track.name}: {warning}" for warning in playlist.warnings],
            )
        raise SegmentError("playlist", "the playlist lists no segment")
    except SegmentError as error:
        segment = Segment(rendition=rendition, sequence=0, url=track.url, starts_at=now)
        return DiscoveredSegments(items=[failure_from_error(segment, error, observed_at=now)])


def _reload_interval_seconds(target_seconds: float, *, failures: int, new_items: int) -> float:
    """Seconds between the starts of two reloads: as in RFC 8216 6.3.4, with a backoff after failures in a row."""
    if failures:
        backoff = Backoff(
            first_seconds=max(target_seconds / 2, 1.0), last_seconds=max(target_seconds, _RETRY_MAX_SECONDS)
        )
        return backoff.delay_seconds(failures)
    return target_seconds if new_items else target_seconds / 2


def _as_url(address: str) -> str:
    """Convert a plain path to a file: URL."""
    return address if "://" in address else Path(address).absolute().as_uri()
