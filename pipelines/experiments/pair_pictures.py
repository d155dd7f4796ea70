"""Decodes the segments of an experiment's example pairs again, and stores their pictures for pages and blind review."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from pipelines.service.wiring import fetch_policy, open_picture_decoder
from vqmon.core.experiments.results import Comparison
from vqmon.core.timeline import Thumbnails
from vqmon.core.types import Outcome, QualityEvent
from vqmon.errors import SegmentError
from vqmon.flow import iterate, map_in_order
from vqmon.media.fetch.fetcher import Fetcher
from vqmon.plurals import plural
from vqmon.settings.load import Settings
from vqmon.transport.history.history import History
from vqmon.transport.reviews import Reviews

_PICTURE_WIDTH_PX = 960
"""Width of the stored pictures; smaller ones are not enlarged."""

MAX_PICTURES = 4
"""Pictures per segment, evenly spread over its sampled frames."""

_PicturesOrError = Thumbnails | SegmentError
_StorePictures = Callable[[Sequence[tuple[Outcome, _PicturesOrError]]], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPictures:
    """How many segments have pictures now, and where these come from."""

    decoded: int
    # no longer at the origin: the thumbnails of the history were copied
    copied: int
    already_stored: int
    # one line per segment without pictures: which, and why
    missing: Sequence[str]


def pair_event_ids(comparison: Comparison) -> list[str]:
    """The event ids of both sides of every example pair, each once."""
    pairs = [pair for result in comparison.answers for pair in result.pairs]
    return list(dict.fromkeys(id for pair in pairs for id in (pair.control_event_id, pair.arm_event_id)))


async def store_pair_pictures(
    settings: Settings,
    history: History,
    reviews: Reviews,
    comparison: Comparison,
    *,
    on_progress: Callable[[str], None] = lambda line: None,
) -> StoredPictures:
    """Store the pictures of all example pairs, and delete those of pairs that are no longer examples.

    Segments are fetched from their origin under the fetch policy of the settings. A segment that has left its origin
    gets the thumbnails that the history may still have.
    """
    name, event_ids = comparison.experiment.name, pair_event_ids(comparison)
    stored = reviews.event_ids_with_pictures(name)
    new_ids = [id for id in event_ids if id not in stored]
    events = [outcome for outcome in map(history.queries.outcome, new_ids) if isinstance(outcome, QualityEvent)]
    counts = {"decoded": 0, "copied": 0}
    ids_in_history = {event.id for event in events}
    missing = [f"{id}: is no longer in the history" for id in new_ids if id not in ids_in_history]

    async def store(batch: Sequence[tuple[Outcome, _PicturesOrError]]) -> None:
        for outcome, result in batch:
            if isinstance(result, SegmentError):
                how, pictures = "copied", _thumbnails_in_history(history, outcome)
            else:
                how, pictures = "decoded", result
            if not pictures:
                missing.append(f"{outcome.segment.key}: {result}")
                continue
            counts[how] += 1
            await asyncio.to_thread(reviews.replace_pictures, name, outcome.id, pictures)
            on_progress(f"{outcome.segment.key}: {plural(len(pictures), 'picture')} {how}")

    await _decode_pictures(settings, events, store)
    reviews.delete_pictures(name, except_event_ids=event_ids)
    return StoredPictures(**counts, already_stored=len(event_ids) - len(new_ids), missing=missing)


async def _decode_pictures(settings: Settings, outcomes: Sequence[Outcome], store: _StorePictures) -> None:
    async with (
        Fetcher(fetch_policy(settings)) as fetcher,
        open_picture_decoder(settings, fetcher=fetcher, width_px=_PICTURE_WIDTH_PX) as decode,
    ):

        async def pictures_of(outcome: Outcome) -> _PicturesOrError:
            try:
                return _pick_evenly(await decode(outcome.segment))
            except SegmentError as error:
                return error

        await map_in_order(iterate(outcomes), pictures_of, store, running=asyncio.Semaphore(settings.in_flight))


def _pick_evenly(pictures: Thumbnails) -> Thumbnails:
    """At most MAX_PICTURES of the pictures, evenly spread.

    >>> [time for time, _ in spread([(float(n), b"") for n in range(10)])]
    [1.0, 3.0, 6.0, 8.0]
    """
    if len(pictures) <= MAX_PICTURES:
        return pictures
    return [pictures[int((number + 0.5) * len(pictures) / MAX_PICTURES)] for number in range(MAX_PICTURES)]


def _thumbnails_in_history(history: History, outcome: Outcome) -> Thumbnails:
    times: Iterable[float] = outcome.times_seconds if isinstance(outcome, QualityEvent) else ()
    return _pick_evenly(list(zip(times, history.queries.thumbnails(outcome.id), strict=False)))
