"""MANIQA: features of a vision transformer, with attention over channels and over windows, scored patch by patch.

Yang et al., "MANIQA: Multi-dimension Attention Network for No-Reference Image Quality Assessment", CVPR Workshops 2022.
Parameter names as published.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.networks.backbones.pixels import RgbTriple
from models.networks.backbones.swin import GridSize, SwinBlock, WindowPartition, split_heads
from models.networks.pictures.attention import attend

MEAN: RgbTriple = (0.5, 0.5, 0.5)
STD: RgbTriple = (0.5, 0.5, 0.5)
IGNORED_TENSORS = (
    "vit.blocks.10.*", "vit.blocks.11.*", "vit.norm.*", "vit.head.*", "swintransformer*.downsample.*",
    "*relative_position_index", "*attn_mask",
)  # fmt: skip
"""Tensors of published files that have no effect on the score, or follow from the sizes."""
_FEATURE_BLOCKS = (6, 7, 8, 9)
_WINDOW: GridSize = (1, 4, 4)
_BLOCKS_PER_STAGE, _STAGES, _CHANNEL_BLOCKS = 2, 2, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ManiqaConfig:
    """Sizes; the defaults are the published ones. `scale` weights the window attention: 0.8 in the files trained on
    KonIQ-10k and KADID-10k."""

    side: int = 224
    patch: int = 8
    width: int = 768
    vit_heads: int = 12
    heads: int = 4
    hidden: int = 768
    scale: float = 0.8

    @property
    def cells(self) -> int:
        """Patches along a side."""
        return self.side // self.patch


class Maniqa(nn.Module):
    """Crops (crops, 3, side, side) of -1..1 -> scores (crops)."""

    def __init__(self, config: ManiqaConfig) -> None:
        super().__init__()
        width, tokens = config.width, config.cells**2
        self.vit = _VisionTransformer(config)
        self.tablock1 = nn.ModuleList(_ChannelAttention(tokens) for _ in range(_CHANNEL_BLOCKS))
        self.conv1 = nn.Conv2d(len(_FEATURE_BLOCKS) * width, width, 1)
        self.swintransformer1 = _WindowStages(width, config)
        self.tablock2 = nn.ModuleList(_ChannelAttention(tokens) for _ in range(_CHANNEL_BLOCKS))
        self.conv2 = nn.Conv2d(width, width // 2, 1)
        self.swintransformer2 = _WindowStages(width // 2, config)
        self.fc_score = _patch_head(width // 2, nn.ReLU())
        self.fc_weight = _patch_head(width // 2, nn.Sigmoid())
        self._cells = config.cells

    def forward(self, pixels: Tensor) -> Tensor:
        channels = self.vit(pixels).transpose(1, 2)
        for attention, convolution, stages in (
            (self.tablock1, self.conv1, self.swintransformer1),
            (self.tablock2, self.conv2, self.swintransformer2),
        ):
            for block in attention:
                channels = block(channels)
            channels = stages(convolution(channels.unflatten(2, (self._cells, self._cells)))).flatten(2)
        tokens = channels.transpose(1, 2)
        scores, weights = self.fc_score(tokens)[..., 0], self.fc_weight(tokens)[..., 0]
        return (scores * weights).sum(1) / weights.sum(1)


def _patch_head(width: int, last: nn.Module) -> nn.Sequential:
    # the published dropout is the third module
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Identity(), nn.Linear(width, 1), last)


class _ChannelAttention(nn.Module):
    """Attention among channels (crops, channels, tokens), each a vector of its values at all tokens.

    As published, the result is transposed and then read in the order of the untransposed shape.
    """

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.c_q, self.c_k, self.c_v = (nn.Linear(tokens, tokens) for _ in range(3))

    def forward(self, channels: Tensor) -> Tensor:
        mixed = attend(self.c_q(channels), self.c_k(channels), self.c_v(channels), heads=1)
        return mixed.transpose(1, 2).flatten(1).unflatten(1, channels.shape[1:]) + channels


class _WindowStages(nn.Module):
    """Maps (crops, width, cells, cells) -> maps of the same shape: stages of window attention, scaled and added."""

    def __init__(self, width: int, config: ManiqaConfig) -> None:
        super().__init__()
        grid = (1, config.cells, config.cells)
        self.places = nn.ModuleList(
            WindowPartition(grid, _WINDOW, shifted=shifted, gated=False) for shifted in (False, True)
        )
        self.layers = nn.ModuleList(_WindowStage(width, config) for _ in range(_STAGES))
        self._scale = config.scale

    def forward(self, maps: Tensor) -> Tensor:
        for layer in self.layers:
            tokens = maps.permute(0, 2, 3, 1)[:, None]
            for block, partition in zip(layer.blocks, self.places, strict=True):
                tokens = block(tokens, partition)
            maps = self._scale * layer.conv(tokens[:, 0].permute(0, 3, 1, 2)).relu() + maps
        return maps


class _WindowStage(nn.Module):
    """Two blocks, the second on shifted windows, and a convolution."""

    def __init__(self, width: int, config: ManiqaConfig) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            SwinBlock(width, config.heads, _WINDOW, hidden=config.hidden) for _ in range(_BLOCKS_PER_STAGE)
        )


class _VisionTransformer(nn.Module):
    """Crops -> the outputs of four blocks side by side (crops, patches, 4 * width)."""

    def __init__(self, config: ManiqaConfig) -> None:
        super().__init__()
        width = config.width
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, config.cells**2 + 1, width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, config.patch, stride=config.patch)})
        self.blocks = nn.ModuleList(_VitBlock(width, config.vit_heads) for _ in range(_FEATURE_BLOCKS[-1] + 1))

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.patch_embed["proj"](pixels).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(patches.shape[0], 1, -1), patches], dim=1) + self.pos_embed
        features = []
        for index, block in enumerate(self.blocks):
            tokens = block(tokens)
            if index in _FEATURE_BLOCKS:
                features.append(tokens[:, 1:])
        return torch.cat(features, dim=2)


class _VitBlock(nn.Module):
    """Pre-norm self-attention and MLP, each with a residual connection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})
        self._heads = heads

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = split_heads(self.attn["qkv"](self.norm1(tokens)), self._heads)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.attn["proj"](mixed.transpose(1, 2).flatten(2))
        return tokens + self.mlp["fc2"](nn.functional.gelu(self.mlp["fc1"](self.norm2(tokens))))
