"""PlaylistSource: an HLS or DASH playlist, live or VOD -> lanes of Segments."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from vqmon.core.types import ByteRange, LaneCursor, Rendition, Segment, failure_from_error
from vqmon.errors import SegmentError
from vqmon.flow import Wait, wait_or_stop
from vqmon.media.fetch.fetcher import Fetcher
from vqmon.media.fetch.policy import path_of, printable
from vqmon.media.sources.folder import FolderSource
from vqmon.media.sources.follower import Follower, Item, Start
from vqmon.media.sources.listing import Listing, Track
from vqmon.media.sources.loader import SNIFF_BYTES, Pages, kind_of, open_pages
from vqmon.media.sources.staleness import Silence

__all__ = ["FolderSource", "Found", "Lane", "PlaylistSource", "found_at", "segments_of"]

_RELOAD_MIN_SECONDS = 0.5
_RELOAD_MAX_SECONDS = 60.0
_FIRST_TARGET_SECONDS = 2.0
_RETRY_MAX_SECONDS = 15.0


class Lane(Protocol):
    """The segments of one rendition, in order."""

    @property
    def name(self) -> str:
        """The rendition's key."""
        ...

    def __aiter__(self) -> AsyncIterator[Item]:
        """Segments, and failures for those that the playlist itself says cannot be had."""
        ...


class PlaylistSource:
    """Watches one stream.

    `resume` says per lane where to go on. `renditions` names those to take, none = all. `start` is for lanes without a
    cursor. A lane without news for `stale_after_seconds` (None = three target durations, at least ten seconds) says so,
    and again each time as long has passed. `stop` ends every wait, and then the lanes.
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
        start: Start = "oldest",
        stale_after_seconds: float | None = None,
        labels: Mapping[str, str] | None = None,
        wait: Wait = wait_or_stop,
    ) -> None:
        self._url = _as_url(url)
        self._stream_id = stream_id
        self._fetcher = fetcher
        self._now = now
        self._stop = stop
        self._resume = resume or {}
        self._renditions = renditions
        self._start: Start = start
        self._stale_after_seconds = stale_after_seconds
        self._labels = labels or {}
        self._wait = wait

    async def lanes(self) -> tuple[Lane, ...]:
        """One lane per rendition; raises SegmentError("playlist") when they cannot be listed.

        A rendition that was asked for by name and is not there is a lane all the same: it says so until it comes.
        """
        pages = await open_pages(self._url, self._fetcher)
        offered = {track.name: track for track in await pages.tracks()}
        wanted = self._renditions or tuple(offered)
        return tuple(self._lane(offered.get(name) or Track(name=name, url=self._url), pages) for name in wanted)

    def _lane(self, track: Track, pages: Pages) -> "PlaylistLane":
        rendition = track.rendition(self._stream_id, self._labels)
        cursor = self._resume.get(rendition.key)
        return PlaylistLane(
            rendition,
            pages,
            follower=Follower(rendition, track.url, cursor=cursor, start=self._start),
            silence=Silence(rendition, track.url, stale_after_seconds=self._stale_after_seconds),
            now=self._now,
            stop=self._stop,
            wait=self._wait,
        )


class PlaylistLane:
    """Reads one rendition's playlist again and again until it has ended or the stop is set."""

    def __init__(
        self,
        rendition: Rendition,
        pages: Pages,
        *,
        follower: Follower,
        silence: Silence,
        now: Callable[[], datetime],
        stop: asyncio.Event,
        wait: Wait,
    ) -> None:
        self._rendition = rendition
        self._pages = pages
        self._follower = follower
        self._silence = silence
        self._now = now
        self._stop = stop
        self._wait = wait

    @property
    def name(self) -> str:
        """The rendition's key."""
        return self._rendition.key

    async def __aiter__(self) -> AsyncIterator[Item]:
        target, failures = _FIRST_TARGET_SECONDS, 0
        while not self._stop.is_set():
            began = self._now()
            listing, items, error = await self._look(began)
            for item in items:
                yield item
                if self._stop.is_set():
                    return
            if listing is not None:
                if listing.is_ended:
                    return
                target = min(max(listing.target_seconds, _RELOAD_MIN_SECONDS), _RELOAD_MAX_SECONDS)
            failures = failures + 1 if error else 0
            if items:
                self._silence.heard(began)
            elif said := self._silence.said(
                began, target_seconds=target, error=error, sequence=self._follower.next_sequence
            ):
                yield said
            pause = _pause_seconds(target, failures=failures, news=len(items))
            await self._wait(self._stop, pause - (self._now() - began).total_seconds())

    async def _look(self, now: datetime) -> tuple[Listing | None, Sequence[Item], SegmentError | None]:
        try:
            listing = await self._pages.listing(self._rendition.name, now)
            return listing, self._follower.take(listing, now), None
        except SegmentError as error:
            return None, (), error


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What an address lists at one moment."""

    items: Sequence[Item]
    # names of the renditions to which nothing will ever be added
    ended: frozenset[str] = frozenset()


async def segments_of(url: str, *, fetcher: Fetcher, now: datetime) -> Sequence[Item]:
    """The segments in what `found_at` gives."""
    return (await found_at(url, fetcher=fetcher, now=now)).items


async def found_at(url: str, *, fetcher: Fetcher, now: datetime) -> Found:
    """Everything that an address lists right now: all renditions of a playlist, or the one file that it is.

    Raises SegmentError when nothing can be read there; a rendition that cannot be listed is one failure.
    """
    url = _as_url(url)
    head = await fetcher.get(url, max_bytes=SNIFF_BYTES, byte_range=ByteRange(offset_bytes=0, length_bytes=SNIFF_BYTES))
    name = printable(path_of(urlsplit(url).path)).rstrip("/").rsplit("/", 1)[-1] or "stream"
    if kind_of(head.body) == "other":
        one = Segment(rendition=Rendition(stream_id=name, name="file"), sequence=0, url=url, starts_at=now)
        return Found(items=[one])
    pages = await open_pages(url, fetcher)
    found = [await _found_of(track, pages, name, now) for track in await pages.tracks()]
    return Found(
        items=[item for one in found for item in one.items],
        ended=frozenset(name for one in found for name in one.ended),
    )


async def _found_of(track: Track, pages: Pages, stream_id: str, now: datetime) -> Found:
    rendition = track.rendition(stream_id, {})
    try:
        listing = await pages.listing(track.name, now)
        if items := Follower(rendition, track.url).take(listing, now):
            return Found(items=items, ended=frozenset([track.name] if listing.is_ended else []))
        raise SegmentError("playlist", "the playlist lists no segment")
    except SegmentError as error:
        segment = Segment(rendition=rendition, sequence=0, url=track.url, starts_at=now)
        return Found(items=[failure_from_error(segment, error, observed_at=now)])


def _pause_seconds(target_seconds: float, *, failures: int, news: int) -> float:
    """How long to wait since the last look began: RFC 8216 6.3.4, and a back-off after failures."""
    if failures:
        longer = max(target_seconds / 2, 1.0) * 2.0 ** min(failures - 1, 10)
        return min(longer, max(target_seconds, _RETRY_MAX_SECONDS))
    return target_seconds if news else target_seconds / 2


def _as_url(address: str) -> str:
    """A plain path becomes a file: address."""
    return address if "://" in address else Path(address).absolute().as_uri()
