"""Swin transformers of pictures and of clips, the latter with biases gated by fragments; names as published.

Liu et al., "Swin Transformer", ICCV 2021, and "Video Swin Transformer", CVPR 2022; gates: Wu et al., "FAST-VQA",
ECCV 2022. A picture is a clip of one moment here: both are the same arithmetic.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

Axes = tuple[int, int, int]
"""(time, rows, columns)."""
_APART = -100.0
"""Added to the score of two tokens that the cyclic shift brought together, as published."""


class Places(nn.Module):
    """The constants of one grid of tokens under one division into windows.

    `index` (tokens * tokens): the row of a table of offsets for each pair of a window's tokens. `gates` (windows of
    a plane, tokens, tokens) uint8: how many fragments two tokens lie apart, rows and columns added up; on a shifted
    grid fragments that meet at its seam are far apart. `regions` (windows, tokens) uint8: tokens of different regions
    never look at one another. A shift along an axis that one window spans is none.
    """

    index: Tensor
    gates: Tensor
    regions: Tensor

    def __init__(self, grid: Axes, window: Axes, *, shifted: bool, gated: bool) -> None:
        super().__init__()
        if any(whole % part for whole, part in zip(grid, window, strict=True)):
            raise ValueError(f"windows of {window} do not fill a grid of {grid} tokens")
        self.grid, self.window = grid, window
        pairs = zip(grid, window, strict=True)
        self.shift = tuple(part // 2 if shifted and whole > part else 0 for whole, part in pairs)
        self.moved = any(self.shift)
        self.register_buffer("index", offsets(window).flatten(), persistent=False)
        if gated:
            self.register_buffer("gates", self._make_gates(), persistent=False)
        if self.moved:
            self.register_buffer("regions", self._make_regions(), persistent=False)

    def divide(self, tokens: Tensor) -> Tensor:
        """(clips, time, rows, columns, width) -> windows (clips, windows, tokens, width)."""
        if self.moved:
            tokens = tokens.roll([-by for by in self.shift], (1, 2, 3))
        return _divide(tokens, self.grid, self.window)

    def join(self, windows: Tensor) -> Tensor:
        """What `divide` took apart."""
        (t, r, c), (a, b, d) = self._counts(), self.window
        parts = windows.reshape(-1, t, r, c, a, b, d, windows.shape[-1])
        tokens = parts.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(-1, *self.grid, windows.shape[-1])
        return tokens.roll(self.shift, (1, 2, 3)) if self.moved else tokens

    def spread(self, table: Tensor) -> Tensor:
        """Rows of a table of offsets (offsets, heads) for every pair (1, heads, tokens, tokens)."""
        size = self.window[0] * self.window[1] * self.window[2]
        return table.index_select(0, self.index).view(1, size, size, -1).permute(0, 3, 1, 2)

    def add(self, scores: Tensor, bias: Tensor) -> Tensor:
        """Scores (clips, windows, heads, tokens, tokens) with the bias of each plane's windows, and regions apart."""
        _, windows, heads, size, _ = scores.shape
        scores = scores.reshape(-1, bias.shape[0], heads, size, size) + bias
        scores = scores.reshape(-1, windows, heads, size, size)
        if not self.moved:
            return scores
        apart = (self.regions[:, :, None] != self.regions[:, None, :])[:, None]
        return scores + apart.to(scores.dtype) * _APART

    def _counts(self) -> Axes:
        t, r, c = (whole // part for whole, part in zip(self.grid, self.window, strict=True))
        return t, r, c

    def _make_gates(self) -> Tensor:
        # Each window's side is a fragment's count: as many fragments as tokens in a window, along rows and columns.
        places = torch.cartesian_prod(
            *(torch.arange(size) * count // size for size, count in zip(self.grid[1:], self.window[1:], strict=True))
        )
        plane = places.view(1, 1, *self.grid[1:], 2).expand(1, *self.grid, 2)
        tokens = _divide(plane.roll([-by for by in self.shift], (1, 2, 3)), self.grid, self.window)[0]
        tokens = tokens[: tokens.shape[0] // self._counts()[0]]
        return (tokens[:, :, None] - tokens[:, None, :]).abs().sum(-1).to(torch.uint8)

    def _make_regions(self) -> Tensor:
        labels = torch.zeros(1, *self.grid, 1, dtype=torch.uint8)
        for axis, (whole, part, by) in enumerate(zip(self.grid, self.window, self.shift, strict=True)):
            # the last window holds what was there, then what came round; without a shift there is one part fewer
            along = (torch.arange(whole) >= whole - part).byte() + (torch.arange(whole) >= whole - by).byte() * bool(by)
            labels = labels * 3 + along.view([-1 if each == axis + 1 else 1 for each in range(5)])
        return _divide(labels, self.grid, self.window)[0, :, :, 0]


def offsets(window: Axes) -> Tensor:
    """(tokens, tokens): the row of a table of offsets, time outermost, that belongs to each pair of a window."""
    places = torch.cartesian_prod(*(torch.arange(size) for size in window)).view(-1, 3)
    apart = places[:, None] - places[None, :] + torch.tensor(window) - 1
    _, rows, columns = (2 * size - 1 for size in window)
    return (apart[..., 0] * rows + apart[..., 1]) * columns + apart[..., 2]


def heads_of(fused: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """(..., tokens, 3 * width) -> query, key and value, each (..., heads, tokens, width of a head)."""
    *_, width = fused.shape
    parts = fused.unflatten(-1, (3, heads, width // 3 // heads)).movedim(-3, 0).transpose(-3, -2)
    query, key, value = parts.unbind(0)
    return query, key, value


def _divide(tokens: Tensor, grid: Axes, window: Axes) -> Tensor:
    (t, r, c), (a, b, d) = (whole // part for whole, part in zip(grid, window, strict=True)), window
    parts = tokens.reshape(-1, t, a, r, b, c, d, tokens.shape[-1])
    return parts.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(-1, t * r * c, a * b * d, tokens.shape[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class SwinConfig:
    """Sizes; axes are (time, rows, columns). The defaults are those of FAST-VQA-B, 32 frames of 224 x 224."""

    frames: int = 32
    side: int = 224
    # pixels per token
    patch: Axes = (2, 4, 4)
    width: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    heads: tuple[int, ...] = (3, 6, 12, 24)
    window: Axes = (8, 7, 7)
    # how many stages, from the first, tell fragments apart; 0 for whole pictures
    gated_stages: int = 3

    @property
    def features(self) -> int:
        """Width of the last stage."""
        return int(self.width * 2 ** (len(self.depths) - 1))

    def grid(self, stage: int) -> Axes:
        """Tokens along each axis in a stage."""
        side = self.side // self.patch[1] // 2**stage
        return (self.frames // self.patch[0], side, side)


def swin_b_384() -> SwinConfig:
    """Swin-B on whole pictures of 384 x 384."""
    return SwinConfig(
        frames=1, side=384, patch=(1, 4, 4), width=128, depths=(2, 2, 18, 2), heads=(4, 8, 16, 32), window=(1, 12, 12),
        gated_stages=0,
    )  # fmt: skip


RECOMPUTED = ("*relative_position_index", "*attn_mask")
"""Tables in published files that follow from the sizes."""


class Swin(nn.Module):
    """Normalised clips (clips, 3, frames, side, side), or pictures (pictures, 3, side, side) when `frames` is 1,
    -> tokens (clips, time, rows, columns, features) after the last norm."""

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbed(config)
        last = len(config.depths) - 1
        self.layers = nn.ModuleList(Stage(config, at, shrinks=at < last) for at in range(len(config.depths)))
        self.norm = nn.LayerNorm(config.features)

    def forward(self, pixels: Tensor) -> Tensor:
        tokens = self.patch_embed(pixels)
        for layer in self.layers:
            tokens = layer(tokens)
        return self.norm(tokens)


class PatchEmbed(nn.Module):
    """A token per patch."""

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        flat = config.frames == 1
        kernel = config.patch[1:] if flat else config.patch
        self.proj = (nn.Conv2d if flat else nn.Conv3d)(3, config.width, kernel, stride=kernel)  # type: ignore[operator]
        self.norm = nn.LayerNorm(config.width)

    def forward(self, pixels: Tensor) -> Tensor:
        tokens = self.proj(pixels)
        if tokens.dim() == 4:
            tokens = tokens.unsqueeze(2)
        return self.norm(tokens.permute(0, 2, 3, 4, 1))


class Stage(nn.Module):
    """Blocks on one grid, every other one on shifted windows; then half the rows and columns at twice the width."""

    def __init__(self, config: SwinConfig, at: int, *, shrinks: bool) -> None:
        super().__init__()
        width, gated = config.width * 2**at, at < config.gated_stages
        kinds = [Places(config.grid(at), config.window, shifted=shifted, gated=gated) for shifted in (False, True)]
        self.places = nn.ModuleList(kinds[: config.depths[at]])
        self.blocks = nn.ModuleList(
            Block(width, config.heads[at], config.window, gated=gated) for _ in range(config.depths[at])
        )
        if shrinks:
            self.downsample = Merge(width)
        self._shrinks = shrinks

    def forward(self, tokens: Tensor) -> Tensor:
        for at, block in enumerate(self.blocks):
            tokens = block(tokens, self.places[at % 2])
        return self.downsample(tokens) if self._shrinks else tokens


class Merge(nn.Module):
    """Four neighbours, down before across, become one token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)
        self.norm = nn.LayerNorm(4 * width)

    def forward(self, tokens: Tensor) -> Tensor:
        four = [tokens[:, :, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(four, dim=-1)))


class Block(nn.Module):
    """Attention within windows, then an MLP, each on normalised tokens and added to them."""

    def __init__(self, width: int, heads: int, window: Axes, *, gated: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads, window, gated=gated)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width)

    def forward(self, tokens: Tensor, places: Places) -> Tensor:
        windows = places.divide(self.norm1(tokens))
        tokens = tokens + places.join(self.attn(windows, places))
        return tokens + self.mlp(self.norm2(tokens))


class Attention(nn.Module):
    """Windows (clips, windows, tokens, width); what is added to the scores depends on how two tokens lie."""

    def __init__(self, width: int, heads: int, window: Axes, *, gated: bool) -> None:
        super().__init__()
        self.heads, self._gated = heads, gated
        offsets = (2 * window[0] - 1) * (2 * window[1] - 1) * (2 * window[2] - 1)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(offsets, heads))
        if gated:
            self.fragment_position_bias_table = nn.Parameter(torch.zeros(offsets, heads))
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, windows: Tensor, places: Places) -> Tensor:
        query, key, value = heads_of(self.qkv(windows), self.heads)
        scores = (query * (query.shape[-1] ** -0.5)) @ key.transpose(-2, -1)
        scores = places.add(scores, self.bias(places))
        mixed = scores.softmax(dim=-1) @ value
        return self.proj(mixed.transpose(2, 3).flatten(3))

    def bias(self, places: Places) -> Tensor:
        """(windows in a plane or 1, heads, tokens, tokens): of two tokens of one fragment the fragment table, of two
        neighbouring fragments the position table, and beyond that the straight line through both."""
        across = places.spread(self.relative_position_bias_table)
        if not self._gated:
            return across
        within = places.spread(self.fragment_position_bias_table)
        return within + places.gates[:, None].to(within.dtype) * (across - within)


class Mlp(nn.Module):
    """Four times the width and back."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc2(nn.functional.gelu(self.fc1(tokens)))
