"""MUSIQ: a transformer over the patches of a picture at its own size and at two reduced ones.

Ke et al., "MUSIQ: Multi-scale Image Quality Transformer", ICCV 2021. Parameter names as in IQA-PyTorch's conversion of
the authors' files. The published code fills the reduced sizes with masked patches up to a fixed count; those change
nothing and are left out here.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.networks.backbones.pixels import RgbTriple
from models.networks.pictures.attention import attend

MEAN: RgbTriple = (0.5, 0.5, 0.5)
STD: RgbTriple = (0.5, 0.5, 0.5)
_PATCH = 32
# the longer side in px of the reduced pictures
_LONGER_SIDES = (224, 384)
_ROOT_CHANNELS, _BLOCK_CHANNELS, _GROUPS = 64, 256, 32
_TOKEN_SIDE = _PATCH // 4


@dataclass(frozen=True, slots=True, kw_only=True)
class MusiqConfig:
    """Sizes; the defaults are the published ones. Positions are hashed to a grid of `grid` x `grid`."""

    width: int = 384
    hidden: int = 1152
    heads: int = 6
    depth: int = 14
    grid: int = 10


class Musiq(nn.Module):
    """Pictures (pictures, 3, height, width) of -1..1 -> scores (pictures), about 0..100."""

    def __init__(self, config: MusiqConfig) -> None:
        super().__init__()
        self.conv_root = _StandardizedConvolution(3, _ROOT_CHANNELS, 7, stride=2, bias=False)
        self.gn_root = nn.GroupNorm(_GROUPS, _ROOT_CHANNELS, eps=1e-6)
        self.block1 = _Bottleneck()
        self.embedding = nn.Linear(_BLOCK_CHANNELS * _TOKEN_SIDE**2, config.width)
        self.transformer_encoder = _Encoder(config)
        self.head = nn.Linear(config.width, 1)
        self._grid = config.grid

    def forward(self, pixels: Tensor) -> Tensor:
        pictures = [_resize(pixels, longer_side) for longer_side in _LONGER_SIDES] + [pixels]
        patches, positions, scales = [], [], []
        for scale, picture in enumerate(pictures):
            padded = _pad_evenly(picture, _PATCH, _PATCH)
            rows, columns = padded.shape[2] // _PATCH, padded.shape[3] // _PATCH
            cells = padded.unflatten(3, (columns, _PATCH)).unflatten(2, (rows, _PATCH))
            patches.append(cells.permute(0, 2, 4, 1, 3, 5).flatten(1, 2))
            positions.append(_hash_positions(rows, columns, self._grid))
            scales.append(torch.full((rows * columns,), scale))
        sequence = torch.cat(patches, dim=1)
        maps = self.gn_root(self.conv_root(sequence.flatten(0, 1))).relu()
        maps = self.block1(nn.functional.max_pool2d(_pad_evenly(maps, 3, 2), 3, stride=2))
        tokens = self.embedding(maps.permute(0, 2, 3, 1).flatten(1)).unflatten(0, sequence.shape[:2])
        indices = [torch.cat(each).to(pixels.device) for each in (positions, scales)]
        return self.head(self.transformer_encoder(tokens, *indices))[:, 0]


def _resize(pixels: Tensor, longer_side: int) -> Tensor:
    height, width = pixels.shape[2:]
    ratio = longer_side / max(height, width)
    return nn.functional.interpolate(pixels, (round(height * ratio), round(width * ratio)), mode="bicubic")


def _pad_evenly(maps: Tensor, kernel: int, stride: int) -> Tensor:
    """Zeros around maps so that windows at `stride` cover them: TensorFlow's SAME, where an odd one is last."""
    padding = []
    for size in (maps.shape[3], maps.shape[2]):
        missing = (math.ceil(size / stride) - 1) * stride + kernel - size
        padding += [missing // 2, missing - missing // 2]
    return nn.functional.pad(maps, padding)


def _hash_positions(rows: int, columns: int, grid: int) -> Tensor:
    """(rows * columns): the cell of a grid x grid table in which each patch lies, row by row."""
    down, across = (torch.arange(count) * grid // count for count in (rows, columns))
    return (down[:, None] * grid + across[None, :]).flatten()


class _StandardizedConvolution(nn.Conv2d):
    """A convolution of padded maps, whose kernels are brought to mean 0 and deviation 1."""

    def forward(self, maps: Tensor) -> Tensor:
        centred = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        variance = (centred * centred).sum((1, 2, 3), keepdim=True) / (centred[0].numel() - 1)
        kernels = centred / (variance.sqrt() + 1e-5)
        return nn.functional.conv2d(_pad_evenly(maps, self.kernel_size[0], self.stride[0]), kernels, stride=self.stride)


class _Bottleneck(nn.Module):
    """A residual block with a projection."""

    def __init__(self) -> None:
        super().__init__()
        width, outputs = _ROOT_CHANNELS, _BLOCK_CHANNELS
        self.conv1 = _StandardizedConvolution(width, width, 1, bias=False)
        self.gn1 = nn.GroupNorm(_GROUPS, width, eps=1e-4)
        self.conv2 = _StandardizedConvolution(width, width, 3, bias=False)
        self.gn2 = nn.GroupNorm(_GROUPS, width, eps=1e-4)
        self.conv3 = _StandardizedConvolution(width, outputs, 1, bias=False)
        self.gn3 = nn.GroupNorm(_GROUPS, outputs, eps=1e-4)
        self.conv_proj = _StandardizedConvolution(width, outputs, 1, bias=False)
        self.gn_proj = nn.GroupNorm(_GROUPS, outputs, eps=1e-4)

    def forward(self, maps: Tensor) -> Tensor:
        hidden = self.gn1(self.conv1(maps)).relu()
        hidden = self.gn2(self.conv2(hidden)).relu()
        return (self.gn3(self.conv3(hidden)) + self.gn_proj(self.conv_proj(maps))).relu()


class _Encoder(nn.Module):
    """Tokens (pictures, patches, width) -> the class token (pictures, width)."""

    def __init__(self, config: MusiqConfig) -> None:
        super().__init__()
        self.posembed_input = nn.ParameterDict({"position_emb": torch.zeros(1, config.grid**2, config.width)})
        self.scaleembed_input = nn.ParameterDict({"scale_emb": torch.zeros(len(_LONGER_SIDES) + 1, config.width)})
        self.cls = nn.Parameter(torch.zeros(1, 1, config.width))
        self.encoder_norm = nn.LayerNorm(config.width, eps=1e-6)
        self.transformer = nn.ModuleDict({f"encoderblock_{index}": _Block(config) for index in range(config.depth)})

    def forward(self, tokens: Tensor, positions: Tensor, scales: Tensor) -> Tensor:
        tokens = tokens + self.posembed_input["position_emb"][0].index_select(0, positions)
        tokens = tokens + self.scaleembed_input["scale_emb"].index_select(0, scales)
        tokens = torch.cat([self.cls.expand(tokens.shape[0], 1, -1), tokens], dim=1)
        for block in self.transformer.values():
            tokens = block(tokens)
        return self.encoder_norm(tokens[:, 0])


class _Block(nn.Module):
    """Pre-norm self-attention and MLP, each with a residual connection."""

    def __init__(self, config: MusiqConfig) -> None:
        super().__init__()
        width = config.width
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attention = nn.ModuleDict({name: nn.Linear(width, width) for name in ("query", "key", "value", "out")})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, config.hidden), "fc2": nn.Linear(config.hidden, width)})
        self._heads = config.heads

    def forward(self, tokens: Tensor) -> Tensor:
        normed = self.norm1(tokens)
        query, key, value = (self.attention[name](normed) for name in ("query", "key", "value"))
        tokens = tokens + self.attention["out"](attend(query, key, value, heads=self._heads))
        return tokens + self.mlp["fc2"](nn.functional.gelu(self.mlp["fc1"](self.norm2(tokens))))
