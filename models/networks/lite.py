"""lite: a no-reference picture scorer from a small CNN and natural-scene statistics, both computed per tile."""

from dataclasses import dataclass

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.data.photos import COLUMNS, ROWS, TILE_HEIGHT, TILE_WIDTH

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_SCALES = 3
STANDARDISED_LIMIT = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LiteConfig:
    """The table `[network]` of `lite.toml`; `trunk` is the name of a timm model."""

    trunk: str = "mobilenetv4_conv_small"
    hidden: int = 128
    dropout: float = 0.3
    kinds: int = 11
    # see `detail_penalty`
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


def mean_and_std(values: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Mean and standard deviation over `dims`, concatenated along the last remaining axis."""
    mean = values.mean(dims)
    square = (values * values).mean(dims)
    return torch.cat([mean, (square - mean * mean).clamp_min(0).add(1e-6).sqrt()], -1)


class NaturalSceneStatistics(nn.Module):
    """Natural-scene statistics of tiles; values that span decades are logarithms.

    Per scale: moments of the mean-subtracted contrast-normalised (MSCN) luma and opponent colours and of products of
    neighbouring luma values (Mittal, Moorthy & Bovik, BRISQUE, IEEE TIP 2012), the local deviations, and gradients.
    """

    taps: Tensor
    to_opponent: Tensor

    def __init__(self) -> None:
        super().__init__()
        offsets = torch.arange(-3, 4, dtype=torch.float32)
        taps = torch.exp(-(offsets**2) / (2 * (7 / 6) ** 2))
        self.register_buffer("taps", taps / taps.sum())
        rows = [[0.299, 0.587, 0.114], [0.5, -0.5, 0.0], [0.25, 0.25, -0.5]]
        self.register_buffer("to_opponent", torch.tensor(rows).reshape(3, 3, 1, 1) * 255)

    def _blur(self, maps: Tensor) -> Tensor:
        across = F.conv2d(maps, self.taps.reshape(1, 1, 1, 7).expand(maps.shape[1], 1, 1, 7), groups=maps.shape[1])
        return F.conv2d(across, self.taps.reshape(1, 1, 7, 1).expand(maps.shape[1], 1, 7, 1), groups=maps.shape[1])

    def _normalise(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """(MSCN maps, local deviations), both 6 px smaller than `maps` each way."""
        count = maps.shape[1]
        moments = self._blur(torch.cat([maps, maps * maps], 1))
        mean, square = moments[:, :count], moments[:, count:]
        deviation = (square - mean * mean).clamp_min(0).add(1e-4).sqrt()
        return (maps[:, :, 3:-3, 3:-3] - mean) / (deviation + 1), deviation

    def _scale_statistics(self, maps: Tensor) -> tuple[list[Tensor], Tensor]:
        mscn, deviation = self._normalise(maps)
        luma = mscn[:, :1]
        centre, right, down = luma[:, :, :-1, :-1], luma[:, :, :-1, 1:], luma[:, :, 1:, :-1]
        pairs = torch.cat([centre * right, centre * down, centre * luma[:, :, 1:, 1:], right * down], 1)
        corner = maps[:, :1, :-1, :-1]
        gradients = torch.cat([maps[:, :1, :-1, 1:] - corner, maps[:, :1, 1:, :-1] - corner], 1)
        square, edges = mscn * mscn, gradients.abs()
        log_deviation = torch.log(deviation + 0.3)
        return [
            _log_mean(mscn.abs()), _log_mean(square), _log_mean(square * square), (square * mscn).mean((2, 3)),
            pairs.mean((2, 3)), _log_mean(pairs.abs()), _log_mean(pairs * pairs),
            mean_and_std(log_deviation, (2, 3)), _log_mean(deviation), _log_mean(edges), _log_mean(edges * edges),
        ], luma  # fmt: skip

    def luma_mscn(self, pictures: Tensor) -> Tensor:
        """Only the luma MSCN [n, 1, h - 6, w - 6] of pictures [n, 3, h, w] with values in 0..1."""
        return self._normalise(F.conv2d(pictures, self.to_opponent[:1]))[0]

    def forward(self, tiles: Tensor) -> tuple[Tensor, Tensor]:
        """(statistics [n, count], luma MSCN [n, 1, 90, 122]) of tiles [n, 3, 96, 128] with values in 0..1."""
        maps = F.conv2d(tiles, self.to_opponent)
        statistics = [mean_and_std(maps / 255, (2, 3)), _log_mean(maps[:, 1:].abs())]
        luma_mscn: Tensor | None = None
        for scale in range(_SCALES):
            if scale:
                maps = F.avg_pool2d(maps, 2)
            values, luma = self._scale_statistics(maps)
            statistics += values
            luma_mscn = luma if luma_mscn is None else luma_mscn
        assert luma_mscn is not None
        return torch.cat(statistics, 1), luma_mscn


def _log_mean(values: Tensor) -> Tensor:
    """Logarithm of the mean over rows and columns, [n, channels]."""
    return torch.log(values.mean((2, 3)) + 1e-3)


def diagonal_detail(tiles: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(slope [batch], level [batch]) of the finest diagonal detail, as logarithms, of tiles [batch * count, 3, h, w].

    Diagonal second differences of luma 0..255 ignore axis-aligned edges, such as those of coding blocks. The slope
    compares the finest detail with the next coarser, averaged over tiles; the level is the finest detail of the whole
    picture. Coding and scaling remove the finest detail first.
    """
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=tiles.dtype).reshape(1, 3, 1, 1) * 255
    fine = (tiles * weights).sum(1, keepdim=True)
    details = []
    for luma in (fine, F.avg_pool2d(fine, 2)):
        differences = luma[:, :, :-1, :-1] - luma[:, :, 1:, :-1] - luma[:, :, :-1, 1:] + luma[:, :, 1:, 1:]
        details.append(differences.abs().mean((1, 2, 3)).reshape(-1, count))
    slope = (torch.log(details[0] + 0.05) - torch.log(details[1] + 0.05)).mean(1)
    return slope, torch.log(details[0].mean(1) + 0.1)


