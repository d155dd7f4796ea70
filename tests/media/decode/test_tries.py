"""How often a segment is decoded when decoding fails, without what, and how long that may take."""

from collections.abc import Sequence
from typing import Any

import pytest

from pipelines.observe.scoring_tiers import ScoringCascade
from tests.factories import segment
from tests.media.decode.rig import SMALL, moving_clip
from vqmon.core.types import DecodedSegment, View
from vqmon.errors import DecodeError
from vqmon.media.decode.pool import DecodeLimits, DecoderPool, ReferenceMedia, tries_of_one_segment
from vqmon.media.reference.comparison import ReferenceRequest

DEADLINE = 10.0
LARGE = View(kind="stretch", width=128, height=72)
PARTS = ("measures", "reference", "sound")


class FaultyPool(DecoderPool):
    """Its workers fail with `reason` as long as one of `parts` is asked for, after as long as they may take."""

    def __init__(self, reason: str, parts: Sequence[str], *, seconds: float = 1e9) -> None:
        super().__init__(1, limits=DecodeLimits(deadline_seconds=DEADLINE))
        self.reason, self.faulty_parts, self.seconds = reason, parts, seconds
        self.now = 0.0
        self.asked: list[tuple[str, ...]] = []

    async def _ask(self, worker: Any, work: Any, *, limit_seconds: float) -> Any:
        self.asked.append(tuple(sorted(work.parts)))
        if not set(self.faulty_parts) & {"pictures", *work.parts}:
            return await super()._ask(worker, work, limit_seconds=60)
        self.now += min(limit_seconds, self.seconds)
        self._replace(worker, "timeout" if self.reason == "timeout" else "crashed")
        raise DecodeError(self.reason, "as the test wants")  # type: ignore[arg-type]

    async def decode_all(self, views: Sequence[View] = (SMALL,)) -> DecodedSegment:
        """Decode with every part that can be left out."""
        media = moving_clip()
        reference = ReferenceMedia(media=media, request=ReferenceRequest(measures=("psnr",)))
        options: Any = {"measures": ("si",), "reference": reference, "sound_media": media, "with_audio": True}
        return await self.decode(media, views=views, signals=(), **options)


def left_out(decoded: DecodedSegment) -> set[str]:
    """The parts that the result says are missing because of the fault."""
    missing = {
        "measures": any("no si" in note for note in decoded.media.notes),
        "reference": decoded.reference is not None and decoded.reference.detail == "as the test wants",
        "sound": decoded.unmeasured_audio == "unavailable",
    }
    return {name for name, is_missing in missing.items() if is_missing}


@pytest.mark.parametrize("part", PARTS)
async def test_a_part_that_breaks_decoding_is_left_out_alone(part: str) -> None:
    """Neither the score nor another part is lost."""
    async with FaultyPool("crashed", [part], seconds=0.1) as pool:
        decoded = await pool.decode_all()
    assert left_out(decoded) == {part}
    assert len(decoded.times_seconds) == 3


async def test_two_parts_that_break_decoding_lose_no_score() -> None:
    """The pictures alone are decoded."""
    async with FaultyPool("crashed", ["reference", "sound"], seconds=0.1) as pool:
        decoded = await pool.decode_all()
    assert pool.asked[-1] == ()
    assert left_out(decoded) == set(PARTS)
    assert len(decoded.times_seconds) == 3


@pytest.mark.parametrize("part", PARTS)
async def test_a_part_that_takes_too_long_costs_one_deadline(part: str) -> None:
    """The second try is that of the pictures alone."""
    async with FaultyPool("timeout", [part]) as pool:
        decoded = await pool.decode_all()
    assert pool.asked == [PARTS, ()]
    assert (pool.now, left_out(decoded)) == (3 * DEADLINE, set(PARTS))


class _Views:
    """A scorer that is asked for its views alone."""

    needs_prompt = False

    def __init__(self, view: View) -> None:
        self.views = (view,)
        self.id = f"{view.width}@1"


@pytest.mark.parametrize("reason", ["timeout", "crashed"])
async def test_all_tries_of_a_segment_share_one_limit(reason: str) -> None:
    """With everything asked for and failing as late as possible: twice the deadline of the first try."""
    async with FaultyPool(reason, ["pictures"]) as pool:

        async def decode(media: bytes, views: tuple[View, ...]) -> DecodedSegment:
            return await pool.decode_all(views)

        scorers: Any = [_Views(SMALL), _Views(LARGE)]
        cascade = ScoringCascade(decode=decode, scorers=scorers[:1], shadows=scorers[1:])
        with tries_of_one_segment(lambda: pool.now):
            for _ in range(2):
                with pytest.raises(DecodeError):
                    await cascade.score(segment(), b"media")
    assert pool.now == 6 * DEADLINE
    assert len(pool.asked) == (4 if reason == "timeout" else 3)


async def test_a_segment_without_parts_is_tried_with_fewer_views() -> None:
    """After the views of all scorers were too much."""
    limits = DecodeLimits(max_view_bytes=3 * SMALL.row_bytes)
    async with DecoderPool(1, limits=limits) as pool:
        with tries_of_one_segment():
            with pytest.raises(DecodeError, match="too_long"):
                await pool.decode(moving_clip(), views=(SMALL, LARGE))
            assert len((await pool.decode(moving_clip(), views=(SMALL,))).times_seconds) == 3


async def test_with_fewer_views_nothing_else_is_left_out() -> None:
    """The views of all scorers were too much for the memory, with and without the reference."""
    reference = ReferenceMedia(media=moving_clip(), request=ReferenceRequest(measures=("psnr",)))
    options: Any = {"measures": ("si",), "reference": reference, "signals": ()}
    async with DecoderPool(1, limits=DecodeLimits(max_view_bytes=3 * SMALL.row_bytes)) as pool:
        with tries_of_one_segment():
            with pytest.raises(DecodeError, match="too_long"):
                await pool.decode(moving_clip(), views=(SMALL, LARGE), **options)
            decoded = await pool.decode(moving_clip(), views=(SMALL,), **options)
    assert decoded.reference is not None
    assert [score.measure for score in decoded.reference.scores] == ["psnr"]
    assert not decoded.media.notes


async def test_each_segment_has_its_own_limit() -> None:
    """What one has taken is not missing to the next."""
    async with FaultyPool("timeout", ["pictures"]) as pool:
        for count in (1, 2):
            with tries_of_one_segment(lambda: pool.now), pytest.raises(DecodeError, match="timeout"):
                await pool.decode(moving_clip(), views=(SMALL,))
            assert pool.now == count * DEADLINE
