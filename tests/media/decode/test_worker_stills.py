"""Still pictures through the worker: the pixels, the turns, the facts and the refusals."""

import random
import struct
from collections import Counter

import av.filter
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.media.decode.rig import TILES, refusal_reason
from tests.media.stills import (
    GREY_JPEG,
    HEIGHT,
    WIDTH,
    alpha_ramp,
    av1_picture,
    avif,
    box,
    colour_picture,
    encode_frame,
    encode_picture,
    exif,
    jpeg,
    jpeg_segment,
    nclx,
    palette_png,
    png,
    png_chunk,
    riff_chunk,
    webp,
    with_jpeg_exif,
    with_jpeg_segments,
    with_png_chunks,
    with_webp_chunks,
)
from vqmon.core.frames import SIGNALS, ClipSampling
from vqmon.core.types import DecodedSegment, View
from vqmon.errors import DecodeError
from vqmon.media.decode.pool import DecodeLimits, DecoderPool
from vqmon.media.decode.protocol import DecodeRequest, parse_answer
from vqmon.media.decode.worker import decode_segment
from vqmon.media.images.resampling import FrameResampler

NATIVE = View(kind="stretch", width=WIDTH, height=HEIGHT)
TURNED = View(kind="stretch", width=HEIGHT, height=WIDTH)
RGBA = np.dstack([colour_picture(), alpha_ramp()])
ON_BLACK = "the alpha channel was composited on black"
RED_BLUE = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
RED_BLUE[:, : WIDTH // 2], RED_BLUE[:, WIDTH // 2 :] = (200, 10, 10), (10, 10, 200)

Picture = NDArray[np.uint8]


def decode_still(media: bytes, *views: View, **limits: int) -> DecodedSegment:
    """Decode in this process, with all signals and a thumbnail, and parse the answer as the daemon does."""
    request = DecodeRequest(views=views or (NATIVE,), thumbnail_width=64, limits=DecodeLimits(**limits))
    shared_memory = np.empty(20_000_000, np.uint8)
    collector, facts = decode_segment(media, request, shared_memory, FrameResampler(av.filter.Graph))
    return parse_answer(collector.answer(facts), b"".join(collector.thumbnails), shared_memory, request)


def pixels_of(media: bytes, view: View = NATIVE) -> Picture:
    return decode_still(media, view).views[view][0]


def largest_difference(first: NDArray[np.generic], second: NDArray[np.generic]) -> int:
    return int(np.abs(first.astype(int) - second.astype(int)).max())


# ---- pixels


@pytest.mark.parametrize(
    "media", [png(), png(RGBA[..., [0, 1, 2]], "rgb24"), webp()], ids=["png", "png-rgb", "webp-lossless"]
)
def test_lossless_pictures_keep_every_pixel(media: bytes) -> None:
    assert (pixels_of(media) == colour_picture()).all()


def test_grey_and_palette_pictures_keep_their_pixels() -> None:
    grey = colour_picture()[..., 0]
    assert (pixels_of(png(grey, "gray")) == grey[..., None]).all()
    black_white = np.where(grey > 99, 255, 0).astype(np.uint8)
    assert (pixels_of(png(black_white, "monob")) == black_white[..., None]).all()


def test_palette_pictures_keep_their_colours_and_their_alpha() -> None:
    indices = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint8) % 3
    colours = np.array([[200, 10, 30], [0, 255, 90], [1, 2, 3]], np.uint8)
    opaque = decode_still(palette_png(indices, colours))
    assert (opaque.views[NATIVE][0] == colours[indices]).all()
    assert (opaque.media.pixel_format, opaque.media.notes) == ("pal8", ())
    translucent = decode_still(palette_png(indices, colours, alpha=bytes([255, 51])))
    colours[1] = colours[1] // 5
    assert (translucent.views[NATIVE][0] == colours[indices]).all()
    assert translucent.media.notes == (ON_BLACK,)


