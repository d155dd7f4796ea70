"""Scorers that join many features of a second of video: SR-VQA, RQ-VQA as released, and a lean form of the former.

Sun et al., "Enhancing Blind Video Quality Assessment with Rich Quality-aware Features", 2024 (RQ-VQA). The paper on
SR-VQA (Cao et al., ECCV Workshops 2024) is public by its abstract alone: what is joined here is as in RQ-VQA, and how
is ours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn

from models.networks.backbones.bottleneck import BotConfig, BotStack
from models.networks.backbones.pixels import IMAGENET_MEAN, IMAGENET_STD, normalise
from models.networks.backbones.swin import RECOMPUTED, Swin, SwinConfig, swin_b_384

IGNORED = (*RECOMPUTED, "*.num_batches_tracked")
UNITS = 8
"""Seconds that RQ-VQA looks at: the first eight, the last of them again where there are fewer."""
FEATURES: Mapping[str, int] = MappingProxyType({"spatial": 1024, "fast": 256, "llm": 4096, "liqe": 495, "fastvqa": 768})
"""Feature of a unit -> its width, in the order in which RQ-VQA joins them.

`spatial` of one picture of 384 x 384; `fast` of SlowFast's fast pathway; `llm` the mean hidden state of Q-Align over
all tokens and both halves of the picture; `liqe` 495 logits; `fastvqa` the mean of FAST-VQA's features over its clips.
"""
LEAN: Mapping[str, int] = MappingProxyType({name: width for name, width in FEATURES.items() if name != "llm"})
"""Without the large language model."""
HIDDEN = 128


class RqVqa(nn.Module):
    """RQ-VQA as released, under its published names but for the leading `module.`."""

    def __init__(self, swin: SwinConfig, bot: BotConfig, features: Mapping[str, int] = FEATURES) -> None:
        super().__init__()
        self.features = features
        self.feature_extraction = Held(Swin(swin))
        self.bot4 = BotStack(bot)
        self.quality = nn.Sequential(nn.Linear(sum(features.values()), HIDDEN), nn.Linear(HIDDEN, 1))

    def spatial(self) -> nn.Module:
        """The branch that sees pictures."""
        return AttendedSpatial(self.feature_extraction.feature_extraction, self.bot4)

    def fusion(self) -> nn.Module:
        """The branch that joins features."""
        return LinearFusion(self.quality)

    def forward(self, pictures: Tensor, features: Sequence[Tensor]) -> Tensor:
        """Pictures (videos, units, 3, 384, 384) uint8, other features (videos, units, width) in order -> (videos)."""
        spatial = self.spatial()(pictures.flatten(0, 1)).unflatten(0, pictures.shape[:2])
        return self.fusion()(spatial, *features)


class Held(nn.Module):
    """Holds the name `feature_extraction`."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.feature_extraction = network


class Spatial(nn.Module):
    """Pictures (pictures, 3, 384, 384) uint8 -> features (pictures, 1024): the mean of all tokens."""

    def __init__(self, backbone: Swin) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, pictures: Tensor) -> Tensor:
        return self.tokens(pictures).mean((1, 2))

    def tokens(self, pictures: Tensor) -> Tensor:
        """(pictures, rows, columns, 1024)."""
        dtype = self.backbone.norm.weight.dtype
        return self.backbone(normalise(pictures, IMAGENET_MEAN, IMAGENET_STD, dtype=dtype)).squeeze(1)


class AttendedSpatial(Spatial):
    """The same, with three blocks of attention between the tokens and their mean."""

    def __init__(self, backbone: Swin, bot: BotStack) -> None:
        super().__init__(backbone)
        self.bot = bot

    def forward(self, pictures: Tensor) -> Tensor:
        return self.bot(self.tokens(pictures).permute(0, 3, 1, 2)).mean((2, 3))


class LinearFusion(nn.Module):
    """Features (segments, units, width) in order -> (segments), on no fixed scale: two linear maps, mean over units.

    `fastvqa` may be the features of every place (segments, clips, 768, 16, 7, 7): their mean then serves every unit.
    """

    def __init__(self, quality: nn.Sequential) -> None:
        super().__init__()
        self.quality = quality

    def forward(self, *features: Tensor) -> Tensor:
        *others, clips = features
        if clips.dim() > 3:
            clips = clips.flatten(3).mean((1, 3))[:, None].expand(-1, others[0].shape[1], -1)
        return self.quality(torch.cat([*others, clips], dim=-1)).squeeze(-1).mean(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class SrVqaConfig:
    """Which features, and the sizes of the branch that is trained."""

    features: Mapping[str, int]
    swin: SwinConfig
    hidden: int = HIDDEN
    # share of hidden values left out in training
    dropout: float = 0.1


def full() -> SrVqaConfig:
    """All features."""
    return SrVqaConfig(features=FEATURES, swin=swin_b_384())


def lean() -> SrVqaConfig:
    """For hosts without a large GPU."""
    return SrVqaConfig(features=LEAN, swin=swin_b_384())


class SrVqa(nn.Module):
    """A spatial branch that is fine-tuned, and a regression over it and frozen features."""

    def __init__(self, config: SrVqaConfig) -> None:
        super().__init__()
        self.config = config
        self.spatial = Spatial(Swin(config.swin))
        self.regression = Regression(config)

    def forward(self, pictures: Tensor, *features: Tensor) -> Tensor:
        """Pictures (units, 3, 384, 384) uint8, other features (units, width) in order -> scores of units 0..1."""
        return self.regression(self.spatial(pictures), *features)


class Regression(nn.Module):
    """Features (units, width) in order -> scores (units), 0..1; a video's score is the mean over its units.

    Each feature is normed by itself: LIQE's logits are tens of times larger than pooled maps. `fastvqa` may be the
    features of every place (units, 768, 16, 7, 7), of which the mean is taken.
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
        flat = [each.flatten(2).mean(2) if each.dim() > 2 else each for each in features]
        joined = [norm(each) for norm, each in zip(self.norms.values(), flat, strict=True)]
        inner = nn.functional.gelu(self.hidden(torch.cat(joined, dim=-1)))
        return torch.sigmoid(self.last(self.dropout(inner))).squeeze(-1)
