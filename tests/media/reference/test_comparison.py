"""A segment and its reference through the decoder process: the right pairing or a reason, never a wrong number."""

from collections.abc import AsyncIterator
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.media.clips import clip, ffmpeg, x264
from tests.media.stills import colour_picture, encode_picture, exif, png, png_chunk, with_png_chunks
from vqmon.core.types import ReferenceComparison, View
from vqmon.media.decode.pool import DecodeLimits, DecoderPool, ReferenceMedia
from vqmon.media.measures.measure import Picture
from vqmon.media.measures.registry import MEASURES
from vqmon.media.reference.comparison import ReferenceRequest

VIEW = View(kind="stretch", width=64, height=36)
REQUEST = ReferenceRequest(measures=("psnr", "ssim"), canvas=None)
# zooms, so that no two moments and no two parts of the picture are alike
FILM = "mandelbrot=size=256x144:rate=25:end_scale=0.02:end_pts=250,trim=duration=8"

RAW = ("-pix_fmt", "rgb24", "-f", "rawvideo", "-")
PIPE = ("-f", "image2pipe", "-")


@cache
def lossless() -> bytes:
    return clip(*x264("-qp", "0", "-profile:v", "high444"), source=FILM)


@cache
def encode(*, starts: float = 0.0, crf: int = 30, filters: str = "null") -> bytes:
    """Three seconds of the film from `starts` on; the first frame has the time 0."""
    chain = f"trim=start={starts}:duration=3,setpts=PTS-STARTPTS,{filters}"
    return ffmpeg("-i", "-", "-vf", chain, *x264("-crf", str(crf)), "-f", "mpegts", "-", source=lossless())


@pytest.fixture
async def pool() -> AsyncIterator[DecoderPool]:
    async with DecoderPool(1, limits=DecodeLimits(deadline_seconds=120.0)) as opened:
        yield opened


async def compare(
    pool: DecoderPool, segment: bytes, reference: bytes, request: ReferenceRequest = REQUEST
) -> ReferenceComparison:
    media = ReferenceMedia(media=reference, request=request)
    decoded = await pool.decode(segment, views=[VIEW], signals=(), reference=media)
    assert decoded.reference is not None
    assert decoded.times_seconds == (0.0, 1.0, 2.0)
    return decoded.reference


def values(comparison: ReferenceComparison, measure: str = "psnr") -> list[float | None]:
    assert comparison.unscored == "", comparison.detail
    return list(next(score for score in comparison.scores if score.measure == measure).frame_values)


async def test_a_shifted_reference_is_paired_frame_by_frame(pool: DecoderPool) -> None:
    """The pairs that remain have the values that they have without a shift."""
    segment = encode(starts=2.0)
    in_step = values(await compare(pool, segment, encode(starts=2.0, crf=10)))
    assert all(value is not None and value > 30 for value in in_step)
    for starts, paired in ((2.48, (1, 2)), (1.0, (0, 1)), (0.0, (0,))):
        comparison = await compare(pool, segment, encode(starts=starts, crf=10))
        assert comparison.pairing is not None
        assert comparison.pairing.offset_seconds == pytest.approx(2.0 - starts, abs=1e-3)
        shifted = values(comparison)
        assert [index for index, value in enumerate(shifted) if value is not None] == list(paired)
        # the reference was encoded from another frame on, so its own loss differs a little
        assert [shifted[index] for index in paired] == pytest.approx([in_step[index] for index in paired], abs=0.5)


async def test_frame_rates_and_dropped_frames_do_not_move_the_pairs(pool: DecoderPool) -> None:
    """25 fps against 50, every frame twice, and a frame missing with and without closing the gap."""
    reference = encode(crf=10)
    in_step = values(await compare(pool, encode(), reference))
    segments = {
        "doubled": encode(filters="fps=50"),
        "gap": encode(filters="select='not(eq(n,30))'"),
        "closed gap": encode(filters="select='not(eq(n,30))',setpts=N/FRAME_RATE/TB"),
    }
    for name, segment in segments.items():
        assert values(await compare(pool, segment, reference)) == pytest.approx(in_step, abs=4.0), name
    assert values(await compare(pool, encode(), encode(crf=10, filters="fps=50"))) == pytest.approx(in_step, abs=1.5)


