"""Where and when quality is lost: half a picture blurred for three seconds, with a reference and without."""

import asyncio
from functools import cache

import numpy as np
import pytest

from pipelines.observe.heat_maps import RecentDetail, RecentScores, scorer_heat_map
from tests.media.clips import clip, ffmpeg, x264
from vqmon.core.types import HeatMap, Score, TileGrid, View
from vqmon.errors import ScoreError
from vqmon.media.decode.pool import DecodeLimits, DecoderPool, ReferenceMedia
from vqmon.media.reference.comparison import ReferenceRequest
from vqmon.testing import GreyLevelScorer, make_decoded, make_segment

VIEW = View(kind="stretch", width=64, height=36)
TILES = View(kind="tiles", width=64, height=36, short_side=64, columns=4, rows=3)
FILM = "testsrc2=size=480x270:rate=10:duration=8,noise=alls=20:all_seed=7"
BEGINS_TO_MOVE = (
    "testsrc2=size=1280x272:rate=50:duration=0.02,noise=alls=99:all_seed=7,gblur=sigma=2.5,loop=199:1,setpts=N/50/TB,"
    "crop=480:272:x='if(lt(t,2),0,(t-2)*300)'"
)
HALF_BLURRED = (
    "split[whole][part];[part]crop=iw/2:ih:0:0,gblur=sigma=4[soft];"
    "[whole][soft]overlay=0:0:enable='between(t,2.95,5.95)'"
)


@cache
def film() -> bytes:
    return clip(*x264("-crf", "18", gop=10), source=FILM)


@cache
def damaged() -> bytes:
    chain = ["-filter_complex", HALF_BLURRED]
    return ffmpeg("-i", "-", *chain, *x264("-crf", "18", gop=10), "-f", "mpegts", "-", source=film())


def halves(heat_map: HeatMap, index: int) -> tuple[float, float]:
    """The mean losses of the left and the right half of a frame."""
    losses = heat_map.losses(index)
    if losses is None:
        return 0.0, 0.0
    middle = heat_map.columns // 2
    return float(losses[:, :middle].mean()), float(losses[:, middle:].mean())


async def test_half_a_picture_blurred_for_three_seconds_is_found() -> None:
    """Both maps show the left half and the seconds 3, 4 and 5, and of the clean film nothing."""
    request = ReferenceRequest(measures=("psnr",), canvas=None)
    async with DecoderPool(1, limits=DecodeLimits(deadline_seconds=120.0)) as pool:
        decoded = await pool.decode(
            damaged(),
            views=[VIEW],
            with_heat_maps=True,
            reference=ReferenceMedia(media=film(), request=request),
        )
        clean = await pool.decode(film(), views=[VIEW], with_heat_maps=True)
        plain = await pool.decode(film(), views=[VIEW])
    assert plain.detail == ()
    assert decoded.reference is not None
    assert decoded.reference.unscored == "", decoded.reference.detail
    detail = RecentDetail().heat_map(make_segment(0), decoded.detail)
    assert detail is not None
    for heat_map in (detail, *decoded.reference.heat_maps):
        for index, seconds in enumerate(decoded.times_seconds):
            left, right = halves(heat_map, index)
            if 3 <= round(seconds, 2) < 6:
                assert left > 0.15, (heat_map.measure, seconds)
                assert left > 5 * right, (heat_map.measure, seconds)
            else:
                assert max(left, right) < 0.05, (heat_map.measure, seconds)
    assert [heat_map.measure for heat_map in decoded.reference.heat_maps] == ["ssim"]
    clean_map = RecentDetail().heat_map(make_segment(0), clean.detail)
    assert clean_map is None or max(clean_map.means) < 0.02


async def test_movement_in_interlaced_pictures_is_no_loss_of_detail() -> None:
    """A still picture that begins to move: the lines of two fields then differ as fine detail does."""
    fields = ("-flags", "+ilme+ildct", "-x264-params", "tff=1")
    media = clip(*x264("-crf", "18", *fields), "-vf", "tinterlace=interleave_top,setfield=tff", source=BEGINS_TO_MOVE)
    async with DecoderPool(1, limits=DecodeLimits(deadline_seconds=120.0)) as pool:
        decoded = await pool.decode(media, views=[VIEW], with_heat_maps=True)
    assert decoded.media.is_interlaced
    assert RecentDetail().heat_map(make_segment(0), decoded.detail) is None


