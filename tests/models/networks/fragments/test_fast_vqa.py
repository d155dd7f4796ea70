"""FAST-VQA against recorded outputs of its published code: samplers, every stage, maps and scores."""

from zlib import crc32

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from models.networks.backbones.pixels import normalise  # noqa: E402
from models.networks.backbones.swin import SwinConfig  # noqa: E402
from models.networks.fragments.fast_vqa import MEAN, STD, FastVqa  # noqa: E402
from models.weights import state_dict_shapes  # noqa: E402
from tests.models import published_fragments as fragments  # noqa: E402
from tests.models.rich_goldens import RichGoldens, fill, near, near_stats  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

NAME = "fastvqa_b"


@pytest.fixture(scope="module")
def network(rich_goldens: RichGoldens) -> FastVqa:
    net = FastVqa(SwinConfig())
    fill(net, rich_goldens.weights(rich_goldens.shapes(NAME)))
    return net


def cut(values: torch.Tensor) -> torch.Tensor:
    """The places that are recorded of (clips, channels, time, rows, columns)."""
    wide, side = values.shape[1], values.shape[3]
    return values[:, :: max(1, wide // 16), ::5, :: max(1, side // 5), :: max(1, side // 6)]


@pytest.mark.fixtures
def test_names_are_the_published_ones(rich_goldens: RichGoldens, network: FastVqa) -> None:
    """Every tensor, no more and no fewer, of the published shapes."""
    assert state_dict_shapes(network) == rich_goldens.shapes(NAME)


@pytest.mark.fixtures
def test_every_stage_equals_the_published_code(rich_goldens: RichGoldens, network: FastVqa) -> None:
    """Tokens after patches, after each stage and after the last norm; map, score and the features for fusion."""
    archive, key = rich_goldens.archive(NAME), "in1.clips1"
    clips = rich_goldens.clip(rich_goldens.manifest[NAME]["seeds"]["fast"][1], 32, 224)[None]
    backbone = network.fragments_backbone
    with torch.inference_mode():
        tokens = backbone.patch_embed(normalise(clips, MEAN, STD, dtype=torch.float32))
        for name, layer in (
            ("patch_embed", None),
            *((f"layer{at}", stage) for at, stage in enumerate(backbone.layers)),
        ):
            tokens = tokens if layer is None else layer(tokens)
            near(cut(tokens.permute(0, 4, 1, 2, 3)), archive[f"{key}.{name}.slice"])
            near_stats(tokens, archive[f"{key}.{name}.stats"])
        features = backbone.norm(tokens).permute(0, 4, 1, 2, 3)
        score_map = network.vqa_head(features)
    near(cut(features), archive[f"{key}.map.slice"])
    near(features.mean((2, 3, 4)), archive[f"{key}.map.channel_mean"])
    near(score_map[:, None], archive[f"{key}.score_map"])
    near(score_map.mean((1, 2, 3)), archive[f"{key}.score_per_clip"])


@pytest.mark.fixtures
def test_two_clips_at_once_equal_the_published_code(rich_goldens: RichGoldens, network: FastVqa) -> None:
    """From pixels to score, map and features; what fusing scorers take is the mean over clips."""
    archive = rich_goldens.archive(NAME)
    frames = rich_goldens.clip(rich_goldens.manifest[NAME]["seeds"]["fast"][0], 64, 224)
    clips = torch.stack([frames[:, :32], frames[:, 32:]])
    with torch.inference_mode():
        score, score_map, features = network(clips)
    near(score, archive["in0.clips2.score_per_clip"])
    near(score_map[:, None], archive["in0.clips2.score_map"])
    near(features.mean(0), archive["in0.clips2.rq_feature_768"])


@pytest.mark.fixtures
def test_pieces_are_cut_as_published(rich_goldens: RichGoldens) -> None:
    """The same places and the same bytes; of frames that had to be enlarged, within one level."""
    archive = rich_goldens.archive(NAME)
    for case in rich_goldens.manifest[NAME]["recorded"]["fragment_cases"]:
        if case["name"].startswith("frag1") and case["h"] > 360:
            continue
        count, aligned = 32 * case["clips"], case.get("aligned", 32)
        grid = fragments.Grid(per_side=case.get("fragments_h", 7))
        frames = rich_goldens.frames(case["frames_seed"], count, case["h"], case["w"])
        seed, name = case["torch_seed"], case["name"]
        actual = fragments.fragments(frames, seed=seed, groups=count // aligned, grid=grid).transpose(3, 0, 1, 2)
        if f"{name}.origins" in archive.files:
            origins = fragments.origins(case["h"], case["w"], groups=count // aligned, seed=seed, grid=grid)
            np.testing.assert_array_equal(origins, archive[f"{name}.origins"])
            assert crc32(np.ascontiguousarray(actual).tobytes()) == archive[f"{name}.crc32"]
        steps = 4 if any(word in name for word in ("aligned8", "grid4", "small")) else 16
        apart = np.abs(actual[:, ::steps, ::9, ::9].astype(int) - archive[f"{name}.slice"])
        assert apart.max() <= (1 if "small" in name else 0)


def test_draws_are_those_of_torch() -> None:
    """Numpy alone finds the numbers that the published code takes from torch's generator."""
    torch.manual_seed(12345)
    rows, columns = torch.randint(1080 // 7 - 32, (7, 7, 3)), torch.randint(1920 // 7 - 32, (7, 7, 3))
    origins = fragments.origins(1080, 1920, groups=3, seed=12345)
    cells = np.arange(7)
    np.testing.assert_array_equal(origins[..., 0], rows.numpy() + (1080 // 7 * cells)[:, None, None])
    np.testing.assert_array_equal(origins[..., 1], columns.numpy() + (1920 // 7 * cells)[None, :, None])


def test_small_frames_can_be_seen_whole() -> None:
    """A mark in the lower right corner of a small frame is seen by `whole` and missed by `published`."""
    frames = np.zeros((1, 120, 160, 3), dtype=np.uint8)
    frames[:, 110:, 150:] = 255
    assert fragments.fragments(frames, seed=0, small="whole").max() > 200
    assert fragments.fragments(frames, seed=0).max() == 0


def test_what_cannot_be_cut_is_refused() -> None:
    """Frames smaller than a piece, and groups that do not divide the frames."""
    with pytest.raises(ValueError, match="hold no fragment"):
        fragments.origins(31, 400, groups=1, seed=0)
    with pytest.raises(ValueError, match="do not divide"):
        fragments.cut(np.zeros((3, 224, 224, 3), np.uint8), fragments.origins(224, 224, groups=2, seed=0))


def test_sizes_that_windows_do_not_fill_are_refused() -> None:
    """A side of which some window would be cut."""
    with pytest.raises(ValueError, match="do not fill"):
        FastVqa(SwinConfig(side=256))
