"""Bottleneck blocks whose middle is attention over a square map, with learned offsets along rows and columns.

Srinivas et al., "Bottleneck Transformers for Visual Recognition", CVPR 2021; names as in RQ-VQA's checkpoints.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class BotConfig:
    """Sizes; the defaults are those of RQ-VQA. Queries, keys and values of a head are `head` wide."""

    width: int = 1024
    inner: int = 256
    heads: int = 4
    head: int = 128
    side: int = 12
    depth: int = 3


class BotStack(nn.Module):
    """Maps (pictures, width, side, side) -> the same; holds the name `net`."""

    def __init__(self, config: BotConfig) -> None:
        super().__init__()
        self.net = nn.Sequential(*(BotBlock(config) for _ in range(config.depth)))

    def forward(self, maps: Tensor) -> Tensor:
        return self.net(maps)


class BotBlock(nn.Module):
    """Narrow, look around, widen; added to the input."""

    def __init__(self, config: BotConfig) -> None:
        super().__init__()
        looked = config.heads * config.head
        self.net = nn.Sequential(
            nn.Conv2d(config.width, config.inner, 1, bias=False),
            nn.BatchNorm2d(config.inner),
            nn.ReLU(),
            MapAttention(config),
            # where a stride would be
            nn.Identity(),
            nn.BatchNorm2d(looked),
            nn.ReLU(),
            nn.Conv2d(looked, config.width, 1, bias=False),
            nn.BatchNorm2d(config.width),
        )
        # a new block starts as one that adds nothing
        nn.init.zeros_(self.net[8].weight)

    def forward(self, maps: Tensor) -> Tensor:
        return torch.relu(maps + self.net(maps))


class MapAttention(nn.Module):
    """Maps (pictures, inner, side, side), each place looking at every other -> (pictures, heads * head, side, side)."""

    def __init__(self, config: BotConfig) -> None:
        super().__init__()
        looked = config.heads * config.head
        self._heads, self._scale = config.heads, config.head**-0.5
        self.to_qk = nn.Conv2d(config.inner, 2 * looked, 1, bias=False)
        self.to_v = nn.Conv2d(config.inner, looked, 1, bias=False)
        self.pos_emb = Offsets(config)

    def forward(self, maps: Tensor) -> Tensor:
        query, key = (self._split(part) for part in self.to_qk(maps).chunk(2, dim=1))
        value = self._split(self.to_v(maps))
        query = query * self._scale
        scores = query @ key.transpose(-2, -1) + self.pos_emb(query)
        mixed = scores.softmax(dim=-1) @ value
        return mixed.transpose(2, 3).flatten(1, 2).unflatten(-1, maps.shape[2:])

    def _split(self, part: Tensor) -> Tensor:
        """(pictures, heads * head, side, side) -> (pictures, heads, places, head)."""
        return part.flatten(2).unflatten(1, (self._heads, -1)).transpose(2, 3)


class Offsets(nn.Module):
    """What a query says of how far a place lies below and to the right of it, one table for all heads each."""

    steps: Tensor

    def __init__(self, config: BotConfig) -> None:
        super().__init__()
        side = config.side
        self.rel_height = nn.Parameter(torch.randn(2 * side - 1, config.head) * config.head**-0.5)
        self.rel_width = nn.Parameter(torch.randn(2 * side - 1, config.head) * config.head**-0.5)
        line = torch.arange(side)
        # the row of a table for each pair of query and key along one axis
        self.register_buffer("steps", (line[None, :] - line[:, None] + side - 1).flatten(), persistent=False)
        self._side = side

    def forward(self, query: Tensor) -> Tensor:
        """Scaled queries (pictures, heads, places, head) -> (pictures, heads, places, places)."""
        side = self._side
        placed = query.unflatten(2, (side, side))
        down = placed @ self._spread(self.rel_height)
        across = (placed.transpose(2, 3) @ self._spread(self.rel_width)).transpose(2, 3)
        return (down[..., :, None] + across[..., None, :]).flatten(4, 5).flatten(2, 3)

    def _spread(self, table: Tensor) -> Tensor:
        """(side of queries, head, side of keys)."""
        rows = table.index_select(0, self.steps).unflatten(0, (self._side, self._side))
        return rows.transpose(1, 2)
