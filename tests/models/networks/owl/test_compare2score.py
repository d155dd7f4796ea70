"""Compare2Score against recorded outputs of its published code: comparisons, the estimate, anchors, pairs."""

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from PIL import Image  # noqa: E402

from models.export.owl_streaming import head_rows, iterate_layers, reference_logits, text_embeddings  # noqa: E402
from models.networks.owl import compare2score as c2s  # noqa: E402
from models.networks.owl.exportable import LanguageScorer, compute_constants, split_prompt  # noqa: E402
from models.networks.owl.owl import Owl, tiny_config  # noqa: E402
from models.networks.owl.q_align import normalise_pictures, pad_to_square  # noqa: E402
from tests.models.conftest import OwlGoldens  # noqa: E402
from tests.models.networks.owl.test_q_align import build  # noqa: E402
from tests.models.owl_weights import CONFIG, random_weights  # noqa: E402
from vqmon.scoring.scorers.levels import maximum_a_posteriori_scores, score_against_anchors  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

IDS = list(c2s.LEVELS.values())


@pytest.fixture(scope="module")
def small(owl_goldens: OwlGoldens) -> Owl:
    return build(owl_goldens, "tiny", tiny_config())


def features(net: Owl, pictures: list[Any]) -> Any:
    with torch.inference_mode():
        return net.encode_pictures(
            torch.from_numpy(
                normalise_pictures(np.stack([pad_to_square(Image.fromarray(picture)) for picture in pictures]))
            )
        )


@pytest.mark.fixtures
def test_prompt_levels_and_anchors_are_the_published_ones(owl_goldens: OwlGoldens) -> None:
    """Token by token, word by word, number by number."""
    assert list(c2s.PROMPT) == owl_goldens.manifest["prompt_ids"]["compare"]
    assert dict(c2s.LEVELS) == owl_goldens.manifest["levels"]["compare"]
    assert np.array_equal(c2s.ANCHOR_MATRIX, owl_goldens.archive("preprocess_map")["map/anchor_matrix"])


@pytest.mark.fixtures
@pytest.mark.parametrize("anchor", ["anchor1", "anchor2"])
@pytest.mark.parametrize("test", ["test1", "test2"])
def test_a_comparison_equals_the_published_code(small: Owl, owl_goldens: OwlGoldens, anchor: str, test: str) -> None:
    """Logits of the five words and the preference in float32."""
    seeds = owl_goldens.manifest["inputs"]["compare_pairs"]
    both = features(small, [owl_goldens.picture(seeds[anchor]), owl_goldens.picture(seeds[test])])
    with torch.inference_mode():
        logits = small.logits(c2s.PROMPT, [both[:1], both[1:]])[IDS].numpy()
    archive, key = owl_goldens.archive("tiny"), f"tiny/compare/{anchor}_{test}"
    assert np.abs(logits - archive[f"{key}/logits5"]).max() <= 1e-4
    assert c2s.preference_probability(logits) == pytest.approx(float(archive[f"{key}/preference_float32"][0]), abs=1e-6)
    hot = c2s.preference_probability(logits, temperature=1.0)
    assert hot == pytest.approx(float(archive[f"{key}/preference_temperature1_float32"][0]), abs=1e-5)


@pytest.mark.fixtures
@pytest.mark.parametrize("seeds", ["A", "B"])
def test_comparisons_with_five_anchors_equal_the_published_code(
    small: Owl, owl_goldens: OwlGoldens, seeds: str
) -> None:
    """Pictures of other shapes: logits, preferences, and the daemon's score from them."""
    inputs = owl_goldens.manifest["inputs"]
    facts = [*inputs["compare_anchors5"], inputs["compare_end_to_end"][seeds]]
    all_six = features(small, [owl_goldens.picture(fact["seed"], fact["height"], fact["width"]) for fact in facts])
    with torch.inference_mode():
        logits = torch.stack(
            [small.logits(c2s.PROMPT, [all_six[at][None], all_six[5:]])[IDS] for at in range(5)]
        ).numpy()
    archive, key = owl_goldens.archive("tiny"), f"tiny/compare_end_to_end/{seeds}"
    assert np.abs(logits - archive[f"{key}/logits5_per_anchor"]).max() <= 1e-4
    preferred = c2s.preference_probability(logits)
    # The published class works in half precision here.
    assert np.abs(preferred - archive[f"{key}/matrix6"][5, :5]).max() <= 1e-3
    # The published optimizer stops 0.3 before the optimum at most.
    score = score_against_anchors(preferred, c2s.ANCHOR_MATRIX, link="logistic")
    assert score == pytest.approx(float(archive[f"{key}/score_sigmoid_100steps"]), abs=0.3)


