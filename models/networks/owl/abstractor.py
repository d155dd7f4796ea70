"""The visual abstractor of mPLUG-Owl2: learned queries that summarise a picture in 65 tokens; names as published."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.networks.owl.vision import LayerStack


@dataclass(frozen=True, slots=True, kw_only=True)
class AbstractorConfig:
    """Sizes of the abstractor; the defaults are the published ones."""

    queries: int = 64
    width: int = 1024
    inner_width: int = 2816
    depth: int = 6
    heads: int = 16
    vision_width: int = 1024
    grid: int = 32
    # of the layer norm inside the MLP; the others have torch's 1e-5
    inner_eps: float = 1e-6


class Abstractor(nn.Module):
    """Vision tokens (batch, 1 + grid * grid, vision_width) -> (batch, queries + 1, out_width)."""

    def __init__(self, config: AbstractorConfig, out_width: int) -> None:
        super().__init__()
        self.query_embeds = nn.Parameter(torch.zeros(1, config.queries, config.width))
        self.vit_eos = nn.Parameter(torch.zeros(1, 1, out_width))
        self.encoder = LayerStack(_AbstractorLayer(config) for _ in range(config.depth))
        self.visual_fc = nn.Linear(config.width, out_width)

    def forward(self, vision: Tensor) -> Tensor:
        batch = vision.shape[0]
        queries = self.query_embeds.expand(batch, -1, -1)
        for layer in self.encoder.layers:
            queries = layer.crossattention(queries, vision)
        return torch.cat([self.visual_fc(queries), self.vit_eos.expand(batch, -1, -1)], dim=1)


class _AbstractorLayer(nn.Module):
    """Gives its block the published name `crossattention`."""

    def __init__(self, config: AbstractorConfig) -> None:
        super().__init__()
        self.crossattention = _AbstractorAttention(config)


class _AbstractorAttention(nn.Module):
    """Attention of the queries to themselves and to the vision tokens, with its output block."""

    def __init__(self, config: AbstractorConfig) -> None:
        super().__init__()
        self.attention = _MultiHeadAttention(config)
        self.norm1 = nn.LayerNorm(config.width)
        self.normk = nn.LayerNorm(config.vision_width)
        self.output = _CrossOutput(config)

    def forward(self, queries: Tensor, vision: Tensor) -> Tensor:
        # The residual is the normalised query, not the query: the published network was trained so.
        queries = self.norm1(queries)
        return self.output(queries, self.attention(queries, self.normk(vision)))


class _MultiHeadAttention(nn.Module):
    """Attention with position tables added to the inputs of queries and keys, not of values."""

    q_pos_embed: Tensor
    k_pos_embed: Tensor

    def __init__(self, config: AbstractorConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.query = nn.Linear(config.width, config.width)
        self.key = nn.Linear(config.vision_width, config.width)
        self.value = nn.Linear(config.vision_width, config.width)
        self.register_buffer("q_pos_embed", sine_position_table(config.width, config.queries))
        self.register_buffer("k_pos_embed", grid_position_table(config.width, config.grid))

    def forward(self, queries: Tensor, vision: Tensor) -> Tensor:
        batch, count, width = queries.shape
        keys_input = torch.cat([queries, vision], dim=1)
        positions = torch.cat([self.q_pos_embed, self.k_pos_embed], dim=0)
        query = self._split(self.query(queries + self.q_pos_embed))
        key, value = self._split(self.key(keys_input + positions)), self._split(self.value(keys_input))
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return mixed.transpose(1, 2).reshape(batch, count, width)

    def _split(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(2, (self.heads, -1)).transpose(1, 2)


class _CrossOutput(nn.Module):
    """Residual connections around the attention's projection and an MLP."""

    def __init__(self, config: AbstractorConfig) -> None:
        super().__init__()
        self.out_proj = nn.Linear(config.width, config.width)
        self.norm2 = nn.LayerNorm(config.width)
        self.mlp = _Mlp(config)

    def forward(self, queries: Tensor, attended: Tensor) -> Tensor:
        tokens = queries + self.out_proj(attended)
        return tokens + self.mlp(self.norm2(tokens))


class _Mlp(nn.Module):
    """SwiGLU with a layer norm before the last linear layer."""

    def __init__(self, config: AbstractorConfig) -> None:
        super().__init__()
        self.w1 = nn.Linear(config.width, config.inner_width)
        self.w2 = nn.Linear(config.inner_width, config.width)
        self.w3 = nn.Linear(config.width, config.inner_width)
        self.ffn_ln = nn.LayerNorm(config.inner_width, eps=config.inner_eps)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.w2(self.ffn_ln(functional.silu(self.w1(tokens)) * self.w3(tokens)))


def sine_position_table(width: int, positions: int | Tensor) -> Tensor:
    """Sines, then cosines of positions (count, width); frequencies 10000 ** (-2 k / width)."""
    values = torch.arange(positions, dtype=torch.float64) if isinstance(positions, int) else positions.to(torch.float64)
    frequencies = 10000.0 ** (-torch.arange(width // 2, dtype=torch.float64) / (width / 2))
    angles = values[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()


def grid_position_table(width: int, grid: int) -> Tensor:
    """(1 + grid * grid, width): zeros for the class token, then column | row of each patch, row by row."""
    line = sine_position_table(width // 2, grid)
    columns, rows = line.repeat(grid, 1), line.repeat_interleave(grid, dim=0)
    return torch.cat([torch.zeros(1, width), torch.cat([columns, rows], dim=1)], dim=0)
