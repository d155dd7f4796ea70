"""ConvNeXt over a clip: a picture network stretched along time, as the aesthetic side of DOVER; names as published.

Liu et al., "A ConvNet for the 2020s", CVPR 2022; the stretching: Wu et al., "Exploring Video Quality Assessment on
User Generated Contents from Aesthetic and Technical Perspectives", ICCV 2023.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

_EPS = 1e-6
# lengths in time of the wide kernels, over and over within a stage
_LENGTHS = (1, 3, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvNextConfig:
    """Sizes; the defaults are those of DOVER, a stretched ConvNeXt-T."""

    widths: tuple[int, ...] = (96, 192, 384, 768)
    depths: tuple[int, ...] = (3, 3, 9, 3)


class ChannelNorm(nn.Module):
    """Layer norm over the channels of (clips, channels, time, rows, columns)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, clip: Tensor) -> Tensor:
        last = clip.movedim(1, -1)
        return nn.functional.layer_norm(last, self.weight.shape, self.weight, self.bias, _EPS).movedim(-1, 1)


class Block(nn.Module):
    """A wide convolution per channel, then an MLP per place, scaled and added."""

    def __init__(self, width: int, length: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv3d(width, width, (length, 7, 7), padding=(length // 2, 3, 3), groups=width)
        self.norm = nn.LayerNorm(width, eps=_EPS)
        self.pwconv1 = nn.Linear(width, 4 * width)
        self.pwconv2 = nn.Linear(4 * width, width)
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, clip: Tensor) -> Tensor:
        last = self.norm(self.dwconv(clip).movedim(1, -1))
        last = self.gamma * self.pwconv2(nn.functional.gelu(self.pwconv1(last)))
        return clip + last.movedim(-1, 1)


class ConvNext3d(nn.Module):
    """Normalised clips (clips, 3, frames, side, side) -> normed (clips, features, frames / 2, ...)."""

    def __init__(self, config: ConvNextConfig) -> None:
        super().__init__()
        widths = config.widths
        stem = nn.Sequential(nn.Conv3d(3, widths[0], (2, 4, 4), stride=(2, 4, 4)), ChannelNorm(widths[0]))
        halves = (
            nn.Sequential(ChannelNorm(before), nn.Conv3d(before, after, (1, 2, 2), stride=(1, 2, 2)))
            for before, after in pairwise(widths)
        )
        self.downsample_layers = nn.ModuleList([stem, *halves])
        self.stages = nn.ModuleList(
            nn.Sequential(*(Block(width, _LENGTHS[at % len(_LENGTHS)]) for at in range(depth)))
            for width, depth in zip(widths, config.depths, strict=True)
        )
        self.norm = ChannelNorm(widths[-1])

    def forward(self, clip: Tensor) -> Tensor:
        for halve, stage in zip(self.downsample_layers, self.stages, strict=True):
            clip = stage(halve(clip))
        return self.norm(clip)
