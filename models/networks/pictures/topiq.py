"""TOPIQ without a reference: attention from the semantic map of a ResNet down to its finer ones.

Chen et al., "TOPIQ: A Top-Down Approach From Semantics to Distortions for Image Quality Assessment", IEEE TIP 33, 2024.
Parameter names as in IQA-PyTorch, whose class is called CFANet.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.networks.backbones.resnet import RESNET_50, STAGE_CHANNELS, ResNetStages
from models.networks.pictures.attention import attend

IGNORED_TENSORS = ("attn_blks.*.self_attn.*",)
"""Tensors of published files that the published code holds and does not use."""
_POSITIONS, _GATE_CHANNELS = 32, 64


@dataclass(frozen=True, slots=True, kw_only=True)
class TopiqConfig:
    """Sizes; the defaults are those of the files with a ResNet-50 for quality."""

    depths: tuple[int, ...] = RESNET_50
    width: int = 256
    heads: int = 4


class Topiq(nn.Module):
    """Normalised pictures (pictures, 3, height, width), sides multiples of 32 px -> scores (pictures)."""

    def __init__(self, config: TopiqConfig) -> None:
        super().__init__()
        width, heads = config.width, config.heads
        self.semantic_model = ResNetStages(config.depths)
        self.weight_pool = nn.ModuleList(_GatedConvolution(channels) for channels in STAGE_CHANNELS)
        self.dim_reduce = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, width, 1), nn.GELU()) for channels in STAGE_CHANNELS
        )
        self.sa_attn_blks = nn.ModuleList(_layers(_SelfAttentionLayer(width, heads)) for _ in STAGE_CHANNELS)
        self.attn_blks = nn.ModuleList(_layers(_CrossAttentionLayer(width, heads)) for _ in STAGE_CHANNELS[1:])
        self.attn_pool = _SelfAttentionLayer(width, heads)
        self.score_linear = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(),
            nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(),
            nn.Linear(width, 1),
        )  # fmt: skip
        self.h_emb = nn.Parameter(torch.zeros(1, width // 2, _POSITIONS, 1))
        self.w_emb = nn.Parameter(torch.zeros(1, width // 2, 1, _POSITIONS))

    def forward(self, pixels: Tensor) -> Tensor:
        maps = self.semantic_model(pixels)
        cells = maps[-1].shape[2:]
        grid = (1, -1, _POSITIONS, _POSITIONS)
        positions = torch.cat([self.h_emb.expand(*grid), self.w_emb.expand(*grid)], dim=1)
        positions = nn.functional.interpolate(positions, cells, mode="bicubic").flatten(2).transpose(1, 2)
        levels = []
        for level, each in enumerate(maps):
            gated = self.weight_pool[level](each)
            pooled = nn.functional.avg_pool2d(gated, each.shape[2] // cells[0])
            tokens = self.dim_reduce[level](pooled).flatten(2).transpose(1, 2)
            levels.append(self.sa_attn_blks[level]["layers"][0](tokens + positions))
        query = levels[-1]
        for step, finer in enumerate(reversed(levels[:-1])):
            query = self.attn_blks[step]["layers"][0](query, finer)
        return self.score_linear(self.attn_pool(query).mean(1))[:, 0]


def _layers(layer: nn.Module) -> nn.ModuleDict:
    """A stack of one layer, named as the published stacks are."""
    return nn.ModuleDict({"layers": nn.ModuleList([layer])})


class _GatedConvolution(nn.Module):
    """A map times a gate per cell, each from a half of a projection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.splitconv = nn.Conv2d(channels, 2 * channels, 1)
        self.weight_blk = nn.Sequential(
            nn.Conv2d(channels, _GATE_CHANNELS, 1), nn.GELU(),
            nn.Conv2d(_GATE_CHANNELS, _GATE_CHANNELS, 3, padding=1), nn.GELU(),
            nn.Conv2d(_GATE_CHANNELS, 1, 3, padding=1), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, maps: Tensor) -> Tensor:
        values, gates = self.splitconv(maps).chunk(2, dim=1)
        return nn.functional.gelu(values) * self.weight_blk(gates)


class _Attention(nn.Module):
    """Attention with one matrix for queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.zeros(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        self._heads = heads

    def forward(self, tokens: Tensor, memory: Tensor) -> Tensor:
        projections = zip(
            self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3), (tokens, memory, memory), strict=True
        )
        query, key, value = (nn.functional.linear(each, weight, bias) for weight, bias, each in projections)
        return self.out_proj(attend(query, key, value, heads=self._heads))


class _SelfAttentionLayer(nn.Module):
    """Pre-norm self-attention and MLP, each with a residual connection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.self_attn = _Attention(width, heads)
        self.linear1, self.linear2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        normed = self.norm1(tokens)
        tokens = tokens + self.self_attn(normed, normed)
        return tokens + self.linear2(nn.functional.gelu(self.linear1(self.norm2(tokens))))


class _CrossAttentionLayer(nn.Module):
    """Pre-norm attention to another level's tokens and MLP, each with a residual connection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.multihead_attn = _Attention(width, heads)
        self.linear1, self.linear2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def forward(self, tokens: Tensor, memory: Tensor) -> Tensor:
        tokens = tokens + self.multihead_attn(self.norm1(tokens), self.norm2(memory))
        return tokens + self.linear2(nn.functional.gelu(self.linear1(self.norm3(tokens))))
