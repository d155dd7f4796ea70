"""Each signal rises with its own impairment and stays low on clean pictures."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from tests.media.images.pictures import Picture, measure_last, photo, planes
from vqmon.core.types import SIGNALS
from vqmon.media.images.signals.meter import SignalMeter, _grid_means, _measure_flicker, compute_fingerprint


def blurred(picture: Picture, radius: float) -> Picture:
    from skimage.filters import gaussian

    return gaussian(picture, radius, preserve_range=True)


def sharpened(picture: Picture, amount: float) -> Picture:
    return picture + amount * (picture - blurred(picture, 2))


def noisy(picture: Picture, deviation: float) -> Picture:
    return picture + np.random.default_rng(0).normal(0, deviation, picture.shape)


def blocky(picture: Picture, strength: float) -> Picture:
    """Each 8 x 8 block drawn towards its own mean."""
    means = picture[:536].reshape(67, 8, 120, 8).mean(axis=(1, 3)).repeat(8, axis=0).repeat(8, axis=1)
    result = picture.copy()
    result[:536] += strength * (means - result[:536])
    return result


def banded(picture: Picture, levels: float) -> Picture:
    smooth = blurred(picture, 12)
    return np.rint(smooth / levels) * levels if levels else smooth


def letterboxed(picture: Picture, share: float) -> Picture:
    result = picture.copy()
    rows = int(len(result) * share / 2)
    result[:rows] = result[len(result) - rows :] = 16
    return result


RISING: dict[str, tuple[Callable[[Picture, float], Picture], tuple[float, ...]]] = {
    "blur": (lambda p, x: blurred(p, x) if x else p, (0, 1, 2, 4)),
    "noise": (noisy, (0, 2, 5, 10)),
    "over_sharpness": (sharpened, (0, 0.7, 1.5)),
    "blockiness": (blocky, (0, 0.3, 0.6)),
    "banding": (banded, (0, 2, 4)),
    "borders": (letterboxed, (0, 0.2, 0.4)),
    "black": (lambda p, x: p * (1 - x) + 16 * x, (0, 0.7, 1)),
    "solid": (lambda p, x: p * (1 - x) + 100 * x, (0, 0.8, 1)),
}


@pytest.mark.parametrize("name", RISING)
def test_a_signal_rises_with_its_impairment(name: str) -> None:
    """More of the impairment is more of the signal, by a clear step."""
    impair, amounts = RISING[name]
    values = [measure_last(impair(photo("camera"), amount))[name] for amount in amounts]
    assert all(later > earlier for earlier, later in pairwise(values)), values
    assert values[-1] - values[0] > 0.15


@pytest.mark.parametrize("name", ["astronaut", "camera", "coffee", "chelsea"])
def test_clean_pictures_read_low(name: str) -> None:
    """A good photo shows none of the impairments."""
    values = measure_last(photo(name))
    for signal in ("blockiness", "noise", "banding", "over_sharpness", "borders", "freeze", "flicker", "solid"):
        assert values[signal] < 0.25, signal


def test_a_flat_picture_is_solid_and_nothing_else() -> None:
    """One colour has no blur, no noise, no blocks; it may still be black."""
    values = measure_last(np.full((540, 960), 120.0))
    assert values.pop("solid") == 1.0
    assert set(values.values()) == {0.0}


@pytest.mark.parametrize("deviation", [0, 4, 10])
@pytest.mark.parametrize("has_text", [False, True])
@pytest.mark.parametrize("size", [(360, 640), (1080, 1920)])
def test_noise_and_a_line_of_text_leave_a_picture_solid(
    deviation: float, has_text: bool, size: tuple[int, int]
) -> None:
    """The line is as wide as three fifths of the picture and a twentieth as high."""
    height, width = size
    picture = np.full(size, 90.0)
    if has_text:
        line = np.random.default_rng(3).integers(0, 2, (height // 20, width * 3 // 5)) * 145.0
        picture[height // 2 : height // 2 + len(line), width // 5 : width // 5 + line.shape[1]] += line
    assert measure_last(noisy(picture, deviation))["solid"] > 0.97


@pytest.mark.parametrize("name", ["astronaut", "camera", "coffee", "chelsea", "rocket"])
def test_much_sky_or_a_dark_scene_is_not_solid(name: str) -> None:
    """Whether the sky is bright or black; also at a tenth of the light."""
    picture = photo(name)
    assert max(measure_last(p)["solid"] for p in (picture, 16 + (picture - 16) / 4)) < 0.7


def test_all_black_has_no_borders() -> None:
    """A black picture is black, not a border around nothing."""
    values = measure_last(np.full((540, 960), 16.0))
    assert (values["black"], values["borders"]) == (1.0, 0.0)


def test_freeze_outlasts_coding_noise() -> None:
    """The same picture with noise of -60 dB is frozen; the first of a segment is not."""
    picture = photo()
    assert measure_last(picture)["freeze"] == 0.0
    assert measure_last(picture, picture)["freeze"] == 1.0
    assert measure_last(picture, noisy(picture, 0.2))["freeze"] > 0.9


def test_a_small_moving_object_is_no_freeze() -> None:
    """A clock hand that moves on an otherwise still picture is motion."""
    picture = photo()
    moved = picture.copy()
    moved[100:130, 200:230] = 235
    assert measure_last(picture, moved)["freeze"] == 0.0


def test_flicker_goes_up_and_comes_back() -> None:
    """A flash is flicker; a fade and a cut to another picture are not."""
    picture, other = photo(), photo("coffee")
    assert measure_last(picture, picture + 16, picture)["flicker"] == pytest.approx(0.5, abs=0.1)
    assert measure_last(picture, picture + 10, picture + 20)["flicker"] == 0.0
    assert measure_last(picture, other, picture)["flicker"] == 0.0


def test_flicker_between_sampled_frames_is_measured() -> None:
    """Frames that are decoded on the way count, unless decoding jumped in between; then the last value holds once."""
    meter = SignalMeter(("flicker",))
    picture = photo().astype(np.float32)
    for step in (0, 16, 0):
        meter.add_intermediate(picture + step)
    assert meter.measure(planes(picture), damaged_share=0.0)["flicker"] > 0.4
    for step in (16, 0, 16):
        meter.mark_gap()
        meter.add_intermediate(picture + step)
    values = [meter.measure(planes(picture), damaged_share=0.0)["flicker"] for _ in range(2)]
    assert values == [pytest.approx(0.5, abs=0.1), 0.0]


@pytest.mark.parametrize(("period", "is_flicker"), [(2, True), (6, True), (10, True), (40, False)])
def test_flicker_of_any_rate_above_that_of_fades(period: int, is_flicker: bool) -> None:
    """Brighter for half of so many frames at 25 fps; slow changes are no flicker."""
    meter, picture = SignalMeter(("flicker",)), photo().astype(np.float32)
    for number in range(40):
        meter.add_intermediate(picture + 8 * (number % period < period / 2))
    value = meter.measure(planes(picture), damaged_share=0.0)["flicker"]
    assert (value > 0.2) == is_flicker


def test_full_range_reads_like_limited_range() -> None:
    """The same picture coded in full range gives the same signals within rounding."""
    limited = photo()
    full = (limited - 16) * 255 / 219
    values = [
        SignalMeter(SIGNALS).measure(planes(picture, is_full=is_full), damaged_share=0.0)
        for picture, is_full in ((limited, False), (full, True))
    ]
    for name in SIGNALS:
        assert values[0][name] == pytest.approx(values[1][name], abs=0.05), name


def test_decode_errors_are_the_given_share() -> None:
    """The share of damaged pictures is what the decoder counted."""
    assert SignalMeter(("decode_errors",)).measure(planes(photo()), damaged_share=0.3) == {"decode_errors": 0.3}


@pytest.mark.parametrize(("height", "width"), [(16, 16), (2, 2), (18, 32), (121, 161), (2160, 64)])
def test_any_size_can_be_measured(height: int, width: int) -> None:
    """Tiny, odd and lopsided pictures give numbers from 0 to 1."""
    picture = np.random.default_rng(1).integers(16, 235, (height, width)).astype(float)
    assert all(0 <= value <= 1 for value in measure_last(picture, picture).values())
    assert len(compute_fingerprint(planes(picture))) == 1152


def test_a_fingerprint_is_the_means_of_a_grid() -> None:
    """18 rows of 32 cells, two hexadecimal digits each, top left first."""
    picture = np.full((540, 960), 16.0)
    picture[:120, :120] = 200
    digits = compute_fingerprint(planes(picture))
    assert digits.startswith("c8c8c8c810")
    assert digits.endswith("1010")
    assert _grid_means(picture.astype(np.float32)).shape == (18, 32)


def test_flicker_needs_the_same_scene() -> None:
    """Three unrelated pictures are cuts, whatever their brightness."""
    chance = np.random.default_rng(5)
    frames = [chance.uniform(0, 200 + step, (18, 32)).astype(np.float32) for step in (0, 50, 0)]
    assert _measure_flicker(frames) == 0.0
