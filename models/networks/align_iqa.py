"""Quality of a picture as a frozen backbone sees it, steered by guidance: where people look, or what was asked for.

After Yang et al., "Align-IQA: Aligning Image Quality Assessment Models with Diverse Human Preferences via Customizable
Guidance", ACM MM 2024. Public are its two modules' names, purpose and kind: a guidance injector, fed by saliency for
natural pictures and by text-image consistency for generated ones, and an aggregator of scales made of depthwise
separable dilated convolutions, over general pre-trained networks. All sizes, and all else in this file, are ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.networks.backbones.pixels import IMAGENET_MEAN, IMAGENET_STD, normalise
from models.networks.backbones.swin import Swin, SwinConfig, swin_b_384

Content = Literal["natural", "generated"]
"""Which guidance holds: saliency, or consistency with a prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignConfig:
    """Sizes; `widths` and `grids` of the backbone's stages follow from `swin`."""

    swin: SwinConfig
    # channels of every stage after it is brought to one width, and of the aggregated map
    width: int = 256
    # channels of guidance maps
    guidance: int = 64
    dilations: tuple[int, ...] = (1, 2, 3, 5)
    dropout: float = 0.1

    @property
    def stages(self) -> int:
        return len(self.swin.depths)

    def stage_width(self, at: int) -> int:
        """Channels that the backbone gives after a stage, before the next one's merging."""
        return self.swin.width * int(2**at)

    @property
    def grid(self) -> int:
        """Side of the map on which scales meet: that of the last stage but one."""
        return self.swin.grid(max(0, self.stages - 2))[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class MapsConfig:
    """The same for maps of another backbone: channels of its stages, and the side of the grid where they meet."""

    widths: tuple[int, ...]
    grid: int
    width: int = 256
    guidance: int = 64
    dilations: tuple[int, ...] = (1, 2, 3, 5)
    dropout: float = 0.1

    @property
    def stages(self) -> int:
        return len(self.widths)

    def stage_width(self, at: int) -> int:
        """Channels of a stage."""
        return self.widths[at]


def published_sizes() -> AlignConfig:
    """Swin-B at 384; nobody has published which backbone the authors used."""
    return AlignConfig(swin=swin_b_384())


class Backbone(nn.Module):
    """Pictures (pictures, 3, side, side) uint8 -> one map per stage (pictures, channels, rows, columns); frozen."""

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        self.swin = Swin(config)
        self.requires_grad_(requires_grad=False)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        dtype = self.swin.norm.weight.dtype
        tokens = self.swin.patch_embed(normalise(pictures, IMAGENET_MEAN, IMAGENET_STD, dtype=dtype))
        maps = []
        for layer in self.swin.layers:
            for at, block in enumerate(layer.blocks):
                tokens = block(tokens, layer.places[at % 2])
            maps.append(tokens.squeeze(1).permute(0, 3, 1, 2))
            tokens = layer.downsample(tokens) if hasattr(layer, "downsample") else tokens
        maps[-1] = self.swin.norm(tokens).squeeze(1).permute(0, 3, 1, 2)
        return maps


class Saliency(nn.Module):
    """Maps of all stages -> where people look (pictures, 1, side, side), 0..1, on the finest stage's grid.

    A small decoder from the coarsest stage up. It is trained on eye tracking, or filled from such a network.
    """

    def __init__(self, config: AlignConfig) -> None:
        super().__init__()
        self.ins = nn.ModuleList(nn.Conv2d(config.stage_width(at), config.guidance, 1) for at in range(config.stages))
        self.mix = nn.ModuleList(Separable(config.guidance, config.guidance, dilation=1) for _ in range(config.stages))
        self.out = nn.Conv2d(config.guidance, 1, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        seen = self.ins[-1](maps[-1])
        for at in reversed(range(len(maps))):
            if at < len(maps) - 1:
                seen = resize(seen, maps[at].shape[-1]) + self.ins[at](maps[at])
            seen = functional.gelu(self.mix[at](seen))
        return torch.sigmoid(self.out(seen))


class Consistency(nn.Module):
    """CLIP's vectors of a picture and its patches (pictures, 1 + patches, joint) and of the prompt (pictures, joint) ->
    likeness of each patch and of the picture as a whole to the prompt (pictures, 2, rows, columns), -1..1."""

    def forward(self, places: Tensor, prompt: Tensor) -> Tensor:
        asked = functional.normalize(prompt.float(), dim=-1)[:, :, None]
        likeness = functional.normalize(places.float(), dim=-1) @ asked
        side = int((places.shape[1] - 1) ** 0.5)
        whole, each = likeness.split([1, side * side], dim=1)
        both = torch.cat([each, whole.expand_as(each)], dim=-1)
        return both.transpose(1, 2).unflatten(2, (side, side)).to(places.dtype)


class Injector(nn.Module):
    """Guidance (pictures, kinds, side, side) tells where a stage's map matters: it scales and shifts the normed map.

    map + strength * ((1 + scale) * norm(map) + shift). The strength starts at 0, so that training starts from the
    backbone alone; without guidance the map is what it was.
    """

    def __init__(self, width: int, guidance: int, kinds: int) -> None:
        super().__init__()
        self.see = nn.Sequential(nn.Conv2d(kinds, guidance, 1), nn.GELU(), nn.Conv2d(guidance, guidance, 1))
        self.norm_guidance = nn.GroupNorm(1, guidance)
        self.norm = nn.GroupNorm(1, width)
        self.steer = nn.Conv2d(guidance, 2 * width, 1)
        self.strength = nn.Parameter(torch.zeros(1))

    def forward(self, maps: Tensor, guidance: Tensor) -> Tensor:
        seen = self.norm_guidance(self.see(resize(guidance, maps.shape[-1])))
        scale, shift = self.steer(seen).chunk(2, dim=1)
        return maps + self.strength * ((1 + scale) * self.norm(maps) + shift)


class Separable(nn.Module):
    """A 3 x 3 convolution per channel with gaps, then a mix of channels."""

    def __init__(self, taken: int, given: int, *, dilation: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(taken, taken, 3, padding=dilation, dilation=dilation, groups=taken, bias=False)
        self.pointwise = nn.Conv2d(taken, given, 1)

    def forward(self, maps: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(maps))


class Aggregator(nn.Module):
    """Maps of all stages, each `width` channels wide -> one map (pictures, width, grid, grid).

    Brought to one grid and joined; then separable convolutions with several gaps and the mean of the picture, side by
    side, are mixed and added.
    """

    def __init__(self, config: AlignConfig | MapsConfig) -> None:
        super().__init__()
        width, branch = config.width, config.width // len(config.dilations)
        self._grid = config.grid
        self.join = nn.Conv2d(config.stages * width, width, 1)
        self.branches = nn.ModuleList(Separable(width, branch, dilation=gap) for gap in config.dilations)
        self.whole = nn.Conv2d(width, branch, 1)
        self.mix = nn.Conv2d(branch * (len(config.dilations) + 1), width, 1)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        joined = self.join(torch.cat([resize(each, self._grid) for each in maps], dim=1))
        whole = self.whole(joined.mean((2, 3), keepdim=True)).expand(-1, -1, self._grid, self._grid)
        near_and_far = [branch(joined) for branch in self.branches]
        return joined + functional.gelu(self.norm(self.mix(torch.cat([*near_and_far, whole], dim=1))))


class PlainAggregator(nn.Module):
    """The same task without scales: joined and mixed. To tell what the aggregator is worth."""

    def __init__(self, config: AlignConfig | MapsConfig) -> None:
        super().__init__()
        self._grid = config.grid
        self.join = nn.Conv2d(config.stages * config.width, config.width, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return self.join(torch.cat([resize(each, self._grid) for each in maps], dim=1))


class Quality(nn.Module):
    """A map (pictures, width, rows, columns) -> quality (pictures), 0..1: scores of places, weighed by places."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.score = nn.Conv2d(width, 1, 1)
        self.weight = nn.Conv2d(width, 1, 1)

    def forward(self, maps: Tensor) -> Tensor:
        kept = self.dropout(maps)
        # in float32: a weight may be very small everywhere
        scores, weights = self.score(kept).float().flatten(1), torch.sigmoid(self.weight(kept).float()).flatten(1)
        return torch.sigmoid((scores * weights).sum(1) / (weights.sum(1) + 1e-6))


class GuidedQuality(nn.Module):
    """Maps of a frozen backbone -> quality: what is trained, with a set of injectors per kind of content."""

    def __init__(self, config: AlignConfig | MapsConfig, *, aggregator: nn.Module | None = None) -> None:
        super().__init__()
        self.narrow = nn.ModuleList(nn.Conv2d(config.stage_width(at), config.width, 1) for at in range(config.stages))
        self.injectors = nn.ModuleDict(
            {
                content: nn.ModuleList(Injector(config.width, config.guidance, kinds) for _ in range(config.stages))
                for content, kinds in (("natural", 1), ("generated", 2))
            }
        )
        self.aggregator = Aggregator(config) if aggregator is None else aggregator
        self.quality = Quality(config.width, config.dropout)

    def judge(self, maps: Sequence[Tensor], guidance: Tensor | None, *, content: Content = "natural") -> Tensor:
        """Quality from the backbone's maps, which may be kept between epochs; no guidance = nothing is injected."""
        narrow = [conv(each) for conv, each in zip(self.narrow, maps, strict=True)]
        if guidance is not None:
            steer: nn.ModuleList = self.injectors[content]  # type: ignore[assignment]
            narrow = [inject(each, guidance) for inject, each in zip(steer, narrow, strict=True)]
        return self.quality(self.aggregator(narrow))


class AlignIqa(GuidedQuality):
    """One quality network, and a set of injectors per kind of content; the backbone is frozen."""

    def __init__(self, config: AlignConfig, *, aggregator: nn.Module | None = None) -> None:
        super().__init__(config, aggregator=aggregator)
        self.config = config
        self.backbone = Backbone(config.swin)
        self.saliency = Saliency(config)

    def forward(self, pictures: Tensor, guidance: Tensor | None = None, *, content: Content = "natural") -> Tensor:
        """Pictures (pictures, 3, side, side) uint8 -> quality (pictures), 0..1.

        `guidance` (pictures, 1 or 2, rows, columns): of natural content the saliency, made here when it is not given;
        of generated content what `Consistency` gives, and always needed.
        """
        maps = self.backbone(pictures)
        if guidance is None:
            if content != "natural":
                raise ValueError("generated content needs guidance: the likeness of patches to the prompt")
            guidance = self.saliency(maps)
        return self.judge(maps, guidance, content=content)


class Natural(nn.Module):
    """What is exported for natural content: pictures -> quality."""

    def __init__(self, network: AlignIqa) -> None:
        super().__init__()
        self.network = network

    def forward(self, pictures: Tensor) -> Tensor:
        return self.network(pictures)


class Generated(nn.Module):
    """What is exported for generated content: pictures, and CLIP's vectors of patches and prompt -> quality."""

    def __init__(self, network: AlignIqa) -> None:
        super().__init__()
        self.network = network
        self.consistency = Consistency()

    def forward(self, pictures: Tensor, places: Tensor, prompt: Tensor) -> Tensor:
        return self.network(pictures, self.consistency(places, prompt), content="generated")


def resize(maps: Tensor, side: int) -> Tensor:
    """Maps on another square grid: means of whole cells where it is coarser, straight lines between where finer."""
    found = maps.shape[-1]
    if found == side:
        return maps
    if found % side == 0:
        return functional.avg_pool2d(maps, found // side)
    return functional.interpolate(maps, size=(side, side), mode="bilinear", align_corners=False)
