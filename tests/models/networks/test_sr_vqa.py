"""RQ-VQA against recorded outputs of its published code; SR-VQA's own rules."""

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from models.networks.backbones.bottleneck import BottleneckConfig  # noqa: E402
from models.networks.backbones.pixels import IMAGENET_MEAN, IMAGENET_STD, normalise  # noqa: E402
from models.networks.backbones.swin import SwinConfig, swin_b_384  # noqa: E402
from models.networks.sr_vqa import (  # noqa: E402
    FEATURE_WIDTHS,
    LEAN_FEATURE_WIDTHS,
    FusionRegression,
    RqVqa,
    SrVqa,
    SrVqaConfig,
)
from models.weights import state_dict_shapes  # noqa: E402
from tests.models.rich_goldens import RichGoldens, fill, near  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

NAME = "rq_vqa"
UNITS = 8
OTHERS = [name for name in FEATURE_WIDTHS if name != "spatial"]
# of eight pictures these are recorded
SEEN = slice(None, None, 3)
TINY = SwinConfig(
    frames=1, side=64, patch=(1, 4, 4), width=8, depths=(2, 2), heads=(1, 2), window=(1, 4, 4), gated_stages=0
)


@pytest.fixture(scope="module")
def network(rich_goldens: RichGoldens) -> RqVqa:
    with torch.device("cpu"):
        net = RqVqa(swin_b_384(), BottleneckConfig())
    fill(net, rich_goldens.weights(rich_goldens.shapes(NAME)))
    return net


def seed_of(goldens: RichGoldens, case: int) -> int:
    return int(goldens.manifest[NAME]["seeds"]["rq"][case])


def others(goldens: RichGoldens, case: int) -> list[Any]:
    """Features (1, 8, width) beside the spatial one."""
    return [goldens.features(seed_of(goldens, case), name, (1, UNITS, FEATURE_WIDTHS[name])) for name in OTHERS]


@pytest.mark.fixtures
def test_names_are_the_published_ones(rich_goldens: RichGoldens, network: RqVqa) -> None:
    """Every tensor, no more and no fewer, of the published shapes."""
    ours = {name: shape for name, shape in state_dict_shapes(network).items() if not name.endswith("tracked")}
    assert ours == rich_goldens.shapes(NAME)


