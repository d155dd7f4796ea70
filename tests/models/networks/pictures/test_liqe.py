"""LIQE against recorded outputs of its published code: prompts, crops, both towers, logits and verdict."""

from typing import Any
from zlib import crc32

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from models.networks.backbones.clip import MEAN, STD, Clip, ClipConfig  # noqa: E402
from models.networks.backbones.pixels import normalise  # noqa: E402
from models.networks.pictures.liqe import (  # noqa: E402
    CROP_SIDE,
    CROPS,
    DISTORTION_WORDS,
    QUALITY_WORDS,
    SCENE_WORDS,
    SENTENCE_COUNT,
    ExpectedQuality,
    Liqe,
    encode_sentences,
    sentence_token_ids,
)
from models.weights import state_dict_shapes  # noqa: E402
from tests.models.rich_goldens import RichGoldens, fill, near, near_stats  # noqa: E402
from vqmon.core.frames import window_corners  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

NAME = "liqe"
# All 495 sentences take a quarter of a minute; these are every scene with every quality.
EVERY = 11


@pytest.fixture(scope="module")
def clip(rich_goldens: RichGoldens) -> Clip:
    with torch.device("meta"):
        net = Clip(ClipConfig())
    fill(net, rich_goldens.weights(rich_goldens.shapes(NAME)))
    return net


@pytest.fixture(scope="module")
def network(clip: Clip) -> Liqe:
    net = Liqe(ClipConfig(), encode_sentences(clip, every=EVERY), clip.logit_scale.detach())
    net.visual.load_state_dict(clip.visual.state_dict())
    return net.eval()


def crops_of(goldens: RichGoldens, case: int) -> Any:
    """(1, 15, 3, 224, 224)."""
    seeds = goldens.manifest[NAME]["seeds"]
    height, width = seeds["liqe_hw"][case]
    picture = goldens.frames(seeds["liqe"][case], 1, height, width)[0]
    boxes = window_corners(height, width, size=(CROP_SIDE, CROP_SIDE), count=CROPS)
    crops = [picture[top : top + CROP_SIDE, left : left + CROP_SIDE] for top, left in boxes]
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)[None]


@pytest.mark.fixtures
def test_prompts_are_the_published_ones(rich_goldens: RichGoldens) -> None:
    """Every token of 495 sentences, by their checksum; words in the published order."""
    archive, order = rich_goldens.archive(NAME), rich_goldens.manifest[NAME]["recorded"]["order"]
    table = np.zeros((495, 77), dtype="<i4")
    for at, ids in enumerate(sentence_token_ids()):
        table[at, : len(ids)] = ids
    assert crc32(table.tobytes()) == int(archive["prompts.all_ids_crc32"])
    np.testing.assert_array_equal((table != 0).sum(1), archive["prompts.lengths"])
    ours = {"quality": QUALITY_WORDS, "scene": SCENE_WORDS, "distortion": DISTORTION_WORDS}
    assert {name: list(prompts) for name, prompts in ours.items()} == order


@pytest.mark.fixtures
def test_sentences_equal_the_published_code(rich_goldens: RichGoldens, clip: Clip, network: Liqe) -> None:
    """Names of both towers, and the unit vectors of the text tower."""
    assert state_dict_shapes(clip) == rich_goldens.shapes(NAME)
    archive, matrix = rich_goldens.archive(NAME), network.sentences / clip.logit_scale.detach().exp()
    near(matrix[:: 33 // EVERY], archive["text.rows_every_33"])
    near(matrix[:, :16], archive["text.first16_columns"][::EVERY])
    near(matrix @ matrix[0], archive["text.gram_diag_and_first_row"][::EVERY])


@pytest.mark.fixtures
@pytest.mark.parametrize("case", [0, 1])
def test_pictures_equal_the_published_code(rich_goldens: RichGoldens, network: Liqe, case: int) -> None:
    """Crops, tokens, vectors, logits per crop, and the mean of logits."""
    archive, crops = rich_goldens.archive(NAME), crops_of(rich_goldens, case)
    key, visual = f"in{case}", network.visual
    with torch.inference_mode():
        pixels = normalise(crops[0], MEAN, STD, dtype=torch.float32)
        near(pixels[:, :, ::37, ::41], archive[f"{key}.patches.slice"])
        tokens = visual.embed(pixels)
        after = [("ln_pre", tokens)]
        for at, block in enumerate(visual.transformer.resblocks):
            tokens = block(tokens, None)
            after.append((f"resblock{at}", tokens))
        for name, actual in (after[0], after[1], after[-1]):
            near_stats(actual, archive[f"{key}.visual.{name}.stats"])
            slices = actual.transpose(0, 1)[::12, ::5, ::48]
            near(slices, archive[f"{key}.visual.{name}.slice_token_patch_channel"])
        vectors = visual.ln_post(tokens[:, 0]) @ visual.proj
        near(vectors, archive[f"{key}.image_features"])
        units = torch.nn.functional.normalize(vectors, dim=-1)
        near(units @ network.sentences.T, archive[f"{key}.logits_per_patch"][:, ::EVERY])
        logits = network(crops)
    near(logits, archive[f"{key}.logits_mean"][:, ::EVERY])


@pytest.mark.fixtures
@pytest.mark.parametrize("case", [0, 1])
def test_the_expected_quality_equals_the_published_code(rich_goldens: RichGoldens, case: int) -> None:
    """From 495 recorded logits."""
    archive = rich_goldens.archive(NAME)
    near(ExpectedQuality()(torch.from_numpy(archive[f"in{case}.logits_mean"])), archive[f"in{case}.score"])


def test_the_expected_quality_of_one_certain_sentence_is_its_level() -> None:
    """Levels are 1..5, worst first; equal logits give the middle."""
    logits = torch.zeros(6, SENTENCE_COUNT)
    per_level = SENTENCE_COUNT // 5
    for level in range(5):
        logits[level, level * per_level + 7] = 100
    assert ExpectedQuality()(logits).tolist() == pytest.approx([1, 2, 3, 4, 5, 3])
