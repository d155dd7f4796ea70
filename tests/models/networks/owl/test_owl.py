"""The plain network: prompts with their pictures, states of a sequence, and logits of the next token."""

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from models.networks.owl.abstractor import AbstractorConfig  # noqa: E402
from models.networks.owl.language import PICTURE, TEXT, LanguageConfig  # noqa: E402
from models.networks.owl.owl import PICTURE_TOKEN, Owl, OwlConfig, split_modalities, tiny_config  # noqa: E402
from models.networks.owl.vision import VisionConfig  # noqa: E402
from tests.models.owl_weights import network, random_weights  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

CONFIG = OwlConfig(
    vision=VisionConfig(width=8, inner_width=16, depth=1, heads=2, image=28),
    abstractor=AbstractorConfig(queries=3, width=8, inner_width=12, depth=1, heads=2, vision_width=8, grid=2),
    language=LanguageConfig(vocabulary=20, width=16, inner_width=24, depth=1, heads=2, longest=64),
)
PROMPT = (1, 5, PICTURE_TOKEN, 7, 2)


@pytest.fixture(scope="module")
def owl() -> Owl:
    return network(random_weights(CONFIG), CONFIG).requires_grad_(requires_grad=False)


def picture_features(frames: int, *, seed: int = 1) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(frames, CONFIG.tokens_per_picture, CONFIG.language.width, generator=generator)


@pytest.mark.parametrize(
    ("ids", "runs"),
    [
        ([], []),
        ([4], [(TEXT, [4])]),
        ([-200], [(PICTURE, [])]),
        ([-200, -200, 3], [(PICTURE, []), (PICTURE, []), (TEXT, [3])]),
        ([1, 2, -200, 3, 4, -200, 5], [(TEXT, [1, 2]), (PICTURE, []), (TEXT, [3, 4]), (PICTURE, []), (TEXT, [5])]),
    ],
)
def test_prompts_are_split_at_each_picture(ids: list[int], runs: list[tuple[int, list[int]]]) -> None:
    assert split_modalities(ids) == runs


@pytest.mark.parametrize(("config", "tokens"), [(OwlConfig(), 65), (tiny_config(), 65), (CONFIG, 4)])
def test_a_picture_has_one_token_more_than_queries(config: OwlConfig, tokens: int) -> None:
    assert config.tokens_per_picture == tokens


def test_pictures_are_encoded_one_by_one(owl: Owl) -> None:
    pixels = torch.randn(3, 3, 28, 28, generator=torch.Generator().manual_seed(2))
    features = owl.encode_pictures(pixels)
    assert features.shape == (3, 4, 16)
    torch.testing.assert_close(features, torch.cat([owl.encode_pictures(frame[None]) for frame in pixels]))
    assert (features[0] - features[1]).abs().max() > 1e-3


def test_pictures_take_the_place_of_their_token(owl: Owl) -> None:
    """All frames of a video replace one token, in order."""
    features, table = picture_features(2), owl.model.embed_tokens.weight
    tokens, spans = owl.embed_prompt(PROMPT, [features])
    assert spans == [(TEXT, 2), (PICTURE, 8), (TEXT, 2)]
    assert torch.equal(tokens[0], torch.cat([table[[1, 5]], features[0], features[1], table[[7, 2]]]))


def test_two_picture_tokens_take_the_pictures_in_order(owl: Owl) -> None:
    first, second = picture_features(1, seed=3), picture_features(2, seed=4)
    tokens, spans = owl.embed_prompt((PICTURE_TOKEN, 6, PICTURE_TOKEN), [first, second])
    assert spans == [(PICTURE, 4), (TEXT, 1), (PICTURE, 8)]
    assert torch.equal(tokens[0, :4], first[0])
    assert torch.equal(tokens[0, 5:], second.flatten(0, 1))


def test_pictures_without_a_token_are_refused(owl: Owl) -> None:
    with pytest.raises(ValueError, match="2 pictures have no picture token in the prompt"):
        owl.embed_prompt(PROMPT, [picture_features(1)] * 3)


def test_states_are_causal(owl: Owl) -> None:
    """Another picture changes its own and later states, but not the text before it."""
    before, after = (owl.hidden_states(PROMPT, [picture_features(1, seed=seed)])[0] for seed in (5, 6))
    assert before.shape == (8, 16)
    torch.testing.assert_close(before[:2], after[:2])
    assert ((before - after)[2:].abs().amax(dim=1) > 1e-3).all()


def test_states_end_with_the_last_norm(owl: Owl) -> None:
    """Each state has a root mean square of 1 before the norm's weights."""
    states = owl.hidden_states(PROMPT, [picture_features(1)])[0] / owl.model.norm.weight
    torch.testing.assert_close(states.square().mean(dim=-1).sqrt(), torch.ones(8), rtol=1e-4, atol=1e-4)


def test_logits_are_those_of_the_last_token(owl: Owl) -> None:
    features = picture_features(1)
    logits = owl.logits(PROMPT, [features])
    assert logits.shape == (20,)
    expected = owl.lm_head.weight @ owl.hidden_states(PROMPT, [features])[0, -1]
    torch.testing.assert_close(logits, expected)


def test_logits_are_float32_at_any_precision() -> None:
    half = network(random_weights(CONFIG), CONFIG).bfloat16().requires_grad_(requires_grad=False)
    logits = half.logits(PROMPT, [picture_features(1).bfloat16()])
    assert logits.dtype == torch.float32
    assert torch.equal(logits, logits.bfloat16().float())
