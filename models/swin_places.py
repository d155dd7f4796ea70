"""Where tokens lie: windows, shifts, offsets, regions and fragments, all known before any clip is seen."""

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
