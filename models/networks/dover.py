"""DOVER: what a clip is worth as made and as meant, each by a network of its own, and both in one number.

Wu et al., "Exploring Video Quality Assessment on User Generated Contents from Aesthetic and Technical Perspectives",
ICCV 2023; names as published. The technical side sees fragments of three clips, the aesthetic one 32 whole frames of
the clip squeezed to 224 x 224.
"""

import math
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn

from models.networks.backbones.convnext3d import ConvNext3d, ConvNextConfig
from models.networks.backbones.pixels import normalise
from models.networks.backbones.swin import RECOMPUTED, Swin, SwinConfig
from models.networks.fast_vqa import MEAN, STD, Fragments, ScoreHead

IGNORED = RECOMPUTED
TECHNICAL_CLIPS, CLIP_FRAMES, INTERVAL = 3, 32, 2
"""Clips of runs of 32 frames; the aesthetic side takes one frame of each of 32 equal parts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """Centre and spread of raw scores, and what the side counts in the whole."""

    centre: float
    spread: float
    weight: float

    def part(self, raw: float) -> float:
        """What a raw score adds before the logistic function."""
        return (raw - self.centre) / self.spread * self.weight


@dataclass(frozen=True, slots=True, kw_only=True)
class Fusion:
    """How two raw scores become one in 0..1."""

    technical: Side
    aesthetic: Side

    def whole(self, *, technical: float, aesthetic: float) -> float:
        """The score of a video, 0..1.

        >>> round(FUSIONS["by-name"].whole(technical=-0.08285, aesthetic=0.1107), 6)
        0.5
        """
        return 1 / (1 + math.exp(-(self.technical.part(technical) + self.aesthetic.part(aesthetic))))


FUSIONS = MappingProxyType(
    {
        # each side by its own statistics on LIVE-VQC, weighed as in the paper (the weights from memory of it)
        "by-name": Fusion(
            technical=Side(centre=-0.08285, spread=0.03774, weight=0.572),
            aesthetic=Side(centre=0.1107, spread=0.07355, weight=0.428),
        ),
        # the published scripts for one video and for sets: each side by the other's statistics
        "one-video": Fusion(
            technical=Side(centre=0.1107, spread=0.07355, weight=0.6104),
            aesthetic=Side(centre=-0.08285, spread=0.03774, weight=0.3896),
        ),
        # the published script for ONNX: own statistics, the weights the other way round
        "onnx": Fusion(
            technical=Side(centre=-0.08285, spread=0.03774, weight=0.3896),
            aesthetic=Side(centre=0.1107, spread=0.07355, weight=0.6104),
        ),
    }
)
"""Published scripts contradict one another; which side has which statistics was told from their stored predictions."""


class Dover(nn.Module):
    """Both sides under their published names."""

    def __init__(self, swin: SwinConfig, convnext: ConvNextConfig) -> None:
        super().__init__()
        self.technical_backbone = Swin(swin)
        self.aesthetic_backbone = ConvNext3d(convnext)
        self.technical_head = ScoreHead(swin.features)
        self.aesthetic_head = ScoreHead(convnext.widths[-1])

    def forward(self, technical: Tensor, aesthetic: Tensor) -> tuple[Tensor, Tensor]:
        """Fragments and squeezed frames, both (clips, 3, 32, 224, 224) uint8 -> raw scores of places, each (clips, 16,
        7, 7)."""
        seen = Fragments(self.technical_backbone)(technical), Squeezed(self.aesthetic_backbone)(aesthetic)
        return self.technical_head(seen[0]), self.aesthetic_head(seen[1])


class Squeezed(nn.Module):
    """Squeezed frames (clips, 3, 32, 224, 224) uint8 -> features of every place (clips, 768, 16, 7, 7)."""

    def __init__(self, backbone: ConvNext3d) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, clips: Tensor) -> Tensor:
        return self.backbone(normalise(clips, MEAN, STD, dtype=self.backbone.norm.weight.dtype))


class Fuse(nn.Module):
    """Raw scores of segments' clips, technical and aesthetic (segments, rows) -> (segments), 0..1."""

    def __init__(self, fusion: Fusion) -> None:
        super().__init__()
        self.fusion = fusion

    def forward(self, technical: Tensor, aesthetic: Tensor) -> Tensor:
        parts = zip((technical, aesthetic), (self.fusion.technical, self.fusion.aesthetic), strict=True)
        added = [(raw.float().mean(1) - side.centre) / side.spread * side.weight for raw, side in parts]
        return torch.sigmoid(added[0] + added[1])
