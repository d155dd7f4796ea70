"""SlowFast R50 8x8: two pathways over one clip, and the fast one alone, which no frame of the slow one ever reaches.

Feichtenhofer et al., "SlowFast Networks for Video Recognition", ICCV 2019; names as in the published Kinetics-400 file.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.networks.backbones.pixels import normalise

MEAN = (0.45, 0.45, 0.45)
STD = (0.225, 0.225, 0.225)
FRAMES, SIDE = 32, 224
SLOW_FRAMES = (0, 4, 8, 13, 17, 22, 26, 31)
"""Of a clip's 32: the whole parts of eight equal steps from the first to the last."""
_SLOW, _FAST = "0", "1"
# kernel lengths in time of the first convolution of a bottleneck, by stage
_SLOW_KERNELS, _FAST_KERNELS = (1, 1, 3, 3), (3, 3, 3, 3)
_STRIDES = (1, 2, 2, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowFastConfig:
    """Sizes; the defaults are the published ones."""

    slow_width: int = 64
    fast_width: int = 8
    depths: tuple[int, int, int, int] = (3, 4, 6, 3)
    classes: int = 400

    @property
    def slow_features(self) -> int:
        return 32 * self.slow_width

    @property
    def fast_features(self) -> int:
        return 32 * self.fast_width


class Stem(nn.Module):
    """First convolution of a pathway, then the pool that halves its sides."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        padding = (kernel // 2, 3, 3)
        self.conv = nn.Conv3d(3, width, (kernel, 7, 7), stride=(1, 2, 2), padding=padding, bias=False)
        self.norm = nn.BatchNorm3d(width)
        self.pool = nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))

    def forward(self, clip: Tensor) -> Tensor:
        return self.pool(torch.relu(self.norm(self.conv(clip))))


class Branch(nn.Module):
    """A bottleneck: `kernel` frames, then 3 x 3, then widen."""

    def __init__(self, taken: int, inner: int, given: int, *, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv_a = nn.Conv3d(taken, inner, (kernel, 1, 1), padding=(kernel // 2, 0, 0), bias=False)
        self.norm_a = nn.BatchNorm3d(inner)
        self.conv_b = nn.Conv3d(inner, inner, (1, 3, 3), stride=(1, stride, stride), padding=(0, 1, 1), bias=False)
        self.norm_b = nn.BatchNorm3d(inner)
        self.conv_c = nn.Conv3d(inner, given, 1, bias=False)
        self.norm_c = nn.BatchNorm3d(given)

    def forward(self, clip: Tensor) -> Tensor:
        clip = torch.relu(self.norm_a(self.conv_a(clip)))
        clip = torch.relu(self.norm_b(self.conv_b(clip)))
        return self.norm_c(self.conv_c(clip))


class Block(nn.Module):
    """A bottleneck added to its input; the first of a stage brings that to its own size."""

    def __init__(self, taken: int, given: int, *, kernel: int, stride: int, first: bool) -> None:
        super().__init__()
        if first:
            self.branch1_conv = nn.Conv3d(taken, given, 1, stride=(1, stride, stride), bias=False)
            self.branch1_norm = nn.BatchNorm3d(given)
        self.branch2 = Branch(taken, given // 4, given, kernel=kernel, stride=stride)
        self._is_first = first

    def forward(self, clip: Tensor) -> Tensor:
        kept = self.branch1_norm(self.branch1_conv(clip)) if self._is_first else clip
        return torch.relu(kept + self.branch2(clip))


class Stage(nn.Module):
    """Blocks one after the other."""

    def __init__(self, taken: int, given: int, *, depth: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.res_blocks = nn.ModuleList(
            Block(given if at else taken, given, kernel=kernel, stride=1 if at else stride, first=not at)
            for at in range(depth)
        )

    def forward(self, clip: Tensor) -> Tensor:
        for block in self.res_blocks:
            clip = block(clip)
        return clip


class Fusion(nn.Module):
    """What the slow pathway is told of the fast one: every fourth moment, put behind its own channels."""

    def __init__(self, fast: int) -> None:
        super().__init__()
        self.conv_fast_to_slow = nn.Conv3d(fast, 2 * fast, (7, 1, 1), stride=(4, 1, 1), padding=(3, 0, 0), bias=False)
        self.norm = nn.BatchNorm3d(2 * fast)

    def forward(self, slow: Tensor, fast: Tensor) -> Tensor:
        return torch.cat([slow, torch.relu(self.norm(self.conv_fast_to_slow(fast)))], dim=1)


class Level(nn.Module):
    """One depth of the network: a part per pathway under the pathway's published number, and the link between them."""

    def __init__(self, parts: Mapping[str, nn.Module], fusion: Fusion | None = None) -> None:
        super().__init__()
        self.multipathway_blocks = nn.ModuleDict(parts)
        if fusion is not None:
            self.multipathway_fusion = fusion


class ClassHead(nn.Module):
    """Scores of the classes that the network was trained on."""

    def __init__(self, taken: int, classes: int) -> None:
        super().__init__()
        self.proj = nn.Linear(taken, classes)


def _slow_parts(config: SlowFastConfig) -> list[nn.Module]:
    width, link = config.slow_width, 2 * config.fast_width
    stages = (
        Stage(
            (4 * width * 2 ** (at - 1) + 4 * link * 2 ** (at - 1)) if at else width + link,
            4 * width * 2**at, depth=config.depths[at], kernel=_SLOW_KERNELS[at], stride=_STRIDES[at],
        )
        for at in range(4)
    )  # fmt: skip
    return [Stem(width, 1), *stages]


def _fast_parts(config: SlowFastConfig) -> list[nn.Module]:
    width = config.fast_width
    stages = (
        Stage(
            4 * width * 2 ** (at - 1) if at else width,
            4 * width * 2**at, depth=config.depths[at], kernel=_FAST_KERNELS[at], stride=_STRIDES[at],
        )
        for at in range(4)
    )  # fmt: skip
    return [Stem(width, 5), *stages]


class SlowFast(nn.Module):
    """Clips (clips, 3, 32, side, side) uint8 -> features (clips, 2304): 2048 of the slow pathway, 256 of the fast."""

    slow_frames: Tensor

    def __init__(self, config: SlowFastConfig) -> None:
        super().__init__()
        pairs = zip(_slow_parts(config), _fast_parts(config), strict=True)
        fast = [config.fast_width, *(4 * config.fast_width * 2**at for at in range(3))]
        fusions = [*map(Fusion, fast), None]
        levels = [
            Level({_SLOW: slow, _FAST: quick}, fusion) for (slow, quick), fusion in zip(pairs, fusions, strict=True)
        ]
        # the published list has the pools at 5 and the class head at 6
        head = ClassHead(config.slow_features + config.fast_features, config.classes)
        self.blocks = nn.ModuleList([*levels, nn.Identity(), head])
        self.register_buffer("slow_frames", torch.tensor(SLOW_FRAMES), persistent=False)

    def forward(self, clips: Tensor) -> Tensor:
        fast = normalise(clips, MEAN, STD, dtype=self.blocks[6].proj.weight.dtype)
        slow, fast = self.pathways(fast.index_select(2, self.slow_frames), fast)[-1]
        return torch.cat([slow.mean((2, 3, 4)), fast.mean((2, 3, 4))], dim=1)

    def pathways(self, slow: Tensor, fast: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Both pathways after each level, from normalised clips (clips, 3, 8 or 32, side, side)."""
        after = []
        for level in list(self.blocks)[:5]:
            slow = level.multipathway_blocks[_SLOW](slow)
            fast = level.multipathway_blocks[_FAST](fast)
            if level is not self.blocks[4]:
                slow = level.multipathway_fusion(slow, fast)
            after.append((slow, fast))
        return after

    def classes(self, features: Tensor) -> Tensor:
        """Scores of the trained classes (clips, 400), without softmax."""
        return self.blocks[6].proj(features)


class FastPathway(nn.Module):
    """Clips (clips, 3, 32, side, side) uint8 -> features (clips, 256): all that fusing scorers take from SlowFast."""

    def __init__(self, config: SlowFastConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Level({_FAST: part}) for part in _fast_parts(config))

    def forward(self, clips: Tensor) -> Tensor:
        fast = normalise(clips, MEAN, STD, dtype=next(self.parameters()).dtype)
        for level in self.blocks:
            fast = level.multipathway_blocks[_FAST](fast)
        return fast.mean((2, 3, 4))


NOT_FAST = (
    "blocks.*.multipathway_blocks.0.*",
    "blocks.*.multipathway_fusion.*",
    "blocks.6.*",
)
"""Published tensors that the fast pathway does not need."""
