"""Segments that are being made: each part is fetched once, and what can be said is said of what is there."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from pipelines.daemon.live_queue import LiveQueue
from pipelines.daemon.partial_verdicts import counting_partials, watch_open_segments
from pipelines.observe.playlists.partial_verdicts import FetchedParts, GrowingMedia, PartialObserver, PartialVerdict
from tests.media.clips import MOTION, ffmpeg, x264
from tests.pipelines.daemon.test_live_queue import Watching
from vqmon.core.types import DecodedSegment, Segment, View
from vqmon.errors import FetchError
from vqmon.flow import FairSlots
from vqmon.media.decode.bitstream.containers.boxes import iterate_iso_boxes
from vqmon.media.decode.pool import DecoderPool
from vqmon.media.sources.follower import OpenSegment
from vqmon.telemetry.metrics import Meters
from vqmon.testing import STREAM_STARTS_AT, GreyLevelScorer, make_segment

PART_SECONDS = 0.4


def fragments() -> tuple[bytes, list[bytes]]:
    """The initialization section, and parts of 0.4 s of which only the first begins with a key picture."""
    source = MOTION.format(size="320x180", rate="25", seconds=1.6)
    fragmented = ("-movflags", "empty_moov+default_base_moof", "-frag_duration", "400000", "-f", "mp4", "-")
    media = ffmpeg("-f", "lavfi", "-i", source, *x264(gop=100, bframes=0), *fragmented)
    ends = [end for kind, _, end in iterate_iso_boxes(media) if kind in (b"moov", b"mdat")]
    init, *parts = [media[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    assert len(parts) == 4
    return init, parts


class Packager:
    """Serves parts, and a segment that grows."""

    def __init__(self) -> None:
        self.init, self.parts = fragments()
        self.fetched: list[str] = []

    async def fetch(self, segment: Segment) -> bytes:
        self.fetched.append(segment.url)
        if segment.url == "away":
            raise FetchError("not_found", "away")
        return (self.init if segment.init_url else b"") + self.parts[int(segment.url)]

    async def fetch_growing(self, segment: Segment, on_received: Callable[[bytes, bytearray], None]) -> None:
        self.fetched.append(segment.url)
        if segment.url == "away":
            raise FetchError("not_found", "away")
        body = bytearray()
        for part in self.parts:
            for piece in (part[:100], part[100:]):
                body += piece
                on_received(self.init, body)


def opened(count: int, *, is_growing: bool = False, sequence: int = 4) -> OpenSegment:
    segment = replace(make_segment(sequence), init_url="init", duration_seconds=PART_SECONDS)
    parts = tuple(replace(segment, url=str(number)) for number in range(count))
    return OpenSegment(
        rendition=segment.rendition,
        sequence=sequence,
        starts_at=segment.starts_at,
        parts=parts,
        offset_seconds=0.0,
        part_seconds=PART_SECONDS,
        is_growing=is_growing,
    )


def observer(packager: Packager, pool: DecoderPool) -> PartialObserver:
    async def decode(media: bytes, views: tuple[View, ...], fps: float, from_seconds: float) -> DecodedSegment:
        return await pool.decode(media, views=views, fps=fps, from_seconds=from_seconds)

    return PartialObserver(
        fetch=packager.fetch,
        fetch_growing=packager.fetch_growing,
        decode=decode,
        scorer=GreyLevelScorer(),
        now=lambda: STREAM_STARTS_AT + timedelta(seconds=20),
    )


async def test_the_pictures_that_are_there_are_scored() -> None:
    """Those that came since the verdict before, also without a key picture."""
    packager = Packager()
    async with DecoderPool(1) as pool:
        partial, fetched = observer(packager, pool), FetchedParts()
        verdicts = [
            await partial.observe(opened(count), fetched, from_seconds=(count - 1) * PART_SECONDS)
            for count in (1, 2, 3)
        ]
        assert len(fetched) == 3
        lost = await partial.observe(replace(opened(1), parts=(replace(opened(1).parts[0], url="away"),)), fetched)
    assert packager.fetched == ["0", "1", "2", "away"]
    assert not fetched, "parts of a segment that is no longer made"
    assert [verdict.to_seconds for verdict in verdicts] == pytest.approx([0.4, 0.8, 1.2])
    assert [verdict.from_seconds for verdict in verdicts] == pytest.approx([0.0, 0.4, 0.8])
    values = [verdict.score.frame_values for verdict in verdicts if verdict.score]
    assert [len(each) for each in values] == [1, 1, 1]
    # samples every half second: the first picture, that at 0.5 s, and that at 1 s
    assert len({each[0] for each in values}) == 3
    assert verdicts[2].delay_seconds == pytest.approx(20 - 16 - 1.2)
    assert (lost.score, lost.unscored) == (None, "not_found")


async def test_a_growing_segment_is_observed_up_to_its_last_complete_chunk() -> None:
    """Each chunk once, the newest state only, and nothing of a segment that is whole."""
    init, parts = fragments()
    media, body = GrowingMedia(), bytearray()
    chunks = media.chunks()
    seen = []
    for piece in (parts[0][:100], parts[0][100:] + parts[1] + parts[2][:40], parts[2][40:]):
        body += piece
        media.receive(init, body)
        if len(body) > len(parts[0]):
            seen.append(await anext(chunks))
    body += parts[3]
    media.receive(init, body)
    media.end()
    assert [late async for late in chunks] == []
    assert seen == [init + b"".join(parts[:2]), init + b"".join(parts[:3])]
    async with DecoderPool(1) as pool:
        verdict = await observer(Packager(), pool).observe_media(opened(1, is_growing=True), seen[0])
    assert verdict.to_seconds == pytest.approx(0.8)
    assert verdict.score is not None


async def test_a_part_that_is_announced_is_requested_once(caplog: pytest.LogCaptureFixture) -> None:
    """It is there when the playlist lists it; one that fails or does not come is requested again then, no error."""
    packager = Packager()
    third = replace(opened(3), parts=opened(3).parts[:2], hint=opened(3).parts[2])
    away = replace(third, hint=replace(opened(3).parts[2], url="away"))

    async def never(segment: Segment) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError

    async def decode_nothing(*_: object) -> DecodedSegment:
        raise AssertionError

    async with DecoderPool(1) as pool:
        partial, fetched = observer(packager, pool), FetchedParts()
        await partial.fetch_hinted(third, fetched)
        await partial.observe(third, fetched)
        verdict = await partial.observe(opened(3), fetched)
        assert packager.fetched == ["2", "0", "1"]
        await partial.fetch_hinted(opened(3), fetched)
        await partial.fetch_hinted(away, fetched)
        assert packager.fetched == ["2", "0", "1", "away"]
        late = PartialObserver(
            fetch=never, fetch_growing=packager.fetch_growing, decode=decode_nothing, scorer=GreyLevelScorer(),
            now=lambda: STREAM_STARTS_AT,
        )  # fmt: skip
        await late.fetch_hinted(replace(third, part_seconds=0.01), fetched)
    assert len(fetched) == 3
    assert verdict.score is not None
    assert not caplog.records


class Repeating(Watching):
    """A rendition whose playlist lists the same parts again, and then is an older copy."""

    async def open_segments(self):  # type: ignore[no-untyped-def]
        for count in (2, 2, 1, 3):
            yield opened(count)


async def test_parts_are_scored_once() -> None:
    """There is no verdict on nothing new, nor one that goes back."""
    watching, verdicts, slots = Repeating(), list[PartialVerdict](), FairSlots(1).of("news")
    async with DecoderPool(1) as pool:
        partial = observer(Packager(), pool)
        await watch_open_segments(watching, partial, watching.queue, running=slots, on_partial=verdicts.append)
    assert [(verdict.from_seconds, verdict.to_seconds) for verdict in verdicts] == [
        (0.0, pytest.approx(0.8)),
        (pytest.approx(0.8), pytest.approx(1.2)),
    ]
    watching.filling.cancel()


class Growing(Watching):
    """A rendition whose growing segment is listed again and again."""

    async def open_segments(self):  # type: ignore[no-untyped-def]
        away = opened(1, is_growing=True)
        yield replace(away, parts=(replace(away.parts[0], url="away"),))
        for _ in range(3):
            yield opened(1, is_growing=True)


async def test_a_growing_segment_is_fetched_once_and_again_only_after_a_failure() -> None:
    """The failure is a verdict."""
    packager, watching, verdicts = Packager(), Growing(), list[PartialVerdict]()
    slots = FairSlots(1).of("news")
    async with DecoderPool(1) as pool:
        partial = observer(packager, pool)
        await watch_open_segments(watching, partial, watching.queue, running=slots, on_partial=verdicts.append)
    assert packager.fetched == ["away", "0"]
    assert verdicts[0].unscored == "not_found"
    watching.filling.cancel()


class Opening(Watching):
    """A rendition whose open segments are given by the test."""

    async def open_segments(self):  # type: ignore[no-untyped-def]
        yield opened(1)
        await self.source.announce(3)
        yield opened(2)
        assert await self.take(1) == ["3"]
        yield opened(3)


async def test_whole_segments_go_first(caplog: pytest.LogCaptureFixture) -> None:
    """While one waits, what is being made is passed over; without a listener verdicts are log lines."""
    seen: list[PartialVerdict] = []

    class Observer:
        async def fetch_hinted(self, segment: OpenSegment, fetched: FetchedParts) -> None:
            """There is no hint."""

        async def observe(self, segment: OpenSegment, fetched: FetchedParts, *, from_seconds: float) -> PartialVerdict:
            return PartialVerdict(
                rendition=segment.rendition, sequence=4, starts_at=segment.starts_at, from_seconds=0.0,
                to_seconds=len(segment.parts) * PART_SECONDS, observed_at=segment.starts_at, signals={},
                unscored="corrupt", unscored_detail="x",
            )  # fmt: skip

    watching = Opening()
    queue: LiveQueue = watching.queue
    slots = FairSlots(1).of("news")
    record = counting_partials(Meters(), seen.append)
    await watch_open_segments(watching, Observer(), queue, running=slots, on_partial=record)  # type: ignore[arg-type]
    await watch_open_segments(object(), Observer(), queue, running=slots, on_partial=record)  # type: ignore[arg-type]
    with caplog.at_level("INFO", logger="vqmon.live"):
        counting_partials(Meters(), None)(seen[0])
    assert [verdict.to_seconds for verdict in seen] == pytest.approx([0.4, 1.2])
    assert "segment.partial" in caplog.text
    watching.filling.cancel()
