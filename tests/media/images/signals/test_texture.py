"""Signals of fine detail on pages, slides, ramps and posterized photos."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from skimage.filters import gaussian

from tests.media.clips import ffmpeg
from tests.media.images.pictures import Picture, measure_last, photo
from vqmon.core.experiments.definition import Arm, Experiment


def text_page() -> Picture:
    """Black strokes of irregular lengths on white: what a slide looks like to a block detector."""
    chance = np.random.default_rng(3)
    page = np.full((540, 960), 235.0)
    for top in range(30, 500, 31):
        left = 40
        while left < 900:
            width, height = int(chance.integers(2, 9)), int(chance.integers(8, 18))
            page[top : top + height, left : left + width] = 16
            left += width + int(chance.integers(3, 12))
    return page


def test_text_has_no_coding_impairments() -> None:
    """A high-contrast page is neither blocky, noisy, banded nor over-sharp."""
    values = measure_last(text_page())
    for signal in ("blockiness", "noise", "banding", "over_sharpness"):
        assert values[signal] < 0.1, signal


@pytest.mark.parametrize("name", ["astronaut", "camera", "coffee", "chelsea"])
def test_coarse_posterization_is_banding(name: str) -> None:
    """From 128 down to 32 levels the signal rises; at 16 and 8, whose contours are fewer, it is still there."""
    picture = photo(name)
    values = [
        measure_last(np.floor(picture / (256 / levels)) * (256 / levels))["banding"] for levels in (128, 64, 32, 16, 8)
    ]
    assert all(later > earlier for earlier, later in pairwise(values[:3])), values
    assert min(values[3:]) > 0.3, values


def test_a_ramp_of_few_levels_is_banding() -> None:
    """Few and large steps are seen although they are far apart."""
    ramp = np.tile(np.linspace(16, 235, 960), (540, 1))
    assert all(measure_last(np.floor(ramp / size) * size)["banding"] > 0.3 for size in (2, 4, 8, 16, 32))


def test_a_slide_of_flat_areas_is_not_banding() -> None:
    """Boxes of similar greys, as drawn, stay low."""
    slide = np.full((540, 960), 40.0)
    for top, left, level in ((60, 100, 60), (250, 300, 52), (100, 650, 200), (330, 620, 46)):
        slide[top : top + 150, left : left + 280] = level
    assert measure_last(slide)["banding"] < 0.25


STRENGTHS = ("0", "0.6", "1.2", "2", "2.8", "3.5")
"""Amounts of ffmpeg's `unsharp`, 7 x 7 mask."""

SIZES = {"bigbuckbunny": (1280, 720), "cockatoo": (1280, 720), "bikes": (640, 272)}
LIMIT = Experiment(
    name="sr", control="a", planned_clusters=20, arms=tuple(Arm(name=name, label=name) for name in "ab")
).look_limits["over_sharpness"]


def boxes(softness: float) -> Picture:
    """Overlapping boxes of random greys, blurred."""
    chance = np.random.default_rng(7)
    picture = np.full((540, 960), 120.0)
    for _ in range(160):
        top, left = chance.integers(0, 500), chance.integers(0, 900)
        height, width = chance.integers(50, 140, 2)
        picture[top : top + height, left : left + width] = chance.integers(50, 190)
    blurred: Picture = gaussian(picture, softness, preserve_range=True)
    return blurred


@pytest.mark.parametrize("softness", [0.7, 1.4, 2.1])
def test_halos_are_found_at_the_scale_of_their_edges(softness: float) -> None:
    """A mask as wide as the blur makes the same halos at every width of an edge; without a mask there are none."""
    picture = boxes(softness)
    detail = picture - gaussian(picture, 2 * softness, preserve_range=True)
    values = [measure_last(picture + amount * detail)["over_sharpness"] for amount in (0, 0.6, 1.2, 2, 2.8, 3.5)]
    assert values[0] < LIMIT / 3, values
    assert all(later > earlier for earlier, later in pairwise(values)), values
    assert values[3] > 5 * LIMIT, values


def test_noise_and_a_rim_on_one_side_are_no_halos() -> None:
    """What noise and lines beside edges leave is no over-sharpness."""
    picture = boxes(1.0)
    noise = np.random.default_rng(0).normal(0, 6, picture.shape)
    assert measure_last(picture + noise)["over_sharpness"] < LIMIT
    rim = np.where(np.diff(picture, axis=1, append=picture[:, -1:]) > 8, 40, 0)
    assert measure_last(picture + rim)["over_sharpness"] < LIMIT


def luma(shared: Path, clip: str, filters: str, *encoding: str) -> Picture:
    """The first luma picture of a clip after `filters`, and after an encoder if one is given."""
    width, height = SIZES[clip]
    source = ("-i", str(shared / "clips" / f"{clip}.mp4"), "-frames:v", "2", "-vf", filters)
    raw = ("-pix_fmt", "yuv420p", "-f", "rawvideo", "-")
    if encoding:
        coded = ffmpeg(*source, *encoding, "-pix_fmt", "yuv420p", "-f", "mpegts", "-")
        pixels = ffmpeg("-f", "mpegts", "-i", "-", *raw, source=coded)
    else:
        pixels = ffmpeg(*source, *raw)
    return np.frombuffer(pixels, np.uint8, width * height).reshape(height, width).astype(np.float64)


@pytest.mark.fixtures
@pytest.mark.parametrize("encoding", [(), ("-c:v", "libx264", "-crf", "23")], ids=["raw", "crf23"])
@pytest.mark.parametrize(("scale", "kernel"), [(2, "lanczos"), (3, "bicubic")])
@pytest.mark.parametrize("clip", SIZES)
def test_sharpening_of_a_soft_source_is_ordered(
    shared: Path, clip: str, scale: int, kernel: str, encoding: tuple[str, ...]
) -> None:
    """Five strengths after a detour over a smaller picture rise in order; unsharpened it stays below the limit."""
    width, height = SIZES[clip]
    small = f"{width // scale // 2 * 2}:{height // scale // 2 * 2}"
    soft = f"scale={small}:flags={kernel},scale={width}:{height}:flags={kernel}"
    values = [
        measure_last(luma(shared, clip, f"{soft},unsharp=7:7:{strength}", *encoding))["over_sharpness"]
        for strength in STRENGTHS
    ]
    assert values[0] < LIMIT, values
    assert all(later > earlier for earlier, later in pairwise(values)), values


@pytest.mark.fixtures
@pytest.mark.parametrize("clip", SIZES)
@pytest.mark.parametrize("filters", ["null", "noise=alls=8", "boxblur=1"])
def test_natural_video_stays_below_the_limit(shared: Path, clip: str, filters: str) -> None:
    """Clean, grainy and soft video asks nobody for a review."""
    assert measure_last(luma(shared, clip, filters))["over_sharpness"] < LIMIT
