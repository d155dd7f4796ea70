"""`vqmon score`: scores media files and playlists once, without a history."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path

from pipelines.observe.observer import Observation
from pipelines.service.wiring import SCORE_MAX_SAMPLES, as_url, fetch_policy, open_observer, utc_now
from vqmon.core.types import Rendition, Segment, SegmentFailure, failure_from_error
from vqmon.errors import FetchError, SegmentError
from vqmon.flow import map_in_order
from vqmon.media.fetch.fetcher import Fetcher
from vqmon.media.fetch.ssrf_policy import printable
from vqmon.media.sources.playlist import list_segments
from vqmon.settings.load import Settings

_Item = Segment | SegmentFailure


async def score_media(
    settings: Settings,
    addresses: Sequence[str],
    *,
    prompt: str = "",
    on_segment_count: Callable[[int], None] = lambda count: None,
    on_observation: Callable[[Observation], None] = lambda observation: None,
) -> list[Observation]:
    """Observe every segment of the addresses, in order.

    An address is the path or URL of a media file, of a folder of media files, or of an HLS or DASH playlist.
    `on_segment_count` is called once, before the first segment is fetched; `on_observation` after each segment.
    """
    observations: list[Observation] = []

    async def finish(ready: Sequence[tuple[_Item, Observation]]) -> None:
        for _, observation in ready:
            observations.append(observation)
            on_observation(observation)

    policy = fetch_policy(settings, named=addresses)
    files = [file for address in addresses for file in _expand_folder(address)]
    async with (
        Fetcher(policy) as fetcher,
        open_observer(settings, fetcher=fetcher, max_samples=SCORE_MAX_SAMPLES) as observer,
    ):
        items = [_with_prompt(item, prompt) for file in files for item in await _list_segments(file, fetcher)]
        on_segment_count(len(items))
        await map_in_order(_iterate(items), observer.observe, finish, running=asyncio.Semaphore(settings.in_flight))
    return observations


def _expand_folder(address: str) -> Sequence[str | SegmentFailure]:
    """The files of a folder, a failure for a folder that has none; any other address as it is."""
    if "://" in address or not Path(address).is_dir():
        return [address]
    name = printable(address)
    try:
        paths = sorted(Path(address).iterdir())
    except OSError as error:
        return [_listing_failure(address, FetchError("file", f"{name}: {error.strerror}"))]
    files = [str(path) for path in paths if path.is_file() and not path.name.startswith(".")]
    if files:
        return files
    return [_listing_failure(address, FetchError("file", f"no media file in {name}; sub-folders are not searched"))]


async def _list_segments(address: str | SegmentFailure, fetcher: Fetcher) -> Sequence[_Item]:
    if isinstance(address, SegmentFailure):
        return [address]
    try:
        return await list_segments(as_url(address), fetcher=fetcher, now=utc_now())
    except SegmentError as error:
        return [_listing_failure(address, error)]


def _with_prompt(item: _Item, prompt: str) -> _Item:
    return replace(item, prompt=prompt) if isinstance(item, Segment) else item


def _listing_failure(address: str, error: SegmentError) -> SegmentFailure:
    """The failure of an address whose segments cannot be listed, as that of its only segment."""
    now = utc_now()
    path = address.split("?")[0] if "://" in address else address
    name = printable(path.rstrip("/").rsplit("/", 1)[-1]) or "address"
    segment = Segment(rendition=Rendition(stream_id=name, name="file"), sequence=0, url=as_url(address), starts_at=now)
    return failure_from_error(segment, error, observed_at=now)


async def _iterate(items: Sequence[_Item]) -> AsyncIterator[_Item]:
    for item in items:
        yield item
