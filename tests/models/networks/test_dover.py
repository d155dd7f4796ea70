"""DOVER against recorded outputs of its published code: both sides, every fusion script, samplers."""

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from models.data import fragments  # noqa: E402
from models.networks.backbones.convnext3d import ConvNextConfig  # noqa: E402
from models.networks.backbones.pixels import normalise  # noqa: E402
from models.networks.backbones.swin import SwinConfig  # noqa: E402
from models.networks.dover import FUSIONS, MEAN, STD, Dover, Fuse, Squeezed  # noqa: E402
from models.networks.fast_vqa import Fragments  # noqa: E402
from models.weights import shapes_of  # noqa: E402
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
    assert shapes_of(network) == rich_goldens.shapes(NAME)


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
        np.testing.assert_array_equal(Squeezed(backbone)(clip), values)


@pytest.mark.fixtures
def test_the_technical_side_equals_the_published_code(rich_goldens: RichGoldens, network: Dover) -> None:
    """Scores of every place of the first of three clips, from pixels."""
    archive = rich_goldens.archive(NAME)
    clip = rich_goldens.clip(rich_goldens.manifest[NAME]["seeds"]["dover"][1], 96, 224)[None, :, :32]
    with torch.inference_mode():
        places = network.technical_head(Fragments(network.technical_backbone)(clip))
    near(places[:, None], archive["in1.technical.score_map"][:1])
    near(places.mean((1, 2, 3)), archive["in1.technical.score_per_clip"][:1])


@pytest.mark.fixtures
@pytest.mark.parametrize(("ours", "theirs"), [("one-video", "one_video"), ("one-video", "set_overall"), ("onnx",) * 2])
def test_scripts_fuse_as_published(rich_goldens: RichGoldens, ours: str, theirs: str) -> None:
    """On a table of pairs and on recorded scores; the graph says what the function says."""
    archive, fusion = rich_goldens.archive(NAME), FUSIONS[ours]
    pairs = archive["fusion_table.aesthetic_technical"]
    found = [fusion.whole(technical=technical, aesthetic=aesthetic) for aesthetic, technical in pairs]
    near(found, archive[f"fusion_table.{theirs}"], share=1e-6)
    scores = [torch.from_numpy(pairs[:, at : at + 1].astype(np.float32)) for at in (1, 0)]
    near(Fuse(fusion)(*scores), archive[f"fusion_table.{theirs}"], share=1e-5)
    for case in (0, 1):
        raw = {side: float(archive[f"in{case}.{side}.score"]) for side in ("technical", "aesthetic")}
        assert fusion.whole(**raw) == pytest.approx(float(archive[f"in{case}.fused.{theirs}"]), abs=1e-6)


def test_by_name_both_sides_count_by_their_own_statistics() -> None:
    """One deviation above its own mean moves either side by its own weight, technical more."""
    fusion = FUSIONS["by-name"]
    high = [
        fusion.whole(technical=fusion.technical.centre + fusion.technical.spread, aesthetic=fusion.aesthetic.centre),
        fusion.whole(technical=fusion.technical.centre, aesthetic=fusion.aesthetic.centre + fusion.aesthetic.spread),
    ]
    assert np.log(np.array(high) / (1 - np.array(high))) == pytest.approx([0.572, 0.428])


@pytest.mark.fixtures
def test_frames_are_drawn_as_published(rich_goldens: RichGoldens) -> None:
    """Both sides' indices for every seed and length that was recorded."""
    archive, cases = rich_goldens.archive(NAME), rich_goldens.manifest[NAME]["recorded"]["temporal_cases"]
    for case in cases:
        wanted = case["args"]
        found = fragments.strata(
            case["total_frames"], length=wanted["fsize_t"], parts=wanted["fragments_t"],
            interval=wanted["frame_interval"], draw=np.random.RandomState(case["numpy_seed"]),
        )  # fmt: skip
        np.testing.assert_array_equal(found, archive[case["name"]])
    assert len(cases) > 20
