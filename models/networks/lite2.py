"""lite@2: a no-reference picture scorer that reads the means and deviations of EfficientNet-Lite feature maps linearly.

The trunk is EfficientNet-Lite0 (Tan & Le, "EfficientNet", ICML 2019; the Lite variant of its authors) up to its sixth
stage, with ImageNet weights. It sees tiles of a display view: some of the canvas itself, some of the canvas at half its
size, and the whole canvas small.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vqmon.core.types import TileGrid, View

TILE_WIDTH, TILE_HEIGHT = 256, 192
LINES = 1080
# The range of the published network's input: (pixel - 127) / 128.
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3
TRUNK = "tf_efficientnet_lite0"
_WIDTHS = (16, 24, 40, 80, 112, 192)
"""Channels of the stages of the trunk that are used."""
FEATURE_LIMIT = 5.0
"""Standardised features are cut off here, so that one outlying statistic cannot decide the score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lite2Config:
    """Grids of tiles on the canvas and on the canvas at half its size (columns, rows), and the stages read of each.

    Stages are numbered from 0; the tiles of the canvas itself pass the trunk up to their last stage only.
    """

    canvas_grid: tuple[int, int] = (2, 2)
    half_grid: tuple[int, int] = (2, 2)
    canvas_stages: tuple[int, ...] = (1, 2, 3)
    stages: tuple[int, ...] = (1, 2, 3, 4, 5)

    def __post_init__(self) -> None:
        if not set(self.canvas_stages) <= set(self.stages) <= set(range(len(_WIDTHS))) or not self.canvas_stages:
            raise ValueError(f"no such stages: {self.canvas_stages} of {self.stages}")

    @property
    def view(self) -> View:
        """The display view that the network takes."""
        grids = (
            TileGrid(reduction=1, columns=self.canvas_grid[0], rows=self.canvas_grid[1]),
            TileGrid(reduction=2, columns=self.half_grid[0], rows=self.half_grid[1]),
        )
        tile_count = sum(count for count, _ in self.groups)
        return View(
            kind="display", width=TILE_WIDTH, height=TILE_HEIGHT * tile_count, short_side=LINES, grids=grids
        )  # fmt: skip

    @property
    def groups(self) -> tuple[tuple[int, tuple[int, ...]], ...]:
        """(tiles, stages) of the canvas, of the canvas at half its size, and of the whole."""
        canvas, half = (columns * rows for columns, rows in (self.canvas_grid, self.half_grid))
        return (canvas, self.canvas_stages), (half, self.stages), (1, self.stages)

    @property
    def feature_widths(self) -> tuple[int, ...]:
        """How many features each group has."""
        return tuple(sum(2 * _WIDTHS[stage] for stage in stages) for _, stages in self.groups)

    @property
    def feature_count(self) -> int:
        return sum(self.feature_widths)


def read_config(table: Mapping[str, Any]) -> Lite2Config:
    """A configuration of a TOML table or of a checkpoint; what is not named has its default."""
    return Lite2Config(**{name: tuple(numbers) for name, numbers in table.items()})


def normalised_tiles(tiles: NDArray[np.uint8]) -> Tensor:
    """[pictures, tiles, 3, height, width], normalised with MEAN and STD, of RGB (pictures, tiles, height, width, 3)."""
    pixels = torch.from_numpy(np.ascontiguousarray(tiles)).permute(0, 1, 4, 2, 3).float() / 255
    return (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def _feature_statistics(mean: Tensor, square: Tensor) -> Tensor:
    """Features [batch, 2 * channels] of mean values and mean squares [batch, channels], on logarithmic scales."""
    deviation = (square - mean * mean).clamp_min(0).add(1e-6).sqrt()
    return torch.cat([mean.sign() * torch.log1p(mean.abs()), torch.log(deviation + 0.01)], 1)


class Lite2(nn.Module):
    """Pixels [batch, 3, tiles * 192, 256], normalised with MEAN and STD -> scores [batch], and the degradations.

    A score is about 0 (bad) .. 100 (no visible loss). Penalties are subtracted from it: `penalty_gains` times what the
    estimates of degradations have above `penalty_limits`, because a linear reader of features likes sharpening and
    light noise.
    """

    centre: Tensor
    scale: Tensor
    penalty_limits: Tensor
    penalty_gains: Tensor

    def __init__(self, config: Lite2Config) -> None:
        super().__init__()
        self.config = config
        trunk = timm.create_model(TRUNK, pretrained=False)
        self.stem = nn.Sequential(trunk.conv_stem, trunk.bn1)
        self.stages = nn.ModuleList(list(trunk.blocks)[: len(_WIDTHS)])
        self.register_buffer("centre", torch.zeros(config.feature_count))
        self.register_buffer("scale", torch.ones(config.feature_count))
        self.score = nn.Linear(config.feature_count, 1)
        self.degradations = nn.Linear(config.feature_count, len(DEGRADATIONS))
        self.register_buffer("penalty_limits", torch.ones(len(DEGRADATIONS)))
        self.register_buffer("penalty_gains", torch.zeros(len(DEGRADATIONS)))

    def trunk_state(self) -> dict[str, Any]:
        """Weights of the trunk alone, which all forms share."""
        return {"stem": self.stem.state_dict(), "stages": self.stages.state_dict()}

    def load_trunk_state(self, state: Mapping[str, Any]) -> None:
        """Take the trunk of `trunk_state`."""
        self.stem.load_state_dict(state["stem"])
        self.stages.load_state_dict(state["stages"])

    def group_features(self, tiles: Tensor, stages: Sequence[int]) -> Tensor:
        """Features [batch, features], not standardised, of tiles [batch, tiles, 3, 192, 256] of one group."""
        count = tiles.shape[1]
        maps = self.stem(tiles.flatten(0, 1))
        parts = []
        for number, stage in enumerate(self.stages[: max(stages) + 1]):
            maps = stage(maps)
            if number in stages:
                mean, square = maps.mean((2, 3)), (maps * maps).mean((2, 3))
                parts.append(
                    _feature_statistics(*(each.unflatten(0, (-1, count)).mean(1) for each in (mean, square)))
                )  # fmt: skip
        return torch.cat(parts, 1)

    def features(self, pixels: Tensor) -> Tensor:
        """Standardised features [batch, feature_count]."""
        groups = self.config.groups
        tiles = pixels.unflatten(2, (-1, TILE_HEIGHT)).transpose(1, 2)
        by_group = tiles.split([count for count, _ in groups], 1)
        values = torch.cat(
            [self.group_features(part, stages) for part, (_, stages) in zip(by_group, groups, strict=True)], 1
        )
        return ((values - self.centre) / self.scale).clamp(-FEATURE_LIMIT, FEATURE_LIMIT)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(pixels)
        degradations = self.degradations(features)
        penalty = ((degradations - self.penalty_limits).clamp_min(0) * self.penalty_gains).sum(1)
        return self.score(features).squeeze(1) - penalty, degradations.clamp(0, 1)


DEGRADATIONS = ("compression", "blur", "noise", "upscaling", "over_sharpening", "banding", "damage")
"""What the second output estimates, 0 (none) .. 1 (strong)."""
