"""SlowFast R50 8x8: a slow and a fast pathway over one clip; the fast pathway also alone, as nothing flows into it.

Feichtenhofer et al., "SlowFast Networks for Video Recognition", ICCV 2019; parameter names as in the Kinetics-400 file.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.networks.backbones.pixels import normalise

_MEAN = (0.45, 0.45, 0.45)
_STD = (0.225, 0.225, 0.225)
FRAMES, SIDE = 32, 224
_SLOW_FRAMES = (0, 4, 8, 13, 17, 22, 26, 31)
"""Indices of the slow pathway's frames: np.linspace(0, 31, 8) rounded down."""
_SLOW, _FAST = "0", "1"
# length in time of the first convolution of a bottleneck, by stage
_SLOW_KERNELS, _FAST_KERNELS = (1, 1, 3, 3), (3, 3, 3, 3)
_STRIDES = (1, 2, 2, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowFastConfig:
    """Sizes; the defaults are the published ones."""

    slow_width: int = 64
    fast_width: int = 8
    depths: tuple[int, int, int, int] = (3, 4, 6, 3)
    classes: int = 400

    @property
    def slow_features(self) -> int:
        return 32 * self.slow_width

    @property
    def fast_features(self) -> int:
        return 32 * self.fast_width


class _Stem(nn.Module):
    """The first convolution of a pathway and the pooling after it."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        padding = (kernel // 2, 3, 3)
        self.conv = nn.Conv3d(3, width, (kernel, 7, 7), stride=(1, 2, 2), padding=padding, bias=False)
        self.norm = nn.BatchNorm3d(width)
        self.pool = nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))

    def forward(self, clip: Tensor) -> Tensor:
        return self.pool(torch.relu(self.norm(self.conv(clip))))


class _Bottleneck(nn.Module):
    """A temporal, a spatial and a pointwise convolution, each with batch norm."""

    def __init__(self, in_channels: int, inner_channels: int, out_channels: int, *, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv_a = nn.Conv3d(in_channels, inner_channels, (kernel, 1, 1), padding=(kernel // 2, 0, 0), bias=False)
        self.norm_a = nn.BatchNorm3d(inner_channels)
        self.conv_b = nn.Conv3d(
            inner_channels, inner_channels, (1, 3, 3), stride=(1, stride, stride), padding=(0, 1, 1), bias=False
        )
        self.norm_b = nn.BatchNorm3d(inner_channels)
        self.conv_c = nn.Conv3d(inner_channels, out_channels, 1, bias=False)
        self.norm_c = nn.BatchNorm3d(out_channels)

    def forward(self, clip: Tensor) -> Tensor:
        clip = torch.relu(self.norm_a(self.conv_a(clip)))
        clip = torch.relu(self.norm_b(self.conv_b(clip)))
        return self.norm_c(self.conv_c(clip))


class _ResidualBlock(nn.Module):
    """A bottleneck with a residual connection; the first block of a stage has a projection shortcut."""

    def __init__(self, in_channels: int, out_channels: int, *, kernel: int, stride: int, has_projection: bool) -> None:
        super().__init__()
        if has_projection:
            self.branch1_conv = nn.Conv3d(in_channels, out_channels, 1, stride=(1, stride, stride), bias=False)
            self.branch1_norm = nn.BatchNorm3d(out_channels)
        self.branch2 = _Bottleneck(in_channels, out_channels // 4, out_channels, kernel=kernel, stride=stride)
        self._has_projection = has_projection

    def forward(self, clip: Tensor) -> Tensor:
        shortcut = self.branch1_norm(self.branch1_conv(clip)) if self._has_projection else clip
        return torch.relu(shortcut + self.branch2(clip))


class _Stage(nn.Module):
    """A sequence of residual blocks."""

    def __init__(self, in_channels: int, out_channels: int, *, depth: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.res_blocks = nn.ModuleList(
            _ResidualBlock(
                out_channels if index else in_channels,
                out_channels,
                kernel=kernel,
                stride=1 if index else stride,
                has_projection=not index,
            )
            for index in range(depth)
        )

    def forward(self, clip: Tensor) -> Tensor:
        for block in self.res_blocks:
            clip = block(clip)
        return clip


class _FastToSlowFusion(nn.Module):
    """Appends the fast pathway's maps, at every fourth frame, to the slow pathway's channels."""

    def __init__(self, fast_channels: int) -> None:
        super().__init__()
        self.conv_fast_to_slow = nn.Conv3d(
            fast_channels, 2 * fast_channels, (7, 1, 1), stride=(4, 1, 1), padding=(3, 0, 0), bias=False
        )
        self.norm = nn.BatchNorm3d(2 * fast_channels)

    def forward(self, slow: Tensor, fast: Tensor) -> Tensor:
        return torch.cat([slow, torch.relu(self.norm(self.conv_fast_to_slow(fast)))], dim=1)


class _PathwayLevel(nn.Module):
    """One module per pathway, under the pathway's published number, and the fusion between them."""

    def __init__(self, parts: Mapping[str, nn.Module], fusion: _FastToSlowFusion | None = None) -> None:
        super().__init__()
        self.multipathway_blocks = nn.ModuleDict(parts)
        if fusion is not None:
            self.multipathway_fusion = fusion


class _ClassHead(nn.Module):
    """Logits of the classes that the network was trained on."""

    def __init__(self, in_features: int, classes: int) -> None:
        super().__init__()
        self.proj = nn.Linear(in_features, classes)


def _slow_modules(config: SlowFastConfig) -> list[nn.Module]:
    width, fused_width = config.slow_width, 2 * config.fast_width
    stages = (
        _Stage(
            (4 * width * 2 ** (stage - 1) + 4 * fused_width * 2 ** (stage - 1)) if stage else width + fused_width,
            4 * width * 2**stage, depth=config.depths[stage], kernel=_SLOW_KERNELS[stage], stride=_STRIDES[stage],
        )
        for stage in range(4)
    )  # fmt: skip
    return [_Stem(width, 1), *stages]


def _fast_modules(config: SlowFastConfig) -> list[nn.Module]:
    width = config.fast_width
    stages = (
        _Stage(
            4 * width * 2 ** (stage - 1) if stage else width,
            4 * width * 2**stage, depth=config.depths[stage], kernel=_FAST_KERNELS[stage], stride=_STRIDES[stage],
        )
        for stage in range(4)
    )  # fmt: skip
    return [_Stem(width, 5), *stages]


class SlowFast(nn.Module):
    """Clips (clips, 3, 32, side, side) uint8 -> features (clips, 2304): 2048 of the slow pathway, then 256 of the
    fast."""

    slow_frames: Tensor

    def __init__(self, config: SlowFastConfig) -> None:
        super().__init__()
        pairs = zip(_slow_modules(config), _fast_modules(config), strict=True)
        fast_widths = [config.fast_width, *(4 * config.fast_width * 2**stage for stage in range(3))]
        fusions = [*map(_FastToSlowFusion, fast_widths), None]
        levels = [
            _PathwayLevel({_SLOW: slow, _FAST: fast}, fusion)
            for (slow, fast), fusion in zip(pairs, fusions, strict=True)
        ]
        # the published list has the pools at 5 and the class head at 6
        head = _ClassHead(config.slow_features + config.fast_features, config.classes)
        self.blocks = nn.ModuleList([*levels, nn.Identity(), head])
        self.register_buffer("slow_frames", torch.tensor(_SLOW_FRAMES), persistent=False)

    def forward(self, clips: Tensor) -> Tensor:
        fast = normalise(clips, _MEAN, _STD, dtype=self.blocks[6].proj.weight.dtype)
        slow, fast = self.pathways(fast.index_select(2, self.slow_frames), fast)[-1]
        return torch.cat([slow.mean((2, 3, 4)), fast.mean((2, 3, 4))], dim=1)

    def pathways(self, slow: Tensor, fast: Tensor) -> list[tuple[Tensor, Tensor]]:
        """(slow maps, fast maps) after each level, from normalised clips (clips, 3, 8 and 32, side, side)."""
        outputs = []
        for level in list(self.blocks)[:5]:
            slow = level.multipathway_blocks[_SLOW](slow)
            fast = level.multipathway_blocks[_FAST](fast)
            if level is not self.blocks[4]:
                slow = level.multipathway_fusion(slow, fast)
            outputs.append((slow, fast))
        return outputs

    def class_logits(self, features: Tensor) -> Tensor:
        """Logits of the trained classes (clips, 400) from features (clips, 2304)."""
        return self.blocks[6].proj(features)


class FastPathway(nn.Module):
    """Clips (clips, 3, 32, side, side) uint8 -> features (clips, 256), all that fusing scorers take from SlowFast."""

    def __init__(self, config: SlowFastConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_PathwayLevel({_FAST: part}) for part in _fast_modules(config))

    def forward(self, clips: Tensor) -> Tensor:
        fast = normalise(clips, _MEAN, _STD, dtype=next(self.parameters()).dtype)
        for level in self.blocks:
            fast = level.multipathway_blocks[_FAST](fast)
        return fast.mean((2, 3, 4))


NOT_IN_FAST_PATHWAY = (
    "blocks.*.multipathway_blocks.0.*",
    "blocks.*.multipathway_fusion.*",
    "blocks.6.*",
)
"""Published tensors that the fast pathway does not use."""
