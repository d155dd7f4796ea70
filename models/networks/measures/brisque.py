"""BRISQUE: 36 statistics of normalized luma in tiles of the display canvas, and a regression on them.

Mittal, Moorthy, Bovik, "No-reference image quality assessment in the spatial domain", IEEE TIP 21(12), 2012. The
features are those of `vqmon/media/measures/no_reference/natural_statistics.py`, of each tile as one picture, averaged
over the tiles; the shapes are interpolated between the steps of a grid. The regression is our own: kernel ridge
regression with the authors' kernel, a radial basis function, instead of their support vectors.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from vqmon.core.types import TileGrid, View

TILE_HEIGHT, TILE_WIDTH = 192, 256
_FEATURE_COUNT = 36
VIEW = View(
    kind="display", width=TILE_WIDTH, height=13 * TILE_HEIGHT, short_side=1080,
    grids=(TileGrid(reduction=1, columns=4, rows=3),),
)  # fmt: skip
"""Twelve tiles of the canvas; the whole, which every display view has as its last tile, is not read."""

_RGB_TO_GRAY = (0.298936021293775, 0.587043074451121, 0.114020904255103)
_TAPS, _SIGMA = 7, 7 / 6
_MIDDLE_GRAY = 128.0
_SHIFTS = ((0, 1), (1, 0), (1, 1), (-1, 1))
# variances, which span decades, are read as logarithms
_VARIANCES = [scale + offset for scale in (0, 18) for offset in (1, 4, 5, 8, 9, 12, 13, 16, 17)]
_LIMIT = 4.0
# of the radial basis function, as in the authors' release
_GAMMA = 0.05


class Brisque(nn.Module):
    """Pixels [batch, 3, 13 * 192, 256] in 0..1 -> scores [batch], about 0 (bad) .. 100 (no visible loss).

    A picture that is like none of the `centres` gets a score near `bias`.
    """

    taps: Tensor
    gray: Tensor
    shapes: Tensor
    ratios: Tensor
    middle: Tensor
    scale: Tensor
    centres: Tensor
    weights: Tensor
    bias: Tensor

    def __init__(self, centre_count: int = 1) -> None:
        super().__init__()
        offsets = torch.arange(_TAPS, dtype=torch.float64) - _TAPS // 2
        taps = torch.exp(-(offsets**2) / (2 * _SIGMA**2))
        self.register_buffer("taps", (taps / taps.sum()).float(), persistent=False)
        self.register_buffer("gray", torch.tensor(_RGB_TO_GRAY).reshape(1, 3, 1, 1) * 255, persistent=False)
        shapes, ratios = _shape_grid()
        self._least, self._most = float(ratios[0]), float(ratios[-1])
        self.register_buffer("shapes", torch.from_numpy(shapes).float(), persistent=False)
        self.register_buffer("ratios", torch.from_numpy(ratios).float(), persistent=False)
        for name, size in (("down", TILE_HEIGHT), ("across", TILE_WIDTH)):
            self.register_buffer(name, torch.from_numpy(_halving_weights(size)).float(), persistent=False)
        self.register_buffer("middle", torch.zeros(_FEATURE_COUNT))
        self.register_buffer("scale", torch.ones(_FEATURE_COUNT))
        self.register_buffer("centres", torch.zeros(centre_count, _FEATURE_COUNT))
        self.register_buffer("weights", torch.zeros(centre_count))
        self.register_buffer("bias", torch.tensor(50.0))

    def forward(self, pixels: Tensor) -> Tensor:
        tiles = pixels.unflatten(2, (-1, TILE_HEIGHT)).transpose(1, 2)[:, :-1]
        features = self.tile_features(tiles.flatten(0, 1)).unflatten(0, (-1, tiles.shape[1]))
        return self.read(features.mean(1))

    def read(self, features: Tensor) -> Tensor:
        """Scores [rows] of features [rows, 36]."""
        return self.similarity(features) @ self.weights + self.bias

    def similarity(self, features: Tensor) -> Tensor:
        """The kernel [rows, centres] of features [rows, 36]."""
        standard = self.standardise(features)
        squares = (standard * standard).sum(1)[:, None] + (self.centres * self.centres).sum(1)[None, :]
        return torch.exp(-_GAMMA * (squares - 2 * standard @ self.centres.T).clamp_min(0))

    def standardise(self, features: Tensor) -> Tensor:
        """Features [rows, 36] on one scale, which `centres` have too."""
        return ((features - self.middle) / self.scale).clamp(-_LIMIT, _LIMIT)

    def tile_features(self, tiles: Tensor) -> Tensor:
        """Features [tiles, 36] of tiles [tiles, 3, 192, 256] in 0..1, variances as logarithms."""
        plane, features = torch.round(F.conv2d(tiles, self.gray)), []
        for scale in range(2):
            if scale:
                plane = self.get_buffer("down") @ plane @ self.get_buffer("across").T
            normalised = self._normalise(plane)
            power, level = (normalised * normalised).mean((1, 2, 3)), normalised.abs().mean((1, 2, 3))
            features += [self._shape(level**2 / power.clamp_min(1e-12)), power]
            for down, across in _SHIFTS:
                features += self._asymmetric_fit(normalised * torch.roll(normalised, (down, across), (2, 3)))
        stacked = torch.stack(features, 1)
        variances = torch.log(stacked[:, _VARIANCES] + 1e-4)
        columns = [
            variances[:, _VARIANCES.index(index)] if index in _VARIANCES else stacked[:, index]
            for index in range(_FEATURE_COUNT)
        ]
        return torch.stack(columns, 1)

    def _normalise(self, plane: Tensor) -> Tensor:
        """Luma less its local mean by its local deviation + 1; beyond the border luma is 0."""
        margin = _TAPS // 2
        # centred, because 32 bits are too few for the squares of 255
        centred = F.pad(plane - _MIDDLE_GRAY, (margin,) * 4, value=-_MIDDLE_GRAY)
        mean, square = self._blur(centred), self._blur(centred * centred)
        deviation = (square - mean * mean).abs().sqrt()
        return (plane - _MIDDLE_GRAY - mean) / (deviation + 1)

    def _blur(self, planes: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(planes, self.taps.reshape(1, 1, 1, -1)), self.taps.reshape(1, 1, -1, 1))

    def _asymmetric_fit(self, products: Tensor) -> list[Tensor]:
        """Shape, mean, left and right variance of an asymmetric generalized Gaussian, by moment matching."""
        negative, positive = products.clamp_max(0), products.clamp_min(0)
        left, right = (
            ((part * part).sum((1, 2, 3)) / (part != 0).float().sum((1, 2, 3)).clamp_min(1)).clamp_min(1e-12).sqrt()
            for part in (negative, positive)
        )
        power, level = (products * products).mean((1, 2, 3)).clamp_min(1e-12), products.abs().mean((1, 2, 3))
        ratio = left / right
        moment = level**2 / power * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
        # a generalized Gaussian's mean magnitude by its deviation is the root of its ratio
        factor = moment.clamp(self._least, self._most).sqrt()
        return [self._shape(moment), (right - left) * factor, left**2, right**2]

    def _shape(self, ratio: Tensor) -> Tensor:
        """The shape of a generalized Gaussian whose squared mean magnitude has this ratio to its mean square."""
        count = len(self.shapes)
        above = (self.ratios[None, :] < ratio[:, None]).sum(1).clamp(1, count - 1)
        low, high = self.ratios[above - 1], self.ratios[above]
        share = ((ratio - low) / (high - low)).clamp(0, 1)
        return self.shapes[above - 1] + share * (self.shapes[above] - self.shapes[above - 1])


def _shape_grid() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shapes 0.2 to 10, and the squared mean magnitude by the mean square; denser where the ratio changes fast."""
    shapes = np.exp(np.linspace(math.log(0.2), math.log(10), 1000))
    logarithms = [2 * math.lgamma(2 / shape) - math.lgamma(1 / shape) - math.lgamma(3 / shape) for shape in shapes]
    return shapes, np.exp(logarithms)


def _halving_weights(size: int) -> NDArray[np.float64]:
    """(size / 2, size): MATLAB's bicubic `imresize(plane, 0.5)`, the border mirrored."""
    centres = 2 * np.arange(size // 2) + 0.5
    taps = (np.floor(centres).astype(int) - 3)[:, None] + np.arange(8)
    distance = np.abs(centres[:, None] - taps) / 2
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    values = np.where(distance <= 1, near, np.where(distance <= 2, far, 0))
    mirrored = np.where(taps < 0, -1 - taps, np.where(taps >= size, 2 * size - 1 - taps, taps))
    weights = np.zeros((size // 2, size))
    np.add.at(weights, (np.arange(size // 2)[:, None].repeat(8, axis=1), mirrored), values)
    return weights / weights.sum(axis=1, keepdims=True)
