"""Score files and playlists once, without a history: what `vqmon score` does."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path

from pipelines.observe.observer import Observation
from pipelines.service.wiring import SCORE_MAX_SAMPLES, as_url, fetch_policy, open_observer, utc_now
from vqmon.core.types import Rendition, Segment, SegmentFailure, failure_from_error
from vqmon.errors import FetchError, SegmentError
from vqmon.flow import in_order
from vqmon.media.fetch.fetcher import Fetcher
from vqmon.media.fetch.policy import printable
from vqmon.media.sources.playlist import segments_of
from vqmon.settings.load import Settings

Item = Segment | SegmentFailure


async def score(
    settings: Settings,
    addresses: Sequence[str],
    *,
    prompt: str = "",
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

    policy = fetch_policy(settings, named=addresses)
    files = [file for address in addresses for file in _files_of(address)]
    async with (
        Fetcher(policy) as fetcher,
        open_observer(settings, fetcher=fetcher, max_samples=SCORE_MAX_SAMPLES) as observer,
    ):
        items = [_asked(item, prompt) for file in files for item in await _listed(file, fetcher)]
        listed(len(items))
        await in_order(_each(items), observer.observe, finish, running=asyncio.Semaphore(settings.in_flight))
    return seen


def _files_of(address: str) -> Sequence[str | SegmentFailure]:
    """A folder means the files in it; one without any is a failure."""
    if "://" in address or not Path(address).is_dir():
        return [address]
    name = printable(address)
    try:
        found = sorted(Path(address).iterdir())
    except OSError as error:
        return [_unlisted(address, FetchError("file", f"{name}: {error.strerror}"))]
    files = [str(file) for file in found if file.is_file() and not file.name.startswith(".")]
    return files or [_unlisted(address, FetchError("file", f"no media file in {name}; sub-folders are not searched"))]


async def _listed(address: str | SegmentFailure, fetcher: Fetcher) -> Sequence[Item]:
    if isinstance(address, SegmentFailure):
        return [address]
    try:
        return await segments_of(as_url(address), fetcher=fetcher, now=utc_now())
    except SegmentError as error:
        return [_unlisted(address, error)]


def _asked(item: Item, prompt: str) -> Item:
    """With what its pictures were asked to show."""
    return replace(item, prompt=prompt) if isinstance(item, Segment) else item


def _unlisted(address: str, error: SegmentError) -> SegmentFailure:
    now = utc_now()
    plain = address.split("?")[0] if "://" in address else address
    name = printable(plain.rstrip("/").rsplit("/", 1)[-1]) or "address"
    segment = Segment(rendition=Rendition(stream_id=name, name="file"), sequence=0, url=as_url(address), starts_at=now)
    return failure_from_error(segment, error, observed_at=now)


async def _each(items: Sequence[Item]) -> AsyncIterator[Item]:
    for item in items:
        yield item
