"""Scorers that anyone can train on a CSV of scores: what each sees of a picture, and the network that learns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models import own_features as own
from models.align_iqa import GuidedQuality, MapsConfig, PlainAggregator
from models.lite import BOUND, Lite
from models.scored import DataError
from models.sr_vqa import Regression, SrVqaConfig
from models.swin import swin_b_384

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    """Networks that are looked through but do not learn."""

    lite: Lite | None = None
    fragments: own.FragmentNet | None = None


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


Look = Callable[[own.Pixels, Frozen], Array]
"""One view of a picture through frozen networks."""


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
    """Align-IQA's guided quality over the trunk's maps (n, 1152, 12, 12) and saliency (n, 1, 12, 12) -> scores (n)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        config = MapsConfig(widths=own.WIDTHS, grid=own.GRID, width=shape.width, guidance=16, dropout=shape.dropout)
        plain = PlainAggregator(config) if shape.aggregator == "plain" else None
        self.quality = GuidedQuality(config, aggregator=plain)
        self.is_guided = shape.guidance == "saliency"
        # Maps of the coarse stages are tens of times larger than those of the fine ones.
        self.norms = nn.ModuleList(nn.BatchNorm2d(width, affine=False) for width in own.WIDTHS)

    def forward(self, maps: Tensor, saliency: Tensor) -> Tensor:
        stages = [norm(stage) for norm, stage in zip(self.norms, maps.split(own.WIDTHS, dim=1), strict=True)]
        return self.quality.judge(stages, saliency if self.is_guided else None)


def pooled(maps: Tensor) -> Tensor:
    """Mean and spread over the places, (n, 2304)."""
    flat = maps.flatten(2)
    return torch.cat([flat.mean(2), flat.std(2)], 1)


def _lite(frozen: Frozen) -> Lite:
    if frozen.lite is None:
        raise DataError("needs lite's trained weights: --part lite=best.pt")
    return frozen.lite


def _maps(picture: own.Pixels, frozen: Frozen) -> Array:
    return own.maps_of(_lite(frozen), own.canvas_of(picture))


def _saliency(picture: own.Pixels, _: Frozen) -> Array:
    return own.saliency_of(own.canvas_of(picture))


def _statistics(picture: own.Pixels, frozen: Frozen) -> Array:
    return own.statistics_of(_lite(frozen), own.canvas_of(picture))


def _fragments(picture: own.Pixels, _: Frozen) -> Array:
    return own.fragments_of(own.canvas_of(picture), seed=7)


def _fragment_features(picture: own.Pixels, frozen: Frozen) -> Array:
    if frozen.fragments is None:
        raise DataError("needs trained weights of `fragments`: --part fragments=best.pt")
    with torch.inference_mode():
        seen = torch.from_numpy(_fragments(picture, frozen))[None]
        return frozen.fragments.features(seen)[0].numpy()


@dataclass(frozen=True, slots=True, kw_only=True)
class Learner:
    """A network, and what it sees of one picture, in order of its arguments."""

    network: Callable[[Shape], nn.Module]
    looks: Sequence[Look]


LEARNERS: Mapping[str, Learner] = MappingProxyType(
    {
        "fragments": Learner(network=lambda _: own.FragmentNet(), looks=(_fragments,)),
        "spatial": Learner(network=Spatial, looks=(_maps,)),
        "lean_sr_vqa": Learner(network=LeanSrVqa, looks=(_maps, _statistics, _fragment_features)),
        "align_iqa": Learner(network=Guided, looks=(_maps, _saliency)),
    }
)


def mean_look(look: Look, frames: Callable[[], own.Pixels], frozen: Frozen) -> Array:
    """What one look sees of a picture or clip (frames, height, width, 3); of a clip the mean over its frames."""
    seen = [look(frame, frozen) for frame in frames()]
    return seen[0] if len(seen) == 1 else np.mean(np.stack(seen), axis=0).astype(seen[0].dtype)
