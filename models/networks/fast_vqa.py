"""FAST-VQA and FasterVQA: a Swin transformer over fragments of a clip, and a head that scores every place of it.

Wu et al., "FAST-VQA", ECCV 2022, and "Neighbourhood Representative Sampling for Efficient End-to-end Video Quality
Assessment", 2022; names as published.
"""

import math
from dataclasses import dataclass
from types import MappingProxyType

from torch import Tensor, nn

from models.networks.backbones.pixels import normalise
from models.networks.backbones.swin import RECOMPUTED, Swin, SwinConfig

MEAN, STD = (123.675 / 255, 116.28 / 255, 103.53 / 255), (58.395 / 255, 57.12 / 255, 57.375 / 255)
HIDDEN = 64
IGNORED = RECOMPUTED


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """What of a clip is looked at: `clips` inputs of `parts` runs of frames each, `interval` frames apart.

    `aligned` frames are cut alike. `centre` and `spread` of published scores make 0..1 of a raw score for display.
    """

    clips: int
    parts: int
    frames: int
    pieces: int
    aligned: int
    interval: int = 2
    centre: float
    spread: float

    def display(self, score: float) -> float:
        """A raw score on the published scale of 0..1."""
        return 1 / (1 + math.exp(-(score - self.centre) / self.spread))


VARIANTS = MappingProxyType(
    {
        "fast-vqa-b": Sampling(
            clips=4, parts=1, frames=32, pieces=7, aligned=32, centre=-0.110198185, spread=0.04178565
        ),
        "faster-vqa": Sampling(clips=1, parts=8, frames=32, pieces=7, aligned=8, centre=0.14759505, spread=0.03613452),
    }
)
"""Published ways to sample for this network, each with weights of its own. Smaller published networks (16 frames, or
fewer pieces) cut their windows down, which `Swin` does not do."""


class ScoreHead(nn.Module):
    """Features (clips, features, time, rows, columns) -> scores (clips, time, rows, columns)."""

    def __init__(self, features: int, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.fc_hid = nn.Conv3d(features, hidden, 1)
        self.fc_last = nn.Conv3d(hidden, 1, 1)

    def forward(self, features: Tensor) -> Tensor:
        return self.fc_last(nn.functional.gelu(self.fc_hid(features)))[:, 0]


class FastVqa(nn.Module):
    """Everything under its published names; exported as `Fragments` and `PlacesToScore`, which share these tensors."""

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        self.fragments_backbone = Swin(config)
        self.vqa_head = ScoreHead(config.features)

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Fragments (clips, 3, 32, 224, 224) uint8 -> score (clips), map (clips, 16, 7, 7), features (clips, 768).

        A video's score is the mean over its clips; so is the vector that fusing scorers take.
        """
        features = Fragments(self.fragments_backbone)(clips)
        places = self.vqa_head(features)
        return places.mean((1, 2, 3)), places, features.mean((2, 3, 4))


class Fragments(nn.Module):
    """Fragments (clips, 3, 32, 224, 224) uint8 -> features of every place (clips, 768, 16, 7, 7)."""

    def __init__(self, backbone: Swin) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, clips: Tensor) -> Tensor:
        tokens = self.backbone(normalise(clips, MEAN, STD, dtype=self.backbone.norm.weight.dtype))
        return tokens.permute(0, 4, 1, 2, 3)


class PlacesToScore(nn.Module):
    """Features of every place (clips, features, time, rows, columns) -> raw scores (clips)."""

    def __init__(self, head: ScoreHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: Tensor) -> Tensor:
        return self.head(features).mean((1, 2, 3))
