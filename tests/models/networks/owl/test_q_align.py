"""Q-Align against recorded outputs of its published code, and against its own plain form once exported."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hashlib import sha256  # noqa: E402

from PIL import Image  # noqa: E402

from models.export.owl_streaming import head_rows, iterate_layers, reference_logits, text_embeddings  # noqa: E402
from models.networks.owl import compare2score, q_align  # noqa: E402
from models.networks.owl.abstractor import grid_position_table, sine_position_table  # noqa: E402
from models.networks.owl.exportable import LanguageScorer, compute_constants, split_prompt  # noqa: E402
from models.networks.owl.language import LanguageConfig  # noqa: E402
from models.networks.owl.owl import PICTURE_TOKEN, Owl, OwlConfig, tiny_config  # noqa: E402
from models.networks.owl.q_align import (  # noqa: E402
    LEVELS,
    PROMPT_VARIANTS,
    PROMPTS,
    normalise_pictures,
    pad_to_square,
    score_levels,
)
from tests.models.conftest import OwlGoldens  # noqa: E402
from tests.models.owl_weights import CONFIG, random_weights  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

ALL_PROMPTS = {**PROMPTS, **PROMPT_VARIANTS}
VISION_TOKENS = [0, 1, 2, 31, 32, 33, 512, 1023, 1024]
FEW_TOKENS = [0, 1, 31, 63, 64]
# Two runs of the reference differ by 1e-5; a wrong epsilon moves logits by 0.009 or more.
ACCEPTED = {"tiny": 1e-4, "full_width": 5e-4}


def build(goldens: OwlGoldens, kind: str, config: OwlConfig) -> Owl:
    """The plain network with weights drawn by name."""
    with torch.device("meta"):
        net = Owl(config)
    names = {name: list(tensor.shape) for name, tensor in net.state_dict().items()}
    assert names == goldens.manifest["state_dict"][kind]
    table: dict[str, Any] = {}
    for name, tensor in net.state_dict().items():
        drawn = goldens.weight(name, tuple(tensor.shape))
        if drawn is not None:
            table[name] = torch.from_numpy(drawn)
        elif name.endswith("q_pos_embed"):
            table[name] = sine_position_table(config.abstractor.width, config.abstractor.queries)
        else:
            table[name] = grid_position_table(config.abstractor.width, config.abstractor.grid)
    net.load_state_dict(table, assign=True)
    return net.eval()


@pytest.fixture(scope="module")
def small(owl_goldens: OwlGoldens) -> Owl:
    return build(owl_goldens, "tiny", tiny_config())


def case_inputs(goldens: OwlGoldens, case: str, seeds: str) -> Any:
    """The pictures of a case (frames, 3, 448, 448), normalised."""
    inputs = goldens.manifest["inputs"]
    if case.startswith("video"):
        numbers = [inputs["video_base_seeds"][seeds] + at for at in range(int(case.removeprefix("video")))]
    else:
        numbers = [inputs["image_seeds"][seeds]]
    return torch.from_numpy(normalise_pictures(np.stack([goldens.picture(number) for number in numbers])))


def near(actual: Any, expected: Any, *, share: float = 1e-4) -> None:
    """Within a share of the largest value."""
    apart, largest = float(np.abs(np.asarray(actual) - expected).max()), float(np.abs(expected).max())
    assert apart <= share * largest


def check_case(net: Owl, goldens: OwlGoldens, kind: str, *, case: str, seeds: str, vision: Any = None) -> Any:
    """Vision tokens, features, last state, logits and scores of one case; gives the vision tokens."""
    archive, key = goldens.archive(kind), f"{kind}/{case}/{seeds}"
    ids = ALL_PROMPTS["video" if case.startswith("video") else case]
    step = {"tiny": 1, "full_width": 16}[kind]
    with torch.inference_mode():
        if vision is None:
            vision = net.model.vision_model(case_inputs(goldens, case, seeds))
        features = net.model.visual_abstractor(vision)
        hidden = net.hidden_states(ids, [features])[0]
        logits = net.lm_head(hidden[-1])[list(LEVELS.values())].numpy()
    near(vision[:, VISION_TOKENS, ::step], archive[f"{key}/vision_slice"])
    tokens = slice(None) if case == "quality" else FEW_TOKENS
    # tiny records every channel, full width every 32nd
    wide = {"tiny": 1, "full_width": 32}[kind]
    near(features[:, tokens, ::wide], archive[f"{key}/abstractor_slice"])
    near(hidden[-1, ::wide], archive[f"{key}/hidden_last"])
    assert len(hidden) == archive[f"{key}/sequence_length"]
    assert np.abs(logits - archive[f"{key}/logits5"]).max() <= ACCEPTED[kind]
    level_scores = score_levels(logits)
    assert level_scores.one_to_five == pytest.approx(float(archive[f"{key}/score_1to5"]), abs=ACCEPTED[kind])
    assert level_scores.zero_to_one == pytest.approx(float(archive[f"{key}/score_0to1"]), abs=ACCEPTED[kind])
    return vision


@pytest.mark.fixtures
@pytest.mark.parametrize("seeds", ["A", "B"])
@pytest.mark.parametrize("case", ["quality", "aesthetics", "video1", "video3", "video8"])
def test_small_form_equals_the_published_code(small: Owl, owl_goldens: OwlGoldens, case: str, seeds: str) -> None:
    """Vision tokens, features, last state, logits and both scores."""
    check_case(small, owl_goldens, "tiny", case=case, seeds=seeds)


@pytest.mark.fixtures
@pytest.mark.parametrize("case", sorted(PROMPT_VARIANTS))
def test_other_prompts_equal_the_published_code(small: Owl, owl_goldens: OwlGoldens, case: str) -> None:
    """The prompts of the evaluation scripts and of the model's own method."""
    check_case(small, owl_goldens, "tiny", case=case, seeds="A")


