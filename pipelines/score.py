"""Score files and playlists once, without a history: what `vqmon score` does."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from pipelines.observe import Observation
from pipelines.parts import as_url, fetch_policy, open_observer, utc_now
from vqmon.core.types import Rendition, Segment, SegmentFailure, failure_of
from vqmon.errors import SegmentError
from vqmon.flow import in_order
from vqmon.media.fetch import Fetcher
from vqmon.media.playlist import segments_of
from vqmon.settings import Settings

Item = Segment | SegmentFailure


async def score(
    settings: Settings,
    addresses: Sequence[str],
    *,
    listed: Callable[[int], None] = lambda count: None,
    told: Callable[[Observation], None] = lambda observation: None,
) -> list[Observation]:
    """Observe everything that the addresses name now, in order; `listed` hears how many segments, `told` each outcome.

    An address is a media file, a folder of them, or an HLS or DASH playlist, as a path or a URL.
    """
    seen: list[Observation] = []

    async def finish(ready: Sequence[tuple[Item, Observation]]) -> None:
        for _, observation in ready:
            seen.append(observation)
            told(observation)

    files = [file for address in addresses for file in _files_of(address)]
    async with (
        Fetcher(fetch_policy(settings, named=addresses)) as fetcher,
        open_observer(settings, fetcher=fetcher) as observer,
    ):
        items = [item for file in files for item in await _listed(file, fetcher)]
        listed(len(items))
        await in_order(_each(items), observer.observe, finish, running=asyncio.Semaphore(settings.in_flight))
    return seen


def _files_of(address: str) -> Sequence[str]:
    """A folder means the files in it."""
    if "://" in address or not Path(address).is_dir():
        return [address]
    return [str(file) for file in sorted(Path(address).iterdir()) if file.is_file() and not file.name.startswith(".")]


async def _listed(address: str, fetcher: Fetcher) -> Sequence[Item]:
    now = utc_now()
    try:
        return await segments_of(as_url(address), fetcher=fetcher, now=now)
    except SegmentError as error:
        name = address.split("?")[0].rstrip("/").rsplit("/", 1)[-1] or "address"
        rendition = Rendition(stream_id=name, name="file")
        segment = Segment(rendition=rendition, sequence=0, url=as_url(address), starts_at=now)
        return [failure_of(segment, error, observed_at=now)]


async def _each(items: Sequence[Item]) -> AsyncIterator[Item]:
    for item in items:
        yield item
