"""Compare2Score against recorded outputs of its published code: comparisons, the estimate, anchors, pairs."""

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from PIL import Image  # noqa: E402

from models.export.owl_streaming import head_of, layers_of, plain_logits, rows_of  # noqa: E402
from models.networks.owl import compare2score as c2s  # noqa: E402
from models.networks.owl.exportable import LanguageScorer, ask, constants_of  # noqa: E402
from models.networks.owl.owl import Owl, tiny  # noqa: E402
from models.networks.owl.q_align import normalise, to_square  # noqa: E402
from tests.models.conftest import OwlGoldens  # noqa: E402
from tests.models.networks.owl.test_q_align import build  # noqa: E402
from tests.models.owl_weights import CONFIG, random_weights  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

IDS = list(c2s.LEVELS.values())


@pytest.fixture(scope="module")
def small(owl_goldens: OwlGoldens) -> Owl:
    return build(owl_goldens, "tiny", tiny())


def features(net: Owl, pictures: list[Any]) -> Any:
    with torch.inference_mode():
        return net.features(
            torch.from_numpy(normalise(np.stack([to_square(Image.fromarray(one)) for one in pictures])))
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
    archive, place = owl_goldens.archive("tiny"), f"tiny/compare/{anchor}_{test}"
    assert np.abs(logits - archive[f"{place}/logits5"]).max() <= 1e-4
    assert c2s.preferences(logits) == pytest.approx(float(archive[f"{place}/preference_float32"][0]), abs=1e-6)
    hot = c2s.preferences(logits, temperature=1.0)
    assert hot == pytest.approx(float(archive[f"{place}/preference_temperature1_float32"][0]), abs=1e-5)


@pytest.mark.fixtures
@pytest.mark.parametrize("seeds", ["A", "B"])
def test_five_anchors_to_score_as_published(small: Owl, owl_goldens: OwlGoldens, seeds: str) -> None:
    """Pictures of other shapes, five comparisons, the matrix, and the score by both published links."""
    inputs = owl_goldens.manifest["inputs"]
    facts = [*inputs["compare_anchors5"], inputs["compare_end_to_end"][seeds]]
    all_six = features(small, [owl_goldens.picture(one["seed"], one["height"], one["width"]) for one in facts])
    with torch.inference_mode():
        logits = torch.stack(
            [small.logits(c2s.PROMPT, [all_six[at][None], all_six[5:]])[IDS] for at in range(5)]
        ).numpy()
    archive, place = owl_goldens.archive("tiny"), f"tiny/compare_end_to_end/{seeds}"
    assert np.abs(logits - archive[f"{place}/logits5_per_anchor"]).max() <= 1e-4
    matrix = c2s.comparison_matrix(c2s.preferences(logits))
    # The published class works in half precision here.
    assert np.abs(matrix - archive[f"{place}/matrix6"]).max() <= 1e-3
    recorded = archive[f"{place}/matrix6"]
    for link, name in (("logistic", "sigmoid"), ("normal", "normal_cdf")):
        adam = c2s.final_score(c2s.adam_scores(recorded, link=link))
        assert adam == pytest.approx(float(archive[f"{place}/score_{name}_100steps"]), abs=1e-3)
    assert c2s.score(logits) == pytest.approx(float(archive[f"{place}/score_sigmoid_100steps"]), abs=0.3)


@pytest.mark.fixtures
@pytest.mark.parametrize("row", range(6))
@pytest.mark.parametrize(("link", "name"), [("logistic", "sigmoid"), ("normal", "normal_cdf")])
def test_estimates_equal_the_recorded_ones(owl_goldens: OwlGoldens, row: int, link: str, name: str) -> None:
    """Newton's steps end in the exact optimum, the published optimiser where it was seen to end."""
    archive = owl_goldens.archive("preprocess_map")
    matrix = c2s.comparison_matrix(archive["map/probability_vectors"][row])
    assert np.allclose(matrix, archive["map/matrix6"][row], atol=1e-7)
    rounded = matrix.astype(np.float32)
    exact = c2s.map_scores(rounded, link=link)
    assert np.abs(exact - archive[f"map/{name}_exact_s"][row]).max() <= 1e-9
    assert c2s.final_score(exact) == pytest.approx(archive[f"map/{name}_exact"][row], abs=1e-7)
    adam = c2s.adam_scores(rounded, link=link)
    assert np.abs(adam - archive[f"map/{name}_100steps_s"][row]).max() <= 1e-5
    assert c2s.final_score(adam) == pytest.approx(archive[f"map/{name}_100steps"][row], abs=1e-3)
    assert abs(c2s.final_score(adam) - c2s.final_score(exact)) <= 0.3
    if name == "sigmoid":
        fifty = c2s.final_score(c2s.adam_scores(rounded, steps=50))
        assert fifty == pytest.approx(archive["map/sigmoid_50steps"][row], abs=1e-3)


@given(
    preferred=st.lists(st.floats(0, 1), min_size=5, max_size=5),
    link=st.sampled_from(sorted(c2s.LINKS)),
)
@settings(max_examples=60, deadline=None)
def test_the_optimum_is_one(preferred: list[float], link: str) -> None:
    """At the answer the slope is zero and no small step gains; whatever the comparisons say."""
    matrix = c2s.comparison_matrix(preferred)
    found = c2s.map_scores(matrix, link=link)
    best = c2s._gain(found, matrix, c2s.LINKS[link])
    assert abs(found.sum()) < 1e-8
    for at in range(6):
        for step in (-0.01, 0.01):
            assert c2s._gain(found + step * np.eye(6)[at], matrix, c2s.LINKS[link]) < best


@given(preferred=st.lists(st.floats(0.05, 0.9), min_size=5, max_size=5), at=st.integers(0, 4))
@settings(max_examples=60, deadline=None)
def test_beating_an_anchor_more_never_scores_lower(preferred: list[float], at: int) -> None:
    """The score rises with every preference."""
    more = [value + 0.05 * (place == at) for place, value in enumerate(preferred)]
    scores = [c2s.final_score(c2s.map_scores(c2s.comparison_matrix(each))) for each in (preferred, more)]
    assert scores[1] >= scores[0] - 1e-9


def test_what_are_no_probabilities_is_refused() -> None:
    """A preference beyond 0..1 or not a number is an error, not a score."""
    for wrong in (1.2, -0.1, float("nan")):
        with pytest.raises(ValueError, match="probabilities"):
            c2s.map_scores(c2s.comparison_matrix([0.5, 0.5, wrong, 0.5, 0.5]))


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


def test_arms_are_compared_in_both_orders() -> None:
    """Saying `better` of whatever comes second is no preference; saying it of B in both orders is."""
    better, worse = np.eye(5, dtype=np.float32)[[3]] * 50, np.eye(5, dtype=np.float32)[[1]] * 50
    assert c2s.compare_arms(better, better) == pytest.approx(0.5)
    assert c2s.compare_arms(better, worse) > 0.52


def test_one_graph_answers_anchors_and_pairs() -> None:
    """Anchors remembered with the prefix, and pairs of any two pictures, both as the plain form answers them."""
    weights = random_weights(seed=3)
    drawn = torch.randn(8, 65, CONFIG.language.width, generator=torch.Generator().manual_seed(4))
    rows = rows_of(weights, c2s.PROMPT)
    questions = [*(ask(c2s.PROMPT, rows, known=[anchor]) for anchor in drawn[:5]), ask(c2s.PROMPT, rows)]
    head = head_of(weights, IDS)
    with torch.inference_mode():
        constants = constants_of(questions, layers_of(weights, CONFIG), config=CONFIG.language, head=head)
        scorer = LanguageScorer(CONFIG, constants).eval()
        scorer.load_state_dict({name: weights[f"model.{name}"] for name, _ in scorer.named_parameters()}, strict=False)
        against = scorer(drawn[5][None, None].expand(5, -1, -1, -1), torch.arange(5))
        pair = scorer(drawn[6:][None], torch.tensor([5]))
    asked = [*((c2s.PROMPT, [anchor[None], drawn[5][None]]) for anchor in drawn[:5])]
    asked.append((c2s.PROMPT, [drawn[6][None], drawn[7][None]]))
    expected = plain_logits(weights, CONFIG, asked, head=head)
    torch.testing.assert_close(torch.cat([against, pair]), expected, rtol=1e-4, atol=1e-4)