async def test_what_cannot_be_paired_gets_a_reason_and_no_number(pool: DecoderPool) -> None:
    """Another content, another time, a crop, a flip, another shape; the segment itself is decoded all the same."""
    reference = encode(crf=10)
    wrong = {
        "content": clip(*x264(), size="256x144"),
        "time": encode(starts=4.9),
        "crop": encode(filters="crop=240:136:16:8,scale=256:144"),
        "flip": encode(filters="hflip"),
        "shape": encode(filters="crop=192:144"),
    }
    for name, segment in wrong.items():
        comparison = await compare(pool, segment, reference)
        assert (comparison.unscored, comparison.scores) == ("misaligned", ()), name
        assert comparison.detail


async def test_black_borders_of_one_side_are_cut_off(pool: DecoderPool) -> None:
    """A letterboxed encode is compared by the picture inside its bars."""
    reference = encode(crf=10)
    comparison = await compare(pool, encode(filters="pad=256:192:0:24"), reference)
    in_step = values(await compare(pool, encode(), reference))

    assert values(comparison) == pytest.approx(in_step, abs=1.0)
    assert comparison.pairing is not None
    assert (comparison.pairing.segment_area, comparison.pairing.reference_area) == ("256x144+0+24 of 256x192", "")


async def test_bars_beside_a_dark_part_of_the_picture_are_found_by_the_shape_of_the_reference(
    pool: DecoderPool,
) -> None:
    """Of the dark rows only the bars are cut off."""
    box = "drawbox=0:0:256:8:{}:fill"
    reference = encode(crf=10, filters=box.format("0x202020"))
    comparison = await compare(pool, encode(filters=box.format("black") + ",pad=256:192:0:24"), reference)

    assert comparison.pairing is not None, comparison.detail
    assert comparison.pairing.segment_area == "256x144+0+24 of 256x192"


async def test_both_sides_are_brought_to_the_canvas(pool: DecoderPool) -> None:
    """The reference's picture fitted into the size; a smaller encode is enlarged to it."""
    request = ReferenceRequest(measures=("ssim", "gmsd"), canvas=(640, 640))
    comparison = await compare(pool, encode(filters="scale=128:72"), encode(crf=10), request)

    assert comparison.pairing is not None
    assert comparison.pairing.canvas.startswith("640x360 bicubic yuv420p ")
    assert [score.measure for score in comparison.scores] == ["ssim", "gmsd"]
    assert [score.higher_is_better for score in comparison.scores] == [True, False]


async def test_a_reference_that_is_no_media_does_not_lose_the_segment(pool: DecoderPool) -> None:
    """It says so, and the segment has its frames."""
    comparison = await compare(pool, encode(), b"no media at all")

    assert comparison.unscored == "decode"
    assert "not_media" in comparison.detail


# ---- still pictures


MEASURES_OF_STILLS = ReferenceRequest(measures=("psnr", "ssim", "gmsd", "fsimc"))


@cache
def photo() -> NDArray[np.uint8]:
    """(144, 256, 3): a frame of the film with coloured detail all over."""
    return pictures_of(ffmpeg("-f", "lavfi", "-i", FILM, "-frames:v", "1", *RAW), 144, 256)


def pictures_of(raw: bytes, height: int, width: int) -> NDArray[np.uint8]:
    return np.frombuffer(raw, np.uint8).reshape(height, width, 3)


