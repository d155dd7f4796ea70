"""Scorers that anyone can train on a CSV of scores: what each sees of a picture, and the network that learns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor, nn

from models.networks.align_iqa import GuidedQuality, MapsConfig, PlainAggregator
from models.networks.backbones.swin import swin_b_384
from models.networks.lite import BOUND
from models.networks.sr_vqa import Regression, SrVqaConfig
from models.train.features import extract
from models.train.features import extractors as own
from models.train.features.extract import Look


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The table `[network]` of a learner's TOML; what a learner does not know it ignores."""

    width: int = 64
    hidden: int = 128
    dropout: float = 0.2
    # align_iqa: "saliency", or "none" = no injector takes part
    guidance: Literal["saliency", "none"] = "saliency"
    # align_iqa: "scales" = separable convolutions with gaps, "plain" = joined and mixed alone
    aggregator: Literal["scales", "plain"] = "scales"


def regression(shape: Shape, features: Mapping[str, int]) -> Regression:
    """SR-VQA's regression over these features."""
    config = SrVqaConfig(features=features, swin=swin_b_384(), hidden=shape.hidden, dropout=shape.dropout)
    return Regression(config)


class Scale(nn.BatchNorm1d):
    """Each number of a feature by its own mean and spread, within +-5: one strange statistic cannot decide alone."""

    def __init__(self, width: int) -> None:
        super().__init__(width, affine=False)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).clamp(-BOUND, BOUND)


class Spatial(nn.Module):
    """The spatial branch alone: maps (n, 1152, 12, 12) of the frozen trunk -> scores (n)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.scale = Scale(own.SPATIAL_WIDTH)
        self.regression = regression(shape, {"spatial": own.SPATIAL_WIDTH})

    def forward(self, maps: Tensor) -> Tensor:
        return self.regression(self.scale(pooled(maps)))


class LeanSrVqa(nn.Module):
    """SR-VQA's regression over features of networks that were trained here -> scores (n)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.scales = nn.ModuleList(Scale(width) for width in own.FEATURES.values())
        self.regression = regression(shape, own.FEATURES)

    def forward(self, maps: Tensor, statistics: Tensor, fragments: Tensor) -> Tensor:
        features = (pooled(maps), statistics, fragments)
        return self.regression(*(scale(each) for scale, each in zip(self.scales, features, strict=True)))


class Guided(nn.Module):
    """Align-IQA's guided quality over the trunk's maps (n, 1152, 12, 12) and saliency (n, 1, 12, 12), or
    over maps alone -> scores (n)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        config = MapsConfig(widths=own.WIDTHS, grid=own.GRID, width=shape.width, guidance=16, dropout=shape.dropout)
        plain = PlainAggregator(config) if shape.aggregator == "plain" else None
        self.quality = GuidedQuality(config, aggregator=plain)
        # Maps of the coarse stages are tens of times larger than those of the fine ones.
        self.norms = nn.ModuleList(nn.BatchNorm2d(width, affine=False) for width in own.WIDTHS)

    def forward(self, maps: Tensor, saliency: Tensor | None = None) -> Tensor:
        stages = [norm(stage) for norm, stage in zip(self.norms, maps.split(own.WIDTHS, dim=1), strict=True)]
        return self.quality.judge(stages, saliency)


def pooled(maps: Tensor) -> Tensor:
    """Mean and spread over the places, (n, 2304)."""
    flat = maps.flatten(2)
    return torch.cat([flat.mean(2), flat.std(2)], 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Learner:
    """A network, and what one of that shape sees of a picture, in order of its arguments."""

    network: Callable[[Shape], nn.Module]
    looks: Callable[[Shape], Sequence[Look]]


LEARNERS: Mapping[str, Learner] = MappingProxyType(
    {
        "fragments": Learner(network=lambda _: own.FragmentNet(), looks=lambda _: (extract.FRAGMENTS,)),
        "spatial": Learner(network=Spatial, looks=lambda _: (extract.MAPS,)),
        "lean_sr_vqa": Learner(
            network=LeanSrVqa, looks=lambda _: (extract.MAPS, extract.STATISTICS, extract.FRAGMENT_FEATURES)
        ),
        "align_iqa": Learner(
            network=Guided,
            looks=lambda shape: (extract.MAPS, extract.SALIENCY) if shape.guidance == "saliency" else (extract.MAPS,),
        ),
    }
)
