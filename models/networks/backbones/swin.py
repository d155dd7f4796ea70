"""Swin transformers of pictures and of clips, the latter with gated position biases for fragments.

Liu et al., "Swin Transformer", ICCV 2021, and "Video Swin Transformer", CVPR 2022; gates: Wu et al., "FAST-VQA", ECCV
2022. Parameter names as published. A picture is a clip of one moment: the arithmetic is the same.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

GridSize = tuple[int, int, int]
"""(time, rows, columns)."""
_MASKED_LOGIT = -100.0
"""Added to the attention logit of tokens that only the cyclic shift brought together, as published."""


class WindowPartition(nn.Module):
    """Partitions one grid of tokens into windows, and holds the constants of the position biases.

    `index` (tokens * tokens): the row of a bias table for each pair of a window's tokens. `gates` (windows of a plane,
    tokens, tokens) uint8: the distance of two tokens' fragments, in rows plus columns, measured on the shifted grid.
    `regions` (windows, tokens) uint8: tokens of different regions never attend to one another. An axis that one window
    spans is not shifted. Where windows do not fill the grid in time, moments of zeros are appended to it; as published,
    the others attend to them.
    """

    index: Tensor
    gates: Tensor
    regions: Tensor

    def __init__(self, grid: GridSize, window: GridSize, *, shifted: bool, gated: bool) -> None:
        super().__init__()
        pairs = list(zip(grid, window, strict=True))
        if grid[0] < window[0] or any(size % window_size for size, window_size in pairs[1:]):
            raise ValueError(f"windows of {window} do not fill a grid of {grid} tokens")
        self.window = window
        # with the moments that are appended
        self.grid: GridSize = (grid[0] + -grid[0] % window[0], *grid[1:])
        self._moments = grid[0]
        self.shift = tuple(window_size // 2 if shifted and size > window_size else 0 for size, window_size in pairs)
        self.is_shifted = any(self.shift)
        self.register_buffer("index", relative_position_index(window).flatten(), persistent=False)
        if gated:
            self.register_buffer("gates", self._make_gates(), persistent=False)
        if self.is_shifted:
            self.register_buffer("regions", self._make_regions(), persistent=False)

    def partition(self, tokens: Tensor) -> Tensor:
        """Tokens (clips, time, rows, columns, width) -> windows (clips, windows, tokens, width)."""
        if self._moments < self.grid[0]:
            tokens = nn.functional.pad(tokens, (0, 0, 0, 0, 0, 0, 0, self.grid[0] - self._moments))
        if self.is_shifted:
            tokens = tokens.roll([-steps for steps in self.shift], (1, 2, 3))
        return _partition_windows(tokens, self.grid, self.window)

    def reverse(self, windows: Tensor) -> Tensor:
        """The inverse of `partition`."""
        (t, r, c), (a, b, d) = self._counts(), self.window
        parts = windows.reshape(-1, t, r, c, a, b, d, windows.shape[-1])
        tokens = parts.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(-1, *self.grid, windows.shape[-1])
        tokens = tokens.roll(self.shift, (1, 2, 3)) if self.is_shifted else tokens
        return tokens[:, : self._moments] if self._moments < self.grid[0] else tokens

    def gather_bias(self, table: Tensor) -> Tensor:
        """A bias table (offsets, heads) for every pair of a window's tokens (1, heads, tokens, tokens)."""
        token_count = self.window[0] * self.window[1] * self.window[2]
        return table.index_select(0, self.index).view(1, token_count, token_count, -1).permute(0, 3, 1, 2)

    def add_bias(self, logits: Tensor, bias: Tensor) -> Tensor:
        """Attention logits (clips, windows, heads, tokens, tokens) plus the bias, with pairs of different regions
        masked."""
        _, windows, heads, token_count, _ = logits.shape
        logits = logits.reshape(-1, bias.shape[0], heads, token_count, token_count) + bias
        logits = logits.reshape(-1, windows, heads, token_count, token_count)
        if not self.is_shifted:
            return logits
        is_masked = (self.regions[:, :, None] != self.regions[:, None, :])[:, None]
        return logits + is_masked.to(logits.dtype) * _MASKED_LOGIT

    def _counts(self) -> GridSize:
        t, r, c = (size // window_size for size, window_size in zip(self.grid, self.window, strict=True))
        return t, r, c

    def _make_gates(self) -> Tensor:
        # There are as many fragments along an axis as tokens along a window's axis.
        fragment_positions = torch.cartesian_prod(
            *(
                torch.arange(tokens_along) * fragments_along // tokens_along
                for tokens_along, fragments_along in zip(self.grid[1:], self.window[1:], strict=True)
            )
        )
        plane = fragment_positions.view(1, 1, *self.grid[1:], 2).expand(1, *self.grid, 2)
        tokens = _partition_windows(plane.roll([-steps for steps in self.shift], (1, 2, 3)), self.grid, self.window)[0]
        tokens = tokens[: tokens.shape[0] // self._counts()[0]]
        return (tokens[:, :, None] - tokens[:, None, :]).abs().sum(-1).to(torch.uint8)

    def _make_regions(self) -> Tensor:
        labels = torch.zeros(1, *self.grid, 1, dtype=torch.uint8)
        for axis, (size, window_size, steps) in enumerate(zip(self.grid, self.window, self.shift, strict=True)):
            # the last window holds its own tokens, then those that the cyclic shift moved there
            region = (torch.arange(size) >= size - window_size).byte() + (
                torch.arange(size) >= size - steps
            ).byte() * bool(steps)
            labels = labels * 3 + region.view([-1 if each == axis + 1 else 1 for each in range(5)])
        return _partition_windows(labels, self.grid, self.window)[0, :, :, 0]


def relative_position_index(window: GridSize) -> Tensor:
    """(tokens, tokens): the row of a bias table for each pair of a window's tokens; time varies slowest."""
    positions = torch.cartesian_prod(*(torch.arange(axis_size) for axis_size in window)).view(-1, 3)
    differences = positions[:, None] - positions[None, :] + torch.tensor(window) - 1
    _, rows, columns = (2 * axis_size - 1 for axis_size in window)
    return (differences[..., 0] * rows + differences[..., 1]) * columns + differences[..., 2]


def split_heads(fused: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """(..., tokens, 3 * width) -> query, key and value, each (..., heads, tokens, width / heads)."""
    *_, width = fused.shape
    stacked = fused.unflatten(-1, (3, heads, width // 3 // heads)).movedim(-3, 0).transpose(-3, -2)
    query, key, value = stacked.unbind(0)
    return query, key, value


def _partition_windows(tokens: Tensor, grid: GridSize, window: GridSize) -> Tensor:
    (t, r, c), (a, b, d) = (whole // part for whole, part in zip(grid, window, strict=True)), window
    parts = tokens.reshape(-1, t, a, r, b, c, d, tokens.shape[-1])
    return parts.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(-1, t * r * c, a * b * d, tokens.shape[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class SwinConfig:
    """Sizes; axes are (time, rows, columns). The defaults are those of FAST-VQA-B: 32 frames of 224 x 224."""

    frames: int = 32
    side: int = 224
    # pixels per token
    patch: GridSize = (2, 4, 4)
    width: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    heads: tuple[int, ...] = (3, 6, 12, 24)
    window: GridSize = (8, 7, 7)
    # number of stages, from the first, with gated biases; 0 for whole pictures
    gated_stages: int = 3

    @property
    def features(self) -> int:
        """Width of the last stage."""
        return int(self.width * 2 ** (len(self.depths) - 1))

    def grid(self, stage: int) -> GridSize:
        """Tokens along each axis in a stage."""
        side = self.side // self.patch[1] // 2**stage
        return (self.frames // self.patch[0], side, side)


def swin_b_384() -> SwinConfig:
    """Swin-B on whole pictures of 384 x 384."""
    return SwinConfig(
        frames=1, side=384, patch=(1, 4, 4), width=128, depths=(2, 2, 18, 2), heads=(4, 8, 16, 32), window=(1, 12, 12),
        gated_stages=0,
    )  # fmt: skip


RECOMPUTED_TENSORS = ("*relative_position_index", "*attn_mask")
"""Tensors of published files that are computed from the sizes."""


class Swin(nn.Module):
    """Normalised clips (clips, 3, frames, side, side), or pictures (pictures, 3, side, side) when `frames` is 1 ->
    tokens (clips, time, rows, columns, features) after the last norm."""

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = _PatchEmbed(config)
        last_stage = len(config.depths) - 1
        self.layers = nn.ModuleList(
            _SwinStage(config, stage, merges_patches=stage < last_stage) for stage in range(len(config.depths))
        )
        self.norm = nn.LayerNorm(config.features)

    def forward(self, pixels: Tensor) -> Tensor:
        tokens = self.patch_embed(pixels)
        for layer in self.layers:
            tokens = layer(tokens)
        return self.norm(tokens)


class _PatchEmbed(nn.Module):
    """One token per patch."""

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        is_picture = config.frames == 1
        kernel = config.patch[1:] if is_picture else config.patch
        self.proj = (nn.Conv2d if is_picture else nn.Conv3d)(3, config.width, kernel, stride=kernel)  # type: ignore[operator]
        self.norm = nn.LayerNorm(config.width)

    def forward(self, pixels: Tensor) -> Tensor:
        tokens = self.proj(pixels)
        if tokens.dim() == 4:
            tokens = tokens.unsqueeze(2)
        return self.norm(tokens.permute(0, 2, 3, 4, 1))


class _SwinStage(nn.Module):
    """Blocks on one grid, every other one on shifted windows; then patch merging, except in the last stage."""

    def __init__(self, config: SwinConfig, stage: int, *, merges_patches: bool) -> None:
        super().__init__()
        width, gated = config.width * 2**stage, stage < config.gated_stages
        partitions = [
            WindowPartition(config.grid(stage), config.window, shifted=shifted, gated=gated)
            for shifted in (False, True)
        ]
        self.places = nn.ModuleList(partitions[: config.depths[stage]])
        self.blocks = nn.ModuleList(
            SwinBlock(width, config.heads[stage], config.window, hidden=4 * width, gated=gated)
            for _ in range(config.depths[stage])
        )
        if merges_patches:
            self.downsample = _PatchMerging(width)
        self._merges_patches = merges_patches

    def forward(self, tokens: Tensor) -> Tensor:
        for index, block in enumerate(self.blocks):
            tokens = block(tokens, self.places[index % 2])
        return self.downsample(tokens) if self._merges_patches else tokens


class _PatchMerging(nn.Module):
    """Four neighbouring tokens, ordered down before across, become one of twice the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)
        self.norm = nn.LayerNorm(4 * width)

    def forward(self, tokens: Tensor) -> Tensor:
        neighbours = [tokens[:, :, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(neighbours, dim=-1)))


class SwinBlock(nn.Module):
    """Pre-norm window attention and an MLP of `hidden` units, each with a residual connection.

    Tokens (clips, time, rows, columns, width) and the windows that they are parted into -> tokens of the same shape.
    """

    def __init__(self, width: int, heads: int, window: GridSize, *, hidden: int, gated: bool = False) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = _WindowAttention(width, heads, window, gated=gated)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = _Mlp(width, hidden)

    def forward(self, tokens: Tensor, partition: WindowPartition) -> Tensor:
        windows = partition.partition(self.norm1(tokens))
        tokens = tokens + partition.reverse(self.attn(windows, partition))
        return tokens + self.mlp(self.norm2(tokens))


class _WindowAttention(nn.Module):
    """Self-attention within windows (clips, windows, tokens, width), with relative position biases."""

    def __init__(self, width: int, heads: int, window: GridSize, *, gated: bool) -> None:
        super().__init__()
        self.heads, self._gated = heads, gated
        offset_count = (2 * window[0] - 1) * (2 * window[1] - 1) * (2 * window[2] - 1)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(offset_count, heads))
        if gated:
            self.fragment_position_bias_table = nn.Parameter(torch.zeros(offset_count, heads))
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, windows: Tensor, partition: WindowPartition) -> Tensor:
        query, key, value = split_heads(self.qkv(windows), self.heads)
        logits = (query * (query.shape[-1] ** -0.5)) @ key.transpose(-2, -1)
        logits = partition.add_bias(logits, self.bias(partition))
        mixed = logits.softmax(dim=-1) @ value
        return self.proj(mixed.transpose(2, 3).flatten(3))

    def bias(self, partition: WindowPartition) -> Tensor:
        """Position bias (windows in a plane or 1, heads, tokens, tokens).

        Gated: the fragment table for tokens of one fragment, the relative position table for neighbouring fragments,
        and linear extrapolation through both beyond.
        """
        position_bias = partition.gather_bias(self.relative_position_bias_table)
        if not self._gated:
            return position_bias
        fragment_bias = partition.gather_bias(self.fragment_position_bias_table)
        return fragment_bias + partition.gates[:, None].to(fragment_bias.dtype) * (position_bias - fragment_bias)


class _Mlp(nn.Module):
    """Two linear layers with GELU."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc2(nn.functional.gelu(self.fc1(tokens)))
