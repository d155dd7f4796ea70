"""FAST-VQA and FasterVQA: a Swin transformer over fragments of a clip, and a head that scores every cell of its map.

Wu et al., "FAST-VQA", ECCV 2022, and "Neighbourhood Representative Sampling for Efficient End-to-end Video Quality
Assessment", 2022; parameter names as published. The smaller published networks (16 frames, or fewer fragments) crop
their attention windows, which `Swin` does not do.
"""

from torch import Tensor, nn

from models.networks.backbones.pixels import normalise
from models.networks.backbones.swin import RECOMPUTED_TENSORS, Swin, SwinConfig

MEAN, STD = (123.675 / 255, 116.28 / 255, 103.53 / 255), (58.395 / 255, 57.12 / 255, 57.375 / 255)
_HIDDEN_WIDTH = 64
IGNORED_TENSORS = RECOMPUTED_TENSORS


class ScoreHead(nn.Module):
    """Feature maps (clips, features, time, rows, columns) -> score maps (clips, time, rows, columns)."""

    def __init__(self, features: int, hidden: int = _HIDDEN_WIDTH) -> None:
        super().__init__()
        self.fc_hid = nn.Conv3d(features, hidden, 1)
        self.fc_last = nn.Conv3d(hidden, 1, 1)

    def forward(self, features: Tensor) -> Tensor:
        return self.fc_last(nn.functional.gelu(self.fc_hid(features)))[:, 0]


class FastVqa(nn.Module):
    """The network under its published names; exported as `FragmentFeatures` and `MeanScore`, which share its
    tensors."""

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        self.fragments_backbone = Swin(config)
        self.vqa_head = ScoreHead(config.features)

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Fragments (clips, 3, 32, 224, 224) uint8 -> score (clips), score map (clips, 16, 7, 7), features (clips,
        768).

        A video's score is the mean over its clips; so are the features that fusing scorers take.
        """
        features = FragmentFeatures(self.fragments_backbone)(clips)
        score_map = self.vqa_head(features)
        return score_map.mean((1, 2, 3)), score_map, features.mean((2, 3, 4))


class FragmentFeatures(nn.Module):
    """Fragments (clips, 3, 32, 224, 224) uint8 -> feature maps (clips, 768, 16, 7, 7)."""

    def __init__(self, backbone: Swin) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, clips: Tensor) -> Tensor:
        tokens = self.backbone(normalise(clips, MEAN, STD, dtype=self.backbone.norm.weight.dtype))
        return tokens.permute(0, 4, 1, 2, 3)


class MeanScore(nn.Module):
    """Feature maps (clips, features, time, rows, columns) -> raw scores (clips): the mean of the score map."""

    def __init__(self, head: ScoreHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: Tensor) -> Tensor:
        return self.head(features).mean((1, 2, 3))
