"""Bottleneck transformer blocks: residual blocks with self-attention over a square map and relative positions.

Srinivas et al., "Bottleneck Transformers for Visual Recognition", CVPR 2021; parameter names as in RQ-VQA's
checkpoints.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class BottleneckConfig:
    """Sizes; the defaults are those of RQ-VQA. `head` is the width of a head's queries, keys and values."""

    width: int = 1024
    inner: int = 256
    heads: int = 4
    head: int = 128
    side: int = 12
    depth: int = 3


class BottleneckStack(nn.Module):
    """Maps (pictures, width, side, side) -> maps of the same shape."""

    def __init__(self, config: BottleneckConfig) -> None:
        super().__init__()
        self.net = nn.Sequential(*(_BottleneckBlock(config) for _ in range(config.depth)))

    def forward(self, maps: Tensor) -> Tensor:
        return self.net(maps)


class _BottleneckBlock(nn.Module):
    """1 x 1 convolution to fewer channels, self-attention, 1 x 1 convolution back, added to the input."""

    def __init__(self, config: BottleneckConfig) -> None:
        super().__init__()
        attention_width = config.heads * config.head
        self.net = nn.Sequential(
            nn.Conv2d(config.width, config.inner, 1, bias=False),
            nn.BatchNorm2d(config.inner),
            nn.ReLU(),
            MapAttention(config),
            # position of a strided pooling in other variants
            nn.Identity(),
            nn.BatchNorm2d(attention_width),
            nn.ReLU(),
            nn.Conv2d(attention_width, config.width, 1, bias=False),
            nn.BatchNorm2d(config.width),
        )
        # a new block adds nothing
        nn.init.zeros_(self.net[8].weight)

    def forward(self, maps: Tensor) -> Tensor:
        return torch.relu(maps + self.net(maps))


class MapAttention(nn.Module):
    """Self-attention over the cells of maps (pictures, inner, side, side) -> (pictures, heads * head, side, side)."""

    def __init__(self, config: BottleneckConfig) -> None:
        super().__init__()
        attention_width = config.heads * config.head
        self._heads, self._scale = config.heads, config.head**-0.5
        self.to_qk = nn.Conv2d(config.inner, 2 * attention_width, 1, bias=False)
        self.to_v = nn.Conv2d(config.inner, attention_width, 1, bias=False)
        self.pos_emb = RelativePositionLogits(config)

    def forward(self, maps: Tensor) -> Tensor:
        query, key = (self._split(part) for part in self.to_qk(maps).chunk(2, dim=1))
        value = self._split(self.to_v(maps))
        query = query * self._scale
        scores = query @ key.transpose(-2, -1) + self.pos_emb(query)
        mixed = scores.softmax(dim=-1) @ value
        return mixed.transpose(2, 3).flatten(1, 2).unflatten(-1, maps.shape[2:])

    def _split(self, part: Tensor) -> Tensor:
        """(pictures, heads * head, side, side) -> (pictures, heads, cells, head)."""
        return part.flatten(2).unflatten(1, (self._heads, -1)).transpose(2, 3)


class RelativePositionLogits(nn.Module):
    """Attention logits of the relative row and column of query and key; the tables are shared by all heads."""

    steps: Tensor

    def __init__(self, config: BottleneckConfig) -> None:
        super().__init__()
        side = config.side
        self.rel_height = nn.Parameter(torch.randn(2 * side - 1, config.head) * config.head**-0.5)
        self.rel_width = nn.Parameter(torch.randn(2 * side - 1, config.head) * config.head**-0.5)
        positions = torch.arange(side)
        # the table row for each pair of query and key along one axis
        self.register_buffer("steps", (positions[None, :] - positions[:, None] + side - 1).flatten(), persistent=False)
        self._side = side

    def forward(self, query: Tensor) -> Tensor:
        """Scaled queries (pictures, heads, cells, head) -> logits (pictures, heads, cells, cells)."""
        side = self._side
        query_map = query.unflatten(2, (side, side))
        row_logits = query_map @ self._gather_rows(self.rel_height)
        column_logits = (query_map.transpose(2, 3) @ self._gather_rows(self.rel_width)).transpose(2, 3)
        return (row_logits[..., :, None] + column_logits[..., None, :]).flatten(4, 5).flatten(2, 3)

    def _gather_rows(self, table: Tensor) -> Tensor:
        """The table's rows for each pair of query and key along one axis: (side of queries, head, side of keys)."""
        rows = table.index_select(0, self.steps).unflatten(0, (self._side, self._side))
        return rows.transpose(1, 2)
