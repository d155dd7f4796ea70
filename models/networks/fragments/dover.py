"""DOVER: a technical and an aesthetic quality score of a clip, each by a network of its own, fused into one.

Wu et al., "Exploring Video Quality Assessment on User Generated Contents from Aesthetic and Technical Perspectives",
ICCV 2023; parameter names as published. The technical side sees fragments of clips, the aesthetic side whole frames
resized to 224 x 224.
"""

from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn

from models.networks.backbones.convnext3d import ConvNext3d, ConvNextConfig
from models.networks.backbones.pixels import normalise
from models.networks.backbones.swin import RECOMPUTED_TENSORS, Swin, SwinConfig
from models.networks.fragments.fast_vqa import MEAN, STD, FragmentFeatures, ScoreHead

IGNORED_TENSORS = RECOMPUTED_TENSORS


@dataclass(frozen=True, slots=True, kw_only=True)
class SideNormalisation:
    """Mean and standard deviation of one side's raw scores, and the side's weight in the fused score."""

    centre: float
    spread: float
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreFusion:
    """How the raw scores of both sides are fused into one of 0..1."""

    technical: SideNormalisation
    aesthetic: SideNormalisation


FUSIONS = MappingProxyType(
    {
        # each side by its own statistics on LIVE-VQC, with the weights of the paper (remembered, not looked up)
        "by-name": ScoreFusion(
            technical=SideNormalisation(centre=-0.08285, spread=0.03774, weight=0.572),
            aesthetic=SideNormalisation(centre=0.1107, spread=0.07355, weight=0.428),
        ),
        # the published scripts for one video and for sets: each side by the statistics of the other
        "one-video": ScoreFusion(
            technical=SideNormalisation(centre=0.1107, spread=0.07355, weight=0.6104),
            aesthetic=SideNormalisation(centre=-0.08285, spread=0.03774, weight=0.3896),
        ),
        # the published script for ONNX: own statistics, swapped weights
        "onnx": ScoreFusion(
            technical=SideNormalisation(centre=-0.08285, spread=0.03774, weight=0.3896),
            aesthetic=SideNormalisation(centre=0.1107, spread=0.07355, weight=0.6104),
        ),
    }
)
"""Published scripts contradict one another; their stored predictions show which side has which statistics."""


class Dover(nn.Module):
    """Both sides under their published names."""

    def __init__(self, swin: SwinConfig, convnext: ConvNextConfig) -> None:
        super().__init__()
        self.technical_backbone = Swin(swin)
        self.aesthetic_backbone = ConvNext3d(convnext)
        self.technical_head = ScoreHead(swin.features)
        self.aesthetic_head = ScoreHead(convnext.widths[-1])

    def forward(self, technical: Tensor, aesthetic: Tensor) -> tuple[Tensor, Tensor]:
        """Fragments and resized frames, both (clips, 3, 32, 224, 224) uint8 -> score maps, each (clips, 16, 7, 7)."""
        features = (
            FragmentFeatures(self.technical_backbone)(technical),
            AestheticFeatures(self.aesthetic_backbone)(aesthetic),
        )
        return self.technical_head(features[0]), self.aesthetic_head(features[1])


class AestheticFeatures(nn.Module):
    """Resized frames (clips, 3, 32, 224, 224) uint8 -> feature maps (clips, 768, 16, 7, 7)."""

    def __init__(self, backbone: ConvNext3d) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, clips: Tensor) -> Tensor:
        return self.backbone(normalise(clips, MEAN, STD, dtype=self.backbone.norm.weight.dtype))


class FuseSideScores(nn.Module):
    """Raw technical and aesthetic scores of the clips of segments (segments, rows) -> fused score (segments), 0..1."""

    def __init__(self, fusion: ScoreFusion) -> None:
        super().__init__()
        self.fusion = fusion

    def forward(self, technical: Tensor, aesthetic: Tensor) -> Tensor:
        sides = zip((technical, aesthetic), (self.fusion.technical, self.fusion.aesthetic), strict=True)
        terms = [(raw.float().mean(1) - side.centre) / side.spread * side.weight for raw, side in sides]
        return torch.sigmoid(terms[0] + terms[1])
