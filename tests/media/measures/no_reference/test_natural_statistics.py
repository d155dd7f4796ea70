"""Values of NIQE and the features of BRISQUE as the authors' code gives them, and how NIQE orders damage."""

import math
from pathlib import Path

import numpy as np
import pytest

from tests.media.measures import pictures
from vqmon.media.measures.measure import Picture
from vqmon.media.measures.no_reference.natural_statistics import (
    NIQE,
    NaturalModel,
    brisque_features,
    fit_natural_model,
    load_natural_model,
    niqe,
)

# the authors' brisque_feature.m
BRISQUE = {
    "noise": [
        4.0810,
        0.5368,
        1.1000,
        -0.0855,
        0.3275,
        0.2061,
        1.0940,
        -0.0814,
        0.3250,
        0.2092,
        1.0630,
        -0.0519,
        0.3114,
        0.2358,
        1.0610,
        -0.0540,
        0.3128,
        0.2343,
        2.1300,
        0.2509,
        0.7510,
        0.0082,
        0.0623,
        0.0688,
        0.7450,
        0.0113,
        0.0620,
        0.0709,
        0.7280,
        -0.0178,
        0.0750,
        0.0606,
        0.7200,
        -0.0197,
        0.0760,
        0.0601,
    ],
    "odd": [
        3.4120,
        0.4221,
        1.0030,
        -0.0517,
        0.2009,
        0.1407,
        1.0020,
        -0.0526,
        0.2016,
        0.1403,
        0.9720,
        -0.0394,
        0.1988,
        0.1519,
        0.9710,
        -0.0415,
        0.1996,
        0.1503,
        2.1370,
        0.1848,
        0.7380,
        0.0265,
        0.0293,
        0.0450,
        0.7420,
        0.0292,
        0.0291,
        0.0465,
        0.7290,
        0.0009,
        0.0374,
        0.0379,
        0.7260,
        -0.0029,
        0.0384,
        0.0366,
    ],
}


@pytest.mark.parametrize(("name", "expected"), BRISQUE.items())
def test_brisque_features(name: str, expected: list[float]) -> None:
    assert brisque_features(pictures.pair(name)[1]) == pytest.approx(expected, abs=1e-4)


def photo() -> Picture:
    """Smoothed noise over a gradient: statistics that are near those of photos."""
    noise = np.random.default_rng(2).normal(0, 60, (384, 480))
    spectrum = np.fft.rfft2(noise) / np.maximum(np.hypot(*np.ix_(np.fft.fftfreq(384), np.fft.rfftfreq(480))), 0.004)
    plane = np.fft.irfft2(spectrum, s=(384, 480))
    gray = np.clip(128 + 45 * plane / plane.std(), 0, 255).astype(np.uint8)
    return Picture(gray[..., None].repeat(3, axis=2))


def test_niqe_rises_with_blur_and_noise() -> None:
    picture = photo()
    blur = [NIQE.compute(None, Picture(pictures.blurred(picture.rgb, radius))) for radius in (1, 2, 3)]
    noise = [NIQE.compute(None, Picture(pictures.noisy(picture.rgb, amplitude))) for amplitude in (10, 30, 60)]

    assert sorted(blur) == blur
    assert sorted(noise) == noise
    assert NIQE.compute(None, picture) < min(blur + noise)


def test_niqe_of_the_photos_of_a_model_is_small(tmp_path: Path) -> None:
    """A model that was fitted to a picture is nearer to it than to its blurred version; it survives a file."""
    picture = photo()
    model = fit_natural_model([picture, Picture(picture.rgb[::-1])], least_sharpness=0.1)
    np.savez(tmp_path / "own.npz", mean=model.mean, covariance=model.covariance)
    loaded = load_natural_model(tmp_path / "own.npz")

    assert niqe(picture, loaded) < 1.5
    assert niqe(Picture(pictures.blurred(picture.rgb, 1)), loaded) > 5
    assert niqe(picture, loaded) == niqe(picture, model)


# computequality.m of the authors in GNU Octave with our model; "flat" has regions of equal pixels, where only the signs
# of rounding errors remain
@pytest.mark.parametrize(("name", "expected"), [("blocks", 8.084539), ("noise", 16.405724), ("flat", 14.913470)])
def test_niqe_as_the_authors_code(name: str, expected: float) -> None:
    rgb = pictures.scene() // 24 * 24 if name == "flat" else pictures.pair(name)[1].rgb

    assert NIQE.compute(None, Picture(rgb)) == pytest.approx(expected, abs=1e-4)


def test_niqe_of_flat_pictures_is_nan() -> None:
    assert math.isnan(NIQE.compute(None, Picture(np.zeros((192, 192, 3), np.uint8))))


def test_models_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="mean of 36"):
        NaturalModel(mean=np.zeros(18), covariance=np.eye(36))