@pytest.mark.fixtures
@pytest.mark.parametrize("row", range(6))
@pytest.mark.parametrize(("link", "name"), [("logistic", "sigmoid"), ("normal", "normal_cdf")])
def test_the_daemons_estimate_is_the_recorded_optimum(owl_goldens: OwlGoldens, row: int, link: str, name: str) -> None:
    """The exact maximum a posteriori scores of recorded comparisons, and the last one on the scale of 0..100."""
    archive = owl_goldens.archive("preprocess_map")
    matrix = archive["map/matrix6"][row].astype(np.float32)
    scores = maximum_a_posteriori_scores(matrix.astype(np.float64), link=link)
    assert np.abs(scores - archive[f"map/{name}_exact_s"][row]).max() <= 1e-9
    rescaled = 100 * (scores[-1] - scores.min()) / (scores.max() - scores.min())
    assert rescaled == pytest.approx(archive[f"map/{name}_exact"][row], abs=1e-7)


def test_certain_words_are_certain_preferences() -> None:
    """At temperature 1 a certain word gives its weight; equal logits give 0.5 at any temperature."""
    certain = c2s.preference_probability(np.eye(5, dtype=np.float32) * 100, temperature=1.0)
    assert certain.tolist() == pytest.approx(list(c2s.LEVEL_WEIGHTS))
    assert c2s.preference_probability(np.zeros((1, 5), np.float32)).tolist() == pytest.approx([0.5])


def test_anchors_are_the_surest_of_each_interval() -> None:
    """Five equal intervals of the scale, in each the picture that people agreed on most; an empty one is an error."""
    scores = np.array([0, 9, 21, 39, 45, 60, 61, 99, 100.0])
    variances = np.array([5, 1, 2, 3, 1, 2, 1, 4, 3.0])
    assert c2s.choose_anchors(scores, variances) == [1, 2, 4, 6, 8]
    with pytest.raises(ValueError, match=r"20\.\.40"):
        c2s.choose_anchors(np.delete(scores, [2, 3]), np.delete(variances, [2, 3]))


def test_an_anchor_matrix_is_fair_to_both_places() -> None:
    """P(i beats j) and P(j beats i) add up to one, and nothing beats itself."""
    matrix = c2s.anchor_matrix(np.random.default_rng(0).normal(0, 30, (5, 5, 5)).astype(np.float32))
    assert np.allclose(matrix + matrix.T, 1)
    assert np.array_equal(np.diag(matrix), np.full(5, 0.5))


def test_one_graph_answers_anchors_and_pairs() -> None:
    """Anchors remembered with the prefix, and pairs of any two pictures, both as the plain form answers them."""
    weights = random_weights(seed=3)
    drawn = torch.randn(8, 65, CONFIG.language.width, generator=torch.Generator().manual_seed(4))
    rows = text_embeddings(weights, c2s.PROMPT)
    questions = [
        *(split_prompt(c2s.PROMPT, rows, fixed_pictures=[anchor]) for anchor in drawn[:5]),
        split_prompt(c2s.PROMPT, rows),
    ]
    head = head_rows(weights, IDS)
    with torch.inference_mode():
        constants = compute_constants(questions, iterate_layers(weights, CONFIG), config=CONFIG.language, head=head)
        scorer = LanguageScorer(CONFIG, constants).eval()
        scorer.load_state_dict({name: weights[f"model.{name}"] for name, _ in scorer.named_parameters()}, strict=False)
        against = scorer(drawn[5][None, None].expand(5, -1, -1, -1), torch.arange(5))
        pair = scorer(drawn[6:][None], torch.tensor([5]))
    asked = [*((c2s.PROMPT, [anchor[None], drawn[5][None]]) for anchor in drawn[:5])]
    asked.append((c2s.PROMPT, [drawn[6][None], drawn[7][None]]))
    expected = reference_logits(weights, CONFIG, asked, head=head)
    torch.testing.assert_close(torch.cat([against, pair]), expected, rtol=1e-4, atol=1e-4)
