"""What can be seen of a picture without anybody's published weights: lite's trunk, statistics, fragments, saliency.

All are networks over the pixels of a view that the decoder makes, uint8, channels first, so that each becomes a graph.
"""

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.data.photos import COLUMNS, ROWS, TILE_HEIGHT, TILE_WIDTH
from models.networks.lite import Lite, split_tiles

GRID = 12
"""Maps of all stages are brought to this many rows and columns."""
WIDTHS = (32, 64, 96, 960)
"""Channels of the trunk's stages that are looked at."""
STATISTICS = 238
STRIDES = (4, 8, 16, 32)
"""Pixels from place to place in those maps."""
SALIENCY_SIDE = 64
"""Saliency is of a picture this small."""


class TrunkMaps(nn.Module):
    """Lite's mosaics (pictures, 3, 288, 512) uint8 -> maps of four stages of lite's trunk (pictures, 1152, 12, 12).

    The trunk sees tile by tile, as it was trained; maps of a tile are brought to 4 x 3 cells and laid out as tiles are.
    """

    def __init__(self, lite: Lite) -> None:
        super().__init__()
        self.statistics, self.trunk = lite.statistics, lite.trunk
        self.register_buffer("mean", lite.mean.clone())
        self.register_buffer("std", lite.std.clone())
        self.means = nn.ModuleList(CellMeans(TILE_HEIGHT // stride, TILE_WIDTH // stride) for stride in STRIDES)

    def forward(self, mosaics: Tensor) -> Tensor:
        tiles = split_tiles(mosaics.float() / 255)
        mscn = functional.pad(self.statistics.luma_mscn(tiles), (3, 3, 3, 3))
        seen = torch.cat([(tiles - self.mean) / self.std, mscn], 1)
        stages = self.trunk(seen.contiguous(memory_format=torch.channels_last))[1:]
        cells = torch.cat([mean(stage) for mean, stage in zip(self.means, stages, strict=True)], 1)
        laid = cells.reshape(-1, ROWS, COLUMNS, sum(WIDTHS), GRID // ROWS, GRID // COLUMNS)
        return laid.permute(0, 3, 1, 4, 2, 5).reshape(-1, sum(WIDTHS), GRID, GRID)


class TileStatistics(nn.Module):
    """Lite's mosaics (pictures, 3, 288, 512) uint8 -> mean and spread over tiles of its statistics (pictures, 238)."""

    def __init__(self, lite: Lite) -> None:
        super().__init__()
        self.statistics = lite.statistics

    def forward(self, mosaics: Tensor) -> Tensor:
        values = self.statistics(split_tiles(mosaics.float() / 255))[0].reshape(-1, ROWS * COLUMNS, STATISTICS // 2)
        return torch.cat([values.mean(1), values.std(1)], 1)


class Saliency(nn.Module):
    """Whole pictures squeezed to (pictures, 3, 64, 64) uint8 -> where they stand out from what their spectrum lets
    expect, 0..1 at the most salient place (pictures, 1, 12, 12).

    Spectral residual (Hou & Zhang, CVPR 2007): a classical stand-in for networks trained on eye tracking.
    The Fourier transform is a product of matrices, as are all means of neighbourhoods. An amplitude counts from 1 on,
    of a grey of 0..255: under it is what rounding leaves, and one colour is equally salient everywhere.
    """

    def __init__(self) -> None:
        super().__init__()
        at = torch.arange(SALIENCY_SIDE, dtype=torch.float64)
        turns = 2 * torch.pi * torch.outer(at, at) / SALIENCY_SIDE
        one = torch.eye(SALIENCY_SIDE, dtype=torch.float64)
        smooth = torch.linalg.matrix_power(_neighbours(one, 5), 3)
        for name, matrix in (
            ("cos", turns.cos()), ("sin", turns.sin()),
            ("near", _neighbours(one, 3)), ("cells", _cells(SALIENCY_SIDE, GRID).double() @ smooth),
            ("luma", torch.tensor([0.299, 0.587, 0.114]).reshape(1, 3, 1, 1)),
        ):  # fmt: skip
            self.register_buffer(name, matrix.float())

    def forward(self, pictures: Tensor) -> Tensor:
        grey = (pictures.float() * self.luma).sum(1, keepdim=True)
        real = self.cos @ grey @ self.cos - self.sin @ grey @ self.sin
        imaginary = -(self.sin @ grey @ self.cos + self.cos @ grey @ self.sin)
        log = torch.log1p((real * real + imaginary * imaginary).sqrt())
        # exp(residual), with the phase kept: the spectrum over the mean amplitude of its neighbourhood
        kept = torch.exp(-_both_ways(self.near, log))
        real, imaginary = real * kept, imaginary * kept
        back, aside = self.cos @ real - self.sin @ imaginary, self.cos @ imaginary + self.sin @ real
        found = (back @ self.cos - aside @ self.sin) ** 2 + (aside @ self.cos + back @ self.sin) ** 2
        small = _both_ways(self.cells, found)
        return small / small.amax((2, 3), keepdim=True).clamp_min(1e-12)


class FragmentNet(nn.Module):
    """Fragments (pictures, 3, 224, 224) uint8 -> quality (pictures), 0..1; a small convolution trained from scratch."""

    def __init__(self, width: int = 96) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        taken = 3
        # Strides within 32 px keep fragments apart until each is one place.
        for given in (24, 32, 48, 64, width):
            layers += [nn.Conv2d(taken, given, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(given), nn.ReLU()]
            taken = given
        self.layers = nn.Sequential(*layers)
        self.last = nn.Linear(2 * width, 1)

    def features(self, fragments: Tensor) -> Tensor:
        """Mean and spread over the places (pictures, 2 * width)."""
        maps = self.layers(fragments.float() / 127.5 - 1).flatten(2)
        return torch.cat([maps.mean(2), maps.std(2)], 1)

    def forward(self, fragments: Tensor) -> Tensor:
        return torch.sigmoid(self.last(self.features(fragments))).squeeze(1)


class FragmentFeatures(nn.Module):
    """What a trained `FragmentNet` sees of fragments, before it judges (pictures, 192)."""

    def __init__(self, network: FragmentNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, fragments: Tensor) -> Tensor:
        return self.network.features(fragments)


class CellMeans(nn.Module):
    """Means of a tile's maps (tiles, channels, height, width) over its cells: adaptive pooling, which no graph has."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.register_buffer("rows", _cells(height, GRID // ROWS))
        self.register_buffer("columns", _cells(width, GRID // COLUMNS).T)

    def forward(self, maps: Tensor) -> Tensor:
        return self.rows @ maps @ self.columns


def _both_ways(matrix: Tensor, maps: Tensor) -> Tensor:
    """A matrix over the rows and over the columns of maps (..., side, side)."""
    return matrix @ maps @ matrix.T


def _cells(side: int, cells: int) -> Tensor:
    """(cells, side): the mean over each cell; cells may share a place where they do not divide evenly."""
    return functional.adaptive_avg_pool1d(torch.eye(side), cells).T


def _neighbours(values: Tensor, width: int) -> Tensor:
    """Means over `width` rows, the border repeated, of (rows, columns)."""
    padded = functional.pad(values[None, None], (0, 0, width // 2, width // 2), mode="replicate")[0, 0]
    return padded.unfold(0, width, 1).mean(2)


SPATIAL_WIDTH = 2 * sum(WIDTHS)
FEATURES: Mapping[str, int] = MappingProxyType({"spatial": SPATIAL_WIDTH, "statistics": STATISTICS, "fragments": 192})
"""Feature -> numbers per picture, in the order in which the regression takes them."""
