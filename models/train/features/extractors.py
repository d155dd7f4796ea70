"""Input features that need no published weights: lite's trunk maps, tile statistics, fragments and saliency.

All are networks over the uint8 pixels of a decoder view, channels first, so that each can be exported as a graph.
"""

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.data.photos import COLUMNS, ROWS, TILE_HEIGHT, TILE_WIDTH
from models.networks.lite import Lite, split_tiles

MAP_SIDE = 12
"""Rows and columns of the maps that all stages of the trunk are resized to."""
STAGE_WIDTHS = (32, 64, 96, 960)
"""Channels of the four stages of the trunk whose maps are used."""
STATISTICS_WIDTH = 238
_STAGE_STRIDES = (4, 8, 16, 32)
"""Pixels of the tile per cell of those maps."""
SALIENCY_SIDE = 64
"""Pixels per side of the picture that saliency is computed of."""


class TrunkMaps(nn.Module):
    """Mosaics (pictures, 3, 288, 512) uint8 -> maps of four stages of lite's trunk (pictures, 1152, 12, 12).

    The trunk runs on single tiles, as it was trained; the maps of a tile are averaged to 4 x 3 cells and laid out as
    the tiles are.
    """

    def __init__(self, lite: Lite) -> None:
        super().__init__()
        self.statistics, self.trunk = lite.statistics, lite.trunk
        self.register_buffer("mean", lite.mean.clone())
        self.register_buffer("std", lite.std.clone())
        self.means = nn.ModuleList(_CellMeans(TILE_HEIGHT // stride, TILE_WIDTH // stride) for stride in _STAGE_STRIDES)

    def forward(self, mosaics: Tensor) -> Tensor:
        tiles = split_tiles(mosaics.float() / 255)
        mscn = functional.pad(self.statistics.luma_mscn(tiles), (3, 3, 3, 3))
        trunk_input = torch.cat([(tiles - self.mean) / self.std, mscn], 1)
        stages = self.trunk(trunk_input.contiguous(memory_format=torch.channels_last))[1:]
        cells = torch.cat([mean(stage) for mean, stage in zip(self.means, stages, strict=True)], 1)
        laid_out = cells.reshape(-1, ROWS, COLUMNS, sum(STAGE_WIDTHS), MAP_SIDE // ROWS, MAP_SIDE // COLUMNS)
        return laid_out.permute(0, 3, 1, 4, 2, 5).reshape(-1, sum(STAGE_WIDTHS), MAP_SIDE, MAP_SIDE)


class TileStatistics(nn.Module):
    """Mosaics (pictures, 3, 288, 512) uint8 -> mean and standard deviation over tiles of lite's statistics (pictures,
    238)."""

    def __init__(self, lite: Lite) -> None:
        super().__init__()
        self.statistics = lite.statistics

    def forward(self, mosaics: Tensor) -> Tensor:
        values = self.statistics(split_tiles(mosaics.float() / 255))[0].reshape(
            -1, ROWS * COLUMNS, STATISTICS_WIDTH // 2
        )
        return torch.cat([values.mean(1), values.std(1)], 1)


class SpectralResidualSaliency(nn.Module):
    """Whole pictures resized to (pictures, 3, 64, 64) uint8 -> saliency (pictures, 1, 12, 12), 1 at the most salient
    cell.

    Spectral residual (Hou & Zhang, CVPR 2007): a classical substitute for networks trained on eye tracking. The Fourier
    transform and all averages are matrix products. The log amplitude is log(1 + amplitude) for grey 0..255, which
    suppresses rounding noise; a picture of one colour is equally salient everywhere.
    """

    def __init__(self) -> None:
        super().__init__()
        index = torch.arange(SALIENCY_SIDE, dtype=torch.float64)
        angles = 2 * torch.pi * torch.outer(index, index) / SALIENCY_SIDE
        identity = torch.eye(SALIENCY_SIDE, dtype=torch.float64)
        smooth = torch.linalg.matrix_power(_box_filter_rows(identity, 5), 3)
        for name, matrix in (
            ("cos", angles.cos()), ("sin", angles.sin()),
            ("near", _box_filter_rows(identity, 3)),
            ("cells", _cell_mean_matrix(SALIENCY_SIDE, MAP_SIDE).double() @ smooth),
            ("luma", torch.tensor([0.299, 0.587, 0.114]).reshape(1, 3, 1, 1)),
        ):  # fmt: skip
            self.register_buffer(name, matrix.float())

    def forward(self, pictures: Tensor) -> Tensor:
        grey = (pictures.float() * self.luma).sum(1, keepdim=True)
        real = self.cos @ grey @ self.cos - self.sin @ grey @ self.sin
        imaginary = -(self.sin @ grey @ self.cos + self.cos @ grey @ self.sin)
        log_amplitude = torch.log1p((real * real + imaginary * imaginary).sqrt())
        # The spectral residual with the original phase: the spectrum divided by the local mean of its amplitude.
        gain = torch.exp(-_apply_to_both_axes(self.near, log_amplitude))
        real, imaginary = real * gain, imaginary * gain
        real_rows, imaginary_rows = self.cos @ real - self.sin @ imaginary, self.cos @ imaginary + self.sin @ real
        energy = (real_rows @ self.cos - imaginary_rows @ self.sin) ** 2 + (
            imaginary_rows @ self.cos + real_rows @ self.sin
        ) ** 2
        saliency = _apply_to_both_axes(self.cells, energy)
        return saliency / saliency.amax((2, 3), keepdim=True).clamp_min(1e-12)


class FragmentNetwork(nn.Module):
    """Fragments (pictures, 3, 224, 224) uint8 -> quality (pictures), 0..1; a small CNN trained from scratch."""

    def __init__(self, width: int = 96) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        in_channels = 3
        # Five strides of 2: each 32 px fragment becomes one cell, so that fragments mix as little as possible.
        for out_channels in (24, 32, 48, 64, width):
            layers += [
                nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(out_channels),
                nn.ReLU(),
            ]
            in_channels = out_channels
        self.layers = nn.Sequential(*layers)
        self.last = nn.Linear(2 * width, 1)

    def features(self, fragments: Tensor) -> Tensor:
        """Mean and standard deviation over the cells (pictures, 2 * width)."""
        maps = self.layers(fragments.float() / 127.5 - 1).flatten(2)
        return torch.cat([maps.mean(2), maps.std(2)], 1)

    def forward(self, fragments: Tensor) -> Tensor:
        return torch.sigmoid(self.last(self.features(fragments))).squeeze(1)


class FragmentFeatures(nn.Module):
    """The features (pictures, 192) that a trained `FragmentNetwork` scores."""

    def __init__(self, network: FragmentNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, fragments: Tensor) -> Tensor:
        return self.network.features(fragments)


class _CellMeans(nn.Module):
    """Adaptive average pooling of a tile's maps (tiles, channels, height, width) as matrix products, for ONNX."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.register_buffer("rows", _cell_mean_matrix(height, MAP_SIDE // ROWS))
        self.register_buffer("columns", _cell_mean_matrix(width, MAP_SIDE // COLUMNS).T)

    def forward(self, maps: Tensor) -> Tensor:
        return self.rows @ maps @ self.columns


def _apply_to_both_axes(matrix: Tensor, maps: Tensor) -> Tensor:
    """matrix @ maps @ matrix.T for maps (..., side, side)."""
    return matrix @ maps @ matrix.T


def _cell_mean_matrix(side: int, cells: int) -> Tensor:
    """(cells, side): each row averages one cell; cells overlap where they do not divide the side evenly."""
    return functional.adaptive_avg_pool1d(torch.eye(side), cells).T


def _box_filter_rows(values: Tensor, width: int) -> Tensor:
    """Means over `width` rows of (rows, columns), with the border repeated."""
    padded = functional.pad(values[None, None], (0, 0, width // 2, width // 2), mode="replicate")[0, 0]
    return padded.unfold(0, width, 1).mean(2)


SPATIAL_WIDTH = 2 * sum(STAGE_WIDTHS)
FEATURE_WIDTHS: Mapping[str, int] = MappingProxyType(
    {"spatial": SPATIAL_WIDTH, "statistics": STATISTICS_WIDTH, "fragments": 192}
)
"""Feature -> its width per picture, in the order of the regression's arguments."""
