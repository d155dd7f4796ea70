"""COVER against recorded scores of its published code."""

import pytest

torch = pytest.importorskip("torch")

from models.networks.backbones.clip import ClipConfig, ClipVisual  # noqa: E402
from models.networks.backbones.convnext3d import ConvNextConfig  # noqa: E402
from models.networks.backbones.swin import SwinConfig  # noqa: E402
from models.networks.fragments import cover  # noqa: E402
from models.networks.fragments.dover import AestheticFeatures  # noqa: E402
from models.networks.fragments.fast_vqa import FragmentFeatures  # noqa: E402
from models.weights import state_dict_shapes  # noqa: E402
from tests.models.networks.pictures.recorded import fill, names_checksum  # noqa: E402
from vqmon.core.types import View  # noqa: E402
from vqmon.scoring.manifests.frame_scorer import golden_frames  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

WIDTH = 48
RECORDED = {
    1: (-0.2438059, -0.0543857925, 0.361524701),
    2: (-0.279229403, -0.0889411867, 0.378581792),
    3: (-0.25387302, -0.22118564, 0.318723291),
}
"""Seed of the clips -> semantic, technical and aesthetic score.

Recorded from taco-group/COVER 7373bee, its classes at the sizes below, with weights drawn by name and its own
normalisation of the pixels.
"""
NAMES = 3297513927
"""Of the published names and shapes, without those that are computed and the prompts."""


def frames(side: int, count: int, *, seed: int) -> torch.Tensor:
    """(count, 3, side, side) uint8."""
    pixels = golden_frames(View(kind="stretch", width=side, height=side), seed=seed, frames=count)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def test_names_are_the_published_ones() -> None:
    """Every tensor of the full size, no more and no fewer; CLIP's are in a file of their own."""
    network = cover.Cover(cover.cover_clips(), ConvNextConfig())
    assert names_checksum(network) == NAMES
    assert not any("semantic_backbone" in name for name in state_dict_shapes(network))


def test_scores_of_the_sides_equal_those_of_the_published_code() -> None:
    """40 frames: 20 steps in time in windows of 8, gated by the vectors of 20 frames without positions of patches."""
    swin = SwinConfig(frames=40, side=56, width=24, depths=(2, 2), heads=(2, 4), gated_stages=1)
    network = fill(cover.Cover(swin, ConvNextConfig(widths=(8, 16, 24, WIDTH), depths=(3, 1, 1, 1))))
    clip = fill(ClipVisual(ClipConfig(patch=14, width=64, depth=2, joint=WIDTH)))
    for seed, recorded in RECORDED.items():
        # the semantic side sees 36 patches, for which the file has no positions
        technical, aesthetic = (frames(side, 40, seed=seed).transpose(0, 1)[None] for side in (56, 224))
        with torch.inference_mode():
            vectors = cover.SemanticVectors(clip.visual)(frames(84, 20, seed=seed))[None]
            scores = torch.cat(
                [
                    cover.SemanticScore(network.semantic_head)(vectors),
                    cover.GatedScore(network.smtc_gate_tech, network.technical_head)(
                        vectors, FragmentFeatures(network.technical_backbone)(technical)
                    ),
                    cover.GatedScore(network.smtc_gate_aesc, network.aesthetic_head)(
                        vectors, AestheticFeatures(network.aesthetic_backbone)(aesthetic)
                    ),
                ]
            )
            total = cover.SumOfSides()(*scores.split(1))
        expected = torch.tensor(recorded)
        assert float((scores - expected).abs().max() / expected.abs().max()) < 1e-4
        assert float(total) == pytest.approx(sum(recorded), abs=1e-5)


def test_sides_of_different_widths_are_refused() -> None:
    """The gates join maps and vectors of one width."""
    with pytest.raises(ValueError, match="768 and 16 features"):
        cover.Cover(cover.cover_clips(), ConvNextConfig(widths=(8, 16), depths=(1, 1)))
