"""Recipes of Q-Align, its variants and Compare2Score: tasks, prompts, levels, and the matrix of the anchors."""

from itertools import permutations
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from models import MODELS_FOLDER  # noqa: E402
from models.export.owl_recipes import (  # noqa: E402
    compare2score_recipe,
    deqa_score_recipe,
    q_align_recipe,
    q_instruct_recipe,
)
from models.export.owl_streaming import load_encoder  # noqa: E402
from models.export.pair import read_manifest_facts  # noqa: E402
from models.networks.owl import compare2score, q_align  # noqa: E402
from models.networks.owl.abstractor import AbstractorConfig  # noqa: E402
from models.networks.owl.language import LanguageConfig  # noqa: E402
from models.networks.owl.owl import PICTURE_TOKEN, OwlConfig  # noqa: E402
from models.networks.owl.vision import VisionConfig  # noqa: E402
from tests.models.owl_weights import network, random_weights  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

CONFIG = OwlConfig(
    vision=VisionConfig(width=8, inner_width=16, depth=1, heads=2, image=28),
    abstractor=AbstractorConfig(queries=3, width=8, inner_width=12, depth=1, heads=2, vision_width=8, grid=2),
    language=LanguageConfig(width=16, inner_width=24, depth=1, heads=2, longest=128),
)
FACTS = read_manifest_facts(MODELS_FOLDER / "q_align.facts.toml")


@pytest.fixture(scope="module")
def weights() -> dict[str, Any]:
    return random_weights(CONFIG)


@pytest.fixture(scope="module")
def anchors() -> list[Any]:
    generator = torch.Generator().manual_seed(1)
    # Contrast and brightness rise, so that the anchors look different to a network with random weights.
    return [
        (torch.rand(3, 28, 28, generator=generator) * 40 * (index + 1) + 30 * index).to(torch.uint8)
        for index in range(3)
    ]


def matrix_of(recipe: Any) -> Any:
    return np.array(recipe.comparisons.anchor_matrix)


def test_q_align_asks_one_question_per_task() -> None:
    """Pictures have one frame, clips up to 31; the question's number is that of its prompt."""
    recipe = q_align_recipe(FACTS, config=CONFIG)
    limits = [(task.name, task.questions, task.least_frames, task.most_frames) for task in recipe.tasks]
    assert limits == [("quality", (0,), 1, 1), ("aesthetics", (1,), 1, 1), ("video", (2,), 1, 31)]
    for task in recipe.tasks:
        prompt = recipe.prompts[task.questions[0]]
        assert prompt.ids == q_align.PROMPTS[task.name]
        assert prompt.fixed_pictures == ()


def test_variants_of_q_align_ask_one_question_about_a_picture() -> None:
    """DeQA-Score asks as Q-Align does; Q-Instruct puts the picture first and weighs good against poor."""
    original = q_align_recipe(FACTS, config=CONFIG)
    deqa, instruct = deqa_score_recipe(FACTS, config=CONFIG), q_instruct_recipe(FACTS, config=CONFIG, version=3)
    assert (deqa.id("int8"), instruct.id("fp16")) == ("deqa-score-int8@1", "q-instruct-fp16@3")
    assert deqa.tasks == instruct.tasks == original.tasks[:1]
    assert (deqa.prompts, deqa.levels, deqa.values) == (original.prompts[:1], original.levels, original.values)
    assert (dict(instruct.levels), instruct.values) == ({"good": 1781, "poor": 6460}, (1.0, 0.0))
    (prompt,) = instruct.prompts
    assert prompt.ids.index(PICTURE_TOKEN) == 5


def test_q_align_levels_fall_from_five_to_one() -> None:
    recipe = q_align_recipe(FACTS, config=CONFIG)
    levels = dict(zip(recipe.levels, recipe.values, strict=True))
    assert levels == {"excellent": 5, "good": 4, "fair": 3, "poor": 2, "bad": 1}
    assert (recipe.temperature, recipe.comparisons) == (1.0, None)


