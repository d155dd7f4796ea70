"""COVER: a semantic, a technical and an aesthetic quality score of a clip, added up.

He et al., "COVER: A Comprehensive Video Quality Evaluator", CVPR Workshops 2024; parameter names as published. The
technical and the aesthetic side are DOVER's networks, of which features of the semantic side, CLIP's of single frames,
gate the maps.
"""

from torch import Tensor, nn

from models.networks.backbones.clip import VisualTower
from models.networks.backbones.convnext3d import ConvNext3d, ConvNextConfig
from models.networks.backbones.pixels import normalise
from models.networks.backbones.swin import RECOMPUTED_TENSORS, Swin, SwinConfig
from models.networks.fragments.fast_vqa import ScoreHead

MEAN, STD = (122.77 / 255, 116.75 / 255, 104.09 / 255), (68.50 / 255, 66.63 / 255, 70.32 / 255)
"""Of the semantic side's pixels: CLIP's, as the authors round them."""
SEMANTIC_SIDE = 512
"""Side of the semantic side's frames, in px."""
FRAMES_PER_MOMENT = 2
"""Frames of a clip that one step in time of the maps, and one frame of the semantic side, stand for."""
IGNORED_TENSORS = (*RECOMPUTED_TENSORS, "semantic_backbone.prompt_learner.*")
"""Of the prompts, which were trained with CLIP-IQA+, COVER uses nothing."""


def cover_clips() -> SwinConfig:
    """The technical side: FAST-VQA's network on 40 frames."""
    return SwinConfig(frames=40)


class Cover(nn.Module):
    """What the published file holds, under its names; CLIP's weights are in a file of their own."""

    def __init__(self, swin: SwinConfig, convnext: ConvNextConfig) -> None:
        super().__init__()
        width = swin.features
        if convnext.widths[-1] != width:
            raise ValueError(f"the sides have {width} and {convnext.widths[-1]} features: they must have the same")
        self.technical_backbone = Swin(swin)
        self.aesthetic_backbone = ConvNext3d(convnext)
        self.semantic_head = ScoreHead(width)
        self.technical_head = ScoreHead(width)
        self.aesthetic_head = ScoreHead(width)
        self.smtc_gate_tech = CrossGate(width)
        self.smtc_gate_aesc = CrossGate(width)


class CrossGate(nn.Module):
    """Maps that are gated by a vector of each moment."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.Conv_0 = nn.Linear(width, width)
        self.Conv_1 = nn.Linear(width, width)
        self.in_project_x = nn.Linear(width, width)
        self.out_project_y = nn.Linear(width, width)

    def forward(self, vectors: Tensor, maps: Tensor) -> Tensor:
        """(clips, time, width) and (clips, width, time, rows, columns) -> maps of the same shape."""
        gates = nn.functional.gelu(self.in_project_x(self.Conv_0(vectors)), approximate="tanh")
        values = self.Conv_1(maps.movedim(1, -1))
        return (values + self.out_project_y(values * gates[:, :, None, None])).movedim(-1, 1)


class SemanticVectors(nn.Module):
    """Frames (frames, 3, side, side) uint8 -> vectors (frames, joint) of length 1, without positions of patches."""

    def __init__(self, visual: VisualTower) -> None:
        super().__init__()
        self.visual = visual

    def forward(self, pictures: Tensor) -> Tensor:
        vectors = self.visual.without_positions(normalise(pictures, MEAN, STD, dtype=self.visual.proj.dtype))
        return vectors / vectors.norm(dim=-1, keepdim=True)


class SemanticScore(nn.Module):
    """Vectors of the moments of clips (clips, time, width) -> raw scores (clips)."""

    def __init__(self, head: ScoreHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, vectors: Tensor) -> Tensor:
        return self.head(vectors.movedim(1, -1)[..., None, None]).mean((1, 2, 3))


class GatedScore(nn.Module):
    """Vectors (clips, time, width) and maps (clips, width, time, rows, columns) -> raw scores (clips)."""

    def __init__(self, gate: CrossGate, head: ScoreHead) -> None:
        super().__init__()
        self.gate, self.head = gate, head

    def forward(self, vectors: Tensor, maps: Tensor) -> Tensor:
        return self.head(self.gate(vectors, maps)).mean((1, 2, 3))


class SumOfSides(nn.Module):
    """Raw scores (clips) of the three sides -> their sum (clips)."""

    def forward(self, semantic: Tensor, technical: Tensor, aesthetic: Tensor) -> Tensor:
        return semantic + technical + aesthetic
