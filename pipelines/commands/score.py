"""`vqmon score`: scores media files and playlists once, without a history."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from pipelines.observe.observer import Observation
from pipelines.service.wiring import SCORE_MAX_SAMPLES, as_url, fetch_policy, open_observer, utc_now
from vqmon.core.types import QualityEvent, Reference, Rendition, Segment, SegmentFailure, failure_from_error
from vqmon.errors import FetchError, SegmentError, SettingsError
from vqmon.flow import iterate, map_in_order
from vqmon.media.fetch.address_form import check_address_form
from vqmon.media.fetch.fetcher import Fetcher
from vqmon.media.fetch.ssrf_policy import printable, redact_url
from vqmon.media.sources.playlist import discover_segments
from vqmon.settings.load import Settings

log = logging.getLogger("vqmon.score")

_Item = Segment | SegmentFailure


async def score_media(
    settings: Settings,
    addresses: Sequence[str],
    *,
    prompt: str = "",
    reference: str = "",
    located_frames: int = 0,
    on_segment_count: Callable[[int], None] = lambda count: None,
    on_observation: Callable[[Observation], None] = lambda observation: None,
) -> list[Observation]:
    """Observe every segment of the addresses, in order.

    An address is the path or URL of a media file, of a folder of media files, or of an HLS or DASH playlist. A
    `reference` is one too: each segment is compared with the one of its file name or number there, or the only one.
    For `located_frames` see `Observer`. `on_segment_count` is called once, before the first segment is fetched;
    `on_observation` after each segment. An address that can never be fetched is a failure among the others; raises
    SettingsError when all of them are.
    """
    observations: list[Observation] = []

    async def finish(ready: Sequence[tuple[_Item, Observation]]) -> None:
        for _, observation in ready:
            observation = _with_missing_reference(observation) if reference else observation
            observations.append(observation)
            on_observation(observation)

    malformed = _malformed_addresses(addresses)
    named = [address for address in addresses if address not in malformed]
    policy = fetch_policy(settings, named=[*named, *([reference] if reference else [])])
    files = [
        file
        for address in addresses
        for file in ([malformed[address]] if address in malformed else _expand_folder(address))
    ]
    async with (
        Fetcher(policy) as fetcher,
        open_observer(settings, fetcher=fetcher, max_samples=SCORE_MAX_SAMPLES) as opened,
    ):
        observer = replace(opened, located_frames=located_frames)
        items = [_with_prompt(item, prompt) for file in files for item in await _list_segments(file, fetcher)]
        if reference:
            items[:] = await _with_references(items, reference, fetcher)
        items[:] = _numbered_apart(items)
        on_segment_count(len(items))
        await map_in_order(iterate(items), observer.observe, finish, running=asyncio.Semaphore(settings.in_flight))
    return observations


def _malformed_addresses(addresses: Sequence[str]) -> Mapping[str, SegmentFailure]:
    """The addresses that can never be fetched, with their failures."""
    malformed: dict[str, SegmentFailure] = {}
    for address in addresses:
        try:
            check_address_form(address)
        except SettingsError as error:
            if set(addresses) == {*malformed, address}:
                raise
            name = printable(redact_url(address)) or "(empty address)"
            segment = Segment(
                rendition=Rendition(stream_id=name, name="file"), sequence=0, url="vqmon:malformed", starts_at=utc_now()
            )
            failure = failure_from_error(segment, FetchError("refused", str(error)), observed_at=segment.starts_at)
            malformed[address] = failure
    return malformed


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
        if any(path.is_dir() and not path.name.startswith(".") for path in paths):
            log.warning("%s: its sub-folders are not searched; name them too, such as %s/*/", name, name.rstrip("/"))
        return files
    return [_listing_failure(address, FetchError("file", f"no media file in {name}; sub-folders are not searched"))]


async def _list_segments(address: str | SegmentFailure, fetcher: Fetcher) -> Sequence[_Item]:
    if isinstance(address, SegmentFailure):
        return [address]
    try:
        discovered = await discover_segments(as_url(address), fetcher=fetcher, now=utc_now())
        for warning in discovered.warnings:
            log.warning("%s: %s", printable(address.split("?")[0]), warning)
        return discovered.items
    except SegmentError as error:
        return [_listing_failure(address, error)]


async def _with_references(items: Sequence[_Item], address: str, fetcher: Fetcher) -> Sequence[_Item]:
    """The segments with those of the reference: the only one, or by name, or by sequence number in a playlist.

    Raises SettingsError for a reference that cannot be listed.
    """
    files = _expand_folder(address)
    references: list[Segment] = []
    for file in files:
        for item in await _list_segments(file, fetcher):
            if isinstance(item, SegmentFailure):
                raise SettingsError(f"--reference: {item.detail}")
            references.append(item)
    numbered = files == [address]  # the files of a folder all have number 0
    return [
        _with_reference(item, references, numbered=numbered) if isinstance(item, Segment) else item for item in items
    ]


def _with_reference(segment: Segment, references: Sequence[Segment], *, numbered: bool) -> Segment:
    matches = references
    if len(references) > 1:
        matches = [item for item in references if _file_stem(item) == _file_stem(segment)]
        if numbered and not matches:
            matches = [item for item in references if item.sequence == segment.sequence]
    if not matches:
        return segment
    # of several renditions the largest is the reference
    best = max(matches, key=lambda item: (item.rendition.height or 0, item.rendition.bitrate_kbps or 0))
    reference = Reference(
        url=best.url,
        byte_range=best.byte_range,
        init_url=best.init_url,
        init_byte_range=best.init_byte_range,
        encryption=best.encryption,
    )
    return replace(segment, reference=reference)


def _with_missing_reference(observation: Observation) -> Observation:
    event = observation.outcome
    if not isinstance(event, QualityEvent) or event.segment.reference is not None:
        return observation
    detail = "the reference has no file of this name and no segment of this number"
    return replace(observation, outcome=replace(event, unscored_reference="missing", unscored_reference_detail=detail))


def _file_stem(segment: Segment) -> str:
    return Path(urlsplit(segment.url).path).stem


def _numbered_apart(items: Sequence[_Item]) -> list[_Item]:
    """The items; a segment whose address differs from an earlier one in its query alone gets the next free number.

    A segment's key has no query, so that no token is stored.
    """
    url_by_key: dict[str, str] = {}
    numbered: list[_Item] = []
    for item in items:
        segment = item.segment if isinstance(item, SegmentFailure) else item
        while url_by_key.setdefault(segment.key, segment.url) != segment.url:
            segment = replace(segment, sequence=segment.sequence + 1)
        if isinstance(item, SegmentFailure):
            error = SegmentError(item.reason, item.detail)
            failure = failure_from_error(segment, error, observed_at=item.observed_at)
            numbered.append(replace(failure, stage=item.stage))
        else:
            numbered.append(segment)
    return numbered


def _with_prompt(item: _Item, prompt: str) -> _Item:
    return replace(item, prompt=prompt) if isinstance(item, Segment) else item


def _listing_failure(address: str, error: SegmentError) -> SegmentFailure:
    """The failure of an address whose segments cannot be listed, as that of its only segment."""
    now = utc_now()
    path = address.split("?")[0] if "://" in address else address
    name = printable(path.rstrip("/").rsplit("/", 1)[-1]) or "address"
    segment = Segment(rendition=Rendition(stream_id=name, name="file"), sequence=0, url=as_url(address), starts_at=now)
    return failure_from_error(segment, error, observed_at=now)
