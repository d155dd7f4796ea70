"""DOVER against recorded outputs of its published code: both sides, every fusion script, samplers."""

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from models.networks.backbones.convnext3d import ConvNextConfig  # noqa: E402
from models.networks.backbones.pixels import normalise  # noqa: E402
from models.networks.backbones.swin import SwinConfig  # noqa: E402
from models.networks.fragments.dover import FUSIONS, MEAN, STD, AestheticFeatures, Dover, FuseSideScores, ScoreFusion  # noqa: E402
from models.networks.fragments.fast_vqa import FragmentFeatures  # noqa: E402
from models.weights import state_dict_shapes  # noqa: E402
from tests.models.rich_goldens import RichGoldens, fill, near, near_stats  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

NAME = "dover"


@pytest.fixture(scope="module")
def network(rich_goldens: RichGoldens) -> Dover:
    net = Dover(SwinConfig(), ConvNextConfig())
    fill(net, rich_goldens.weights(rich_goldens.shapes(NAME)))
    return net


def cut(values: Any) -> Any:
    """The places that are recorded of (clips, channels, time, rows, columns)."""
    wide, side = values.shape[1], values.shape[3]
    return values[:, :: max(1, wide // 16), ::5, :: max(1, side // 5), :: max(1, side // 6)]


@pytest.mark.fixtures
def test_names_are_the_published_ones(rich_goldens: RichGoldens, network: Dover) -> None:
    """Every tensor, no more and no fewer, of the published shapes."""
    assert state_dict_shapes(network) == rich_goldens.shapes(NAME)


@pytest.mark.fixtures
def test_the_aesthetic_side_equals_the_published_code(rich_goldens: RichGoldens, network: Dover) -> None:
    """Every depth of the stretched network, its map, and the scores of its head."""
    archive = rich_goldens.archive(NAME)
    clip = rich_goldens.clip(rich_goldens.manifest[NAME]["seeds"]["dover"][0] + 1, 32, 224)[None]
    backbone = network.aesthetic_backbone
    with torch.inference_mode():
        values = normalise(clip, MEAN, STD, dtype=torch.float32)
        for at, (halve, stage) in enumerate(zip(backbone.downsample_layers, backbone.stages, strict=True)):
            values = halve(values)
            near(cut(values), archive[f"in0.aesthetic_down{at}.slice"])
            values = stage(values)
            near(cut(values), archive[f"in0.aesthetic_stage{at}.slice"])
            near_stats(values, archive[f"in0.aesthetic_stage{at}.stats"])
        values = backbone.norm(values)
        near(cut(values), archive["in0.aesthetic.slice"])
        near(values.mean((2, 3, 4)), archive["in0.aesthetic.channel_mean"])
        near(network.aesthetic_head(values)[:, None], archive["in0.aesthetic.score_map"])
        np.testing.assert_array_equal(AestheticFeatures(backbone)(clip), values)


@pytest.mark.fixtures
def test_the_technical_side_equals_the_published_code(rich_goldens: RichGoldens, network: Dover) -> None:
    """Scores of every place of the first of three clips, from pixels."""
    archive = rich_goldens.archive(NAME)
    clip = rich_goldens.clip(rich_goldens.manifest[NAME]["seeds"]["dover"][1], 96, 224)[None, :, :32]
    with torch.inference_mode():
        score_map = network.technical_head(FragmentFeatures(network.technical_backbone)(clip))
    near(score_map[:, None], archive["in1.technical.score_map"][:1])
    near(score_map.mean((1, 2, 3)), archive["in1.technical.score_per_clip"][:1])


def fused(fusion: ScoreFusion, *, technical: Any, aesthetic: Any) -> Any:
    """Fused scores of raw scores, one clip per segment."""
    columns = [torch.tensor(np.reshape(raw, (-1, 1)), dtype=torch.float32) for raw in (technical, aesthetic)]
    return FuseSideScores(fusion)(*columns)


@pytest.mark.fixtures
@pytest.mark.parametrize(("ours", "theirs"), [("one-video", "one_video"), ("one-video", "set_overall"), ("onnx",) * 2])
def test_scores_are_fused_as_by_the_published_scripts(rich_goldens: RichGoldens, ours: str, theirs: str) -> None:
    """For a table of pairs and for recorded scores."""
    archive, fusion = rich_goldens.archive(NAME), FUSIONS[ours]
    aesthetic, technical = archive["fusion_table.aesthetic_technical"].T
    near(fused(fusion, technical=technical, aesthetic=aesthetic), archive[f"fusion_table.{theirs}"], share=1e-5)
    for case in (0, 1):
        raw = {side: float(archive[f"in{case}.{side}.score"]) for side in ("technical", "aesthetic")}
        expected = float(archive[f"in{case}.fused.{theirs}"])
        assert float(fused(fusion, **raw)) == pytest.approx(expected, abs=1e-5)


def test_by_name_each_side_is_normalised_by_its_own_statistics() -> None:
    """One deviation above its mean moves a side's logit by its weight, technical more; both means give 0.5."""
    fusion = FUSIONS["by-name"]
    technical, aesthetic = fusion.technical, fusion.aesthetic
    scores = fused(
        fusion,
        technical=[technical.centre, technical.centre + technical.spread, technical.centre],
        aesthetic=[aesthetic.centre, aesthetic.centre, aesthetic.centre + aesthetic.spread],
    )
    assert torch.logit(scores).tolist() == pytest.approx([0, 0.572, 0.428], abs=1e-5)


def test_a_segments_score_is_fused_from_the_mean_over_its_clips() -> None:
    """Three clips with raw scores around a mean count as one clip with that mean."""
    fusion = FUSIONS["by-name"]
    technical, aesthetic = torch.tensor([[-0.10, -0.08, -0.06]]), torch.tensor([[0.05, 0.10, 0.15]])
    whole = FuseSideScores(fusion)(technical, aesthetic)
    torch.testing.assert_close(whole, fused(fusion, technical=-0.08, aesthetic=0.10))
