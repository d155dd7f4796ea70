"""ConvNeXt inflated to clips, the aesthetic side of DOVER; parameter names as published.

Liu et al., "A ConvNet for the 2020s", CVPR 2022; inflation: Wu et al., "Exploring Video Quality Assessment on User
Generated Contents from Aesthetic and Technical Perspectives", ICCV 2023.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

_EPS = 1e-6
# lengths in time of the depthwise kernels, repeated within a stage
_KERNEL_LENGTHS = (1, 3, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvNextConfig:
    """Sizes; the defaults are those of DOVER, an inflated ConvNeXt-T."""

    widths: tuple[int, ...] = (96, 192, 384, 768)
    depths: tuple[int, ...] = (3, 3, 9, 3)


class _ChannelNorm(nn.Module):
    """Layer norm over the channels of (clips, channels, time, rows, columns)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, clip: Tensor) -> Tensor:
        channels_last = clip.movedim(1, -1)
        return nn.functional.layer_norm(channels_last, self.weight.shape, self.weight, self.bias, _EPS).movedim(-1, 1)


class _ConvNextBlock(nn.Module):
    """Depthwise 7 x 7 convolution, layer norm and MLP, scaled and added to the input."""

    def __init__(self, width: int, length: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv3d(width, width, (length, 7, 7), padding=(length // 2, 3, 3), groups=width)
        self.norm = nn.LayerNorm(width, eps=_EPS)
        self.pwconv1 = nn.Linear(width, 4 * width)
        self.pwconv2 = nn.Linear(4 * width, width)
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, clip: Tensor) -> Tensor:
        channels_last = self.norm(self.dwconv(clip).movedim(1, -1))
        channels_last = self.gamma * self.pwconv2(nn.functional.gelu(self.pwconv1(channels_last)))
        return clip + channels_last.movedim(-1, 1)


class ConvNext3d(nn.Module):
    """Normalised clips (clips, 3, frames, side, side) -> normalised maps (clips, features, frames / 2, side / 32, side
    / 32)."""

    def __init__(self, config: ConvNextConfig) -> None:
        super().__init__()
        widths = config.widths
        stem = nn.Sequential(nn.Conv3d(3, widths[0], (2, 4, 4), stride=(2, 4, 4)), _ChannelNorm(widths[0]))
        downsamplers = (
            nn.Sequential(_ChannelNorm(before), nn.Conv3d(before, after, (1, 2, 2), stride=(1, 2, 2)))
            for before, after in pairwise(widths)
        )
        self.downsample_layers = nn.ModuleList([stem, *downsamplers])
        self.stages = nn.ModuleList(
            nn.Sequential(
                *(_ConvNextBlock(width, _KERNEL_LENGTHS[index % len(_KERNEL_LENGTHS)]) for index in range(depth))
            )
            for width, depth in zip(widths, config.depths, strict=True)
        )
        self.norm = _ChannelNorm(widths[-1])

    def forward(self, clip: Tensor) -> Tensor:
        for downsample, stage in zip(self.downsample_layers, self.stages, strict=True):
            clip = stage(downsample(clip))
        return self.norm(clip)
