"""Decodes the segments of an experiment's example pairs again, and stores pictures and clips of them for the pages."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.service.arm_media import open_segment_media
from pipelines.service.wiring import fetch_policy, open_picture_decoder
from vqmon.core.experiments.human_review import PairExample
from vqmon.core.experiments.results import Comparison
from vqmon.core.timeline import Thumbnails
from vqmon.core.types import QualityEvent
from vqmon.errors import DecodeError, SegmentError
from vqmon.flow import iterate, map_in_order
from vqmon.media.encode.codecs import EncodeSettings
from vqmon.media.encode.process import encode_excerpt
from vqmon.media.fetch.fetcher import Fetcher
from vqmon.plurals import plural
from vqmon.settings.load import Settings
from vqmon.transport.history.history import History
from vqmon.transport.reviews import Reviews

_PICTURE_WIDTH_PX = 960
"""Width of the stored pictures; smaller ones are not enlarged."""

MAX_PICTURES = 4
"""Pictures per segment, evenly spread over its sampled frames."""

_CLIP_SECONDS = 3.0
"""Length of a clip, from the segment's first frame: it repeats while people look at it."""

_MAX_CLIP_WIDTH_PX = 1280
"""Clips of larger segments are downscaled, of both sides in the same way."""

_CLIP_CRF = 14
"""Constant quality of H.264 at which the encoding of a clip itself is not seen."""

_CLIP_DEADLINE_SECONDS = 120.0
_DEFAULT_FPS = 25.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _DecodedAgain:
    """What was made of the media of a segment."""

    pictures: Thumbnails
    # MP4; empty when none was asked for, or none could be made
    clip: bytes = b""
    # why there is no clip; "" = there is one, or none was asked for
    problem: str = ""


_DecodedOrError = _DecodedAgain | SegmentError
_StoreDecoded = Callable[[Sequence[tuple[QualityEvent, _DecodedOrError]]], Awaitable[None]]


@dataclass(slots=True, kw_only=True)
class StoredPictures:
    """How many segments have pictures now, and where these come from."""

    decoded: int = 0
    # neither at the origin nor stored by the daemon: the thumbnails of the history were copied
    copied: int = 0
    already_stored: int = 0
    # segments of which a clip was stored
    clips: int = 0
    # one line per segment without pictures, or of the blind review without a clip: which, and why
    missing: list[str] = field(default_factory=list)
    without_clip: list[str] = field(default_factory=list)


def pair_event_ids(comparison: Comparison) -> list[str]:
    """The event ids of both sides of every example pair, each once."""
    return _event_ids(pair for result in comparison.answers for pair in result.pairs)


async def store_pair_pictures(
    settings: Settings,
    history: History,
    reviews: Reviews,
    comparison: Comparison,
    *,
    on_progress: Callable[[str], None] = lambda line: None,
) -> StoredPictures:
    """Store pictures of all example pairs and clips of the review pairs; delete those of pairs that are none any more.

    Media are those that the daemon has stored, else they are fetched from their origin under the fetch policy of the
    settings. A segment of which there are none gets the thumbnails that the history may still have. One that has
    pictures but no clip is decoded again if the daemon has stored its media.
    """
    name, event_ids = comparison.experiment.name, pair_event_ids(comparison)
    stored = reviews.event_ids_with_pictures(name)
    review_pairs = (pair for answer in comparison.answers for pair in answer.pairs_with_role("review"))
    with_clip = set(_event_ids(review_pairs)) if settings.experiments.clip_bytes else set()
    media_of_arms, lacking_clip = open_segment_media(settings), with_clip - reviews.event_ids_with_clips()
    new_ids = [id for id in event_ids if id not in stored or (id in lacking_clip and id in media_of_arms)]
    events = [outcome for outcome in map(history.queries.outcome, new_ids) if isinstance(outcome, QualityEvent)]
    ids_in_history = {event.id for event in events}
    totals = StoredPictures(already_stored=len(event_ids) - len(new_ids))
    totals.missing += [f"{id}: is no longer in the history" for id in new_ids if id not in ids_in_history]

    async def store(batch: Sequence[tuple[QualityEvent, _DecodedOrError]]) -> None:
        for event, result in batch:
            is_copied = isinstance(result, SegmentError)
            pictures = _thumbnails_in_history(history, event) if isinstance(result, SegmentError) else result.pictures
            if not pictures:
                totals.missing.append(f"{event.segment.key}: {result}")
                continue
            totals.copied += is_copied
            totals.decoded += not is_copied
            await asyncio.to_thread(reviews.replace_pictures, name, event.id, pictures)
            on_progress(
                f"{event.segment.key}: {plural(len(pictures), 'picture')} {'copied' if is_copied else 'decoded'}"
            )
            if not isinstance(result, SegmentError):
                await _store_clip(settings, reviews, name, event, result, totals)

    reviews.delete_pictures(name, except_event_ids=event_ids)
    await _decode_again(settings, events, store, with_clip=with_clip)
    return totals