@pytest.mark.parametrize(("channels", "pixel_format"), [(3, "rgb48be"), (1, "gray16be"), (4, "rgba64be")])
def test_16_bits_become_8_within_a_level(channels: int, pixel_format: str) -> None:
    deep = np.random.default_rng(3).integers(0, 65536, (HEIGHT, WIDTH, channels), np.uint16)
    deep = deep[..., 0] if channels == 1 else deep
    expected = np.atleast_3d(deep)[..., :3] / 257
    if channels == 4:
        expected = expected * deep[..., 3:] / 65535
    assert decode_still(png(deep, pixel_format)).media.pixel_format == pixel_format
    assert np.abs(pixels_of(png(deep, pixel_format)) - expected).max() <= 1.01


@pytest.mark.parametrize("pixel_format", ["yuvj444p", "yuvj422p", "yuvj420p"])
def test_jpeg_is_full_range_bt601(pixel_format: str) -> None:
    decoded = decode_still(encode_picture(RED_BLUE, "mjpeg", pixel_format))
    picture = decoded.views[NATIVE][0]
    # away from the edge of colours
    assert largest_difference(picture[:, : WIDTH // 2 - 16], RED_BLUE[:, : WIDTH // 2 - 16]) <= 3
    assert largest_difference(picture[:, WIDTH // 2 + 16 :], RED_BLUE[:, WIDTH // 2 + 16 :]) <= 3
    assert (decoded.media.colour, decoded.media.pixel_format) == ("bt601/full", pixel_format)


def test_grey_jpeg_is_full_range() -> None:
    view = View(kind="stretch", width=64, height=16)
    decoded = decode_still(GREY_JPEG, view)
    ramp = np.tile(np.arange(64) * 255 // 63, (16, 1))
    assert largest_difference(decoded.views[view][0], ramp[..., None]) <= 3
    assert decoded.media.colour == "bt601/full"


def test_subsampled_chroma_is_interpolated_as_jpeg_libraries_do() -> None:
    """As libjpeg's "fancy" upsampling: 3/4 of the nearer and 1/4 of the farther sample, centred between the pixels."""
    columns = np.arange(WIDTH)
    chroma = np.where(np.arange(WIDTH // 2) < 41, 100, 180).astype(np.uint8)
    frame = av.VideoFrame(WIDTH, HEIGHT, "yuvj420p")
    for plane, row in zip(frame.planes, (np.full(WIDTH, 128, np.uint8), chroma, chroma), strict=True):
        rows = np.zeros((plane.height, plane.line_size), np.uint8)
        rows[:, : plane.width] = row
        plane.update(rows.tobytes())
    blue = pixels_of(encode_frame(frame, "mjpeg"))[HEIGHT // 2, :, 2].astype(float)
    neighbours = np.clip(columns // 2 + np.where(columns % 2, 1, -1), 0, WIDTH // 2 - 1)
    expected = 128 + 1.772 * (0.75 * chroma[columns // 2] + 0.25 * chroma[neighbours] - 128)
    assert np.abs(blue - np.clip(expected, 0, 255)).max() <= 4


def test_lossy_webp_is_limited_range_bt601() -> None:
    decoded = decode_still(encode_picture(RED_BLUE, "libwebp", "yuv420p", quality="100"))
    assert largest_difference(decoded.views[NATIVE][0][:, : WIDTH // 2 - 16], RED_BLUE[:, : WIDTH // 2 - 16]) <= 4
    assert decoded.media.colour == "bt601/limited"


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv420p10le"])
def test_avif_is_decoded_by_the_colour_of_its_container(pixel_format: str) -> None:
    decoded = decode_still(avif(av1_picture(pixel_format), properties=[nclx(matrix=5)]))
    assert np.abs(decoded.views[NATIVE][0].astype(int) - colour_picture()).mean() < 3
    assert (decoded.media.container, decoded.media.codec, decoded.media.colour) == ("avif", "av1", "bt601/full")
    bt709 = decode_still(avif(av1_picture(pixel_format), properties=[nclx(matrix=1)]))
    assert bt709.media.colour == "bt709/full"
    assert largest_difference(bt709.views[NATIVE], decoded.views[NATIVE]) > 10


@pytest.mark.parametrize(
    ("media", "opaque", "levels"),
    [
        (png(RGBA, "rgba"), png(), 1),
        (webp(RGBA), webp(), 1),
        (webp(RGBA, is_lossless=False), webp(is_lossless=False), 12),
        (avif(alpha=av1_picture(is_alpha=True)), avif(), 4),
    ],
    ids=["png", "webp-lossless", "webp-lossy", "avif"],
)
def test_alpha_is_composited_on_black_and_said(media: bytes, opaque: bytes, levels: int) -> None:
    decoded = decode_still(media)
    expected = np.round(pixels_of(opaque) * (alpha_ramp()[..., None] / 255))
    assert largest_difference(decoded.views[NATIVE][0], expected) <= levels
    assert ON_BLACK in decoded.media.notes
    assert ON_BLACK not in decode_still(opaque).media.notes


def test_an_opaque_alpha_channel_is_not_mentioned() -> None:
    opaque = np.dstack([colour_picture(), np.full((HEIGHT, WIDTH), 255, np.uint8)])
    assert decode_still(png(opaque, "rgba")).media.notes == ()
    assert decode_still(webp(opaque)).media.notes == ()


def test_premultiplied_colours_are_not_multiplied_twice() -> None:
    alpha = av1_picture(is_alpha=True)
    media = avif(alpha=alpha, references=[box(b"prem", struct.pack(">HHH", 1, 1, 2))])
    assert largest_difference(pixels_of(media), pixels_of(avif())) <= 2


def test_an_alpha_channel_of_another_size_is_corrupt() -> None:
    small = encode_picture(np.zeros((64, 64, 3), np.uint8), "libsvtav1", "yuv420p", preset="10")
    with pytest.raises(DecodeError, match="another size"):
        decode_still(avif(alpha=small))


# ---- orientation


def oriented(format: str, orientation: int) -> bytes:
    """The colour picture, stored as Exif's orientation tells, so that it is upright when that is respected."""
    if format == "jpeg":
        return with_jpeg_exif(jpeg(), exif(orientation))
    if format == "png":
        return with_png_chunks(png(), png_chunk(b"eXIf", exif(orientation, order="<")))
    return with_webp_chunks(webp(), riff_chunk(b"EXIF", exif(orientation)), flags=0x08)


def upright(picture: Picture, orientation: int) -> NDArray[np.uint8]:
    """What Exif 2.32, table 6 says of a stored picture, in numpy's turns (counter-clockwise) and mirrors."""
    turned: dict[int, Picture] = {
        1: picture,
        2: picture[:, ::-1],
        3: np.rot90(picture, 2),
        4: picture[::-1],
        5: picture.swapaxes(0, 1),
        6: np.rot90(picture, -1),
        7: np.rot90(picture, 2).swapaxes(0, 1),
        8: np.rot90(picture, 1),
    }
    return turned[orientation]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["jpeg", "png", "webp"])
def test_every_orientation_is_respected(format: str, orientation: int) -> None:
    view = TURNED if orientation > 4 else NATIVE
    decoded = decode_still(oriented(format, orientation), view)
    assert largest_difference(decoded.views[view][0], upright(pixels_of(oriented(format, 1)), orientation)) == 0
    assert (decoded.media.width, decoded.media.height) == (view.width, view.height)


# ---- facts and signals


def test_a_still_is_one_sampled_frame_without_a_duration() -> None:
    decoded = decode_still(jpeg())
    assert decoded.times_seconds == (0.0,)
    assert decoded.media.is_still
    assert (decoded.media.duration_seconds, decoded.media.frame_count, decoded.media.fps) == (0.0, 1, 0.0)
    assert set(decoded.signals) == set(SIGNALS)
    assert (decoded.signals["freeze"], decoded.signals["flicker"], decoded.signals["decode_errors"]) == ((0.0,),) * 3
    assert decoded.edges[0] == decoded.edges[1]
    assert decoded.thumbnails[0].startswith(b"\xff\xd8")


def test_every_kind_of_view_is_rendered() -> None:
    views = (
        TILES,
        View(kind="fit", width=64, height=64),
        View(kind="centre", width=32, height=32, short_side=48),
        View(kind="fragments", width=64, height=64, columns=2, rows=2),
        View(kind="windows", width=64, height=64, windows=3),
        View(kind="grid", width=64, height=48, columns=2, rows=2),
        View(kind="halves", width=64, height=64),
        View(kind="stretch", width=64, height=64, clip=ClipSampling(frames=4)),
    )
    decoded = decode_still(png(), *views)
    assert all(decoded.views[view].any() for view in views)
    clip_pictures = decoded.views[views[-1]][0]
    assert (clip_pictures == clip_pictures[:1]).all()


def test_a_colour_profile_is_not_applied_and_said() -> None:
    profile = jpeg_segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(200))
    decoded = decode_still(with_jpeg_segments(jpeg(), profile))
    assert decoded.media.notes == ("the colour profile (ICC) of the picture is not applied",)
    assert (decoded.views[NATIVE] == decode_still(jpeg()).views[NATIVE]).all()


def test_only_the_first_picture_of_a_file_counts() -> None:
    several = jpeg() + encode_picture(RED_BLUE, "mjpeg", "yuvj420p")
    assert (pixels_of(several) == pixels_of(jpeg())).all()


# ---- refusals


async def test_the_pool_decodes_stills_in_its_processes_and_refuses_bad_ones() -> None:
    async with DecoderPool(1) as pool:
        for media in (jpeg(), png(), webp(), avif(), with_jpeg_exif(jpeg(), exif(6))):
            assert (await pool.decode(media, views=[NATIVE])).media.is_still
        for media, reason in (
            (jpeg()[:-40], "corrupt"),
            (b"<html><body>503</body></html>", "not_media"),
            (avif(brands=b"avisavif"), "unsupported_codec"),
            (jpeg(), ""),
        ):
            if not reason:
                await pool.decode(media, views=[NATIVE])
                continue
            with pytest.raises(DecodeError) as caught:
                await pool.decode(media, views=[NATIVE])
            assert caught.value.reason == reason
        assert pool.replacements == {"refused": 3}


async def test_a_huge_picture_is_refused_before_it_is_decoded() -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    huge = png()[:8] + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b"")
    assert await refusal_reason(huge) == "too_many_pixels"


def test_stills_have_their_own_limit_of_pixels() -> None:
    pixels = WIDTH * HEIGHT
    assert decode_still(png(), max_pixels=1, max_still_pixels=pixels).media.width == WIDTH
    with pytest.raises(DecodeError, match=f"160x96 has {pixels} pixels; at most {pixels - 1} by decode.max_still"):
        decode_still(png(), max_still_pixels=pixels - 1)


def test_a_header_that_lies_about_the_size_does_not_pass_the_limit() -> None:
    """The size in an AVIF file is its own statement; the coded picture is larger."""
    with pytest.raises(DecodeError) as caught:
        decode_still(avif(size=(8, 8)), max_still_pixels=64)
    assert caught.value.reason in ("too_many_pixels", "corrupt")


def test_damage_inside_a_jpeg_is_counted() -> None:
    media = bytearray(jpeg())
    start = media.index(b"\xff\xda") + 400
    media[start : start + 60] = bytes(60)
    decoded = decode_still(bytes(media))
    assert decoded.signals["decode_errors"] == (1.0,)


def test_damaged_files_are_decoded_or_refused_with_a_reason() -> None:
    draw = random.Random(13)
    results: Counter[str] = Counter()
    sources = [jpeg(), jpeg("yuvj420p"), webp(), webp(RGBA, is_lossless=False), avif(alpha=av1_picture(is_alpha=True))]
    for source in sources:
        for _ in range(60):
            media = bytearray(source)
            for _ in range(draw.choice((1, 2, 8))):
                media[draw.randrange(len(media))] = draw.randrange(256)
            try:
                decode_still(bytes(media))
                results["decoded"] += 1
            except DecodeError as error:
                results[error.reason] += 1
    assert set(results) <= {"decoded", "corrupt", "not_media", "unsupported_codec", "too_many_pixels"}
    assert min(results["decoded"], results["corrupt"]) >= 20
