"""IL-NIQE: NIQE with the statistics of colour, gradients and log-Gabor responses, of each block against a template.

Zhang, Zhang, Bovik, "A feature-enriched completely blind image quality evaluator", IEEE TIP 24(8), 2015, with the
constants, order of steps and 8-bit resizing of the authors' MATLAB code: the picture at 524 x 524, blocks of 84 x 84 of
the first 504 rows and columns, 234 features at full and at half size, principal components, and the mean distance of
the blocks from a Gaussian of sharp photos. The template that ships is our own (docs/measures.md), so values differ from
those with the authors'.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vqmon.media.measures.filters import (
    angular_distance,
    correlate_separable,
    correlate_window,
    gaussian_window,
    resize_bytes,
)
from vqmon.media.measures.measure import Measure, Picture
from vqmon.media.measures.no_reference.natural_statistics import (
    fit_asymmetric_gaussians,
    generalized_spread,
    normalize_luma,
    pair_features,
)

_SIDE, _BLOCK, _FEATURES = 524, 84, 468
_BLOCKS_PER_SIDE = _SIDE // _BLOCK
_WINDOW, _HALVING = gaussian_window(5, 5 / 6), gaussian_window(6, 0.9)
# O1, O2, O3 of red, green and blue
_OPPONENT = np.array([[0.3, 0.04, -0.35], [0.34, -0.6, 0.17], [0.06, 0.63, 0.27]])
_EPSILON = float(np.finfo(np.float64).eps)
_INFINITE = 10_000.0
_KEPT_SHARE = 0.92
_LEAST_SHARPNESS = 0.5
_WEIBULL_STEPS = 30

_Plane = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Template:
    """Sharp photos: the mean of the features of their blocks (468,), and n principal vectors (468, n).

    In the space of these, the mean (n,) and the covariance (n, n) of the blocks.
    """

    feature_mean: NDArray[np.float64]
    vectors: NDArray[np.float64]
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]

    def __post_init__(self) -> None:
        count = self.mean.size
        shapes = (self.feature_mean.shape, self.vectors.shape, self.mean.shape, self.covariance.shape)
        if shapes != ((_FEATURES,), (_FEATURES, count), (count,), (count, count)):
            raise ValueError(
                f"a template of IL-NIQE has a feature mean of {_FEATURES}, vectors of {_FEATURES} x n, a mean of n and "
                f"a covariance of n x n numbers, not {', '.join(map(str, shapes))}"
            )


def load_template(path: Path) -> Template:
    """From an .npz file with the four arrays of `Template`; ValueError for other shapes."""
    with np.load(path, allow_pickle=False) as arrays:
        return _template_of(arrays)


def sharp_features(picture: Picture) -> NDArray[np.float64]:
    """(blocks, 468): the features of the sharp blocks of a photo, from which `fit_template` makes a template.

    Sharp is above half of the mean local deviation of its sharpest block (the authors: 0.78 of it); blocks without a
    value of each feature are left out.
    """
    features, sharpness = _block_features(picture)
    chosen: NDArray[np.float64] = features[
        (sharpness > _LEAST_SHARPNESS * sharpness.max()) & np.isfinite(features).all(axis=1)
    ]
    return chosen


def fit_template(features: NDArray[np.float64]) -> Template:
    """A template of (blocks, 468) features: the strongest 92 % of the principal components.

    Raises ValueError for fewer than 469 blocks, which leave directions without any variance.
    """
    if len(features) <= _FEATURES:
        raise ValueError(f"a template needs at least {_FEATURES + 1} blocks, not {len(features)}: add photos")
    centred = features - features.mean(axis=0)
    vectors = np.linalg.svd(centred, full_matrices=False)[2][: math.floor(_FEATURES * _KEPT_SHARE)].T
    projected = centred @ vectors
    return Template(
        feature_mean=features.mean(axis=0),
        vectors=vectors,
        mean=projected.mean(axis=0),
        covariance=np.cov(projected, rowvar=False),
    )


def il_niqe(picture: Picture, template: Template) -> float:
    """The mean distance of the blocks from the template; nan when fewer than two blocks have all features."""
    features = _block_features(picture)[0]
    features[np.isinf(features)] = _INFINITE
    projected = (features - template.feature_mean) @ template.vectors
    complete = projected[np.isfinite(projected).all(axis=1)]
    if len(complete) < 2:
        return math.nan
    # a block that lacks a feature counts as the mean of the others
    offsets = np.where(np.isnan(projected), complete.mean(axis=0), projected) - template.mean
    inverse = np.linalg.pinv((template.covariance + np.cov(complete, rowvar=False)) / 2)
    distances = np.einsum("bi,ij,bj->b", offsets, inverse, offsets)
    return float(np.sqrt(distances.clip(0)).mean())


def _block_features(picture: Picture) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(blocks, 468) features and (blocks,) sharpness."""
    side = _BLOCKS_PER_SIDE * _BLOCK
    channels = [
        resize_bytes(picture.rgb[..., index], height=_SIDE, width=_SIDE)[:side, :side].astype(np.float64)
        for index in range(3)
    ]
    opponents = [sum(weight * channel for weight, channel in zip(row, channels, strict=True)) for row in _OPPONENT]
    parts: list[NDArray[np.float64]] = []
    sharpness = np.empty(0)
    for scale in (1, 2):
        normalized, deviation = normalize_luma(opponents[2], _WINDOW, border="edge")
        parts += _scale_features(normalized, opponents, channels, scale=scale)
        if scale == 1:
            sharpness = _blocks(deviation, scale).mean(axis=(1, 3)).ravel()
            opponents, channels = ([_halved(plane) for plane in planes] for planes in (opponents, channels))
    return np.stack([part.ravel() for part in parts], axis=1), sharpness