def _event_ids(pairs: Iterable[PairExample]) -> list[str]:
    return list(dict.fromkeys(id for pair in pairs for id in (pair.control_event_id, pair.arm_event_id)))


async def _store_clip(
    settings: Settings,
    reviews: Reviews,
    experiment: str,
    event: QualityEvent,
    decoded: _DecodedAgain,
    totals: StoredPictures,
) -> None:
    problem = decoded.problem
    if decoded.clip and reviews.clip_bytes() + len(decoded.clip) > settings.experiments.clip_bytes:
        problem = "the clips would take more than experiments.clip_bytes"
    if problem:
        totals.without_clip.append(f"{event.segment.key}: no clip: {problem}")
    elif decoded.clip:
        await asyncio.to_thread(reviews.replace_clip, experiment, event.id, decoded.clip)
        totals.clips += 1


async def _decode_again(
    settings: Settings, events: Sequence[QualityEvent], store: _StoreDecoded, *, with_clip: Collection[str]
) -> None:
    media_of_arms = open_segment_media(settings)
    async with (
        Fetcher(fetch_policy(settings)) as fetcher,
        open_picture_decoder(settings, width_px=_PICTURE_WIDTH_PX) as decode,
    ):

        async def decoded(event: QualityEvent) -> _DecodedOrError:
            try:
                media = await asyncio.to_thread(media_of_arms.read, event.id)
                media = await fetcher.fetch(event.segment) if media is None else media
                pictures = _pick_evenly(await decode(media))
            except SegmentError as error:
                return error
            if event.id not in with_clip:
                return _DecodedAgain(pictures=pictures)
            try:
                return _DecodedAgain(pictures=pictures, clip=await _make_clip(event, media))
            except DecodeError as error:
                return _DecodedAgain(pictures=pictures, problem=str(error))

        await map_in_order(iterate(events), decoded, store, running=asyncio.Semaphore(settings.in_flight))


async def _make_clip(event: QualityEvent, media: bytes) -> bytes:
    """The first seconds as H.264 in MP4, without sound, progressive and upright; raises DecodeError."""
    facts = event.media
    if facts.tone_mapping is not None:
        raise DecodeError("hdr", "clips are made of SDR only")
    if facts.is_still:
        raise DecodeError("no_frames", "it is a still picture")
    lines = facts.height * min(_MAX_CLIP_WIDTH_PX, facts.width) // facts.width
    encode = EncodeSettings(
        codec="h264", lines=max(2, lines // 2 * 2), seconds=_CLIP_SECONDS, quality=_CLIP_CRF, max_bits=8
    )
    with tempfile.NamedTemporaryFile(prefix="vqmon-") as file:
        file.write(media)
        file.flush()
        clip = await encode_excerpt(
            Path(file.name), encode, fps=facts.fps or _DEFAULT_FPS, deadline_seconds=_CLIP_DEADLINE_SECONDS
        )
    return clip.media


def _pick_evenly(pictures: Thumbnails) -> Thumbnails:
    """At most MAX_PICTURES of the pictures, evenly spread.

    >>> [time for time, _ in spread([(float(n), b"") for n in range(10)])]
    [1.0, 3.0, 6.0, 8.0]
    """
    if len(pictures) <= MAX_PICTURES:
        return pictures
    return [pictures[int((number + 0.5) * len(pictures) / MAX_PICTURES)] for number in range(MAX_PICTURES)]


def _thumbnails_in_history(history: History, event: QualityEvent) -> Thumbnails:
    return _pick_evenly(list(zip(event.times_seconds, history.queries.thumbnails(event.id), strict=False)))
