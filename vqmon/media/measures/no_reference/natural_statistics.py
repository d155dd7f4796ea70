"""Measures by the statistics of normalized luma in natural photos: NIQE and the features of BRISQUE.

measure     formula and source
niqe        Mittal, Soundararajan, Bovik, "Making a completely blind image quality analyzer", IEEE SPL 20(3), 2013: 36
            features of normalized luma in blocks of 96 x 96, at full and at half size; the distance of their mean and
            covariance from those of sharp natural photos. 0 is best, photos are about 2 to 5. As in the authors' code,
            a block that lacks values of one sign has shape 0.2 and counts for the mean only; a picture with fewer than
            two other blocks is nan. The model of photos
            that ships is our own (docs/measures.md), so values differ from those with the authors' model.
brisque     features only. Mittal, Moorthy, Bovik, "No-reference image quality assessment in the spatial domain", IEEE
            TIP 21(12), 2012: the same statistics of the whole picture.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vqmon.media.measures.filters import correlate_window, gaussian_window, halve_bicubic
from vqmon.media.measures.measure import Measure, Picture, Plane

_BLOCK = 96
_FEATURES = 36
_Samples = NDArray[np.float64]
_WINDOW = gaussian_window(7, 7 / 6)
_NIQE_SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))
_BRISQUE_SHIFTS = ((0, 1), (1, 0), (1, 1), (-1, 1))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NaturalModel:
    """The mean (36,) and the covariance (36, 36) of the features of sharp blocks of natural photos."""

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.mean.shape != (_FEATURES,) or self.covariance.shape != (_FEATURES, _FEATURES):
            raise ValueError(
                f"a model of natural photos has a mean of {_FEATURES} and a covariance of {_FEATURES} x {_FEATURES} "
                f"numbers, not {self.mean.shape} and {self.covariance.shape}"
            )


def load_natural_model(path: Path) -> NaturalModel:
    """From an .npz file with `mean` and `covariance`, for example a published model; ValueError for another shape."""
    with np.load(path, allow_pickle=False) as arrays:
        return NaturalModel(mean=arrays["mean"].astype(np.float64), covariance=arrays["covariance"].astype(np.float64))


def fit_natural_model(pictures: Sequence[Picture], *, least_sharpness: float = 0.75) -> NaturalModel:
    """From photos: the blocks whose mean local deviation is at least that share of the sharpest block of its photo."""
    chosen = []
    for picture in pictures:
        features, sharpness = _block_features(picture.luma)
        chosen.append(features[sharpness > least_sharpness * sharpness.max()])
    sample = _textured(np.concatenate(chosen))
    return NaturalModel(mean=sample.mean(axis=0), covariance=np.cov(sample, rowvar=False))


def niqe(picture: Picture, model: NaturalModel) -> float:
    """The distance of the picture's features from the model's; nan when the picture has hardly any texture."""
    features = _block_features(picture.luma)[0]
    sample = _textured(features)
    if len(sample) < 2:
        return math.nan
    offset = np.nanmean(features, axis=0) - model.mean
    spread = (np.cov(sample, rowvar=False) + model.covariance) / 2
    return math.sqrt(max(0.0, float(offset @ np.linalg.pinv(spread) @ offset)))


def brisque_features(picture: Picture) -> NDArray[np.float64]:
    """(36,): at both sizes the shape and variance, then shape, mean, left and right variance of four products."""
    plane, features = picture.luma.astype(np.float64), []
    for _ in range(2):
        normalized, _ = normalize_luma(plane, _WINDOW, border="constant")
        whole = normalized[None, :, None, :]
        power = float((normalized * normalized).mean(dtype=np.float64))
        level = float(np.abs(normalized).mean(dtype=np.float64))
        features += [_symmetric_shape(power / level**2 if level > 0 else math.inf), power]
        for shift in _BRISQUE_SHIFTS:
            shape, left, right = (
                values.item() for values in fit_asymmetric_gaussians(whole * np.roll(whole, shift, (1, 3)))
            )
            features += [shape, _asymmetric_mean(shape, left, right), left**2, right**2]
        plane = halve_bicubic(plane)
    return np.array(features)


def _block_features(luma: Plane) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(blocks, 36) features and (blocks,) sharpness."""
    rows, columns = luma.shape[0] // _BLOCK, luma.shape[1] // _BLOCK
    plane = luma[: rows * _BLOCK, : columns * _BLOCK].astype(np.float64)
    parts: list[NDArray[np.float64]] = []
    sharpness = np.empty(0)
    for scale in (1, 2):
        normalized, deviation = normalize_luma(plane, _WINDOW, border="edge")
        side = _BLOCK // scale
        parts += pair_features(normalized.reshape(rows, side, columns, side))
        if scale == 1:
            sharpness = deviation.reshape(rows, side, columns, side).mean(axis=(1, 3)).ravel()
            plane = halve_bicubic(plane)
    return np.stack([part.ravel() for part in parts], axis=1), sharpness