def _scale_features(
    normalized: _Plane, opponents: Sequence[_Plane], channels: Sequence[_Plane], *, scale: int
) -> Iterator[NDArray[np.float64]]:
    """234 arrays (rows, columns) of one value per block, in the order of the authors' code."""
    taps = _derivative_taps(1.66 / scale**0.28)
    derivatives = [_derivatives(plane, taps) for plane in opponents]
    yield from pair_features(_blocks(normalized, scale))
    for across, down in derivatives:
        yield from _weibull_fit(_blocks(np.hypot(across, down) + _EPSILON, scale))
    for plane in _log_opponents(channels):
        blocks = _blocks(plane, scale)
        yield blocks.mean(axis=(1, 3))
        yield blocks.var(axis=(1, 3), ddof=0) * (blocks[0, :, 0].size / (blocks[0, :, 0].size - 1))
    magnitudes, responses, slopes = [], [], []
    for response in _log_gabor_responses(opponents[2], shortest_px=2.4 / scale**0.87):
        for plane in (response.real, response.imag):
            across, down = _derivatives(plane, taps)
            responses.append(plane)
            slopes += [across, down]
            magnitudes.append(np.hypot(across, down) + _EPSILON)
    for plane in (*(each for pair in derivatives for each in pair), *responses, *slopes):
        shape, left, right = fit_asymmetric_gaussians(_blocks(plane, scale))
        yield shape
        yield (generalized_spread(shape, left) + generalized_spread(shape, right)) / 2
    for plane in magnitudes:
        yield from _weibull_fit(_blocks(plane, scale))


def _blocks(plane: _Plane, scale: int) -> _Plane:
    """(rows, block height, columns, block width)."""
    side = _BLOCK // scale
    return plane.reshape(_BLOCKS_PER_SIDE, side, _BLOCKS_PER_SIDE, side)


def _halved(plane: _Plane) -> _Plane:
    """Every second pixel after a Gaussian of 6 x 6, its centre after the pixel, as MATLAB's `imfilter` puts it."""
    return correlate_window(np.pad(plane, ((2, 3), (2, 3)), mode="edge"), _HALVING)[::2, ::2]


