"""lite: a no-reference picture scorer, a small CNN beside natural-scene statistics, both computed per tile."""

from dataclasses import dataclass

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.data.photos import COLUMNS, ROWS, TILE_HEIGHT, TILE_WIDTH

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SCALES = 3
BOUND = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LiteConfig:
    """The shape of a lite network; `trunk` is a timm name."""

    trunk: str = "mobilenetv4_conv_small"
    hidden: int = 128
    dropout: float = 0.3
    kinds: int = 11
    # see `lost_detail`
    slope_gain: float = 0.6
    slope_usual: float = -0.6
    level_gain: float = 0.3
    level_usual: float = 0.18

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1 or self.hidden < 1:
            raise ValueError(f"no such shape: hidden={self.hidden} dropout={self.dropout}")


def split_tiles(pixels: Tensor) -> Tensor:
    """Mosaics [batch, 3, 288, 512] as tiles [batch * 12, 3, 96, 128], row by row."""
    grid = pixels.reshape(-1, 3, ROWS, TILE_HEIGHT, COLUMNS, TILE_WIDTH)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(-1, 3, TILE_HEIGHT, TILE_WIDTH)


def mean_and_spread(values: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Mean and standard deviation over `dims`, joined along the last axis that is left."""
    mean = values.mean(dims)
    square = (values * values).mean(dims)
    return torch.cat([mean, (square - mean * mean).clamp_min(0).add(1e-6).sqrt()], -1)


class Statistics(nn.Module):
    """Natural-scene statistics of tiles, as logarithms where they span decades.

    Per scale: moments of the mean-subtracted contrast-normalised (MSCN) luma and opponent colours and of the products
    of luma neighbours (Mittal, Moorthy & Bovik, BRISQUE, IEEE TIP 2012), the field of local deviations, gradients.
    """

    taps: Tensor
    to_opponent: Tensor

    def __init__(self) -> None:
        super().__init__()
        at = torch.arange(-3, 4, dtype=torch.float32)
        taps = torch.exp(-(at**2) / (2 * (7 / 6) ** 2))
        self.register_buffer("taps", taps / taps.sum())
        rows = [[0.299, 0.587, 0.114], [0.5, -0.5, 0.0], [0.25, 0.25, -0.5]]
        self.register_buffer("to_opponent", torch.tensor(rows).reshape(3, 3, 1, 1) * 255)

    def _blur(self, maps: Tensor) -> Tensor:
        across = F.conv2d(maps, self.taps.reshape(1, 1, 1, 7).expand(maps.shape[1], 1, 1, 7), groups=maps.shape[1])
        return F.conv2d(across, self.taps.reshape(1, 1, 7, 1).expand(maps.shape[1], 1, 7, 1), groups=maps.shape[1])

    def _normalise(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """(MSCN maps, local deviations), both 6 px smaller than `maps` each way."""
        count = maps.shape[1]
        both = self._blur(torch.cat([maps, maps * maps], 1))
        mean, square = both[:, :count], both[:, count:]
        deviation = (square - mean * mean).clamp_min(0).add(1e-4).sqrt()
        return (maps[:, :, 3:-3, 3:-3] - mean) / (deviation + 1), deviation

    def _one_scale(self, maps: Tensor) -> tuple[list[Tensor], Tensor]:
        mscn, deviation = self._normalise(maps)
        luma = mscn[:, :1]
        a, right, down = luma[:, :, :-1, :-1], luma[:, :, :-1, 1:], luma[:, :, 1:, :-1]
        pairs = torch.cat([a * right, a * down, a * luma[:, :, 1:, 1:], right * down], 1)
        corner = maps[:, :1, :-1, :-1]
        sides = torch.cat([maps[:, :1, :-1, 1:] - corner, maps[:, :1, 1:, :-1] - corner], 1)
        square, edges = mscn * mscn, sides.abs()
        spread = torch.log(deviation + 0.3)
        return [
            _log(mscn.abs()), _log(square), _log(square * square), (square * mscn).mean((2, 3)),
            pairs.mean((2, 3)), _log(pairs.abs()), _log(pairs * pairs),
            mean_and_spread(spread, (2, 3)), _log(deviation), _log(edges), _log(edges * edges),
        ], luma  # fmt: skip

    def luma_mscn(self, pictures: Tensor) -> Tensor:
        """The luma MSCN [n, 1, h - 6, w - 6] of pictures [n, 3, h, w] with values in 0..1, without all the rest."""
        return self._normalise(F.conv2d(pictures, self.to_opponent[:1]))[0]

    def forward(self, tiles: Tensor) -> tuple[Tensor, Tensor]:
        """(statistics [n, count], luma MSCN [n, 1, 90, 122]) of tiles [n, 3, 96, 128] with values in 0..1."""
        maps = F.conv2d(tiles, self.to_opponent)
        found = [mean_and_spread(maps / 255, (2, 3)), _log(maps[:, 1:].abs())]
        first: Tensor | None = None
        for scale in range(SCALES):
            if scale:
                maps = F.avg_pool2d(maps, 2)
            values, luma = self._one_scale(maps)
            found += values
            first = luma if first is None else first
        assert first is not None
        return torch.cat(found, 1), first


def _log(values: Tensor) -> Tensor:
    """log of the mean over the picture, [n, channels]."""
    return torch.log(values.mean((2, 3)) + 1e-3)


def detail_of(tiles: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(slope [batch], level [batch]) of the finest diagonal detail, as logarithms, of tiles [batch * count, 3, h, w].

    Diagonal second differences of luma 0..255: axis-aligned edges, those of coding blocks among them, leave no trace.
    The slope is the finest detail against the next coarser, tile by tile; the level is that of the whole picture.
    Coding and scaling take the finest detail first.
    """
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=tiles.dtype).reshape(1, 3, 1, 1) * 255
    fine = (tiles * weights).sum(1, keepdim=True)
    found = []
    for luma in (fine, F.avg_pool2d(fine, 2)):
        crossed = luma[:, :, :-1, :-1] - luma[:, :, 1:, :-1] - luma[:, :, :-1, 1:] + luma[:, :, 1:, 1:]
        found.append(crossed.abs().mean((1, 2, 3)).reshape(-1, count))
    slope = (torch.log(found[0] + 0.05) - torch.log(found[1] + 0.05)).mean(1)
    return slope, torch.log(found[0].mean(1) + 0.1)


