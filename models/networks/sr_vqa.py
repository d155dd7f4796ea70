"""SR-VQA and RQ-VQA: scorers that fuse many features of a second of video; SR-VQA also in a lean form.

Sun et al., "Enhancing Blind Video Quality Assessment with Rich Quality-aware Features", 2024 (RQ-VQA). Of SR-VQA (Cao
et al., ECCV Workshops 2024) only the abstract is public: its features here are those of RQ-VQA, and how they are fused
is ours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn

from models.networks.backbones.bottleneck import BottleneckConfig, BottleneckStack
from models.networks.backbones.pixels import IMAGENET_MEAN, IMAGENET_STD, normalise
from models.networks.backbones.swin import RECOMPUTED_TENSORS, Swin, SwinConfig, swin_b_384

IGNORED_TENSORS = (*RECOMPUTED_TENSORS, "*.num_batches_tracked")
FEATURE_WIDTHS: Mapping[str, int] = MappingProxyType(
    {"spatial": 1024, "fast": 256, "llm": 4096, "liqe": 495, "fastvqa": 768}
)
"""Feature of a unit (one second) -> its width, in the order of RQ-VQA.

`spatial` of one picture of 384 x 384; `fast` of SlowFast's fast pathway; `llm` the mean hidden state of Q-Align over
all tokens and both halves of the picture; `liqe` 495 logits; `fastvqa` the mean of FAST-VQA's features over its clips.
"""
LEAN_FEATURE_WIDTHS: Mapping[str, int] = MappingProxyType(
    {name: width for name, width in FEATURE_WIDTHS.items() if name != "llm"}
)
"""Without the large language model."""
_HIDDEN_WIDTH = 128


class RqVqa(nn.Module):
    """RQ-VQA as released, under its published names without the leading `module.`."""

    def __init__(self, swin: SwinConfig, bot: BottleneckConfig, features: Mapping[str, int] = FEATURE_WIDTHS) -> None:
        super().__init__()
        self.features = features
        self.feature_extraction = _FeatureExtraction(Swin(swin))
        self.bot4 = BottleneckStack(bot)
        self.quality = nn.Sequential(nn.Linear(sum(features.values()), _HIDDEN_WIDTH), nn.Linear(_HIDDEN_WIDTH, 1))

    def spatial(self) -> nn.Module:
        """The spatial branch."""
        return _AttentionSpatialFeatures(self.feature_extraction.feature_extraction, self.bot4)

    def fusion(self) -> nn.Module:
        """The fusion branch."""
        return _LinearFusion(self.quality)

    def forward(self, pictures: Tensor, features: Sequence[Tensor]) -> Tensor:
        """Pictures (videos, units, 3, 384, 384) uint8, other features (videos, units, width) in order -> scores
        (videos)."""
        spatial = self.spatial()(pictures.flatten(0, 1)).unflatten(0, pictures.shape[:2])
        return self.fusion()(spatial, *features)


class _FeatureExtraction(nn.Module):
    """Gives its network the published name `feature_extraction`."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.feature_extraction = network


class _SpatialFeatures(nn.Module):
    """Pictures (pictures, 3, 384, 384) uint8 -> features (pictures, 1024): the mean of all tokens."""

    def __init__(self, backbone: Swin) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, pictures: Tensor) -> Tensor:
        return self.tokens(pictures).mean((1, 2))

    def tokens(self, pictures: Tensor) -> Tensor:
        """Tokens (pictures, rows, columns, 1024)."""
        dtype = self.backbone.norm.weight.dtype
        return self.backbone(normalise(pictures, IMAGENET_MEAN, IMAGENET_STD, dtype=dtype)).squeeze(1)


class _AttentionSpatialFeatures(_SpatialFeatures):
    """`_SpatialFeatures` with bottleneck attention blocks between the tokens and their mean."""

    def __init__(self, backbone: Swin, bot: BottleneckStack) -> None:
        super().__init__(backbone)
        self.bot = bot

    def forward(self, pictures: Tensor) -> Tensor:
        return self.bot(self.tokens(pictures).permute(0, 3, 1, 2)).mean((2, 3))


class _LinearFusion(nn.Module):
    """Features (segments, units, width) in order -> scores (segments), unbounded: two linear layers, mean over units.

    `fastvqa` may be the feature maps (segments, clips, 768, 16, 7, 7): then every unit gets their mean.
    """

    def __init__(self, quality: nn.Sequential) -> None:
        super().__init__()
        self.quality = quality

    def forward(self, *features: Tensor) -> Tensor:
        *others, fast_vqa = features
        if fast_vqa.dim() > 3:
            fast_vqa = fast_vqa.flatten(3).mean((1, 3))[:, None].expand(-1, others[0].shape[1], -1)
        return self.quality(torch.cat([*others, fast_vqa], dim=-1)).squeeze(-1).mean(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class SrVqaConfig:
    """Which features are fused, and the sizes of the trained layers."""

    features: Mapping[str, int]
    swin: SwinConfig
    hidden: int = _HIDDEN_WIDTH
    dropout: float = 0.1


def full_config() -> SrVqaConfig:
    """All features."""
    return SrVqaConfig(features=FEATURE_WIDTHS, swin=swin_b_384())


def lean_config() -> SrVqaConfig:
    """Without the large language model, for hosts without a large GPU."""
    return SrVqaConfig(features=LEAN_FEATURE_WIDTHS, swin=swin_b_384())


class SrVqa(nn.Module):
    """A fine-tuned spatial branch, and a regression over it and frozen features."""

    def __init__(self, config: SrVqaConfig) -> None:
        super().__init__()
        self.config = config
        self.spatial = _SpatialFeatures(Swin(config.swin))
        self.regression = FusionRegression(config)

    def forward(self, pictures: Tensor, *features: Tensor) -> Tensor:
        """Pictures (units, 3, 384, 384) uint8, other features (units, width) in order -> scores (units), 0..1."""
        return self.regression(self.spatial(pictures), *features)


class FusionRegression(nn.Module):
    """Features (units, width) in order -> scores (units), 0..1; a video's score is the mean over its units.

    Each feature has a layer norm of its own: LIQE's logits are tens of times larger than pooled maps. `fastvqa` may be
    the feature maps (units, 768, 16, 7, 7), of which the mean is taken. Raises ValueError for another number of
    features.
    """

    def __init__(self, config: SrVqaConfig) -> None:
        super().__init__()
        self.norms = nn.ModuleDict({name: nn.LayerNorm(width) for name, width in config.features.items()})
        self.hidden = nn.Linear(sum(config.features.values()), config.hidden)
        self.dropout = nn.Dropout(config.dropout)
        self.last = nn.Linear(config.hidden, 1)

    def forward(self, *features: Tensor) -> Tensor:
        if len(features) != len(self.norms):
            raise ValueError(f"needs {', '.join(self.norms)}, in this order; got {len(features)} features")
        pooled = [feature.flatten(2).mean(2) if feature.dim() > 2 else feature for feature in features]
        normalised = [norm(feature) for norm, feature in zip(self.norms.values(), pooled, strict=True)]
        hidden = nn.functional.gelu(self.hidden(torch.cat(normalised, dim=-1)))
        return torch.sigmoid(self.last(self.dropout(hidden))).squeeze(-1)
