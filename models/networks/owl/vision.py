"""The vision tower of mPLUG-Owl2: a ViT that returns all its tokens; parameter names as published."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionConfig:
    """Sizes of the tower; the defaults are the published ones."""

    width: int = 1024
    inner_width: int = 4096
    depth: int = 24
    heads: int = 16
    image: int = 448
    patch: int = 14
    eps: float = 1e-6

    @property
    def tokens(self) -> int:
        """One token per patch, and the class token."""
        return (self.image // self.patch) ** 2 + 1


class VisionTower(nn.Module):
    """Normalised pictures (batch, 3, image, image) -> tokens (batch, tokens, width)."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.embeddings = _PatchEmbeddings(config)
        self.encoder = LayerStack(_VisionBlock(config) for _ in range(config.depth))
        self.post_layernorm = nn.LayerNorm(config.width, eps=config.eps)

    def forward(self, pixels: Tensor) -> Tensor:
        tokens = self.embeddings(pixels)
        for layer in self.encoder.layers:
            tokens = layer(tokens)
        # The abstractor takes all tokens; the published pooled output has no user.
        return self.post_layernorm(tokens)


class LayerStack(nn.Module):
    """Gives its modules the published name `layers`."""

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)


class _PatchEmbeddings(nn.Module):
    """The class token and the patches row by row, with position embeddings."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.patch_embed = nn.Conv2d(3, config.width, config.patch, stride=config.patch, bias=False)
        self.position_embedding = nn.Parameter(torch.zeros(1, config.tokens, config.width))
        self.pre_layernorm = nn.LayerNorm(config.width, eps=config.eps)

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.patch_embed(pixels).flatten(2).transpose(1, 2)
        class_token = self.cls_token.expand(pixels.shape[0], -1, -1)
        return self.pre_layernorm(torch.cat([class_token, patches], dim=1) + self.position_embedding)


class _VisionBlock(nn.Module):
    """Pre-norm self-attention and MLP, each with a residual connection."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.input_layernorm = nn.LayerNorm(config.width, eps=config.eps)
        self.self_attn = _VisionAttention(config)
        self.post_attention_layernorm = nn.LayerNorm(config.width, eps=config.eps)
        self.mlp = _Mlp(config)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.self_attn(self.input_layernorm(tokens))
        return tokens + self.mlp(self.post_attention_layernorm(tokens))


class _VisionAttention(nn.Module):
    """Self-attention; the rows of `query_key_value` are grouped by head: q, k and v of a head, then the next head."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.query_key_value = nn.Linear(config.width, 3 * config.width)
        self.dense = nn.Linear(config.width, config.width)

    def forward(self, tokens: Tensor) -> Tensor:
        batch, count, width = tokens.shape
        fused = self.query_key_value(tokens).view(batch, count, self.heads, 3, width // self.heads)
        query, key, value = fused.permute(3, 0, 2, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.dense(mixed.transpose(1, 2).reshape(batch, count, width))


class _Mlp(nn.Module):
    """Two linear layers with CLIP's quick GELU."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.width, config.inner_width)
        self.fc2 = nn.Linear(config.inner_width, config.width)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.fc1(tokens)
        return self.fc2(hidden * torch.sigmoid(1.702 * hidden))