def test_a_recipes_id_has_precision_and_version() -> None:
    assert q_align_recipe(FACTS, config=CONFIG).id("fp16") == "q-align-fp16@1"
    assert q_align_recipe(FACTS, config=CONFIG, version=3).id("int8") == "q-align-int8@3"


def test_the_longest_clip_fits_the_trained_positions() -> None:
    recipe, published = q_align_recipe(FACTS, config=OwlConfig()), OwlConfig()
    video = recipe.tasks[2]
    text = len(recipe.prompts[2].ids) - 1
    tokens = text + video.most_frames * published.tokens_per_picture
    assert tokens <= published.language.longest < tokens + published.tokens_per_picture


def test_compare2score_compares_with_every_anchor_and_any_pair(weights: dict[str, Any], anchors: list[Any]) -> None:
    """An anchor is the first picture of its prompt; the pair's prompt leaves both pictures open."""
    recipe = compare2score_recipe(FACTS, anchors, weights, config=CONFIG, published=False, version=2)
    assert recipe.id("fp32") == "compare2score-fp32@2"
    limits = [(task.name, task.questions, task.least_frames, task.most_frames) for task in recipe.tasks]
    assert limits == [("anchors", (0, 1, 2), 1, 1), ("pair", (3,), 2, 2)]
    open_pictures = [prompt.ids.count(PICTURE_TOKEN) - len(prompt.fixed_pictures) for prompt in recipe.prompts]
    assert open_pictures == [1, 1, 1, 2]
    encoder = load_encoder(weights, CONFIG)
    for anchor, prompt in zip(anchors, recipe.prompts[:3], strict=True):
        with torch.inference_mode():
            torch.testing.assert_close(prompt.fixed_pictures[0], encoder(anchor[None])[0])


def test_compare2score_levels_rise_from_inferior_to_superior(weights: dict[str, Any], anchors: list[Any]) -> None:
    recipe = compare2score_recipe(FACTS, anchors, weights, config=CONFIG, published=False)
    levels = dict(zip(recipe.levels, recipe.values, strict=True))
    assert levels == {"inferior": 0, "worse": 0.25, "similar": 0.5, "better": 0.75, "superior": 1}
    assert recipe.temperature == 100
    assert recipe.comparisons is not None
    assert recipe.comparisons.link == "logistic"


def test_published_anchors_have_the_published_matrix(weights: dict[str, Any], anchors: list[Any]) -> None:
    recipe = compare2score_recipe(FACTS, [*anchors, *anchors[:2]], weights, config=CONFIG, published=True)
    assert np.array_equal(matrix_of(recipe).astype(np.float32), compare2score.ANCHOR_MATRIX)


def test_other_anchors_are_compared_by_the_network(weights: dict[str, Any], anchors: list[Any]) -> None:
    """Both orders of each pair, asked one at a time of the network in memory, are averaged."""
    recipe = compare2score_recipe(FACTS, anchors, weights, config=CONFIG, published=False)
    features, plain = [prompt.fixed_pictures[0][None] for prompt in recipe.prompts[:3]], network(weights, CONFIG)
    second_is_better = {}
    for first, second in permutations(range(3), 2):
        with torch.inference_mode():
            logits = plain.logits(compare2score.PROMPT, [features[first], features[second]])
        level_logits = logits[list(compare2score.LEVELS.values())].numpy()
        second_is_better[first, second] = float(compare2score.preference_probability(level_logits))
    matrix = matrix_of(recipe)
    assert np.array_equal(np.diag(matrix), np.full(3, 0.5))
    for (first, second), probability in second_is_better.items():
        expected = (1 - probability + second_is_better[second, first]) / 2
        assert matrix[first, second] == pytest.approx(expected, abs=1e-6)


def test_anchors_in_another_order_have_the_matrix_in_that_order(weights: dict[str, Any], anchors: list[Any]) -> None:
    forward, backward = (
        matrix_of(compare2score_recipe(FACTS, order, weights, config=CONFIG, published=False))
        for order in (anchors, anchors[::-1])
    )
    np.testing.assert_allclose(backward, forward[::-1, ::-1], atol=1e-6)
    assert np.abs(forward - forward.T).max() > 1e-5