def noisy(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    noise = np.random.default_rng(1).normal(0, 8, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


async def compare_stills(
    pool: DecoderPool, picture: bytes, reference: bytes, request: ReferenceRequest = MEASURES_OF_STILLS
) -> ReferenceComparison:
    media = ReferenceMedia(media=reference, request=request)
    decoded = await pool.decode(picture, views=[VIEW], signals=(), reference=media)
    assert decoded.reference is not None
    return decoded.reference


async def test_a_picture_has_the_values_of_its_own_pixels(pool: DecoderPool) -> None:
    """Measures of RGB on the pixels of the PNG; JPEGs of 4:2:0 in the filters as coded, as the ffmpeg program gives."""
    comparison = await compare_stills(pool, png(noisy(photo())), png(photo()))
    assert comparison.pairing is not None
    assert comparison.pairing.canvas == "256x144 bicubic yuv444p bt601/full"
    pair = Picture(photo()), Picture(noisy(photo()))
    for measure in ("gmsd", "fsimc"):
        assert values(comparison, measure) == pytest.approx([MEASURES[measure].compute(*pair)], abs=1e-6)

    files = [encode_picture(picture, "mjpeg", "yuvj420p") for picture in (noisy(photo()), photo())]
    comparison = await compare_stills(pool, *files)
    planes = [ffmpeg("-i", "-", "-pix_fmt", "yuv420p", "-f", "rawvideo", "-", source=file) for file in files]
    assert comparison.pairing is not None
    assert comparison.pairing.canvas == "256x144 bicubic yuv420p bt601/full"
    difference = np.subtract(*(np.frombuffer(raw, np.uint8).astype(float) for raw in planes))
    assert values(comparison) == pytest.approx([10 * np.log10(255**2 / (difference**2).mean())], abs=1e-3)


async def test_measures_of_the_segment_alone_stand_beside_the_others(pool: DecoderPool) -> None:
    """NIQE and IL-NIQE of the segment's own pixels, computed in the decoder process; none for a flat picture."""
    request = ReferenceRequest(measures=("psnr", "niqe", "il_niqe"))
    large = [np.kron(picture, np.ones((2, 2, 1), np.uint8)) for picture in (noisy(photo()), photo())]
    comparison = await compare_stills(pool, *(png(picture) for picture in large), request=request)
    for measure in ("niqe", "il_niqe"):
        expected = MEASURES[measure].compute(None, Picture(large[0]))
        assert expected != pytest.approx(MEASURES[measure].compute(None, Picture(large[1])), abs=0.1)
        assert values(comparison, measure) == pytest.approx([expected], abs=1e-6)

    too_small = await compare_stills(pool, png(noisy(photo())), png(photo()), request)
    assert (too_small.unscored, too_small.detail.startswith("niqe needs pictures of 192 x 192 px")) == (
        "too_small",
        True,
    )


async def test_pictures_fit_the_canvas_and_are_never_enlarged(pool: DecoderPool) -> None:
    """A smaller encode is brought to the size of its reference, and both to the canvas where this is smaller still."""
    halves = png(photo().reshape(72, 2, 128, 2, 3).mean(axis=(1, 3)).astype(np.uint8))
    for canvas, name in (((1920, 1080), "256x144"), ((128, 128), "128x72"), (None, "256x144")):
        request = ReferenceRequest(measures=("ssim",), canvas=canvas)
        comparison = await compare_stills(pool, halves, png(photo()), request)
        assert comparison.pairing is not None
        assert comparison.pairing.canvas.startswith(f"{name} ")


async def test_a_turned_picture_is_compared_upright(pool: DecoderPool) -> None:
    """Orientation 6 of Exif: the coded picture is to be turned clockwise."""
    turned = with_png_chunks(png(np.rot90(photo()).copy()), png_chunk(b"eXIf", exif(6)))
    comparison = await compare_stills(pool, turned, png(photo()))
    assert values(comparison, "gmsd") == pytest.approx([0.0], abs=1e-6)


async def test_pictures_that_do_not_belong_together_get_a_reason_and_no_number(pool: DecoderPool) -> None:
    """Another scene, a mirror, a crop, another shape, and a video beside a picture."""
    cropped = png(photo())
    cropped = ffmpeg("-i", "-", "-vf", "crop=240:136:16:8,scale=256:144", "-c:v", "png", *PIPE, source=cropped)
    wrong = {
        "scene": (png(colour_picture()[:90]), png(photo())),
        "mirror": (png(photo()[:, ::-1]), png(photo())),
        "crop": (cropped, png(photo())),
        "shape": (png(photo()[:, :192]), png(photo())),
        "video as reference": (png(photo()), encode()),
        "video": (encode(), png(photo())),
    }
    for name, (picture, reference) in wrong.items():
        comparison = await compare_stills(pool, picture, reference)
        assert (comparison.unscored, comparison.scores) == ("misaligned", ()), name
        assert comparison.detail
    tiny = png(photo()[:48, :80])
    comparison = await compare_stills(pool, tiny, tiny)
    assert (comparison.unscored, comparison.scores) == ("too_small", ())
    assert "gmsd needs pictures of 64 x 64 px" in comparison.detail


@pytest.mark.parametrize(
    "wrong",
    [{"measures": ("loudness",)}, {"measures": ()}, {"measures": ("psnr", "psnr")}, {"canvas": (8, 8)}],
)
def test_a_request_names_what_is_wrong_with_it(wrong: dict[str, object]) -> None:
    """Unknown measures, none, one twice, and a canvas that is too small."""
    with pytest.raises(ValueError, match=r"measures|canvas"):
        ReferenceRequest(**{"measures": ("psnr",), **wrong})  # type: ignore[arg-type]
