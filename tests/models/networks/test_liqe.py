"""LIQE against recorded outputs of its published code: prompts, crops, both towers, logits and verdict."""

from typing import Any
from zlib import crc32

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from models.networks.backbones.clip import MEAN, STD, Clip, ClipConfig  # noqa: E402
from models.networks.backbones.pixels import normalise  # noqa: E402
from models.networks.liqe import (  # noqa: E402
    CROPS,
    DISTORTIONS,
    QUALITIES,
    SCENES,
    Liqe,
    QualityOf,
    crop,
    crop_boxes,
    prompts,
    sentence_matrix,
    verdict,
)
from models.weights import shapes_of  # noqa: E402
from tests.models.rich_goldens import RichGoldens, fill, near, near_stats  # noqa: E402

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
    net = Liqe(ClipConfig(), sentence_matrix(clip, every=EVERY), clip.logit_scale.detach())
    net.visual.load_state_dict(clip.visual.state_dict())
    return net.eval()


def crops_of(goldens: RichGoldens, case: int) -> Any:
    """(1, 15, 3, 224, 224)."""
    seeds = goldens.manifest[NAME]["seeds"]
    height, width = seeds["liqe_hw"][case]
    picture = goldens.frames(seeds["liqe"][case], 1, height, width)[0]
    return torch.from_numpy(crop(picture, crop_boxes(height, width))).permute(0, 3, 1, 2)[None]


@pytest.mark.fixtures
def test_prompts_are_the_published_ones(rich_goldens: RichGoldens) -> None:
    """Every token of 495 sentences, by their checksum; words in the published order."""
    archive, order = rich_goldens.archive(NAME), rich_goldens.manifest[NAME]["recorded"]["order"]
    table = np.zeros((495, 77), dtype="<i4")
    for at, ids in enumerate(prompts()):
        table[at, : len(ids)] = ids
    assert crc32(table.tobytes()) == int(archive["prompts.all_ids_crc32"])
    np.testing.assert_array_equal((table != 0).sum(1), archive["prompts.lengths"])
    ours = {"quality": QUALITIES, "scene": SCENES, "distortion": DISTORTIONS}
    assert {name: list(words) for name, words in ours.items()} == order


@pytest.mark.fixtures
def test_sentences_equal_the_published_code(rich_goldens: RichGoldens, clip: Clip, network: Liqe) -> None:
    """Names of both towers, and the unit vectors of the text tower."""
    assert shapes_of(clip) == rich_goldens.shapes(NAME)
    archive, matrix = rich_goldens.archive(NAME), network.sentences / clip.logit_scale.detach().exp()
    near(matrix[:: 33 // EVERY], archive["text.rows_every_33"])
    near(matrix[:, :16], archive["text.first16_columns"][::EVERY])
    near(matrix @ matrix[0], archive["text.gram_diag_and_first_row"][::EVERY])


@pytest.mark.fixtures
@pytest.mark.parametrize("case", [0, 1])
def test_pictures_equal_the_published_code(rich_goldens: RichGoldens, network: Liqe, case: int) -> None:
    """Crops, tokens, vectors, logits per crop, and the mean of logits."""
    archive, crops = rich_goldens.archive(NAME), crops_of(rich_goldens, case)
    place, visual = f"in{case}", network.visual
    with torch.inference_mode():
        pixels = normalise(crops[0], MEAN, STD, dtype=torch.float32)
        near(pixels[:, :, ::37, ::41], archive[f"{place}.patches.slice"])
        tokens = visual.embed(pixels)
        after = [("ln_pre", tokens)]
        for at, block in enumerate(visual.transformer.resblocks):
            tokens = block(tokens, None)
            after.append((f"resblock{at}", tokens))
        for name, found in (after[0], after[1], after[-1]):
            near_stats(found, archive[f"{place}.visual.{name}.stats"])
            slices = found.transpose(0, 1)[::12, ::5, ::48]
            near(slices, archive[f"{place}.visual.{name}.slice_token_patch_channel"])
        vectors = visual.ln_post(tokens[:, 0]) @ visual.proj
        near(vectors, archive[f"{place}.image_features"])
        units = torch.nn.functional.normalize(vectors, dim=-1)
        near(units @ network.sentences.T, archive[f"{place}.logits_per_patch"][:, ::EVERY])
        logits = network(crops)
    near(logits, archive[f"{place}.logits_mean"][:, ::EVERY])


@pytest.mark.fixtures
@pytest.mark.parametrize("case", [0, 1])
def test_verdicts_equal_the_published_code(rich_goldens: RichGoldens, case: int) -> None:
    """Score, shares of words and the likeliest of them, from 495 recorded logits."""
    archive, place = rich_goldens.archive(NAME), f"in{case}"
    logits = archive[f"{place}.logits_mean"]
    near(QualityOf()(torch.from_numpy(logits)), archive[f"{place}.score"])
    said = verdict(logits[0])
    for name, found in (("quality", said.qualities), ("scene", said.scenes), ("distortion", said.distortions)):
        near([found], archive[f"{place}.{name}"])
    assert said.score == pytest.approx(float(archive[f"{place}.score"][0]), abs=1e-4)
    scene, distortion = archive[f"{place}.argmax_scene_distortion"]
    assert (said.scene, said.distortion) == (list(SCENES)[scene], list(DISTORTIONS)[distortion])


def test_crops_spread_over_the_picture() -> None:
    """Fifteen different windows of a large picture, never beyond its border, at equal steps of the list of windows."""
    boxes = crop_boxes(1080, 1920)
    assert len(set(boxes)) == CROPS
    assert max(top for top, _ in boxes) <= 1080 - 224
    assert max(left for _, left in boxes) <= 1920 - 224
    across = (1920 - 224) // 32 + 1
    numbers = [top // 32 * across + left // 32 for top, left in boxes]
    assert set(np.diff(numbers)) == {27 * 54 // 15}


def test_small_pictures_are_seen_by_rule() -> None:
    """Fewer windows than crops come round again; a side under a window's is refused."""
    boxes = crop_boxes(256, 256)
    assert boxes == [(0, 0), (0, 32), (32, 0), (32, 32)] * 3 + [(0, 0), (0, 32), (32, 0)]
    with pytest.raises(ValueError, match="scale it up"):
        crop_boxes(223, 1000)