async def test_the_segment_before_tells_of_damage_that_fills_a_segment() -> None:
    """Damaged frames are no measure of those after them, however long the damage lasts."""
    async with DecoderPool(1, limits=DecodeLimits(deadline_seconds=120.0)) as pool:
        detail = (await pool.decode(damaged(), views=[VIEW], with_heat_maps=True)).detail
    recent = RecentDetail()
    assert recent.heat_map(make_segment(0), detail[:3]) is None
    for number in range(1, 6):
        heat_map = recent.heat_map(make_segment(number), detail[3:6])
        assert heat_map is not None
        left, right = halves(heat_map, 1)
        assert left > 0.15 > 5 * right


def scored(view: View, pictures: np.ndarray) -> HeatMap | None:
    """The map of a scorer for the brightness of such pictures; the worst frame alone."""
    scorer = GreyLevelScorer(asks=view)
    decoded = make_decoded(frames=len(pictures), views=[view])
    decoded.views[view][...] = pictures
    return asyncio.run(_located(scorer, decoded))


async def _located(scorer: GreyLevelScorer, decoded: object) -> HeatMap | None:
    score: Score = await scorer.score(decoded)  # type: ignore[arg-type]
    return await scorer_heat_map(scorer, decoded, score, frames=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("view", [TILES, VIEW], ids=["tiles", "stretch"])
def test_a_scorer_tells_which_part_it_finds_worse(view: View) -> None:
    """A dark tile at row 2, column 1 of the darker of two frames."""
    pictures = np.full((2, *view.row_shape), 200, np.uint8)
    pictures[1, 24:36, 16:32] = 50
    heat_map = scored(view, pictures)
    assert heat_map is not None
    assert (heat_map.measure, heat_map.rows, heat_map.columns) == ("level@1", 3, 4)
    assert heat_map.losses(0) is None
    losses = heat_map.losses(1)
    assert losses is not None
    assert losses[2, 1] == pytest.approx(150 / 255, abs=0.01)
    assert losses.sum() == pytest.approx(losses[2, 1])


def test_a_drop_is_told_from_what_is_usual() -> None:
    """Not the first segments of a rendition, not noise, not another rendition; a level that stays becomes usual."""
    scores = RecentScores()
    assert not any(scores.is_drop("a/1080p", value) for value in (70, 20, 71, 69, 70, 68, 70))
    assert scores.is_drop("a/1080p", 60)
    assert not scores.is_drop("a/480p", 60)
    lasting = [scores.is_drop("a/1080p", 60) for _ in range(40)]
    assert lasting[0]
    assert not lasting[-1]


def test_tiles_of_a_display_view_are_scored_grid_by_grid() -> None:
    """A tile that is dark on the canvas itself, and on the canvas at half its size at the same location."""
    grids = (TileGrid(reduction=1, columns=2, rows=2), TileGrid(reduction=2, columns=2, rows=2))
    view = View(kind="display", width=16, height=9 * 12, short_side=1080, grids=grids)
    pictures = np.full((1, *view.row_shape), 200, np.uint8)
    pictures[0, 12:24] = pictures[0, 5 * 12 : 6 * 12] = 20
    heat_map = scored(view, pictures)
    assert heat_map is not None
    losses = heat_map.losses(0)
    assert losses is not None
    assert losses.shape == (2, 2)
    assert losses[0, 1] == pytest.approx(8 / 9 * 180 / 255, abs=0.01)
    assert losses.sum() == pytest.approx(losses[0, 1])


async def test_views_without_parts_and_scorers_that_fail_have_no_map() -> None:
    """A map is evidence beside the score: it never loses the score."""
    centre = View(kind="centre", width=32, height=32, short_side=64)
    decoded = make_decoded(frames=1, views=[centre], level=100)
    assert await _located(GreyLevelScorer(asks=centre), decoded) is None
    scorer = GreyLevelScorer(asks=VIEW)
    score = await scorer.score(make_decoded(frames=1, views=[VIEW], level=100))
    dark = make_decoded(frames=1, views=[VIEW], level=0)
    with pytest.raises(ScoreError):
        await scorer.score(dark)
    assert await scorer_heat_map(scorer, dark, score, frames=1) is None
