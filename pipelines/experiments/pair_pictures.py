"""Pictures of an experiment's pairs, looked at once more and kept beside the history."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from pipelines.service.wiring import fetch_policy
from vqmon.core.experiments.results import Comparison
from vqmon.core.timeline import Thumbnails
from vqmon.core.types import Outcome, QualityEvent
from vqmon.errors import SegmentError
from vqmon.flow import map_in_order
from vqmon.media.decode.pool import DecodeLimits, DecoderPool
from vqmon.media.fetch.fetcher import Fetcher
from vqmon.settings.load import Settings
from vqmon.transport.history.history import History
from vqmon.transport.reviews import Reviews

PICTURE_WIDTH_PX = 960
"""Of the pictures kept for pairs; smaller ones are not made larger."""

MAX_PICTURES = 4
"""At most so many of a segment, evenly spread over the moments that were scored."""

WAIT_SECONDS = 120.0
MAX_SAMPLED_FRAMES = 600


PicturesOrError = Thumbnails | SegmentError
StorePictures = Callable[[Sequence[tuple[Outcome, PicturesOrError]]], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPictures:
    """What came of it, in segments."""

    # looked at once more
    looked: int
    # not to be had any more: the small pictures of the history were copied
    copied: int
    # had pictures already
    known: int
    # neither: each with its reason
    missing: Sequence[str]


def pair_event_ids(comparison: Comparison) -> list[str]:
    """The event ids of both sides of every pair that is kept, each once."""
    pairs = [pair for answer in comparison.answers for pair in answer.pairs]
    return list(dict.fromkeys(id for pair in pairs for id in (pair.control_event_id, pair.arm_event_id)))


async def store_pair_pictures(
    settings: Settings,
    history: History,
    reviews: Reviews,
    comparison: Comparison,
    *,
    told: Callable[[str], None] = lambda line: None,
) -> StoredPictures:
    """Look at the segments of all pairs again and keep their pictures; those of pairs no longer told of are dropped.

    A segment is fetched from where it was, under the fetch policy of the settings: one that has left its origin has no
    pictures but the small ones that the history may still hold.
    """
    name, wanted = comparison.experiment.name, pair_event_ids(comparison)
    known = reviews.pictured(name)
    new = [id for id in wanted if id not in known]
    found = [outcome for outcome in map(history.queries.outcome, new) if isinstance(outcome, QualityEvent)]
    seen = {"looked": 0, "copied": 0}
    missing = [f"{id}: is not in the history any more" for id in new if id not in {it.id for it in found}]

    async def finish(ready: Sequence[tuple[Outcome, PicturesOrError]]) -> None:
        for outcome, pictures in ready:
            how, kept = ("looked", pictures) if not isinstance(pictures, SegmentError) else _copied(history, outcome)
            if not kept:
                missing.append(f"{outcome.segment.key}: {pictures}")
                continue
            seen[how] += 1
            await asyncio.to_thread(reviews.keep_pictures, name, outcome.id, kept)
            told(f"{outcome.segment.key}: {len(kept)} pictures {how}")

    await _look(settings, found, finish)
    reviews.drop_pictures(name, keep=wanted)
    return StoredPictures(**seen, known=len(wanted) - len(new), missing=missing)


async def _look(settings: Settings, outcomes: Sequence[Outcome], finish: StorePictures) -> None:
    limits = DecodeLimits(
        deadline_seconds=settings.decode.deadline_seconds,
        wait_seconds=max(WAIT_SECONDS, 3 * settings.decode.deadline_seconds),
        max_pixels=settings.decode.max_pixels,
        max_samples=MAX_SAMPLED_FRAMES,
    )

    async def each() -> AsyncIterator[Outcome]:
        for outcome in outcomes:
            yield outcome

    async def look(outcome: Outcome) -> PicturesOrError:
        try:
            media = await fetcher.fetch(outcome.segment)
            decoded = await pool.decode(
                media,
                views=(),
                sampling=settings.decode.sampling,
                fps=settings.decode.fps,
                hdr=settings.decode.hdr,
                thumbnail_width=PICTURE_WIDTH_PX,
                signals=(),
            )
        except SegmentError as error:
            return error
        return pick_evenly(list(zip(decoded.times_seconds, decoded.thumbnails, strict=False)))

    async with (
        Fetcher(fetch_policy(settings)) as fetcher,
        DecoderPool(settings.decode_workers, limits=limits, on_replace=lambda reason: None) as pool,
    ):
        await map_in_order(each(), look, finish, running=asyncio.Semaphore(settings.in_flight))


def pick_evenly(pictures: Thumbnails) -> Thumbnails:
    """At most PICTURES of them, evenly.

    >>> [at for at, _ in spread([(float(n), b"") for n in range(10)])]
    [1.0, 3.0, 6.0, 8.0]
    """
    if len(pictures) <= MAX_PICTURES:
        return pictures
    return [pictures[int((number + 0.5) * len(pictures) / MAX_PICTURES)] for number in range(MAX_PICTURES)]


def _copied(history: History, outcome: Outcome) -> tuple[str, Thumbnails]:
    times: Iterable[float] = outcome.times_seconds if isinstance(outcome, QualityEvent) else ()
    return "copied", pick_evenly(list(zip(times, history.queries.thumbnails(outcome.id), strict=False)))