@pytest.mark.fixtures
def test_the_spatial_branch_equals_the_published_code(rich_goldens: RichGoldens, network: RqVqa) -> None:
    """Tokens after every stage, the blocks of attention and what they are made of, and the mean."""
    archive, case = rich_goldens.archive(NAME), 0
    pictures = rich_goldens.clip(seed_of(rich_goldens, case), UNITS, 384).transpose(0, 1)[SEEN]
    swin, bot = network.feature_extraction.feature_extraction, network.bot4.net
    with torch.inference_mode():
        tokens = swin.patch_embed(normalise(pictures, IMAGENET_MEAN, IMAGENET_STD, dtype=torch.float32))
        seen = [("patch_embed", tokens)]
        for at, layer in enumerate(swin.layers):
            tokens = layer(tokens)
            seen.append((f"swin_layer{at}", tokens))
        seen.append(("token_map", swin.norm(tokens)))
        for name, values in seen:
            flat = values.flatten(1, 3)
            count, wide = flat.shape[1:]
            near(flat[:, :: max(1, count // 24), :: max(1, wide // 32)], archive[f"in{case}.{name}.slice"])
        maps = seen[-1][1].squeeze(1).permute(0, 3, 1, 2)
        looking = bot[0].net[3]
        inner = bot[0].net[:3](maps)
        query = looking._split(looking.to_qk(inner).chunk(2, dim=1)[0]) * looking._scale
        near(looking.pos_emb(query)[:, :, ::29, ::7], archive[f"in{case}.bot0_position_logits.slice"])
        near(looking(inner)[:, ::32, ::4, ::3], archive[f"in{case}.bot0_mhsa.slice"])
        for at, block in enumerate(bot):
            maps = block(maps)
            near(maps[:, ::32, ::4, ::3], archive[f"in{case}.bot{at}.slice"])
    near(maps.mean((2, 3)), archive[f"in{case}.spatial_1024"][SEEN])


@pytest.mark.fixtures
@pytest.mark.parametrize("case", [0, 1])
def test_joined_features_equal_the_published_code(rich_goldens: RichGoldens, network: RqVqa, case: int) -> None:
    """Scores of a video from recorded spatial features and seven others, and of three videos from drawn ones."""
    archive, fusion = rich_goldens.archive(NAME), network.fusion()
    spatial = torch.from_numpy(archive[f"in{case}.spatial_1024"])[None]
    drawn = others(rich_goldens, case)
    with torch.inference_mode():
        near(fusion(spatial, *drawn), archive[f"in{case}.score"])
        units = [fusion(*(each[:, at : at + 1] for each in (spatial, *drawn))) for at in range(UNITS)]
        near(torch.stack(units, dim=1), archive[f"in{case}.unit_scores"])
        seed = seed_of(rich_goldens, case)
        many = [rich_goldens.features(seed, "spatial", (3, UNITS, 1024))]
        many += [rich_goldens.features(seed, f"{name}_b", (3, UNITS, FEATURE_WIDTHS[name])) for name in OTHERS]
        near(fusion(*many), archive[f"in{case}.head_only.score"])


@pytest.mark.fixtures
def test_from_pictures_to_a_score_as_published(rich_goldens: RichGoldens, network: RqVqa) -> None:
    """The second recorded video's first units, pixels to scores."""
    archive, case = rich_goldens.archive(NAME), 1
    pictures = rich_goldens.clip(seed_of(rich_goldens, case), UNITS, 384).transpose(0, 1)[:2]
    drawn = [each[0, :2, None] for each in others(rich_goldens, case)]
    with torch.inference_mode():
        near(network(pictures[:, None], drawn), archive[f"in{case}.unit_scores"][0, :2])


def test_one_clip_vector_serves_every_unit() -> None:
    """FAST-VQA's features of every place, of any number of clips, become one mean for all units of a video."""
    net = RqVqa(TINY, BottleneckConfig(width=16, inner=8, heads=1, head=4, side=8, depth=1), features={"a": 5, "b": 3})
    units, maps = torch.randn(2, 6, 5), torch.randn(2, 4, 3, 2, 2, 2)
    mean = maps.mean((1, 3, 4, 5))[:, None].expand(-1, 6, -1)
    torch.testing.assert_close(net.fusion()(units, maps), net.fusion()(units, mean))


def test_scores_of_units_are_within_0_and_1_and_independent() -> None:
    """Whatever the features' size, and whichever units stand beside."""
    torch.manual_seed(0)
    net = SrVqa(SrVqaConfig(features={"spatial": 16, "liqe": 9, "fastvqa": 4}, swin=TINY)).eval()
    pictures = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)
    features = [100 * torch.randn(3, 9), torch.randn(3, 4, 2, 2, 2)]
    with torch.inference_mode():
        scores = net(pictures, *features)
        alone = torch.cat([net(pictures[at : at + 1], *(each[at : at + 1] for each in features)) for at in range(3)])
    assert ((scores > 0) & (scores < 1)).all()
    torch.testing.assert_close(scores, alone)
    assert len(set(scores.tolist())) == 3


def test_lean_is_all_but_the_language_model() -> None:
    """The widths of both forms, and that neither takes the other's features."""
    assert sum(FEATURE_WIDTHS.values()) == 6639
    assert sum(LEAN_FEATURE_WIDTHS.values()) == 6639 - 4096
    regression = FusionRegression(SrVqaConfig(features=LEAN_FEATURE_WIDTHS, swin=TINY))
    with pytest.raises(ValueError, match="in this order; got 5"):
        regression(*(torch.zeros(1, width) for width in FEATURE_WIDTHS.values()))
