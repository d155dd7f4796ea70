"""Align-IQA: quality of a picture from a frozen backbone, guided by saliency or by the likeness to a prompt.

After Yang et al., "Align-IQA: Aligning Image Quality Assessment Models with Diverse Human Preferences via Customizable
Guidance", ACM MM 2024. Published are the two modules' names, purpose and kind: a guidance injector, fed by saliency for
natural pictures and by text-image consistency for generated ones, and an aggregator of scales made of depthwise
separable dilated convolutions, over general pre-trained networks. All sizes, and everything else in this file, are
ours.
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
"""Decides the guidance: saliency for natural content, consistency with a prompt for generated content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignIqaConfig:
    """Sizes of the network over a Swin backbone."""

    swin: SwinConfig
    # channels of every stage's map after its 1 x 1 convolution, and of the aggregated map
    width: int = 256
    # channels of guidance maps
    guidance: int = 64
    dilations: tuple[int, ...] = (1, 2, 3, 5)
    dropout: float = 0.1

    @property
    def stages(self) -> int:
        return len(self.swin.depths)

    def stage_width(self, at: int) -> int:
        """Channels of a stage's map, before the patch merging of the next stage."""
        return self.swin.width * int(2**at)

    @property
    def grid(self) -> int:
        """Side of the common map that all stages are resized to: that of the last stage but one."""
        return self.swin.grid(max(0, self.stages - 2))[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureMapsConfig:
    """The same sizes for maps that another backbone computed: channels per stage, and the side of the common map."""

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
        """Channels of a stage's map."""
        return self.widths[at]


def default_config() -> AlignIqaConfig:
    """Swin-B at 384 px; the authors have not published their backbone."""
    return AlignIqaConfig(swin=swin_b_384())


class _FrozenBackbone(nn.Module):
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
            for index, block in enumerate(layer.blocks):
                tokens = block(tokens, layer.places[index % 2])
            maps.append(tokens.squeeze(1).permute(0, 3, 1, 2))
            tokens = layer.downsample(tokens) if hasattr(layer, "downsample") else tokens
        maps[-1] = self.swin.norm(tokens).squeeze(1).permute(0, 3, 1, 2)
        return maps


class _SaliencyDecoder(nn.Module):
    """Maps of all stages -> saliency (pictures, 1, side, side), 0..1, on the finest stage's grid.

    A small decoder from the coarsest stage up, to be trained on eye tracking.
    """

    def __init__(self, config: AlignIqaConfig) -> None:
        super().__init__()
        self.ins = nn.ModuleList(
            nn.Conv2d(config.stage_width(stage), config.guidance, 1) for stage in range(config.stages)
        )
        self.mix = nn.ModuleList(
            SeparableConv(config.guidance, config.guidance, dilation=1) for _ in range(config.stages)
        )
        self.out = nn.Conv2d(config.guidance, 1, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        decoded = self.ins[-1](maps[-1])
        for stage in reversed(range(len(maps))):
            if stage < len(maps) - 1:
                decoded = resize_maps(decoded, maps[stage].shape[-1]) + self.ins[stage](maps[stage])
            decoded = functional.gelu(self.mix[stage](decoded))
        return torch.sigmoid(self.out(decoded))


class TextImageConsistency(nn.Module):
    """Cosine similarity of the picture and of each patch to the prompt (pictures, 2, rows, columns), -1..1.

    Takes CLIP's vectors of picture and patches (pictures, 1 + patches, joint) and of the prompt (pictures, joint);
    channel 0 is the patch, channel 1 the whole picture.
    """

    def forward(self, patch_vectors: Tensor, prompt: Tensor) -> Tensor:
        direction = functional.normalize(prompt.float(), dim=-1)[:, :, None]
        similarity = functional.normalize(patch_vectors.float(), dim=-1) @ direction
        side = int((patch_vectors.shape[1] - 1) ** 0.5)
        picture_similarity, patch_similarity = similarity.split([1, side * side], dim=1)
        both = torch.cat([patch_similarity, picture_similarity.expand_as(patch_similarity)], dim=-1)
        return both.transpose(1, 2).unflatten(2, (side, side)).to(patch_vectors.dtype)


class _GuidanceInjector(nn.Module):
    """Modulates a stage's map by guidance (pictures, channels, side, side).

    map + strength * ((1 + scale) * norm(map) + shift). The strength starts at 0, so that training starts from the
    unguided backbone.
    """

    def __init__(self, width: int, guidance: int, guidance_channels: int) -> None:
        super().__init__()
        self.see = nn.Sequential(nn.Conv2d(guidance_channels, guidance, 1), nn.GELU(), nn.Conv2d(guidance, guidance, 1))
        self.norm_guidance = nn.GroupNorm(1, guidance)
        self.norm = nn.GroupNorm(1, width)
        self.steer = nn.Conv2d(guidance, 2 * width, 1)
        self.strength = nn.Parameter(torch.zeros(1))

    def forward(self, maps: Tensor, guidance: Tensor) -> Tensor:
        features = self.norm_guidance(self.see(resize_maps(guidance, maps.shape[-1])))
        scale, shift = self.steer(features).chunk(2, dim=1)
        return maps + self.strength * ((1 + scale) * self.norm(maps) + shift)


class SeparableConv(nn.Module):
    """A dilated 3 x 3 depthwise convolution, then a pointwise one."""

    def __init__(self, in_channels: int, out_channels: int, *, dilation: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(
            in_channels, in_channels, 3, padding=dilation, dilation=dilation, groups=in_channels, bias=False
        )
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, maps: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(maps))


class _ScaleAggregator(nn.Module):
    """Maps of all stages, each `width` channels wide -> one map (pictures, width, grid, grid).

    The maps are resized to one grid and concatenated; separable convolutions with several dilations and the global mean
    are computed in parallel, mixed and added.
    """

    def __init__(self, config: AlignIqaConfig | FeatureMapsConfig) -> None:
        super().__init__()
        width, branch_width = config.width, config.width // len(config.dilations)
        self._grid = config.grid
        self.join = nn.Conv2d(config.stages * width, width, 1)
        self.branches = nn.ModuleList(
            SeparableConv(width, branch_width, dilation=dilation) for dilation in config.dilations
        )
        self.whole = nn.Conv2d(width, branch_width, 1)
        self.mix = nn.Conv2d(branch_width * (len(config.dilations) + 1), width, 1)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        joined = self.join(torch.cat([resize_maps(stage_map, self._grid) for stage_map in maps], dim=1))
        global_mean = self.whole(joined.mean((2, 3), keepdim=True)).expand(-1, -1, self._grid, self._grid)
        branches = [branch(joined) for branch in self.branches]
        return joined + functional.gelu(self.norm(self.mix(torch.cat([*branches, global_mean], dim=1))))


class ConcatAggregator(nn.Module):
    """The ablation of `_ScaleAggregator`: maps are resized, concatenated and mixed."""

    def __init__(self, config: AlignIqaConfig | FeatureMapsConfig) -> None:
        super().__init__()
        self._grid = config.grid
        self.join = nn.Conv2d(config.stages * config.width, config.width, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return self.join(torch.cat([resize_maps(stage_map, self._grid) for stage_map in maps], dim=1))


class _QualityHead(nn.Module):
    """A map (pictures, width, rows, columns) -> quality (pictures), 0..1: a weighted mean of the scores of its
    cells."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.score = nn.Conv2d(width, 1, 1)
        self.weight = nn.Conv2d(width, 1, 1)

    def forward(self, maps: Tensor) -> Tensor:
        dropped = self.dropout(maps)
        # float32: all weights may be very small
        scores, weights = self.score(dropped).float().flatten(1), torch.sigmoid(self.weight(dropped).float()).flatten(1)
        return torch.sigmoid((scores * weights).sum(1) / (weights.sum(1) + 1e-6))


class GuidedQualityNetwork(nn.Module):
    """Maps of a frozen backbone -> quality: the trained part, with a set of injectors per kind of content."""

    def __init__(self, config: AlignIqaConfig | FeatureMapsConfig, *, aggregator: nn.Module | None = None) -> None:
        super().__init__()
        self.narrow = nn.ModuleList(
            nn.Conv2d(config.stage_width(stage), config.width, 1) for stage in range(config.stages)
        )
        self.injectors = nn.ModuleDict(
            {
                content: nn.ModuleList(
                    _GuidanceInjector(config.width, config.guidance, guidance_channels) for _ in range(config.stages)
                )
                for content, guidance_channels in (("natural", 1), ("generated", 2))
            }
        )
        self.aggregator = _ScaleAggregator(config) if aggregator is None else aggregator
        self.quality = _QualityHead(config.width, config.dropout)

    def score_maps(self, maps: Sequence[Tensor], guidance: Tensor | None, *, content: Content = "natural") -> Tensor:
        """Quality (pictures) of the backbone's maps; without guidance nothing is injected."""
        narrow = [conv(stage_map) for conv, stage_map in zip(self.narrow, maps, strict=True)]
        if guidance is not None:
            injectors: nn.ModuleList = self.injectors[content]  # type: ignore[assignment]
            narrow = [injector(stage_map, guidance) for injector, stage_map in zip(injectors, narrow, strict=True)]
        return self.quality(self.aggregator(narrow))


class AlignIqa(GuidedQualityNetwork):
    """The whole network: frozen backbone, saliency decoder and guided quality network."""

    def __init__(self, config: AlignIqaConfig, *, aggregator: nn.Module | None = None) -> None:
        super().__init__(config, aggregator=aggregator)
        self.config = config
        self.backbone = _FrozenBackbone(config.swin)
        self.saliency = _SaliencyDecoder(config)

    def forward(self, pictures: Tensor, guidance: Tensor | None = None, *, content: Content = "natural") -> Tensor:
        """Pictures (pictures, 3, side, side) uint8 -> quality (pictures), 0..1.

        `guidance` (pictures, 1 or 2, rows, columns) of natural content is saliency, computed here when it is not given;
        of generated content it is required and comes from `TextImageConsistency`. Raises ValueError without it.
        """
        maps = self.backbone(pictures)
        if guidance is None:
            if content != "natural":
                raise ValueError("generated content needs guidance: the similarity of patches to the prompt")
            guidance = self.saliency(maps)
        return self.score_maps(maps, guidance, content=content)


class NaturalContentScorer(nn.Module):
    """The exported network for natural content: pictures -> quality."""

    def __init__(self, network: AlignIqa) -> None:
        super().__init__()
        self.network = network

    def forward(self, pictures: Tensor) -> Tensor:
        return self.network(pictures)


class GeneratedContentScorer(nn.Module):
    """The exported network for generated content: pictures, CLIP's patch vectors and prompt vector -> quality."""

    def __init__(self, network: AlignIqa) -> None:
        super().__init__()
        self.network = network
        self.consistency = TextImageConsistency()

    def forward(self, pictures: Tensor, patch_vectors: Tensor, prompt: Tensor) -> Tensor:
        return self.network(pictures, self.consistency(patch_vectors, prompt), content="generated")


def resize_maps(maps: Tensor, side: int) -> Tensor:
    """Maps on another square grid: average pooling where it divides evenly, else bilinear interpolation."""
    current_side = maps.shape[-1]
    if current_side == side:
        return maps
    if current_side % side == 0:
        return functional.avg_pool2d(maps, current_side // side)
    return functional.interpolate(maps, size=(side, side), mode="bilinear", align_corners=False)