@pytest.mark.fixtures
@pytest.mark.parametrize("seeds", ["A", "B"])
def test_from_picture_to_score_as_published(small: Owl, owl_goldens: OwlGoldens, seeds: str) -> None:
    """Padding, resizing, encoding and scoring of pictures that are not square, for all three tasks."""
    facts = owl_goldens.manifest["inputs"]["end_to_end"][seeds]
    archive, key = owl_goldens.archive("tiny"), f"tiny/end_to_end/{seeds}"
    drawn = [owl_goldens.picture(facts["seed"] + at, facts["height"], facts["width"]) for at in range(4)]
    pixels = torch.from_numpy(
        normalise_pictures(np.stack([pad_to_square(Image.fromarray(picture)) for picture in drawn]))
    )
    with torch.inference_mode():
        features = small.encode_pictures(pixels)
        for task, name, frames in (
            ("quality", "quality_0to1", features[:1]),
            ("aesthetics", "aesthetics_0to1", features[:1]),
            ("video", "video3_0to1", features[1:]),
        ):
            logits = small.logits(PROMPTS[task], [frames])[list(LEVELS.values())].numpy()
            assert score_levels(logits).zero_to_one == pytest.approx(float(archive[f"{key}/{name}"][0]), abs=1e-4)


@pytest.mark.fixtures
@pytest.mark.slow
def test_full_width_equals_the_published_code(owl_goldens: OwlGoldens) -> None:
    """The whole vision tower and abstractor and two layers of the language tower, at their published widths."""
    net = build(owl_goldens, "full_width", OwlConfig(language=LanguageConfig(depth=2)))
    vision = check_case(net, owl_goldens, "full_width", case="quality", seeds="A")
    # The same picture: the tower, which takes the most time, runs once.
    check_case(net, owl_goldens, "full_width", case="aesthetics", seeds="A", vision=vision)
    seeds = owl_goldens.manifest["inputs"]["compare_pairs"]
    pair = [pad_to_square(Image.fromarray(owl_goldens.picture(seeds[name]))) for name in ("anchor1", "test1")]
    with torch.inference_mode():
        features = net.encode_pictures(torch.from_numpy(normalise_pictures(np.stack(pair))))
        logits = net.logits(compare2score.PROMPT, [features[:1], features[1:]])[list(compare2score.LEVELS.values())]
    recorded = owl_goldens.archive("full_width")["full_width/compare/anchor1_test1/logits5"]
    assert np.abs(logits.numpy() - recorded).max() <= ACCEPTED["full_width"]