@lru_cache(maxsize=4)
def _derivative_taps(sigma: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """A Gaussian and its derivative, along one direction."""
    offsets = range(-math.ceil(3 * sigma), math.ceil(3 * sigma) + 1)
    smooth = tuple(math.exp(-(offset**2) / 2 / sigma / sigma) for offset in offsets)
    # a convolution: mirrored
    return smooth, tuple(-offset * value for offset, value in zip(offsets, smooth, strict=True))


def _derivatives(plane: _Plane, taps: tuple[tuple[float, ...], tuple[float, ...]]) -> tuple[_Plane, _Plane]:
    """Across and down, the picture being 0 beyond its borders."""
    smooth, slope = taps
    padded = np.pad(plane, len(smooth) // 2)
    return correlate_separable(padded, smooth, slope), correlate_separable(padded, slope, smooth)


def _log_opponents(channels: Sequence[_Plane]) -> tuple[_Plane, _Plane, _Plane]:
    """Intensity, blue-yellow and red-green of the logarithms (Ruderman, Cronin, Chiao 1998)."""
    logarithms = [np.log(channel + 0.00001) for channel in channels]
    red, green, blue = (plane - plane.mean() for plane in logarithms)
    return (red + green + blue) / math.sqrt(3), (red + green - 2 * blue) / math.sqrt(6), (red - green) / math.sqrt(2)


def _log_gabor_responses(plane: _Plane, *, shortest_px: float) -> Iterator[NDArray[np.complex128]]:
    """Complex responses at three wavelengths and four orientations, wavelength by wavelength."""
    spectrum = np.fft.fft2(plane)
    for transfer in _log_gabor_filters(plane.shape[0], shortest_px):
        yield np.fft.ifft2(spectrum * transfer)


@lru_cache(maxsize=2)
def _log_gabor_filters(side: int, shortest_px: float) -> tuple[_Plane, ...]:
    """Twelve filters (side, side) over the frequencies of `fft2`; `side` is even."""
    frequencies = np.fft.fftfreq(side)
    x, y = np.meshgrid(frequencies, frequencies)
    radius = np.hypot(x, y)
    radius[0, 0] = 1
    spread = math.pi / 4 / 1.10
    filters = []
    for scale in range(3):
        radial = np.exp(-(np.log(radius * shortest_px * 1.31**scale) ** 2) / (2 * math.log(0.55) ** 2))
        radial[0, 0] = 0
        for orientation in range(4):
            angular = np.exp(-(angular_distance(x, y, orientation * math.pi / 4) ** 2) / (2 * spread**2))
            filters.append(radial * angular)
    return tuple(filters)


def _weibull_fit(blocks: _Plane) -> Iterator[NDArray[np.float64]]:
    """Scale, then shape, of the values of each (rows, h, columns, w) block by maximum likelihood.

    The shape is infinite where all values are equal.

    Newton's method on the shape k: mean(ln x) + 1 / k = sum(x^k ln x) / sum(x^k).
    """
    logarithms = np.log(blocks)
    highest = logarithms.max(axis=(1, 3), keepdims=True)
    logarithms -= highest
    mean, deviation = logarithms.mean(axis=(1, 3)), logarithms.std(axis=(1, 3))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        shape = 1.2 / deviation
        for _ in range(_WEIBULL_STEPS):
            powers = np.exp(shape[:, None, :, None] * logarithms)
            total = powers.sum(axis=(1, 3))
            powers *= logarithms
            first = powers.sum(axis=(1, 3)) / total
            powers *= logarithms
            second = powers.sum(axis=(1, 3)) / total
            step = (first - mean - 1 / shape) / (second - first**2 + 1 / shape**2)
            shape = np.maximum(shape - step, shape / 4)
            if not np.any(np.abs(step) > 1e-9 * shape):
                break
        scale = np.exp(highest[:, 0, :, 0] + np.log(total / blocks[0, :, 0].size) / shape)
    yield scale
    yield np.where(deviation > 0, shape, np.inf)


def _template_of(arrays: np.lib.npyio.NpzFile) -> Template:
    names = ("feature_mean", "vectors", "mean", "covariance")
    return Template(**{name: arrays[name].astype(np.float64) for name in names})


@lru_cache(maxsize=1)
def own_template() -> Template:
    """The template of sharp photos that ships; read once."""
    file = files("vqmon.media.measures.no_reference").joinpath("il_niqe_photos.npz")
    with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
        return _template_of(arrays)


IL_NIQE = Measure(
    name="il_niqe",
    description="distance of the statistics of luma, colour and gradients from those of sharp natural photos",
    unit="",
    low=0,
    high=None,
    higher_is_better=False,
    needs="nothing",
    source="Zhang, Zhang and Bovik, IEEE TIP 24(8), 2015",
    value=lambda _, picture: il_niqe(picture, own_template()),
)