class Lite(nn.Module):
    """Pixels [batch, 3, 288, 512], normalised with MEAN and STD -> scores [batch], about 0 (bad) .. 1 (excellent)."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: LiteConfig) -> None:
        super().__init__()
        self.statistics = NaturalSceneStatistics()
        self.trunk = timm.create_model(config.trunk, pretrained=False, features_only=True, in_chans=4)
        self.register_buffer("mean", torch.tensor(MEAN).reshape(3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).reshape(3, 1, 1))
        with torch.no_grad():
            width = self._describe_tiles(torch.zeros(2, 3, TILE_HEIGHT, TILE_WIDTH)).shape[1]
        self.config = config
        self.scale = nn.BatchNorm1d(2 * width, affine=False, momentum=0.02)
        self.dropout = nn.Dropout(config.dropout)
        self.hidden = nn.Sequential(nn.Linear(2 * width, config.hidden), nn.ReLU())
        self.score = nn.Linear(config.hidden, 1)
        self.direct = nn.Linear(2 * width, 1, bias=False)
        self.kind = nn.Linear(config.hidden, config.kinds)
        nn.init.zeros_(self.direct.weight)
        nn.init.constant_(self.score.bias, 0.5)

    def _describe_tiles(self, tiles: Tensor) -> Tensor:
        """One vector per tile [n, width]: statistics, then mean and standard deviation of the maps of the trunk's
        stages."""
        statistics, mscn = self.statistics(tiles * self.std + self.mean)
        trunk_input = torch.cat([tiles, F.pad(mscn, (3, 3, 3, 3))], 1)
        maps = self.trunk(trunk_input.contiguous(memory_format=torch.channels_last))
        return torch.cat(
            [statistics, *(mean_and_std(stage_map, (2, 3)) for stage_map in maps[1:-1]), maps[-1].mean((2, 3))], 1
        )

    def picture_features(self, tiles: Tensor, count: int) -> Tensor:
        """The head's input [batch, 2 * width]: mean and standard deviation over each picture's tiles, standardised."""
        vectors = self._describe_tiles(tiles).reshape(-1, count, self.scale.num_features // 2)
        # Clamped, so that one outlying statistic cannot decide the score.
        clamped: Tensor = self.scale(mean_and_std(vectors, (1,))).clamp(-STANDARDISED_LIMIT, STANDARDISED_LIMIT)
        return clamped

    def score_tiles(self, tiles: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """(scores [batch], logits of the kind of degradation [batch, kinds]) of tiles [batch * count, 3, 96, 128]."""
        features = self.dropout(self.picture_features(tiles, count))
        hidden = self.hidden(features)
        score = (self.score(self.dropout(hidden)) + self.direct(features)).squeeze(1)
        return score - self.detail_penalty(tiles, count), self.kind(hidden)

    def detail_penalty(self, tiles: Tensor, count: int) -> Tensor:
        """What is subtracted from the score, [batch]: how far the detail is below the usual.

        More detail than usual earns nothing, so noise and sharpening gain nothing.
        """
        slope, level = diagonal_detail(tiles * self.std + self.mean, count)
        config = self.config
        slope_penalty = config.slope_gain * (config.slope_usual - slope).clamp_min(0)
        return slope_penalty + config.level_gain * (config.level_usual - level).clamp_min(0)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.score_tiles(split_tiles(pixels), ROWS * COLUMNS)[0]
