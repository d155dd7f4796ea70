"""Freezes that are encoded again stay freezes; slow movement stays movement."""

from collections.abc import Iterator
from itertools import pairwise

import av.filter
import numpy as np
import pytest

from tests.media.clips import ffmpeg
from tests.media.images.pictures import Picture, photo
from vqmon.media.decode.protocol import DecodeRequest
from vqmon.media.decode.worker import decode_segment
from vqmon.media.images.resampling import FrameResampler
from vqmon.media.images.signals.freeze import FreezeMeter, grid_means

FPS, SECONDS = 25, 6
ENCODERS = {
    "h264": ("-c:v", "libx264", "-preset", "veryfast", "-sc_threshold", "0"),
    "hevc": ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=0"),
}


def wide_photo(name: str) -> Picture:
    """320 x 180 of a photo and 16 more on every side, to move it."""
    return photo(name)[: 212 * 2 : 2, : 352 * 2 : 2]


def moving(name: str, movement: str) -> Iterator[Picture]:
    """So many seconds of a photo that stands still, pans, or holds a small moving object."""
    wide = wide_photo(name)
    for number in range(FPS * SECONDS):
        shift = number / FPS if movement == "pan" else 0.0
        whole, part = int(shift), shift % 1
        picture = (1 - part) * wide[16:196, 16 + whole : 336 + whole] + part * wide[16:196, 17 + whole : 337 + whole]
        if movement == "object":
            picture = picture.copy()
            left = 60 + number // 2
            picture[80:90, left : left + 10] = 220
        yield picture


def freeze_values(frames: Iterator[Picture], *, encoder: str, crf: int, gop: int) -> tuple[float, ...]:
    """The signal of the sampled frames of one encoded segment."""
    raw = b"".join(np.clip(np.rint(picture), 16, 235).astype(np.uint8).tobytes() for picture in frames)
    source = ("-f", "rawvideo", "-pix_fmt", "gray", "-s", "320x180", "-r", str(FPS), "-i", "pipe:0")
    range_of_luma = ("-vf", "scale=in_range=tv:out_range=tv", "-pix_fmt", "yuv420p")
    options = (*ENCODERS[encoder], "-crf", str(crf), "-g", str(gop), "-f", "mpegts", "-")
    media = ffmpeg(*source, *range_of_luma, *options, source=raw)
    request = DecodeRequest(views=(), signals=("freeze",))
    collector, facts = decode_segment(media, request, np.empty(0, np.uint8), FrameResampler(av.filter.Graph))
    values: list[float] = collector.answer(facts)["signals"]["freeze"]
    return tuple(values)


@pytest.mark.parametrize(
    ("encoder", "crf", "gop"),
    [("h264", 20, 50), ("h264", 35, 50), ("h264", 45, 50), ("h264", 35, 25), ("h264", 28, 37), ("hevc", 35, 50)],
)
def test_a_frozen_picture_reads_as_frozen_throughout(encoder: str, crf: int, gop: int) -> None:
    """Though its quality pulses with every key picture."""
    values = freeze_values(moving("astronaut", "none"), encoder=encoder, crf=crf, gop=gop)
    assert values[0] == 0.0
    assert min(values[1:]) > 0.8, values


@pytest.mark.parametrize("movement", ["pan", "object"])
@pytest.mark.parametrize(("crf", "gop"), [(20, 50), (35, 50), (35, 25), (45, 50)])
def test_slow_movement_is_no_freeze(movement: str, crf: int, gop: int) -> None:
    """One pixel per second, or an object of 10 x 10 pixels, never two seconds in a row."""
    values = freeze_values(moving("astronaut", movement), encoder="h264", crf=crf, gop=gop)
    assert all(max(pair) < 0.5 or min(pair) < 0.3 for pair in pairwise(values)), values


def meter_value(
    first: Picture, second: Picture, *, key_at: int | None, between: tuple[Picture, ...] = (), is_gap: bool = False
) -> float:
    """The value of `second`, 25 frames after `first`, with a key picture at one of the intermediate ones."""
    meter = FreezeMeter()
    pictures = [np.clip(np.rint(picture), 0, 255).astype(np.float32) for picture in (first, *between, second)]
    for number, picture in enumerate(pictures):
        if is_gap and number == 1:
            meter.mark_gap()
        meter.add_intermediate(picture[::2, ::2], is_key=number == key_at, timestamp=number)
        if number in (0, len(pictures) - 1):
            value = meter.measure(picture[::4, ::4], picture.astype(np.uint8), timestamp=number)
    return value


def coded(picture: Picture, seed: int, levels: float = 1.5) -> Picture:
    """The picture with coding errors of some levels."""
    return picture + np.random.default_rng(seed).normal(0, levels, picture.shape)


def test_coding_errors_count_only_within_a_group_of_pictures() -> None:
    """With a key picture between them two samples may differ by more; without one they may not."""
    a, b = coded(photo(), 1), coded(photo(), 2)
    assert meter_value(a, b, key_at=None) == 0.0
    assert meter_value(a, b, key_at=0) == 0.0
    assert meter_value(a, b, key_at=1) == 1.0
    assert meter_value(a, b, key_at=1, is_gap=True) == 1.0


def test_movement_between_key_pictures_is_no_freeze() -> None:
    """The samples look the same, the pictures on the way do not: something moved and came back."""
    a, b = coded(photo(), 1), coded(photo(), 2)
    moved = a.copy()
    moved[100:180, 200:280] = 235
    assert meter_value(a, b, key_at=4, between=(a, a, a, b)) == 1.0
    assert meter_value(a, b, key_at=4, between=(a, a, moved, b)) == 0.0


@pytest.mark.parametrize(("rows", "columns"), [(1, 0), (0, 1), (-1, 1)])
def test_a_displaced_picture_is_no_freeze(rows: int, columns: int) -> None:
    """By one pixel in any direction, of the whole picture or of a part of it."""
    a = photo()
    b = np.roll(a, (rows, columns), axis=(0, 1))
    assert meter_value(coded(a, 1), coded(b, 2), key_at=1) == 0.0
    part = a.copy()
    part[150:400, 300:700] = b[150:400, 300:700]
    assert meter_value(coded(a, 1), coded(part, 2), key_at=1) < 0.5


def test_pictures_of_other_sizes_are_no_freeze() -> None:
    meter = FreezeMeter()
    for size in (64, 32):
        picture = np.full((size, size), 90, np.float32)
        assert meter.measure(picture, picture.astype(np.uint8), timestamp=size) == 0.0


def test_grid_means_are_those_of_the_cells() -> None:
    picture = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert grid_means(picture, (3, 2)).tolist() == [[0.5, 2.5], [4.5, 6.5], [8.5, 10.5]]
    assert grid_means(picture[:1, :1], (2, 2)).tolist() == [[0.0, 0.0], [0.0, 0.0]]