class Lite(nn.Module):
    """Pixels [batch, 3, 288, 512], normalised with MEAN and STD, -> score [batch], about 0 (bad) .. 1 (excellent)."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: LiteConfig) -> None:
        super().__init__()
        self.statistics = Statistics()
        self.trunk = timm.create_model(config.trunk, pretrained=False, features_only=True, in_chans=4)
        self.register_buffer("mean", torch.tensor(MEAN).reshape(3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).reshape(3, 1, 1))
        with torch.no_grad():
            width = self._describe(torch.zeros(2, 3, TILE_HEIGHT, TILE_WIDTH)).shape[1]
        self.config = config
        self.scale = nn.BatchNorm1d(2 * width, affine=False, momentum=0.02)
        self.dropout = nn.Dropout(config.dropout)
        self.hidden = nn.Sequential(nn.Linear(2 * width, config.hidden), nn.ReLU())
        self.score = nn.Linear(config.hidden, 1)
        self.direct = nn.Linear(2 * width, 1, bias=False)
        self.kind = nn.Linear(config.hidden, config.kinds)
        nn.init.zeros_(self.direct.weight)
        nn.init.constant_(self.score.bias, 0.5)

    def _describe(self, tiles: Tensor) -> Tensor:
        """One vector per tile [n, width]: statistics, then mean and spread of the maps of every stage of the trunk."""
        statistics, mscn = self.statistics(tiles * self.std + self.mean)
        seen = torch.cat([tiles, F.pad(mscn, (3, 3, 3, 3))], 1)
        maps = self.trunk(seen.contiguous(memory_format=torch.channels_last))
        return torch.cat([statistics, *(mean_and_spread(one, (2, 3)) for one in maps[1:-1]), maps[-1].mean((2, 3))], 1)

    def facts(self, tiles: Tensor, count: int) -> Tensor:
        """What the heads read, [batch, 2 * width]: mean and spread over the tiles of each picture, standardised."""
        vectors = self._describe(tiles).reshape(-1, count, self.scale.num_features // 2)
        # Bounded, so that one statistic of a strange picture cannot decide alone.
        bounded: Tensor = self.scale(mean_and_spread(vectors, (1,))).clamp(-BOUND, BOUND)
        return bounded

    def judge(self, tiles: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """(scores [batch], what tells the kind of degradation [batch, kinds]) of tiles [batch * count, 3, 96, 128]."""
        facts = self.dropout(self.facts(tiles, count))
        hidden = self.hidden(facts)
        score = (self.score(self.dropout(hidden)) + self.direct(facts)).squeeze(1)
        return score - self.lost_detail(tiles, count), self.kind(hidden)

    def lost_detail(self, tiles: Tensor, count: int) -> Tensor:
        """What is taken off the score, [batch]: by how much the detail falls short of the usual.

        More detail than usual gives no credit, so noise and sharpening gain nothing.
        """
        slope, level = detail_of(tiles * self.std + self.mean, count)
        shape = self.config
        flat = shape.slope_gain * (shape.slope_usual - slope).clamp_min(0)
        return flat + shape.level_gain * (shape.level_usual - level).clamp_min(0)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.judge(split_tiles(pixels), ROWS * COLUMNS)[0]