def pair_features(blocks: _Samples) -> Iterator[NDArray[np.float64]]:
    """The 18 features of normalized luma in (rows, h, columns, w) blocks, each (rows, columns).

    Shape and spread, then shape, mean, left and right spread of the products with four neighbours.
    """
    shape, left, right = fit_asymmetric_gaussians(blocks)
    yield shape
    yield (generalized_spread(shape, left) + generalized_spread(shape, right)) / 2
    for shift in _NIQE_SHIFTS:
        shape, left, right = fit_asymmetric_gaussians(blocks * np.roll(blocks, shift, (1, 3)))
        yield shape
        yield np.vectorize(_asymmetric_mean, otypes=[float])(shape, left, right)
        yield generalized_spread(shape, left)
        yield generalized_spread(shape, right)


def _textured(features: NDArray[np.float64]) -> NDArray[np.float64]:
    return features[np.isfinite(features).all(axis=1)]


def normalize_luma(
    plane: _Samples, window: NDArray[np.float64], *, border: Literal["edge", "constant"]
) -> tuple[_Samples, _Samples]:
    """Luma less its local mean by its local deviation + 1, and the deviation; `border` as in `np.pad`.

    Where the picture is flat, only rounding errors remain, and their signs enter the features (most of all in JPEG at
    low quality). So they are those of the authors' code in GNU Octave: 64 bits, not centred, one pass, its window, its
    order.
    """
    padded = np.pad(plane, len(window) // 2, mode=border)
    mean = correlate_window(padded, window)
    deviation = np.sqrt(np.abs(correlate_window(padded * padded, window) - mean * mean))
    return (plane - mean) / (deviation + 1), deviation


def fit_asymmetric_gaussians(blocks: _Samples) -> tuple[NDArray[np.float64], ...]:
    """Shape, left and right deviation of an asymmetric generalized Gaussian for each (rows, h, columns, w) block.

    By moment matching on a grid of shapes from 0.2 to 10. For a block that lacks values of one sign, the smallest shape
    and nan.
    """
    negative, positive = np.minimum(blocks, 0), np.maximum(blocks, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        left, right = (
            np.sqrt((part * part).sum(axis=(1, 3)) / np.count_nonzero(part, axis=(1, 3)))
            for part in (negative, positive)
        )
        power = (blocks * blocks).mean(axis=(1, 3))
        level = (positive - negative).mean(axis=(1, 3))
        ratio = left / right
        moment = level**2 / power * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    grid, ratios = _shape_grid()
    return grid[_nearest(ratios, np.nan_to_num(moment, nan=0.0))], left, right


def _symmetric_shape(moment: float) -> float:
    """The shape of a generalized Gaussian whose mean square is `moment` times the square of its mean magnitude."""
    grid, ratios = _shape_grid()
    inverse = (1 / ratios)[::-1]
    return float(grid[::-1][_nearest(inverse, np.array([moment]))[0]])


def _nearest(ascending: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.intp]:
    after = np.clip(np.searchsorted(ascending, values), 1, len(ascending) - 1)
    return after - (values - ascending[after - 1] <= ascending[after] - values)


@lru_cache(maxsize=1)
def _shape_grid() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shapes, and the squared mean magnitude by the mean square that a generalized Gaussian of this shape has."""
    grid = np.arange(200, 10_001) / 1000
    logarithms = [2 * math.lgamma(2 / shape) - math.lgamma(1 / shape) - math.lgamma(3 / shape) for shape in grid]
    return grid, np.exp(logarithms)


def generalized_spread(shape: NDArray[np.float64], deviation: NDArray[np.float64]) -> NDArray[np.float64]:
    """The scale of generalized Gaussians of these shapes and standard deviations."""
    scales = [math.exp((math.lgamma(1 / value) - math.lgamma(3 / value)) / 2) for value in shape.ravel()]
    spread: NDArray[np.float64] = deviation * np.reshape(scales, shape.shape)
    return spread


def _asymmetric_mean(shape: float, left: float, right: float) -> float:
    scale = math.lgamma(2 / shape) - math.lgamma(1 / shape) / 2 - math.lgamma(3 / shape) / 2
    return (right - left) * math.exp(scale)


@lru_cache(maxsize=1)
def own_model() -> NaturalModel:
    """The model of natural photos that ships; read once."""
    with (
        files("vqmon.media.measures.no_reference").joinpath("natural_photos.npz").open("rb") as file,
        np.load(file) as arrays,
    ):
        return NaturalModel(mean=arrays["mean"], covariance=arrays["covariance"])


NIQE = Measure(
    name="niqe",
    description="distance of the statistics of luma from those of sharp natural photos",
    unit="",
    low=0,
    high=None,
    higher_is_better=False,
    needs="nothing",
    source="Mittal, Soundararajan and Bovik, IEEE SPL 20(3), 2013",
    min_side_px=2 * _BLOCK,
    value=lambda _, picture: niqe(picture, own_model()),
)
