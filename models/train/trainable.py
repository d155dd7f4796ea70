"""The scorers that anyone can train on a CSV of scores: their input features and their networks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor, nn

from models.networks.align_iqa import ConcatAggregator, FeatureMapsConfig, GuidedQualityNetwork
from models.networks.backbones.swin import swin_b_384
from models.networks.lite import STANDARDISED_LIMIT
from models.networks.sr_vqa import FusionRegression, SrVqaConfig
from models.train.features import extract, extractors
from models.train.features.extract import FeatureSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerNetworkConfig:
    """The table `[network]` of a scorer's TOML; a scorer ignores the fields that it does not use."""

    width: int = 64
    hidden: int = 128
    dropout: float = 0.2
    # align_iqa: "none" injects no guidance
    guidance: Literal["saliency", "none"] = "saliency"
    # align_iqa: "scales" is the published kind, dilated separable convolutions; "plain" concatenates and mixes
    aggregator: Literal["scales", "plain"] = "scales"


class _ClampedBatchNorm(nn.BatchNorm1d):
    """Standardises features and clamps them to +-5, so that one outlier cannot decide the score."""

    def __init__(self, width: int) -> None:
        super().__init__(width, affine=False)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).clamp(-STANDARDISED_LIMIT, STANDARDISED_LIMIT)


class SpatialScorer(nn.Module):
    """SR-VQA's spatial branch alone: maps (n, 1152, 12, 12) of the frozen trunk -> scores (n)."""

    def __init__(self, config: ScorerNetworkConfig) -> None:
        super().__init__()
        self.scale = _ClampedBatchNorm(extractors.SPATIAL_WIDTH)
        self.regression = _build_regression(config, {"spatial": extractors.SPATIAL_WIDTH})

    def forward(self, maps: Tensor) -> Tensor:
        return self.regression(self.scale(_mean_std_pool(maps)))


class StatisticsScorer(nn.Module):
    """Tile statistics (n, 238) -> scores (n): the network that a few hundred pictures are enough for."""

    def __init__(self, config: ScorerNetworkConfig) -> None:
        super().__init__()
        self.scale = _ClampedBatchNorm(extractors.STATISTICS_WIDTH)
        self.regression = _build_regression(config, {"statistics": extractors.STATISTICS_WIDTH})

    def forward(self, statistics: Tensor) -> Tensor:
        return self.regression(self.scale(statistics))


class LeanSrVqaScorer(nn.Module):
    """SR-VQA's regression over the trunk's maps (n, 1152, 12, 12), tile statistics (n, 238) and fragment features
    (n, 192) -> scores (n)."""

    def __init__(self, config: ScorerNetworkConfig) -> None:
        super().__init__()
        self.scales = nn.ModuleList(_ClampedBatchNorm(width) for width in extractors.FEATURE_WIDTHS.values())
        self.regression = _build_regression(config, extractors.FEATURE_WIDTHS)

    def forward(self, maps: Tensor, statistics: Tensor, fragments: Tensor) -> Tensor:
        features = (_mean_std_pool(maps), statistics, fragments)
        return self.regression(*(scale(feature) for scale, feature in zip(self.scales, features, strict=True)))


class GuidedScorer(nn.Module):
    """Align-IQA over the trunk's maps (n, 1152, 12, 12) and saliency (n, 1, 12, 12) -> scores (n).

    Without saliency nothing is injected.
    """

    def __init__(self, config: ScorerNetworkConfig) -> None:
        super().__init__()
        maps_config = FeatureMapsConfig(
            widths=extractors.STAGE_WIDTHS,
            grid=extractors.MAP_SIDE,
            width=config.width,
            guidance=16,
            dropout=config.dropout,
        )
        aggregator = ConcatAggregator(maps_config) if config.aggregator == "plain" else None
        self.quality = GuidedQualityNetwork(maps_config, aggregator=aggregator)
        # Maps of the coarse stages are tens of times larger than those of the fine stages.
        self.norms = nn.ModuleList(nn.BatchNorm2d(width, affine=False) for width in extractors.STAGE_WIDTHS)

    def forward(self, maps: Tensor, saliency: Tensor | None = None) -> Tensor:
        stages = maps.split(extractors.STAGE_WIDTHS, dim=1)
        return self.quality.score_maps([norm(stage) for norm, stage in zip(self.norms, stages, strict=True)], saliency)


def _mean_std_pool(maps: Tensor) -> Tensor:
    """Mean and standard deviation over rows and columns: (n, channels, rows, columns) -> (n, 2 * channels)."""
    flat = maps.flatten(2)
    return torch.cat([flat.mean(2), flat.std(2)], 1)


def _build_regression(config: ScorerNetworkConfig, features: Mapping[str, int]) -> FusionRegression:
    return FusionRegression(
        SrVqaConfig(features=features, swin=swin_b_384(), hidden=config.hidden, dropout=config.dropout)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainableScorer:
    """How to build a scorer's network, and the features that it takes, in the order of its arguments."""

    build_network: Callable[[ScorerNetworkConfig], nn.Module]
    features: Callable[[ScorerNetworkConfig], Sequence[FeatureSpec]]


TRAINABLE_SCORERS: Mapping[str, TrainableScorer] = MappingProxyType(
    {
        "fragments": TrainableScorer(
            build_network=lambda _: extractors.FragmentNetwork(), features=lambda _: (extract.FRAGMENTS,)
        ),
        "spatial": TrainableScorer(build_network=SpatialScorer, features=lambda _: (extract.TRUNK_MAPS,)),
        "statistics": TrainableScorer(build_network=StatisticsScorer, features=lambda _: (extract.TILE_STATISTICS,)),
        "lean_sr_vqa": TrainableScorer(
            build_network=LeanSrVqaScorer,
            features=lambda _: (extract.TRUNK_MAPS, extract.TILE_STATISTICS, extract.FRAGMENT_FEATURES),
        ),
        "align_iqa": TrainableScorer(
            build_network=GuidedScorer,
            features=lambda config: (
                (extract.TRUNK_MAPS, extract.SALIENCY) if config.guidance == "saliency" else (extract.TRUNK_MAPS,)
            ),
        ),
    }
)
"""Name on the command line -> the scorer."""