@pytest.mark.fixtures
@pytest.mark.parametrize("item", range(8))
def test_pictures_are_prepared_as_published(owl_goldens: OwlGoldens, item: int) -> None:
    """The same bytes after padding and resizing, the same numbers after normalising."""
    facts = owl_goldens.manifest["inputs"]["preprocess"][item]
    archive = owl_goldens.archive("preprocess_map")
    square = pad_to_square(Image.fromarray(owl_goldens.picture(facts["seed"], facts["height"], facts["width"])))
    assert sha256(square.tobytes()).hexdigest() == facts["resized_uint8_hwc_sha256"]
    planes = normalise_pictures(square[None])[0]
    near(planes[:, ::37, ::37], archive[f"preprocess/{item}/grid_every_37"], share=1e-6)
    near(planes[:, 224], archive[f"preprocess/{item}/row_224"], share=1e-6)


@pytest.mark.fixtures
def test_prompts_are_the_published_ones(owl_goldens: OwlGoldens) -> None:
    """Token by token, and the level words."""
    for name, ids in ALL_PROMPTS.items():
        assert list(ids) == owl_goldens.manifest["prompt_ids"][name]
    assert dict(LEVELS) == owl_goldens.manifest["levels"]["q_align"]


@pytest.fixture(scope="module")
def weights() -> dict[str, Any]:
    return random_weights()


@pytest.fixture(scope="module")
def scorer(weights: dict[str, Any]) -> LanguageScorer:
    """What is exported, in torch."""
    questions = [split_prompt(ids, text_embeddings(weights, ids)) for ids in PROMPTS.values()]
    with torch.inference_mode():
        head = head_rows(weights, list(LEVELS.values()))
        constants = compute_constants(questions, iterate_layers(weights, CONFIG), config=CONFIG.language, head=head)
    net = LanguageScorer(CONFIG, constants)
    named = {name: weights[f"model.{name}"] for name, _ in net.named_parameters()}
    net.load_state_dict(named, strict=False)
    return net.eval()


@pytest.mark.parametrize("frames", [1, 2, 3, 5, 12, 31])
def test_remembered_prefixes_change_nothing(weights: dict[str, Any], scorer: LanguageScorer, frames: int) -> None:
    """Constants, trims and another order of tokens give what the plain form gives, for every task in one batch."""
    features = torch.randn(3, frames, 65, CONFIG.language.width, generator=torch.Generator().manual_seed(frames))
    with torch.inference_mode():
        actual = scorer(features, torch.arange(3))
    asked = [(ids, [features[at]]) for at, ids in enumerate(PROMPTS.values())]
    expected = reference_logits(weights, CONFIG, asked, head=head_rows(weights, list(LEVELS.values())))
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def test_prompts_that_cannot_be_asked_are_refused(weights: dict[str, Any]) -> None:
    """A prompt without a picture, or with the picture last, has no prefix and suffix."""
    for ids in ((1, 3148), (1, PICTURE_TOKEN), (PICTURE_TOKEN, 5, PICTURE_TOKEN, 5, PICTURE_TOKEN)):
        with pytest.raises(ValueError, match="open"):
            split_prompt(ids, text_embeddings(weights, ids))


def test_verdicts_tell_level_and_doubt() -> None:
    """One sure level is its own score without doubt; equal levels are the middle in full doubt."""
    sure, unsure = score_levels([0, 50, 0, 0, 0]), score_levels([1, 1, 1, 1, 1])
    assert (sure.one_to_five, sure.zero_to_one) == pytest.approx((4.0, 0.75))
    assert sure.entropy == pytest.approx(0, abs=1e-6)
    assert (unsure.one_to_five, unsure.entropy) == pytest.approx((3.0, 1.0))
    assert sum(unsure.level_probabilities) == pytest.approx(1)


def test_wide_pictures_keep_their_middle(tmp_path: Path) -> None:
    """Padding is centred and has the published colour."""
    square = pad_to_square(Image.new("RGB", (400, 100), (255, 0, 0)))
    assert square.shape == (448, 448, 3)
    assert tuple(square[0, 0]) == q_align.PAD_RGB
    assert tuple(square[224, 224]) == (255, 0, 0)
